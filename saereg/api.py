"""The public functions: open, find, load, validate, publish. Importing this needs no torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saereg.errors import DocumentError, UsageError
from saereg.publishers import publisher_of
from saereg.registry.files.blocks import require_torch
from saereg.registry.loading import detect, load_folder
from saereg.registry.query import Selection
from saereg.registry.refs import parse_reference
from saereg.registry.release import INDEX_FILE, Release, ReleaseArtifact, open_artifact, open_release
from saereg.registry.validators import runner
from saereg.schemas.plan import Receipt
from saereg.schemas.report import Level, Report

if TYPE_CHECKING:
    from saereg.registry.dictionary import Dictionary


def open(target: str | Path) -> Release:
    """Open a release folder or `hf://org/repo[@revision]`; see `saereg.registry.release.open_release`."""
    return open_release(target)


def find(targets: str | Path | Iterable[str | Path], **conditions: Any) -> Selection[ReleaseArtifact]:  # noqa: ANN401
    """Return the artifacts of one or several releases that meet every condition; see `Release.find`."""
    several = [targets] if isinstance(targets, str | Path) else targets
    return Selection(tuple(a for target in several for a in open_release(target))).find(**conditions)


def load(target: str | Path, device: str = "cpu") -> "Dictionary":
    """Load a dictionary; calling it on x gives x_hat, with normalization and skip connection included.

    Args:
        target: the folder of one dictionary in a known layout, an artifact of a release (`release:artifact_id`, or its
            folder), or `hf://org/repo[@revision]:artifact_id`. An artifact of a release is first compared with the
            release's index.json.
        device: torch device.

    Raises:
        FormatError: when a folder is in no known layout, or in several.
        WeightsError: when tensors or digests disagree.
        UsageError: when the reference names no single artifact.
        MissingExtraError: without the `torch` extra.
    """
    require_torch("loading a dictionary")
    reference = parse_reference(target)
    folder = reference.folder if reference.artifact is None else None
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    try:
        artifact = open_artifact(target)
    except UsageError as error:
        if folder is None or not detect(folder) or _is_of_release(error):
            raise
        return load_folder(folder, device=device)  # the folder of a dictionary that is in no release
    return artifact.load(device=device)


def _is_of_release(error: UsageError) -> bool:
    """Whether a document that cannot be read is that of a release: any program may have a manifest.json."""
    return isinstance(error, DocumentError) and (Path(error.path).parent / INDEX_FILE).is_file()


def validate(target: str | Path, level: Level = "header", *, checkpoints: Path | None = None) -> Report:
    """Validate a release folder; see `saereg.registry.validators.runner.validate`."""
    return runner.validate(Path(target), level, checkpoints=checkpoints)


def publish(source: str | Path, target: str, *, level: Level = "weights", delete_remote_only: bool = False) -> Receipt:
    """Validate a release folder, plan, publish and verify.

    Args:
        source: release folder.
        target: where to, e.g. `dir:/srv/releases/x`.
        level: depth of the validation before.
        delete_remote_only: whether files that only the target has may be removed.

    Raises:
        InvalidReleaseError: when the validation finds errors.
        UsageError: when the target is no place for this release.
        PublishError: when the target does not hold afterwards what was sent.
    """
    publisher = publisher_of(target, delete_unknown=delete_remote_only)
    plan = publisher.plan(Path(source), validate(source, level))
    return publisher.apply(Path(source), plan)
