"""`saereg build`."""

from pathlib import Path
from typing import Any

import click

from saereg.cli.building import note, presentation, presentation_options, said
from saereg.cli.options import device_option, executor_option, local_folder, model_option, named, require_known_models
from saereg.cli.options import models as given_models
from saereg.cli.progress import bar
from saereg.cli.render.text import next_step
from saereg.errors import UsageError
from saereg.registry.files.blocks import require_torch

PRESENTED = ("figures", "features", "cards", "latents", "templates")
"""Flags that say what is made for readers."""


@click.command()
@click.argument("target")
@click.option(
    "--checkpoints", type=click.Path(path_type=Path), help="Folder of source checkpoints, for the round trip."
)
@click.option(
    "--evaluation",
    "evaluations",
    multiple=True,
    metavar="NAME=DATA",
    help="First make a held-out evaluation: draw rows of DATA, store them as evaluation/NAME.safetensors, declare "
    "them. Repeat it for several.",
)
@click.option("--rows", type=click.IntRange(1), help="Rows to draw [default: those declared, or all].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the draw.")
@click.option("--site", metavar="KEY", help="Site of the rows [default: the only one that is read].")
@model_option
@device_option
@executor_option
@presentation_options
def command(
    target: str,
    checkpoints: Path | None,
    evaluations: tuple[str, ...],
    models: tuple[str, ...],
    device: str,
    executor: str | None,
    **flags: Any,  # noqa: ANN401 - rows, seed and site, as HeldOut has them, and those of PRESENTED
) -> None:
    """Look at every file of a release and write index.json, figures, feature views and cards.

    Files are hashed, headers read, switches resolved, golden vectors replayed, weights compared with their source
    checkpoint where it is at hand, and metrics recomputed on the evaluations that the release declares.

    DATA is a file of rows (.safetensors, .npy, .npz, .pt) or a folder of such shards or of `saereg train collect`, with
    #TENSOR behind it where there are several (#SITE for a collection, #INPUTS,TARGETS for a transcoder);
    synthetic:seed=0,rows=4096; or a .json file with a record as `evaluations` of a manifest has it. An evaluation that
    is there already, with the same rows, is left as it is; other rows need another name.
    """
    folder, where = local_folder(target), given_models(models)
    draw = {name: flags[name] for name in ("rows", "seed", "site")}
    wanted = named(evaluations, "--evaluation", "NAME=DATA")
    if not wanted and (draw["rows"] is not None or draw["site"] is not None):
        raise UsageError("--rows and --site are of the rows that --evaluation draws; add --evaluation NAME=DATA")
    require_torch("building an index")
    from saereg.registry.build import build
    from saereg.registry.loading import require_device
    from saereg.registry.metrics.sources.holdout import HeldOut, hold_out
    from saereg.registry.release import MANIFEST_FILE
    from saereg.registry.signature import staleness
    from saereg.schemas.manifest import Manifest

    if executor is None:
        require_device(device)
    if where and (folder / MANIFEST_FILE).is_file():
        require_known_models(where, [Manifest.read(folder / MANIFEST_FILE)])
    for made in hold_out(folder, *(HeldOut(name, spec, models=where, **draw) for name, spec in wanted.items())):
        left = "" if made.is_new else " is there with these rows, nothing is made"
        click.echo(f"{made.file.relative_to(folder)}: evaluation {made.name}{left}")
    shown = presentation(where, device, {name: flags[name] for name in PRESENTED})
    with bar("build") as progress:
        index = build(
            folder,
            checkpoints=checkpoints,
            models=where,
            device=device,
            executor=executor,
            progress=progress,
            presentation=shown,
        )
    said(index)
    if stale := staleness(folder, index):
        note(stale)
    step = ("saereg validate", target, "--level", "data")
    given = [word for option in models for word in ("--model", option)]
    next_step(*step, *(("--checkpoints", checkpoints) if checkpoints else ()), *given)
