"""`saereg registry add`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from saereg.cli.options import catalog_option
from saereg.cli.render.syncing import end, line
from saereg.cli.render.text import next_step
from saereg.errors import ExitCode, SaeregError

if TYPE_CHECKING:
    from saereg.registry.catalog.rows import Source


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--offline", is_flag=True, help="Ask nobody; repositories are read by a later sync.")
@catalog_option
def command(targets: tuple[str, ...], offline: bool, catalog: Path | None) -> int:
    """Put releases into the catalogue and read them; what is there already is read where it changed.

    TARGET is a release folder, hf://org/repo[@revision], hf://org/* (every repository of it that holds a release),
    sae_lens (the registry of the installed SAELens), or an index.json or manifest.json of another make. Nothing but
    documents and headers of weights is fetched. A release that fails validation enters as unverified, with findings.
    Exit code 1: a release has errors; 2, 4 or 5: a target is nothing, the Hub cannot be asked, there is no release.
    """
    from saereg.registry.catalog.sources import sources_of
    from saereg.registry.catalog.store import catalog_path
    from saereg.registry.catalog.sync import Wishes, add, sync, worst

    path, codes = catalog or catalog_path(), list[ExitCode]()
    found: list[Source] = []
    for target in targets:
        try:
            found += sources_of(target, offline=offline)
        except SaeregError as error:
            click.echo(f"error: {error}", err=True)
            codes.append(error.exit_code)
    if found:
        add(path, found)
        outcomes = sync(path, found, Wishes(offline=offline), lambda outcome: click.echo(line(outcome), err=True))
        codes += [outcome.code for outcome in outcomes]
        click.echo(end(outcomes))
        next_step("saereg ls", *(("--catalog", path) if catalog else ()))
    return int(worst(codes))
