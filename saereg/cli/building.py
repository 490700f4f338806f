"""Building a release at the end of a command: the evidence, and what readers see of it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saereg.cli.progress import bar
from saereg.cli.render.text import next_step, plural
from saereg.errors import SaeregError

if TYPE_CHECKING:
    from saereg.registry.presenting import Presentation
    from saereg.schemas.index import Index

MOST_REASONS = 5
"""Reasons why claims were not looked at that are printed: the commonest."""

_OPTIONS = (
    click.option("--figures/--no-figures", default=True, help="Draw figures and fit loss floors. [default: figures]"),
    click.option(
        "--features/--no-features",
        default=True,
        help="Count how often latents are active, and show some of them. [default: features]",
    ),
    click.option("--cards/--no-cards", default=True, help="Give every artifact a card of its own. [default: cards]"),
    click.option(
        "--latents", type=click.IntRange(0, 2000), default=12, show_default=True, help="Latents in a feature view."
    ),
    click.option(
        "--templates",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Folder of your own templates of cards.",
    ),
)

build_option = click.option(
    "--build/--no-build",
    "builds",
    default=True,
    help="Build the release at the end: evidence, figures, cards. [default: build]",
)
"""The flag of the commands that train."""


def presentation_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that say what is made for readers."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def said(index: "Index") -> None:
    """Say what was found, and of which claims nothing could be."""
    verdicts = [verdict.verdict for artifact in index.artifacts for verdict in artifact.verdicts]
    claims = ", ".join(f"{verdicts.count(v)} {v.replace('_', ' ')}" for v in sorted(set(verdicts))) or "none stated"
    counts = f"{plural(len(index.artifacts), 'artifact')}, {plural(len(index.all_files()), 'file')}"
    drawn = f", {plural(len(index.figures), 'figure')}" if index.figures else ""
    click.echo(f"index.json: {counts}{drawn}; claims: {claims}")
    for line in _unmeasured(index):
        click.echo(line, err=True)


def note(line: str) -> None:
    """Say what could not be made, and why."""
    click.echo(line, err=True)


def built_after_training(
    release: Path, checkpoints: Path | None, *, builds: bool, words: Sequence[object] = ()
) -> None:
    """Build the release that a training wrote into; where that fails, the training has not, and the next step says how.

    Args:
        release: release folder.
        checkpoints: folder of checkpoints, where it was given.
        builds: whether the user wants it.
        words: what `saereg build` needs beside these to look at every claim, for the next step.
    """
    step = ("saereg build", release, *(("--checkpoints", checkpoints) if checkpoints else ()), *words)
    if not builds:
        next_step(*step)
        return
    from saereg.registry.build import build
    from saereg.registry.presenting import Presentation

    try:
        with bar("build") as progress:
            index = build(release, checkpoints=checkpoints, progress=progress, presentation=Presentation(note=note))
    except (SaeregError, OSError) as error:
        click.echo(f"trained, but not built: {error}", err=True)
        next_step(*step)
        return
    said(index)
    if words:
        next_step(*step)
    else:
        next_step("saereg validate", release, "--level", "data")


def presentation(models: Mapping[str, str], device: str, flags: Mapping[str, Any]) -> "Presentation":
    """Return what the flags of `presentation_options` ask for."""
    from saereg.registry.presenting import Presentation

    return Presentation(**flags, models=models, device=device, note=note)


def _unmeasured(index: "Index") -> list[str]:
    """Return why claims could not be looked at, each reason once with how many there are of it."""
    verdicts = [verdict for artifact in index.artifacts for verdict in artifact.verdicts]
    reasons = Counter(verdict.why for verdict in verdicts if verdict.verdict == "not_verifiable" and verdict.why)
    return [f"not verifiable, {plural(count, 'claim')}: {why}" for why, count in reasons.most_common(MOST_REASONS)]
