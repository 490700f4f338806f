"""The public functions: open, find, validate, publish. `load` lives in `saereg.registry.loading`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from saereg.publishers import publisher_of
from saereg.registry.query import Selection
from saereg.registry.release import Release, open_release
from saereg.registry.validators import runner
from saereg.schemas.plan import Receipt
from saereg.schemas.report import Level, Report


def open(target: str | Path) -> Release:
    """Open a release folder or `hf://org/repo[@revision]`; see `saereg.registry.release.open_release`."""
    return open_release(target)


def find(targets: str | Path | Iterable[str | Path], **conditions: Any) -> Selection:  # noqa: ANN401
    """Return the artifacts of one or several releases that meet every condition; see `Release.find`."""
    several = [targets] if isinstance(targets, str | Path) else targets
    return Selection(tuple(a for target in several for a in open_release(target))).find(**conditions)


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
