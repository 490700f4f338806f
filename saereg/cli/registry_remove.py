"""`saereg registry remove`."""

from pathlib import Path

import click

from saereg.cli.options import catalog_option
from saereg.cli.render.text import next_step, visible


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@catalog_option
def command(targets: tuple[str, ...], catalog: Path | None) -> None:
    """Take sources and all of their rows out of the catalogue; the releases themselves stay where they are.

    TARGET is written as for add, or as registry list shows it. Without a revision, all revisions of a repository go.
    """
    from saereg.registry.catalog.sources import matching, name_of
    from saereg.registry.catalog.store import catalog_path, reading
    from saereg.registry.catalog.sync import remove

    path = catalog or catalog_path()
    with reading(path) as connection:
        gone = {source: None for target in targets for source in matching(connection, target)}
    remove(path, tuple(gone))
    for source in gone:
        click.echo(f"removed {visible(name_of(source))}")
    next_step("saereg registry list", *(("--catalog", path) if catalog else ()))
