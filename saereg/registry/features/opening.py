"""From an artifact of a release to its active latents: which evaluation, its rows, the dictionary, and digests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import DataUnavailableError, UnknownNameError, UsageError
from saereg.registry.features.counting import MOST_ROWS, Encoded, Occasion
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.names import WEIGHTS_FILES
from saereg.registry.flat_fields import weights_digest
from saereg.registry.metrics.sources.opening import Surroundings, open_rows
from saereg.registry.recompute.choosing import evaluations_of
from saereg.registry.recompute.tasks import Place
from saereg.registry.semantics import row_shape
from saereg.schemas.evaluation import SyntheticRows

if TYPE_CHECKING:
    from saereg.registry.kernels.coded import Runner
    from saereg.registry.metrics.sources.rows import Rows
    from saereg.registry.release import ReleaseArtifact
    from saereg.schemas.evaluation import Evaluation


@dataclass(frozen=True)
class Means:
    """What a view is made with.

    Attributes:
        models: key of a base model → folder or repository, for rows, texts and logits.
        device: torch device.
        limit: rows that are encoded at most.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    limit: int = MOST_ROWS


@dataclass(frozen=True)
class Opened:
    """An artifact and the rows that its latents are looked at on.

    Attributes:
        artifact: the artifact, on this machine.
        root: release folder in which the files of the evaluation are.
        name: name of the evaluation in the manifest.
        evaluation: what the manifest says of it.
        rows: its rows.
        occasion: digests.
    """

    artifact: "ReleaseArtifact"
    root: Path
    name: str
    evaluation: "Evaluation"
    rows: "Rows"
    occasion: Occasion

    def encoded(self, means: Means) -> Encoded:
        """Load the dictionary, ready to encode the rows.

        Raises:
            SaeregError: whatever `saereg.registry.loading.load_path` raises.
        """
        return Encoded(_runner(self.artifact, means.device), self.rows, means.limit)


def opened(artifact: "ReleaseArtifact", evaluation: str | None, means: Means) -> Opened:
    """Open the rows of an artifact: of the evaluation that is named, else of the first one whose rows are at hand.

    Args:
        artifact: the artifact.
        evaluation: name of the evaluation; None: the first one that is not synthetic.
        means: where models are.

    Raises:
        DataUnavailableError: when there are no rows, or none at hand; with the reason of the first.
        UnknownNameError: when the artifact has no evaluation of that name.
        WeightsError: when the rows are not what the manifest says.
        OSError: when a file cannot be read.
    """
    artifact = artifact.local()
    release, shape = artifact.release, row_shape(artifact.cfg)
    found = evaluations_of(artifact.claim, release.manifest, release.path, shape)
    if evaluation is not None and evaluation not in found:
        raise UnknownNameError(f"evaluation of {artifact.id}", evaluation, found)
    chosen = {evaluation: found[evaluation]} if evaluation else _real(found)
    problem: DataUnavailableError | None = None
    for name, one in chosen.items():
        try:
            return _opened(artifact, name, one, means)
        except DataUnavailableError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    none = "its evaluations are synthetic" if found else "no evaluation of the release is at its site"
    raise DataUnavailableError(f"{none}; saereg build --evaluation NAME=ROWS adds one")


def _real(found: "Mapping[str, Evaluation]") -> "dict[str, Evaluation]":
    """Return the evaluations that say something of a model: random rows say nothing of how often latents are active."""
    return {name: one for name, one in found.items() if not isinstance(one, SyntheticRows)}


def _opened(artifact: "ReleaseArtifact", name: str, evaluation: "Evaluation", means: Means) -> Opened:
    release = artifact.release
    root = release.fetched(evaluation)
    path = getattr(evaluation, "path", None)
    if path is not None and not (root / path).exists():
        raise DataUnavailableError(f"{path} of evaluation {name!r} is missing")
    digests = _digests(artifact)
    around = Surroundings(root, release.manifest, row_shape(artifact.cfg), digests, means.models, means.device)
    rows = open_rows(evaluation, around)
    occasion = Occasion(name, rows.digest(), weights_sha256(artifact))
    return Opened(artifact, root, name, evaluation, rows, occasion)


def _digests(artifact: "ReleaseArtifact") -> dict[str, str]:
    index = artifact.release.index
    return {file.path: file.sha256 for file in index.files} if index is not None else {}


def weights_sha256(artifact: "ReleaseArtifact") -> str:
    """Return the digest of the weights: as the index has it, where there is one."""
    known = weights_digest(artifact.evidence) if artifact.evidence is not None else None
    return known or sha256_of(artifact.folder / WEIGHTS_FILES[artifact.claim.format])


def _runner(artifact: "ReleaseArtifact", device: str) -> "Runner":
    """Return what runs the dictionary; one that is too large for the memory at hand is streamed from its file."""
    from saereg.registry.kernels.running import has_fast_path
    from saereg.registry.kernels.streaming import (
        MEMORY_SHARE,
        STREAM_BYTES,
        WEIGHTS_SHARE,
        available_bytes,
        weights_bytes,
    )

    if not artifact.folder.is_dir():
        raise UsageError(f"{artifact.folder} is missing: {artifact.pull_command or 'the release is not complete'}")
    cfg = artifact.cfg
    room = WEIGHTS_SHARE * MEMORY_SHARE * available_bytes(device)
    stream = STREAM_BYTES if has_fast_path(cfg) and weights_bytes(cfg) > room else None
    place = Place(artifact.folder, artifact.claim.format, released=True, device=device, stream_bytes=stream)
    return place.runner()
