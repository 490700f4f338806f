"""`saereg ls`."""

import json
from collections.abc import Sequence

import click

from saereg.cli.options import where_option
from saereg.cli.render.text import next_step, number, plural, table, visible
from saereg.registry.query import Selection, meeting, resolve_field
from saereg.registry.release import Release, ReleaseArtifact, open_release

COLUMNS = (
    "id", "kind", "architecture", "layer", "d_in", "d_sae", "k", "seed", "explained_variance", "l0", "dead_fraction",
    "canonical", "withdrawn",
)  # fmt: skip
"""Fields shown unless others are asked for; those without any value are left out."""

NAMED = 4
"""Artifacts that are named because they were not pulled."""

SHORT = {"explained_variance": "ev", "dead_fraction": "dead", "architecture": "arch"}
"""Headings of wide columns."""


@click.command()
@click.argument("targets", nargs=-1, required=True)
@where_option
@click.option("--sort", help="Field to sort by; -field reverses.")
@click.option("--columns", help=f"Fields to show, separated by commas.  [default: {','.join(COLUMNS)}]")
@click.option("--format", "form", type=click.Choice(["table", "json", "ids"]), default="table", show_default=True)
def command(targets: tuple[str, ...], where: tuple[str, ...], sort: str | None, columns: str | None, form: str) -> None:
    """List the artifacts of releases. Metrics are those measured by `saereg build`; absent values stay absent."""
    releases = {target: open_release(target) for target in targets}
    chosen = Selection(tuple(artifact for release in releases.values() for artifact in release))
    chosen = meeting(chosen, where)
    if sort:
        chosen = chosen.sort(sort)
    if columns is not None:
        fields = [resolve_field(name.strip()) for name in columns.split(",")]
    else:
        fields = _worth_showing(chosen, ("release", *COLUMNS) if len(releases) > 1 else COLUMNS)
    click.echo({"json": _json, "ids": _ids, "table": _table}[form](chosen, fields), nl=form != "ids")
    if taken_back := [artifact for artifact in chosen if artifact.withdrawn]:
        click.echo(f"{plural(len(taken_back), 'artifact')} withdrawn: saereg show says why", err=True)
    if absent := [artifact for artifact in chosen if artifact.pull_command is not None]:
        click.echo(f"{_absent(absent, releases)}: saereg show names the command that fetches one", err=True)
    if len(chosen):
        of = next(target for target, release in releases.items() if release is chosen[0].release)
        next_step("saereg show", f"{of}:{chosen[0].id}")
    else:
        click.echo("no artifact meets every condition" if where else "no artifacts", err=True)
        next_step("saereg ls", *releases)


def _absent(absent: list[ReleaseArtifact], releases: dict[str, Release]) -> str:
    """Return which artifacts were not pulled, with their release where there are several."""
    names = ", ".join(artifact.id if len(releases) < 2 else artifact.folder.as_posix() for artifact in absent[:NAMED])
    more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
    return f"not pulled: {visible(names)}{more}"


def _json(chosen: Selection[ReleaseArtifact], fields: list[str]) -> str:
    return json.dumps([artifact.fields for artifact in chosen], indent=2, ensure_ascii=False)


def _ids(chosen: Selection[ReleaseArtifact], fields: list[str]) -> str:
    return "".join(f"{artifact.id}\n" for artifact in chosen)


def _table(chosen: Selection[ReleaseArtifact], fields: list[str]) -> str:
    rows = [[_cell(artifact, name) for name in fields] for artifact in chosen]
    return table([SHORT.get(name, name) for name in fields], rows)


def _worth_showing(chosen: Selection[ReleaseArtifact], fields: Sequence[str]) -> list[str]:
    """Return the fields in which some artifact has a value."""
    return [name for name in fields if not len(chosen) or any(_cell(a, name) not in ("–", "no") for a in chosen)]


def _cell(artifact: ReleaseArtifact, name: str) -> str:
    return number(artifact.fields[name])
