"""The flags of `saereg validate`, gathered into one value."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from saereg.cli.options import device_option, model_option
from saereg.errors import UnknownNameError, UsageError
from saereg.registry.validators.configuration import find_settings, read_settings
from saereg.schemas.report import LEVELS, SEVERITIES, Level, Severity
from saereg.schemas.settings import Ignore, Settings

MOST_JOBS = 8
"""Threads that hash at most, unless more are asked for: disks bear no more."""

ON_COMMAND_LINE = "on the command line"
"""Reason of what --ignore ignores."""


@dataclass(frozen=True)
class Output:
    """One format, and the file it goes to; None for stdout."""

    form: str
    path: Path | None


@dataclass(frozen=True)
class Flags:
    """What the user asked for; each field is the flag of its name."""

    level: Level | None = None
    formats: tuple[str, ...] = ()
    fail_on: Severity = "error"
    strict: bool = False
    profile: str | None = None
    policy: str | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    config: Path | None = None
    isolated: bool = False
    plugin: tuple[str, ...] = ()
    checkpoints: Path | None = None
    models: tuple[str, ...] = ()
    device: str = "cpu"
    run_snippets: bool = False
    hash_all: bool = False
    jobs: int | None = None
    load: Path | None = None
    fix: bool = False
    unsafe_fixes: bool = False
    diff: bool = False
    verbose: bool = False
    quiet: bool = False
    exit_zero: bool = False
    max_findings: int | None = None

    @property
    def failing(self) -> Severity:
        """Least severity that fails the run."""
        return "warning" if self.strict and self.fail_on == "error" else self.fail_on

    @property
    def mends(self) -> bool:
        """Whether anything is to be mended, or shown as it would be."""
        return self.fix or self.unsafe_fixes or self.diff

    @property
    def threads(self) -> int:
        """Threads that hash."""
        return self.jobs or min(MOST_JOBS, os.cpu_count() or 1)

    @property
    def without_effect_on_a_report(self) -> str:
        """The first flag that chooses what is found, which a report that is loaded says already; "" where none does."""
        choosing = (
            ("--select", self.select),
            ("--ignore", self.ignore),
            ("--profile", self.profile),
            ("--policy", self.policy),
            ("--config", self.config),
            ("--isolated", self.isolated),
            ("--checkpoints", self.checkpoints),
            ("--model", self.models),
            ("--device", self.device != "cpu"),
            ("--hash", self.hash_all),
            ("--jobs", self.jobs),
            ("--run-snippets", self.run_snippets),
        )
        return next((flag for flag, value in choosing if value), "")

    def again(self) -> list[object]:
        """Return the flags to say again in the next command: all that choose what is found, none that show it."""
        words: list[object] = []
        for flag, value in (
            ("--checkpoints", self.checkpoints),
            ("--fail-on", self.fail_on if self.fail_on != "error" else None),
            ("--profile", self.profile),
            ("--policy", self.policy),
            ("--config", self.config),
            *(("--model", value) for value in self.models),
            ("--device", self.device if self.device != "cpu" else None),
            *(("--select", value) for value in self.select),
            *(("--ignore", value) for value in self.ignore),
            *(("--plugin", value) for value in self.plugin),
            ("--jobs", self.jobs),
        ):
            words += [flag, value] if value is not None else []
        switches = (("--strict", self.strict), ("--isolated", self.isolated), ("--run-snippets", self.run_snippets))
        return words + [flag for flag, on in switches if on]


def validation_flags(function: Callable[..., int]) -> Callable[..., int]:
    """Add the flags of `Flags` to a command, and hand them to it as one value."""

    @functools.wraps(function)
    def gathered(target: str | None, **values: Any) -> int:  # noqa: ANN401 - one value per flag
        known = {field.name for field in fields(Flags)}
        flags = Flags(**{name: value for name, value in values.items() if name in known})
        return function(target, flags, **{name: value for name, value in values.items() if name not in known})

    for option in reversed([*_DEPTH, *_GRADING, *_MENDING, *_SHOWING]):
        gathered = option(gathered)
    return gathered


_FILE = click.Path(path_type=Path, dir_okay=False)

_DEPTH = [
    click.option("--level", type=click.Choice(LEVELS), help="Depth of the checks. [default: the policy's, or header]"),
    click.option(
        "--checkpoints", type=click.Path(path_type=Path), help="Folder of source checkpoints, for the round trip."
    ),
    model_option,
    device_option,
    click.option("--hash", "hash_all", is_flag=True, help="Hash large files at level header too."),
    click.option(
        "--jobs", type=click.IntRange(min=1), metavar="N", help="Threads that read and hash. [default: one per core]"
    ),
    click.option(
        "--run-snippets",
        is_flag=True,
        help="Run the Python blocks of the card, offline. They are the author's code: only where you trust it.",
    ),
]

_GRADING = [
    click.option("--profile", metavar="NAME", help="Kind of release, e.g. saelens."),
    click.option("--policy", metavar="NAME", help="What it is validated for: ci-fast, hub-public or paper."),
    click.option("--select", multiple=True, metavar="CODE", help="Look at this rule or family only; repeat it."),
    click.option("--ignore", multiple=True, metavar="CODE", help="Count a rule or family for nothing; repeat it."),
    click.option("--plugin", multiple=True, metavar="NAME", help="Run the checks of an installed plugin; repeat it."),
    click.option("--config", type=_FILE, help="Configuration to read. [default: the nearest saereg.toml]"),
    click.option("--isolated", is_flag=True, help="Read no configuration file."),
    click.option(
        "--fail-on",
        type=click.Choice(SEVERITIES),
        default="error",
        show_default=True,
        help="Least severity that fails.",
    ),
    click.option("--strict", is_flag=True, help="Warnings fail: --fail-on warning."),
    click.option("--exit-zero", is_flag=True, help="Exit with 0 also where something fails."),
]

_MENDING = [
    click.option("--fix", is_flag=True, help="Mend what changes no statement: digests, order, generated parts."),
    click.option("--unsafe-fixes", is_flag=True, help="Mend also what changes a statement, such as a wrong claim."),
    click.option("--diff", is_flag=True, help="Show what would be mended as a patch, and write nothing."),
]

_SHOWING = [
    click.option(
        "--format",
        "formats",
        multiple=True,
        metavar="FMT[:PATH]",
        help="text, json, jsonl, sarif, junit, github, markdown or html, to a file or to stdout; repeat it. "
        "[default: text]",
    ),
    click.option("--load", type=_FILE, metavar="REPORT", help="Show a json or jsonl report again; nothing is checked."),
    click.option(
        "--max-findings", type=click.IntRange(min=0), metavar="N", help="Show at most N; machine formats have all."
    ),
    click.option("--verbose", "-v", is_flag=True, help="Show all, also what repeats itself and what is ignored."),
    click.option("--quiet", "-q", is_flag=True, help="Show the counts alone."),
]


def outputs(words: tuple[str, ...], known: tuple[str, ...]) -> tuple[Output, ...]:
    """Return where each format goes.

    Raises:
        UsageError: when a format is unknown, two go to one place, or a place cannot be written to.
    """
    found: list[Output] = []
    for word in words or ("text",):
        form, mark, path = word.partition(":")
        if form not in known:
            raise UnknownNameError("format", form, known)
        if mark and not path:
            raise UsageError(f"--format {word}: no path after the colon")
        output = Output(form, Path(path) if path not in ("", "-") else None)
        if any(output.path == other.path for other in found):
            place = output.path or "stdout"
            raise UsageError(f"two formats go to {place}; give each its own path, as in --format {form}:PATH")
        if output.path is not None:
            _require_place(output.path)
        found.append(output)
    return tuple(found)


def _require_place(path: Path) -> None:
    """Refuse a place that cannot be written to before the work is done, not after."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist")


