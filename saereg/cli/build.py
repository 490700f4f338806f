"""`saereg build`."""

from pathlib import Path

import click

from saereg.cli.options import local_folder
from saereg.cli.progress import bar
from saereg.cli.render.text import next_step, plural


@click.command()
@click.argument("target")
@click.option(
    "--checkpoints", type=click.Path(path_type=Path), help="Folder of source checkpoints, for the round trip."
)
def command(target: str, checkpoints: Path | None) -> None:
    """Look at every file of a release and write index.json.

    Files are hashed, headers read, switches resolved, golden vectors replayed, weights compared with their source
    checkpoint where it is at hand, and metrics recomputed on the evaluations that the release ships.
    """
    from saereg.registry.build import build

    with bar("build") as progress:
        index = build(local_folder(target), checkpoints=checkpoints, progress=progress)
    verdicts = [verdict.verdict for artifact in index.artifacts for verdict in artifact.verdicts]
    said = ", ".join(f"{verdicts.count(v)} {v.replace('_', ' ')}" for v in sorted(set(verdicts))) or "none stated"
    counts = f"{plural(len(index.artifacts), 'artifact')}, {plural(len(index.all_files()), 'file')}"
    click.echo(f"index.json: {counts}; claims: {said}")
    step = ("saereg validate", target, "--level", "data")
    next_step(*step, *(("--checkpoints", checkpoints) if checkpoints else ()))
