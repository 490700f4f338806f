"""From what a manifest says of an evaluation to its rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from saereg.errors import DataUnavailableError
from saereg.registry.metrics.sources.activations import StoredRows
from saereg.registry.metrics.sources.checkpoints import snapshots
from saereg.registry.metrics.sources.parameters import ParameterSource
from saereg.registry.metrics.sources.rows import Rows
from saereg.registry.metrics.sources.synthetic import generated
from saereg.schemas.evaluation import ActivationRows, Evaluation, ParameterRows, SyntheticRows, TokenRows
from saereg.schemas.manifest import Manifest


@dataclass(frozen=True)
class Surroundings:
    """Where the parts of an evaluation are.

    Attributes:
        root: release folder.
        manifest: its manifest.
        shape: shape of one row that the dictionary reads, (d_in,) or (n_sources, d_in).
        digests: path → sha256 of files of the release that are known already.
        models: key of a base model → folder or repository id to take its weights from.
        device: torch device on which models run.
    """

    root: Path
    manifest: Manifest
    shape: tuple[int, ...]
    digests: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"


def open_rows(evaluation: Evaluation, around: Surroundings) -> Rows:
    """Return the rows of an evaluation.

    Raises:
        DataUnavailableError: when what they are computed from is not on this machine.
        WeightsError: when a file is not what the manifest says.
        OSError: when a file cannot be read.
    """
    return OPENERS[evaluation.source](evaluation, around)


def _stored(evaluation: Evaluation, around: Surroundings) -> Rows:
    assert isinstance(evaluation, ActivationRows)  # noqa: S101
    start = f"{evaluation.path}/"
    rows = StoredRows(
        around.root / evaluation.path,
        evaluation,
        around.digests.get(evaluation.path),
        around.shape,
        known={path.removeprefix(start): digest for path, digest in around.digests.items() if path.startswith(start)},
    )
    rows.check()
    return rows


def _generated(evaluation: Evaluation, around: Surroundings) -> Rows:
    assert isinstance(evaluation, SyntheticRows)  # noqa: S101
    return generated(evaluation, around.shape)


def _parameters(evaluation: Evaluation, around: Surroundings) -> Rows:
    assert isinstance(evaluation, ParameterRows)  # noqa: S101
    return parameter_rows(evaluation, around.manifest, around.models, around.shape)


def _tokens(evaluation: Evaluation, around: Surroundings) -> Rows:
    from saereg.registry.metrics.sources.tokens import open_tokens

    assert isinstance(evaluation, TokenRows)  # noqa: S101
    return open_tokens(evaluation, around)


def parameter_rows(
    evaluation: ParameterRows, manifest: Manifest | None, models: Mapping[str, str], shape: tuple[int, ...]
) -> ParameterSource:
    """Return the rows of a parameter; what is on the Hub is fetched, once.

    Args:
        evaluation: which parameter, and which steps.
        manifest: the release whose site it is at.
        models: key of a base model → folder or repository.
        shape: shape of one row that the dictionary reads.

    Raises:
        DataUnavailableError: when the checkpoints are not at hand.
        WeightsError: when they do not hold the tensor.
        OSError: when a file cannot be read.
    """
    key = _model_key(evaluation, manifest, models)
    option = f"--model {key}=FOLDER (with a folder {evaluation.revision} per step), or --model {key}=hf://org/name"
    if key not in models:
        known = manifest.base_models[key].id if manifest and key in manifest.base_models else None
        said = f" of {known}" if known else ""
        raise DataUnavailableError(f"the rows of {evaluation.tensor} come from checkpoints{said}: give {option}")
    found = ParameterSource(evaluation, snapshots(evaluation, models[key], option), shape)
    found.check()
    return found


def _model_key(evaluation: ParameterRows, manifest: Manifest | None, models: Mapping[str, str]) -> str:
    """Return the key of the model of an evaluation: that of its site, else the only one there is."""
    site = manifest.sites.get(evaluation.site or "") if manifest else None
    if site is not None:
        return site.model
    choices = tuple(manifest.base_models) if manifest else tuple(models)
    return choices[0] if len(choices) == 1 else "KEY"


OPENERS: Mapping[str, Callable[[Evaluation, Surroundings], Rows]] = {
    "activations": _stored,
    "tokens": _tokens,
    "parameters": _parameters,
    "synthetic": _generated,
}
"""Kind of source → what opens it."""
