"""`saereg train snapshots`."""

from pathlib import Path
from typing import Any

import click

from saereg.cli.progress import bar
from saereg.cli.render.text import next_step, plural


@click.command(short_help="Keep a parameter at steps of a pretraining.")
@click.option("--model", required=True, help="Folder of checkpoints, or Hub id of a model with a revision per step.")
@click.option("--parameter", default="W_U", show_default=True, help="W_U, W_E, or the name of a tensor.")
@click.option("--tensor", help="Name of the tensor that W_U or W_E is. [default: told from the checkpoint's names]")
@click.option(
    "--schedule",
    required=True,
    help="Steps of which there are checkpoints: pythia-154, every:1000, every:1000:143000, or 0,1,2,4.",
)
@click.option("--steps", metavar="STEP,STEP,…", help="Take these steps of the schedule alone.")
@click.option("--count", type=click.IntRange(min=1), help="Take so many steps of it, evenly in log(1 + step).")
@click.option(
    "--revision",
    default="step{step}",
    show_default=True,
    help="Name of the revision or folder of a step; * stands for anything, as in stage1-step{step}-tokens*B.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write.")
@click.option(
    "--dtype", type=click.Choice(["float16", "bfloat16", "float32"]), help="Stored type. [default: the checkpoints']"
)
@click.option("--model-name", help="Id of the model in the release.")
@click.option("--model-license", help="Licence of the weights.")
def snapshots(**options: Any) -> None:  # noqa: ANN401 - one value per option
    """Keep a parameter of a model at steps of its pretraining, without loading the model.

    Of checkpoints on the Hub only the headers and that tensor are fetched. A stopped run goes on where it was.
    """
    from saereg.trainers.collecting.snapshots import SnapshotsConfig
    from saereg.trainers.collecting.snapshots import snapshots as run

    with bar("snapshots") as progress:
        found = run(SnapshotsConfig(**options), lambda done, total: progress("", done, total))
    shape = f"{found.rows} × {found.d_in}, {found.dtype}"
    click.echo(
        f"{plural(len(found.snapshots), 'step')} of {found.parameter} ({found.tensor}, {shape}) in {options['out']}"
    )
    if found.tied:
        click.echo("the embedding is tied: the checkpoints hold one matrix for W_E and W_U")
    if found.vocabulary is not None and found.vocabulary < found.rows:
        padding = found.rows - found.vocabulary
        click.echo(f"the tokenizer has {found.vocabulary} entries: the last {padding} rows are padding, and are kept")
    next_step("saereg train crosscoder", "--parameters", options["out"], "--release", "RELEASE", "run.yaml")
