"""The public functions: open, find, load, validate, publish, verify. Importing this needs no torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from saereg.errors import DocumentError, UsageError
from saereg.publishers import publisher_of
from saereg.publishers.publisher import Wishes
from saereg.registry.fetching.opening import hub_reference, open_remote
from saereg.registry.fetching.verifying import Sampling
from saereg.registry.fetching.verifying import verify as verify_remote
from saereg.registry.files.blocks import require_torch
from saereg.registry.loading import load_path
from saereg.registry.query import Selection
from saereg.registry.readings.given import Value
from saereg.registry.refs import parse_reference
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE, Release, ReleaseArtifact, open_artifact, open_release
from saereg.registry.remote import open_place
from saereg.registry.validators import runner
from saereg.registry.validators.options import Options
from saereg.registry.validators.profiles import level_needed
from saereg.schemas.plan import Receipt
from saereg.schemas.report import Level, Report
from saereg.schemas.settings import Settings

if TYPE_CHECKING:
    from saereg.registry.dictionary import Dictionary


def open(target: str | Path) -> Release:
    """Open a release folder or `hf://org/repo[@revision]`; see `saereg.registry.release.open_release`."""
    return open_release(target)


def find(targets: str | Path | Iterable[str | Path], **conditions: Any) -> Selection[ReleaseArtifact]:  # noqa: ANN401
    """Return the artifacts of one or several releases that meet every condition; see `Release.find`."""
    several = [targets] if isinstance(targets, str | Path) else targets
    return Selection(tuple(a for target in several for a in open_release(target))).find(**conditions)


def load(
    target: str | Path,
    device: str = "cpu",
    *,
    given: Mapping[str, Value] | None = None,
    layout: str | None = None,
) -> "Dictionary":
    """Load a dictionary; calling it on x gives x_hat, with normalization and skip connection included.

    Args:
        target: a weight file or the folder of one dictionary in any layout of `docs/formats.md`, an artifact of a
            release (`release:artifact_id`, or its folder), or `hf://org/repo[@revision]:artifact_id`. An artifact of a
            release is first compared with the release's index.json.
        device: torch device.
        given: what the files of other layouts do not say, by the names that errors ask for, e.g. `{"k": 64}`.
        layout: name of the layout, where several fit.

    Raises:
        FormatError: when a path is in no known layout, or in several, or something is not said and must not be guessed.
        WeightsError: when tensors or digests disagree.
        UsageError: when the reference names no single artifact, or a given value is not asked for.
        MissingExtraError: without the `torch` extra.
    """
    require_torch("loading a dictionary")
    reference = parse_reference(target)
    path = reference.folder if reference.artifact is None else None
    if path is not None and (path.is_file() or given or layout):
        return load_path(path, device=device, layout=layout, given=given)
    if given or layout:
        raise UsageError(
            f"{target}: an artifact of a release says everything itself; `given` and `layout` are for paths"
        )
    if path is not None and not path.is_dir():
        raise UsageError(f"{path} is not a folder or file")
    try:
        artifact = open_artifact(target)
    except UsageError as error:
        if path is None or _is_of_release(error) or (path / MANIFEST_FILE).is_file():
            raise
        return load_path(path, device=device)  # a dictionary that is in no release
    return artifact.load(device=device)


def _is_of_release(error: UsageError) -> bool:
    """Whether a document that cannot be read is that of a release: any program may have a manifest.json."""
    return isinstance(error, DocumentError) and (Path(error.path).parent / INDEX_FILE).is_file()


def validate(
    target: str | Path,
    level: Level | None = None,
    *,
    checkpoints: Path | None = None,
    models: Mapping[str, str] = MappingProxyType({}),
    settings: Settings | None = None,
) -> Report:
    """Validate a release folder, or `hf://org/repo[@revision]`; see `saereg.registry.validators.runner.validate`.

    On the Hub, documents are fetched and of weight files the headers; levels `weights` and `data` need a folder.
    Configuration files are the command line's: `read_settings` of `saereg.registry.validators.configuration` reads one.
    """
    place = open_place(target) if isinstance(target, str) and target.startswith("hf://") else Path(target)
    return runner.validate(place, level, options=Options(checkpoints=checkpoints, models=models), settings=settings)


def publish(
    source: str | Path,
    target: str,
    *,
    level: Level | None = None,
    wishes: Wishes = Wishes(),  # noqa: B008 - a frozen value
    settings: Settings | None = None,
) -> Receipt:
    """Validate a release folder, plan, publish and verify.

    Args:
        source: release folder.
        target: where to: `dir:/srv/releases/x`, or `hf://org/repo[@branch]`.
        level: depth of the validation before. Default: weights, or what the policy needs.
        wishes: tag, pull request, what may be removed, and so on.
        settings: profile, policy, ignores and so on of the validation.

    Raises:
        InvalidReleaseError: when the validation finds errors, or the policy needs a deeper one.
        UsageError: when the target is no place for this release.
        PublishError: when the target does not hold afterwards what was sent.
    """
    publisher = publisher_of(target, wishes)
    level = level or level_needed(settings.policy if settings else None, "weights")
    plan = publisher.plan(Path(source), validate(source, level, settings=settings))
    return publisher.apply(Path(source), plan)


def verify(target: str, *, sample: int = 0, seed: int = 0) -> Report:
    """Compare `hf://org/repo[@revision]` with its own index at one commit; no weights are downloaded.

    Args:
        target: release on the Hub.
        sample: artifacts that are downloaded too, and whose golden vectors are replayed.
        seed: which ones.

    Raises:
        UsageError: when the target names no whole release on the Hub.
        PublishError: when the Hub cannot be asked.
        NothingToValidateError: when it holds no release, or one without an index.
        MissingExtraError: to sample, without the `torch` extra.
    """
    reference = hub_reference(target)
    if reference.repo is None or reference.artifact is not None:
        raise UsageError(f"{target}: a release is verified as a whole")
    return verify_remote(open_remote(reference.repo, reference.revision), Sampling(sample, seed)).report
