"""`saereg ls`."""

import json

import click

from saereg.cli.render.text import next_step, number, table
from saereg.registry.query import Selection, parse_condition, resolve_field
from saereg.registry.release import ReleaseArtifact, open_release

COLUMNS = "id,kind,architecture,layer,d_in,d_sae,k,seed,explained_variance,l0,dead_fraction,canonical"

SHORT = {"explained_variance": "ev", "dead_fraction": "dead", "architecture": "arch"}
"""Headings of wide columns."""


@click.command()
@click.argument("targets", nargs=-1, required=True)
@click.option("--where", multiple=True, help="Condition such as 'l0 < 64' or 'kind = sae'; repeatable, all must hold.")
@click.option("--sort", help="Field to sort by; -field reverses.")
@click.option("--columns", default=COLUMNS, help="Fields to show, separated by commas.")
@click.option("--format", "form", type=click.Choice(["table", "json", "ids"]), default="table", show_default=True)
def command(targets: tuple[str, ...], where: tuple[str, ...], sort: str | None, columns: str, form: str) -> None:
    """List the artifacts of releases. Metrics are those measured by `saereg build`; absent values stay absent."""
    chosen = Selection(tuple(artifact for target in targets for artifact in open_release(target)))
    for condition in where:
        chosen = chosen.find(**dict([parse_condition(condition)]))
    if sort:
        chosen = chosen.sort(sort)
    fields = [resolve_field(name.strip()) for name in columns.split(",")]
    click.echo({"json": _json, "ids": _ids, "table": _table}[form](chosen, fields))
    if form == "table" and len(chosen):
        next_step(f"saereg show {targets[0]}:{chosen[0].id}")


def _json(chosen: Selection, fields: list[str]) -> str:
    return json.dumps([artifact.fields for artifact in chosen], indent=2, ensure_ascii=False)


def _ids(chosen: Selection, fields: list[str]) -> str:
    return "\n".join(artifact.id for artifact in chosen)


def _table(chosen: Selection, fields: list[str]) -> str:
    if not len(chosen):
        return "no artifacts"
    kept = [name for name in fields if any(_cell(artifact, name) not in ("–", "no") for artifact in chosen)]
    rows = [[_cell(artifact, name) for name in kept] for artifact in chosen]
    return table([SHORT.get(name, name) for name in kept], rows)


def _cell(artifact: ReleaseArtifact, name: str) -> str:
    return number(artifact.fields[name])
