"""`saereg diff`."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click

from saereg.cli.options import again, named
from saereg.cli.render.difference import as_text
from saereg.cli.render.difference_markdown import as_markdown
from saereg.cli.render.text import next_step
from saereg.errors import ExitCode, UnknownNameError, UsageError
from saereg.registry.catalog.showing import openable
from saereg.registry.catalog.store import catalog_path
from saereg.registry.differences.changelog import section
from saereg.registry.differences.inserting import write_section
from saereg.registry.differences.numbers import Tolerances
from saereg.registry.differences.opening import compared_targets
from saereg.schemas.difference import Difference
from saereg.schemas.metrics import MetricId


@dataclass(frozen=True)
class Flags:
    """The options."""

    form: str
    changelog: bool
    out: Path | None
    date: str | None
    metric_tolerance: tuple[str, ...]
    show_all: bool
    exit_code: bool


OPTIONS = (
    click.option("--format", "form", type=click.Choice(["text", "md", "json"]), default="text", show_default=True),
    click.option(
        "--changelog", is_flag=True, help="A section of a changelog instead, in the form of Keep a Changelog."
    ),
    click.option("-o", "--out", type=click.Path(path_type=Path), help="With --changelog: the file to put it into."),
    click.option("--date", metavar="YYYY-MM-DD", help="With --changelog: the day that its heading says."),
    click.option(
        "--metric-tolerance", multiple=True, metavar="METRIC=VALUE", help="How far a metric may move; repeatable."
    ),
    click.option("--all", "show_all", is_flag=True, help="Show every artifact and line, however many there are."),
    click.option("--exit-code", is_flag=True, help="Exit with 1 when the version says less than the changes demand."),
)


def _flags(function: Callable[[str, str, Flags], int]) -> Callable[..., int]:
    """Add the options to a command, and hand them over as one value."""

    def called(old: str, new: str, **options: Any) -> int:  # noqa: ANN401 - one value per option
        return function(old, new, Flags(**options))

    called.__doc__ = function.__doc__
    for option in reversed(OPTIONS):
        called = option(called)
    return called


@click.command()
@click.argument("old")
@click.argument("new")
@_flags
def command(old: str, new: str, flags: Flags) -> int:
    """Say what changed between two releases, or two artifacts, and which version that demands.

    Only documents are read, no weights. OLD and NEW are folders, hf://org/repo@revision or org/repo@revision, or
    artifacts of such (release:artifact_id), or names that the catalogue knows; @revision alone as NEW is another
    revision of OLD.
    """
    _require_fitting(flags)
    old, new = (name if name.startswith("@") else openable(name, catalog_path()) for name in (old, new))
    found = compared_targets(old, new, Tolerances(_tolerances(flags.metric_tolerance)))
    if flags.changelog:
        _changelog(found, flags)
    else:
        shown = {"text": as_text, "md": as_markdown}.get(flags.form)
        click.echo(shown(found, show_all=flags.show_all) if shown else found.text(), nl=False)
    _name_next(found, flags)
    fits = found.advice is None or found.advice.fits
    return int(ExitCode.FINDINGS if flags.exit_code and not fits else ExitCode.CLEAN)


def _require_fitting(flags: Flags) -> None:
    """Refuse options that belong to others which were not given.

    Raises:
        UsageError: naming the option.
    """
    if not flags.changelog:
        for name, given in (("-o", flags.out), ("--date", flags.date)):
            if given is not None:
                raise UsageError(f"{name} goes with --changelog")
    elif flags.form != "text":
        raise UsageError(f"--changelog is Markdown by itself; leave --format {flags.form} out")
    if flags.date is not None and not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", flags.date):
        raise UsageError(f"--date {flags.date}: expected a day as 2026-01-31")


def _tolerances(words: Sequence[str]) -> dict[str, float]:
    """Return metric → tolerance.

    Raises:
        UsageError: when one is no number of 0 or more.
        UnknownNameError: when there is no such metric.
    """
    found: dict[str, float] = {}
    for metric, text in named(words, "--metric-tolerance", "METRIC=VALUE, e.g. l0=0.5").items():
        if metric not in get_args(MetricId):
            raise UnknownNameError("metric of --metric-tolerance", metric, get_args(MetricId))
        try:
            found[metric] = float(text)
        except ValueError:
            found[metric] = math.nan
        if not (0 <= found[metric] < math.inf):
            raise UsageError(f"--metric-tolerance {metric}={text}: expected a number of 0 or more")
    return found


def _changelog(found: Difference, flags: Flags) -> None:
    """Print a section, or put it into a file.

    Raises:
        UsageError: for two artifacts, which have no version, or when the file cannot take it.
        OSError: when the file cannot be written.
    """
    if found.compared == "artifacts":
        raise UsageError("a changelog is on two releases; name them without :artifact")
    text = section(found, flags.date, names_all=flags.show_all)
    if flags.out is None:
        click.echo(text)
        return
    changed = write_section(flags.out, found.new.version, text)
    click.echo(f"{flags.out}: {'section on' if changed else 'has the same section on'} {found.new.version}", err=True)


def _name_next(found: Difference, flags: Flags) -> None:
    """Name the next command: build what has no evidence, a changelog, or the release itself."""
    old, new = found.old.target, found.new.target
    lacking = [side.target for side in (found.new, found.old) if not side.has_index]
    if lacking and not lacking[0].startswith("hf://"):
        next_step("saereg build", lacking[0].partition(":")[0])
    elif found.compared == "artifacts":
        next_step("saereg show", new)
    elif not flags.changelog and found.counts:
        given = again({"--metric-tolerance": flags.metric_tolerance})
        next_step("saereg diff", old, new, "--changelog", *given)
    elif flags.changelog and flags.out is None:
        next_step("saereg diff", old, new, "--changelog", "-o", "CHANGELOG.md")
    else:
        next_step("saereg validate" if not new.startswith("hf://") else "saereg show", new)
