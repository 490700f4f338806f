"""What `saereg publish` has to show before anything is planned: the report of a validation, new or kept."""

import importlib.util
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from saereg.cli.progress import bar
from saereg.errors import InvalidReleaseError
from saereg.registry.files.digest_cache import Digests
from saereg.registry.release import INDEX_FILE
from saereg.schemas import jsontext
from saereg.schemas.index import Index
from saereg.schemas.report import CUT_SHORT, LEVELS, Level, Report, read_report
from saereg.schemas.settings import Settings

VOUCHING: tuple[Level, ...] = ("weights", "data")
"""Levels at which every file of the index has been hashed."""


@dataclass(frozen=True)
class Source:
    """A release folder and how it is validated.

    Attributes:
        root: the folder.
        settings: configuration of the validation.
        file: report that is read instead.
        fresh: whether a report that still holds is not used.
    """

    root: Path
    settings: Settings
    file: Path | None
    fresh: bool

    def report(self, level: str | None) -> Report:
        """Return the report: the one that was named, one that still holds, or a new one.

        Raises:
            SaeregError: when the release cannot be validated, or the file is no report.
        """
        if self.file is not None:
            return self._read(self.file, level)
        wanted: Level = level or _default_level(self.settings)  # type: ignore[assignment]
        return self._validated(wanted)

    def _read(self, file: Path, level: str | None) -> Report:
        """Read a report that was made before, and refuse one that was asked another question."""
        report = read_report(jsontext.decode(file.read_bytes()), file)
        if report.policy != self.settings.policy:
            asked, made = (policy or "none" for policy in (self.settings.policy, report.policy))
            raise InvalidReleaseError(f"{file} was made under the policy {made}, not {asked}; validate with that one")
        if level is not None and LEVELS.index(report.level) < LEVELS.index(level):
            raise InvalidReleaseError(f"{file} is of level {report.level}, not {level}; validate at that level")
        return report

    def _validated(self, level: Level) -> Report:
        from saereg.registry.validators.remembered import validated
        from saereg.registry.validators.runner import validate

        with Digests(self.root) as digests:
            indexed = _indexed(self.root)
            began, stamps = time.time_ns(), digests.stamps(indexed)
            with bar("validate") as progress:
                if self.fresh:
                    report, when = validate(self.root, level, settings=self.settings, progress=progress), None
                else:
                    report, when = validated(self.root, level, self.settings, progress=progress)
            if when is not None:
                click.echo(f"validated at level {report.level} {_ago(when)}; nothing has changed since", err=True)
            if _vouches(report) and _indexed(self.root) == indexed:
                digests.trust(indexed, stamps, began)
        return report


def _vouches(report: Report) -> bool:
    """Whether every file of the index that is there has been hashed and is the one that was indexed."""
    cut_short = any(skipped.reason == CUT_SHORT for skipped in report.summary.skipped)
    return report.level in VOUCHING and not (report.errors or report.selected or cut_short)


def _indexed(root: Path) -> dict[str, str]:
    """Return path → sha256 of every file of the index; none where it cannot be read: the report says why."""
    from saereg.errors import SaeregError

    try:
        return {file.path: file.sha256 for file in Index.read(root / INDEX_FILE).all_files()}
    except (SaeregError, OSError):
        return {}


def _default_level(settings: Settings) -> Level:
    """Return the deepest level that this machine can validate at, or a deeper one that the policy needs."""
    from saereg.registry.validators.profiles import level_needed

    needed = level_needed(settings.policy, "header")
    if importlib.util.find_spec("torch") is not None:
        return max(needed, "weights", key=LEVELS.index)
    if needed == "header":
        click.echo("note: validating at level header; level weights needs pip install 'saereg[torch]'", err=True)
    return needed


def _ago(when: datetime) -> str:
    minutes = int((datetime.now(UTC) - when).total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 120:
        return f"{minutes} minute{'s' if minutes > 1 else ''} ago"
    return f"{minutes // 60} hours ago" if minutes < 2880 else f"{minutes // 1440} days ago"
