"""`saereg registry sync`."""

from pathlib import Path

import click

from saereg.cli.options import catalog_option
from saereg.cli.render.syncing import end, line
from saereg.cli.render.text import next_step


@click.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--offline", is_flag=True, help="Ask nobody: repositories stay as they are.")
@click.option("--again", is_flag=True, help="Read also what did not change.")
@catalog_option
def command(targets: tuple[str, ...], offline: bool, again: bool, catalog: Path | None) -> int:
    """Read again what changed since: all sources of the catalogue, or those that TARGET names.

    A source whose commit or digest is the same is left. One that cannot be read keeps its rows, and the list says what
    is the matter. Each source is written on its own, so that a sync that was stopped goes on with those that were asked
    longest ago. Exit code 1: a release has errors; 2, 4 or 5: a source cannot be read.
    """
    from saereg.registry.catalog.sources import matching
    from saereg.registry.catalog.store import catalog_path, changing, is_there, list_of, reading
    from saereg.registry.catalog.sync import Wishes, sync, worst

    path, chosen = catalog or catalog_path(), None
    if not is_there(path) and list_of(path).is_file():
        with changing(path):  # it is made from the list of its sources
            pass
    if targets:
        with reading(path) as connection:
            chosen = [source for target in targets for source in matching(connection, target)]
    wishes = Wishes(offline=offline, again=again)
    outcomes = sync(path, chosen, wishes, lambda outcome: click.echo(line(outcome), err=True))
    click.echo(end(outcomes))
    failed = any(outcome.problem for outcome in outcomes)
    next_step("saereg registry list" if failed else "saereg ls", *(("--catalog", path) if catalog else ()))
    return int(worst([outcome.code for outcome in outcomes]))
