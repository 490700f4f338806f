"""What the commands that train have in common: flags of a run, and the release folder that they write into."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saereg.cli.render.text import plural
from saereg.errors import UsageError
from saereg.registry.release import MANIFEST_FILE

if TYPE_CHECKING:
    from saereg.schemas.manifest import Artifact, ReleaseInfo

Options = dict[str, tuple[str, Callable[..., Any]]]
"""Parameter → place in the configuration file, and the flag."""

RUN_OPTIONS: Options = {
    "tokens": ("optimization.tokens", click.option("--tokens", help="Rows to train on, counting repetitions: 50M.")),
    "batch_size": ("optimization.batch_size", click.option("--batch-size", type=int)),
    "lr": ("optimization.lr", click.option("--lr", type=float)),
    "snapshots": (
        "optimization.snapshots",
        click.option("--snapshot", "snapshots", multiple=True, help="Export after so many rows too: 50M. Repeatable."),
    ),
    "checkpoint_minutes": (
        "optimization.checkpoint_minutes",
        click.option("--checkpoint-minutes", type=float, help="Minutes between checkpoints. [default: 10]"),
    ),
    "checkpoint_every": (
        "optimization.checkpoint_every",
        click.option("--checkpoint-every", type=int, help="Steps between checkpoints, beside those by time."),
    ),
    "spike": (
        "optimization.spike",
        click.option("--spike", type=float, help="Stop when a loss is so many times its mean. [default: 100]"),
    ),
    "autocast": (
        "optimization.autocast",
        click.option("--autocast/--no-autocast", default=None, help="Multiply in bfloat16, where the device can."),
    ),
    "held_out": ("evaluation.rows", click.option("--held-out", type=int, help="Rows kept for evaluation.")),
    "seed": ("seed", click.option("--seed", type=int)),
    "device": ("device", click.option("--device", help="auto, cpu, cuda, cuda:1 or mps. [default: auto]")),
    "identifier": ("artifact.id", click.option("--id", "identifier", help="Id and folder of the artifact.")),
    "variant": ("artifact.variant", click.option("--variant", help="What sets it apart.")),
}
"""Those of every run."""

NEAR = 0.05
"""How far from the L0 that a coefficient is steered to a run may end, relative to it."""

_OPTIONS = (
    click.option("--release", type=click.Path(path_type=Path, file_okay=False), required=True, help="Release folder."),
    click.option("--checkpoints", type=click.Path(path_type=Path), help="Default: `checkpoints` beside the release."),
    click.option("--name", help="Name of a new release. [default: its folder]"),
    click.option("--title", help="Title of a new release."),
    click.option("--license", "licence", help="Licence of a new release, as on the Hub."),
)


def settings_options(options: Options) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what adds flags to a command, in their order."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for _, option in reversed(options.values()):
            function = option(function)
        return function

    return add


def release_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where, and into what release, something is trained."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def release_info(release: Path, name: str | None, title: str | None, licence: str | None) -> "ReleaseInfo | None":
    """Return what a new manifest says of the release, or None where one stands already.

    Raises:
        UsageError: when there is no manifest yet, and no licence for one; or when one says something else.
        DocumentError: when the manifest cannot be read.
    """
    from saereg.schemas.manifest import Manifest, ReleaseInfo

    folder = release.absolute()
    if (folder / MANIFEST_FILE).is_file():
        there = Manifest.read(folder / MANIFEST_FILE).release
        for flag, said, given in (
            ("license", there.license, licence),
            ("name", there.name, name),
            ("title", there.title, title),
        ):
            if given is not None and given != said:
                raise UsageError(
                    f"{release / MANIFEST_FILE} says {flag} {said!r}, --{flag} {given!r}; "
                    f"leave --{flag} out, write it into the manifest, or give another --release"
                )
    elif licence is None:
        raise UsageError(
            f"{release} is a new release: give --license, and --name and --title if its folder is not enough"
        )
    label = name or folder.name
    return ReleaseInfo(name=label, version="0.1.0", title=title or label, license=licence) if licence else None


def require_id(settings: Mapping[str, Any], config: object) -> None:
    """Raise UsageError where flags alone say what to train, and not what it is called.

    Raises:
        UsageError: then; of a file the missing key is told with its place.
    """
    if config is None and "artifact" not in settings:
        raise UsageError(
            "the dictionary has no name; give --id, its id and folder in the release: --id layer_4/topk_32"
        )


def facts_of(artifact: "Artifact") -> list[str]:
    """Return what is said of a dictionary at its end: steps, claims, and an L0 that is not the one asked for."""
    stated = [claim for claim in artifact.claims if claim.units == "raw"] or artifact.claims
    numbers = [f"{claim.metric} {claim.value + 0.0:g}" for claim in stated]  # no minus before a zero
    steps = [plural(artifact.training.steps, "step")] if artifact.training and artifact.training.steps else []
    return [*steps, *numbers, *_missed(artifact)]


def _missed(artifact: "Artifact") -> list[str]:
    """Say that the L0 is too far from its target; that of a snapshot in the middle of a run is on its way."""
    target = artifact.sparsity.target_l0 if artifact.sparsity else None
    if target is None or artifact.snapshot not in (None, "final"):
        return []
    found = {claim.metric: claim.value for claim in artifact.claims if claim.units == "raw"}
    l0 = found.get("l0", found.get("l0_per_source_mean"))
    if l0 is None or abs(l0 - target) <= NEAR * target:
        return []
    where = "above" if l0 > target else "below"
    return [f"its L0 is {abs(l0 / target - 1):.0%} {where} target_l0 {target:g} (a longer run comes closer)"]
