"""`saereg features`."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saereg.cli.options import again, device_option, models, require_known_models
from saereg.cli.render.features import view_text
from saereg.cli.render.text import next_step
from saereg.errors import UsageError
from saereg.registry.features.shipped import fits
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.names import FEATURES_FILE
from saereg.registry.release import ReleaseArtifact, open_artifact
from saereg.schemas.features import MOST_LATENTS, FeatureView

if TYPE_CHECKING:
    from saereg.registry.features.choosing import Choice

LATENTS, CONTEXTS = 12, 8
"""Latents, and contexts of each, where nobody says how many."""

MOST_CONTEXTS = 200
"""Contexts of one latent at most."""


@dataclass(frozen=True)
class Flags:
    """The options."""

    latent: tuple[int, ...]
    random: int | None
    strata: int | None
    seed: int
    contexts: int
    evaluation: str | None
    models: tuple[str, ...]
    device: str
    form: str
    output: Path | None

    @property
    def is_default(self) -> bool:
        """Whether the view is wanted that a release ships."""
        chosen = self.latent or self.random or self.strata or self.seed or self.evaluation or self.models
        return not chosen and self.contexts == CONTEXTS

    def again(self) -> tuple[str, ...]:
        """Return the options that say where rows and models are, as words."""
        return again({"--evaluation": self.evaluation, "--model": self.models})


def _flags(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, and hand them over as one value."""

    @functools.wraps(function)
    def called(target: str, **options: Any) -> None:  # noqa: ANN401 - one value per option
        function(target, Flags(**options))

    count = click.IntRange(1, MOST_LATENTS)
    model_help = "Checkpoint of a base model: texts of tokens, logits, rows that it computes. Repeat it."
    options = (
        click.option("--latent", type=click.IntRange(min=0), multiple=True, help="Number of a latent; repeat it."),
        click.option("--random", type=count, metavar="N", help="So many latents at random, dead ones too."),
        click.option(
            "--strata", type=count, metavar="N", help="One latent of each of N strata of frequency.  [default: 12]"
        ),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the choice."),
        click.option(
            "--contexts", type=click.IntRange(1, MOST_CONTEXTS), default=CONTEXTS, show_default=True, metavar="K",
            help="Rows with the largest activations that are shown of each latent.",
        ),
        click.option("--evaluation", metavar="NAME", help="Evaluation.  [default: the first whose rows are at hand]"),
        click.option("--model", "models", multiple=True, metavar="KEY=WHERE", help=model_help),
        device_option,
        click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True),
        click.option(
            "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write instead of stdout."
        ),
    )  # fmt: skip
    for option in reversed(options):
        called = option(called)
    return called


@click.command()
@click.argument("target")
@_flags
def command(target: str, flags: Flags) -> None:
    """Show latents of one artifact: how often and how strongly each is active, where most, and what it writes.

    TARGET is release:artifact_id, or the folder of an artifact in its release. Without options the view that the
    release ships is shown; with any, or where it ships none, rows of an evaluation of the release are encoded.
    """
    artifact = open_artifact(target)
    given = models(flags.models)
    require_known_models(given, [artifact.release.manifest])
    choice = _choice(flags)
    view = (_shipped(artifact) if flags.is_default else None) or _made(artifact, flags, choice, given)
    text = view.text() if flags.form == "json" else view_text(view, artifact.claim.d_sae)
    if flags.output is None:
        click.echo(text, nl=False)
    else:
        write_text_atomically(flags.output, click.unstyle(text))
    _next(target, flags, view)


def _next(target: str, flags: Flags, view: FeatureView) -> None:
    if view.latents and not flags.latent:
        alive = next((one.index for one in view.latents if one.maximum is not None), view.latents[0].index)
        next_step("saereg features", target, "--latent", alive, "--contexts", 30, *flags.again())
    else:
        next_step("saereg show", target)


def _choice(flags: Flags) -> "Choice":
    """Return which latents are wanted.

    Raises:
        UsageError: when they are chosen in more than one way.
    """
    from saereg.registry.features.choosing import Choice

    ways = {"--latent": flags.latent, "--random": flags.random, "--strata": flags.strata}
    named = [way for way, value in ways.items() if value]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} both choose latents; give one of them")
    if flags.latent:
        return Choice(len(flags.latent), how="given", given=flags.latent)
    if flags.random:
        return Choice(flags.random, flags.seed, "random")
    return Choice(flags.strata or LATENTS, flags.seed)


def _shipped(artifact: ReleaseArtifact) -> FeatureView | None:
    """Return the view that a release ships, if it is of the weights that are there; None where there is none."""
    path = artifact.folder / FEATURES_FILE
    if artifact.evidence is None or not path.is_file():
        return None
    view = FeatureView.read(path)
    return view if fits(view, artifact.id, artifact.evidence) else None


def _made(artifact: ReleaseArtifact, flags: Flags, choice: "Choice", given: dict[str, str]) -> FeatureView:
    from saereg.registry.files.blocks import require_torch

    require_torch("encoding rows")  # before the modules below, which import it
    from saereg.registry.features.opening import Means, opened
    from saereg.registry.features.views import viewed

    means = Means(given, flags.device)
    found = viewed(opened(artifact, flags.evaluation, means), choice, flags.contexts, means)
    assert found.view is not None  # noqa: S101  # rows were opened
    return found.view
