"""`saereg registry list`."""

import json
from pathlib import Path

import click

from saereg.cli.options import catalog_option
from saereg.cli.render.syncing import short
from saereg.cli.render.text import next_step, plural, table, visible

HEAD = ("source", "kind", "pin", "releases", "artifacts", "verified", "unverified", "foreign", "synced", "problem")


@click.command()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@catalog_option
def command(form: str, catalog: Path | None) -> None:
    """List the sources of the catalogue: at which commit or digest each was read, when, and what is the matter.

    verified, unverified and foreign count releases; see docs/catalog.md for what the words mean.
    """
    from saereg.registry.catalog.listing import listed
    from saereg.registry.catalog.store import catalog_path

    path = catalog or catalog_path()
    sources = listed(path)
    if form == "json":
        click.echo(json.dumps(sources, indent=2, ensure_ascii=False))
    elif sources:
        click.echo(table(HEAD, [_row(source) for source in sources]))
    failed = sum(1 for source in sources if source["problem"])
    click.echo(f"{plural(len(sources), 'source')} in {path}{f'; {failed} not read' if failed else ''}", err=True)
    next_step("saereg registry sync" if sources else "saereg registry add hf://org/repo", *_catalog(catalog))


def _catalog(catalog: Path | None) -> tuple[object, ...]:
    return ("--catalog", catalog) if catalog else ()


def _row(source: dict[str, str | int | None]) -> list[str]:
    cells = source | {"pin": short(str(source["pin"] or ""))}
    return [visible(str(cells[name])) if cells[name] is not None else "–" for name in HEAD]
