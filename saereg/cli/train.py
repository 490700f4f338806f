"""`saereg train collect`, `saereg train tokens` and `saereg train sae`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from saereg.cli.configuration import overlaid, read_yaml
from saereg.cli.progress import bar
from saereg.cli.render.text import next_step
from saereg.errors import UsageError
from saereg.registry.release import CHECKPOINTS, MANIFEST_FILE
from saereg.schemas.training import TrainConfig, TrainedArchitecture, TrainedNormalization

PLACES = {
    "collection": "collection",
    "site": "site",
    "architecture": "sae.architecture",
    "d_sae": "sae.d_sae",
    "k": "sae.k",
    "l1": "sae.l1_coefficient",
    "l0": "sae.l0_coefficient",
    "normalize": "sae.normalize_activations",
    "tokens": "optimization.tokens",
    "batch_size": "optimization.batch_size",
    "lr": "optimization.lr",
    "held_out": "evaluation.rows",
    "seed": "seed",
    "device": "device",
    "identifier": "artifact.id",
    "variant": "artifact.variant",
}
"""Flag → place in the configuration file."""


@click.group()
def command() -> None:
    """Collect activations and train dictionaries."""


@command.command()
@click.option("--model", required=True, help="Local folder or Hub id of a transformers model.")
@click.option(
    "--text", "corpus", multiple=True, required=True, help="Text file, folder, .jsonl, builtin:prose or builtin:code."
)
@click.option("--site", "sites", multiple=True, required=True, help="residual:L, mlp:L, attention:L or module=PATH.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the collection."
)
@click.option("--rows", type=click.IntRange(min=1), required=True, help="Rows (tokens) per site.")
@click.option("--context-size", default=128, show_default=True, type=click.IntRange(min=2))
@click.option(
    "--batch",
    "batch_contexts",
    default=32,
    show_default=True,
    type=click.IntRange(min=1),
    help="Contexts per forward pass.",
)
@click.option(
    "--dtype", type=click.Choice(["float16", "float32"]), default="float32", show_default=True, help="Stored type."
)
@click.option("--shard-rows", default=65536, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="cpu", show_default=True)
@click.option("--bos", is_flag=True, help="Prepend BOS where the tokenizer does not.")
@click.option("--revision", help="Commit of the model on the Hub.")
@click.option("--model-name", help="Id of the model in the release.")
@click.option("--model-license", help="Licence of the weights.")
@click.option(
    "--model-dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True
)
def collect(**options: Any) -> None:  # noqa: ANN401 - one value per option
    """Run a model over text and keep the activations of some sites. A stopped run goes on where it was."""
    from saereg.trainers.collect import CollectConfig
    from saereg.trainers.collect import collect as run

    with bar("collect") as progress:
        found = run(CollectConfig(**options), lambda done, total: progress("", done, total))
    click.echo(f"{found.rows} rows at {len(found.sites)} sites ({', '.join(found.sites)}) in {options['out']}")
    words = ("--collection", options["out"], "--site", next(iter(found.sites)))
    next_step("saereg train sae", *words, "--release", "RELEASE", "run.yaml")


@command.command()
@click.option("--model", required=True, help="Local folder or Hub id of a transformers model; its tokenizer is used.")
@click.option(
    "--text", "corpus", multiple=True, required=True, help="Text file, folder, .jsonl, builtin:prose or builtin:code."
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File, in the release folder."
)
@click.option("--contexts", type=click.IntRange(min=1), required=True, help="How many contexts.")
@click.option("--context-size", default=128, show_default=True, type=click.IntRange(min=2))
@click.option("--bos", is_flag=True, help="Prepend BOS where the tokenizer does not.")
@click.option(
    "--exclude",
    "excluded",
    multiple=True,
    default=("special",),
    show_default=True,
    help="Tokens that become no rows: bos, eos, sep, cls, pad, unk, mask, special (all of them), first, or none.",
)
@click.option("--revision", help="Commit of the model on the Hub.")
def tokens(**options: Any) -> None:  # noqa: ANN401 - one value per option
    """Cut text into contexts and keep their token ids: metrics are recomputed by running the model over them."""
    from saereg.schemas.document import canonical
    from saereg.trainers.tokens import TokensConfig, write_tokens

    done = write_tokens(TokensConfig(**options))
    click.echo(f"{done.rows} rows of {done.tokens} tokens in {options['contexts']} contexts: {options['out']}")
    click.echo("In the manifest's `evaluations`, with the release's own path and site:")
    click.echo(canonical({"held-out": done.evaluation(Path(options["out"]).name)}), nl=False)


def _sae_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags that stand in PLACES."""
    options = [
        click.option("--collection", help="Folder that `train collect` wrote."),
        click.option("--site", help="Site in the collection."),
        click.option("--architecture", type=click.Choice(get_args(TrainedArchitecture))),
        click.option("--d-sae", type=int, help="Number of latents."),
        click.option("--k", type=float, help="Active latents per row (topk, batchtopk)."),
        click.option("--l1", type=float, help="L1 coefficient (standard, gated)."),
        click.option("--l0", type=float, help="L0 coefficient (jumprelu)."),
        click.option("--normalize", type=click.Choice(get_args(TrainedNormalization))),
        click.option("--tokens", type=int, help="Rows to train on, counting repetitions."),
        click.option("--batch-size", type=int),
        click.option("--lr", type=float),
        click.option("--held-out", type=int, help="Rows kept for evaluation."),
        click.option("--seed", type=int),
        click.option("--device"),
        click.option("--id", "identifier", help="Id and folder of the artifact."),
        click.option("--variant", help="What sets it apart."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@command.command()
@click.argument("config", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_sae_options
@click.option("--release", type=click.Path(path_type=Path, file_okay=False), required=True, help="Release folder.")
@click.option("--checkpoints", type=click.Path(path_type=Path), help="Default: `checkpoints` beside the release.")
@click.option("--name", help="Name of a new release. [default: its folder]")
@click.option("--title", help="Title of a new release.")
@click.option("--license", "licence", help="Licence of a new release, as on the Hub.")
def sae(
    config: Path | None,
    release: Path,
    checkpoints: Path | None,
    name: str | None,
    title: str | None,
    licence: str | None,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Train a sparse autoencoder with SAELens and add it to a release folder.

    Settings come from a YAML file (see `saereg schema train`), from flags, or both; flags win. The same settings give
    the same bytes on one machine.
    """
    from saereg.schemas.document import canonical
    from saereg.schemas.manifest import ReleaseInfo
    from saereg.trainers.sae import train

    settings = overlaid(read_yaml(config) if config else {}, {PLACES[flag]: value for flag, value in flags.items()})
    parsed = TrainConfig.from_text(canonical(settings), config or "flags")
    folder = release.absolute()
    label = name or folder.name
    if licence is None and not (folder / MANIFEST_FILE).is_file():
        raise UsageError(
            f"{release} is a new release: give --license, and --name and --title if its folder is not enough"
        )
    info = ReleaseInfo(name=label, version="0.1.0", title=title or label, license=licence) if licence else None
    with bar(f"train {parsed.artifact.id}") as progress:
        done = train(
            parsed,
            release,
            checkpoints or folder.parent / CHECKPOINTS,
            lambda seen, total: progress("", seen, total),
            info=info,
        )
    click.echo(f"{done.artifact.id}: {done.artifact.training.steps} steps, weights sha256 {done.weights_sha256[:16]}…")
    next_step("saereg build", release, *(("--checkpoints", checkpoints) if checkpoints else ()))