def settings_of(flags: Flags, root: Path | None) -> tuple[Settings, str | None]:
    """Return the configuration, flags before file, and how the file is called.

    Args:
        flags: the user's flags.
        root: folder of the release; one that is not on this machine has no configuration file.

    Raises:
        UsageError: when the file cannot be read, or a flag does not fit.
        OSError: when the file cannot be read.
    """
    if flags.config is not None and flags.isolated:
        raise UsageError("--config and --isolated exclude each other")
    path = flags.config
    if path is None and root is not None and not flags.isolated:
        path = find_settings(root)
    settings = read_settings(path) if path else Settings()
    added = tuple(Ignore(rules=(code,), reason=ON_COMMAND_LINE) for code in _codes("--ignore", flags.ignore))
    merged = settings.model_copy(
        update={
            "profile": flags.profile or settings.profile,
            "policy": flags.policy or settings.policy,
            "select": _codes("--select", flags.select) or settings.select,
            "ignore": (*settings.ignore, *added),
            "plugins": (*settings.plugins, *flags.plugin),
        }
    )
    return merged, _called(path, flags, root) if path else None


def _codes(flag: str, values: tuple[str, ...]) -> tuple[str, ...]:
    codes = tuple(code.strip().upper() for value in values for code in value.split(",") if code.strip())
    for code in codes:
        letters = code.rstrip("0123456789")
        if not (letters.isascii() and letters.isalpha() and 2 <= len(letters) <= 10 and len(code) - len(letters) <= 3):
            raise UsageError(f"{flag}: {code!r} is no code and no family; `saereg rule` lists them all")
    return codes


def _called(path: Path, flags: Flags, root: Path | None) -> str:
    """Return the configuration file as the user wrote it, or as seen from the release: no path of this machine."""
    if flags.config is not None or root is None:
        return str(flags.config or path)
    try:
        return Path(os.path.relpath(path.resolve(), root.resolve())).as_posix()
    except ValueError:  # two drives have no path between them
        return path.name
