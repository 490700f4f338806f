"""The commands that collect rows and train dictionaries of them."""

from pathlib import Path
from typing import Any

import click

from saereg.cli.progress import bar
from saereg.cli.render.text import next_step, plural
from saereg.cli.train_crosscoder import crosscoder
from saereg.cli.train_sae import sae
from saereg.cli.train_snapshots import snapshots
from saereg.cli.train_sweep import sweep
from saereg.cli.train_text import text_options


@click.group()
def command() -> None:
    """Collect activations and train dictionaries."""


@command.command()
@click.option("--model", required=True, help="Local folder or Hub id of a transformers model.")
@text_options
@click.option(
    "--site", "sites", multiple=True, required=True, help="residual:L, mlp:L, attention:L, mlp_in:L or module=PATH."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the collection."
)
@click.option("--rows", type=click.IntRange(min=1), required=True, help="Rows (tokens) per site.")
@click.option(
    "--batch",
    "batch_contexts",
    default=32,
    show_default=True,
    type=click.IntRange(min=1),
    help="Contexts per forward pass at most.",
)
@click.option("--batch-tokens", type=click.IntRange(min=1), help="Tokens per forward pass at most, padding included.")
@click.option(
    "--dtype", type=click.Choice(["float16", "float32"]), default="float32", show_default=True, help="Stored type."
)
@click.option("--shard-rows", default=65536, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--revision", help="Commit of the model on the Hub.")
@click.option("--model-name", help="Id of the model in the release.")
@click.option("--model-license", help="Licence of the weights.")
@click.option(
    "--model-dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True
)
def collect(**options: Any) -> None:  # noqa: ANN401 - one value per option
    """Run a model over text and keep the activations of some sites. A stopped run goes on where it was."""
    from saereg.trainers.collecting.collect import CollectConfig
    from saereg.trainers.collecting.collect import collect as run

    with bar("collect") as progress:
        found = run(CollectConfig(**options), lambda done, total: progress("", done, total))
    rows, sites = plural(found.rows, "row"), plural(len(found.sites), "site")
    click.echo(f"{rows} at {sites} ({', '.join(found.sites)}) in {options['out']}")
    words = ("--collection", options["out"], "--site", next(iter(found.sites)))
    next_step("saereg train sae", *words, "--release", "RELEASE", "run.yaml")


@command.command(short_help="Cut text into contexts and keep their token ids.")
@click.option("--model", required=True, help="Local folder or Hub id of a transformers model; its tokenizer is used.")
@text_options
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File, in the release folder."
)
@click.option("--contexts", type=click.IntRange(min=1), required=True, help="How many contexts.")
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
    from saereg.trainers.collecting.tokens import TokensConfig, write_tokens

    done = write_tokens(TokensConfig(**options))
    rows, contexts = plural(done.rows, "row"), plural(options["contexts"], "context")
    click.echo(f"{rows} of {plural(done.tokens, 'token')} in {contexts}: {options['out']}")
    click.echo("In the manifest's `evaluations`, with the release's own path and site:")
    click.echo(canonical({"held-out": done.evaluation(Path(options["out"]).name)}), nl=False)


command.add_command(crosscoder)
command.add_command(sae)
command.add_command(sweep)
command.add_command(snapshots)
