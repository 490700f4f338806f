"""`saereg ls`."""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saereg.cli.options import catalog_option, where_option
from saereg.cli.render.rows import FORMS, write_rows
from saereg.cli.render.text import next_step, number, plural, visible
from saereg.errors import UsageError
from saereg.registry.conditions.fields import BASES, FIELDS, HEADLINES, METRICS, resolve_field
from saereg.registry.found import Found, aim
from saereg.registry.query import Selection

if TYPE_CHECKING:
    from saereg.registry.release import Release, ReleaseArtifact

COLUMNS = (
    "id", "kind", "architecture", "layer", "d_in", "d_sae", "k", "seed", "explained_variance", "l0", "dead_fraction",
    "canonical", "withdrawn",
)  # fmt: skip
"""Fields of a release's artifacts that are shown unless others are asked for; those without any value are left out."""

CATALOG_COLUMNS = (
    "release", "id", "kind", "architecture", "model_name", "layer", "d_sae", "k", "snapshot",
    "explained_variance", "l0", "canonical", "standing", "withdrawn",
)  # fmt: skip
"""The same for those of the catalogue."""

CSV_COLUMNS = (
    "reference", *CATALOG_COLUMNS, "explained_variance_basis", "l0_basis", "l0_definition", "source_kind",
    "source", "pin",
)  # fmt: skip
"""What CSV has unless other columns are asked for: always the same ones."""

NAMED = 4
"""Artifacts that are named because they were not pulled."""

SHOWN = 100
"""Rows of a table on a terminal, unless --limit says otherwise."""

SHORT = {
    "explained_variance": "ev", "dead_fraction": "dead", "architecture": "arch", "model_name": "model", "size": "bytes",
}  # fmt: skip
"""Headings of wide columns."""

PER_SOURCE = "l0_per_source_mean"
"""Definition of an L0 that is marked: it counts the active latents of each source of a crosscoder by itself."""


@dataclass(frozen=True)
class _View:
    """What is to be seen of some artifacts.

    Attributes:
        form: format.
        columns: fields that were asked for; None for those of the format.
        usual: fields that are shown otherwise, where they have a value.
        limit: most rows; None for all.
    """

    form: str
    columns: list[str] | None
    usual: Sequence[str]
    limit: int | None


@dataclass
class _Seen:
    """What was seen while rows were written: how many, how many of them withdrawn, and which numbers are marked."""

    rows: int = 0
    withdrawn: int = 0
    numbers: int = 0
    stated: int = 0
    per_source: bool = False
    first: tuple[Any, ...] = field(default=())


@click.command()
@click.argument("targets", nargs=-1)
@where_option
@click.option(
    "--model", multiple=True, help="Base model, with or without its organization; repeat it for any of several."
)
@click.option("--kind", multiple=True, help="sae, transcoder or crosscoder; repeatable.")
@click.option("--layer", multiple=True, type=int, help="Layer; repeatable.")
@click.option("--sort", help="Fields to sort by, separated by commas; -field reverses.")
@click.option("--columns", help="Fields to show, separated by commas.")
@click.option("--format", "form", type=click.Choice([*FORMS, "ids"]), default="table", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help=f"Most rows.  [default: {SHOWN} on a terminal, else all]")
@click.option("--basis", type=click.Choice(BASES), help="Only numbers that are measured, or only stated ones.")
@click.option("--group-by", help="Count by these fields, separated by commas, with the best ev of each group.")
@click.option(
    "--frontier", metavar="A,B", help="Only those that none beats, e.g. l0,ev; +field says that more is better."
)
@catalog_option
def command(targets: tuple[str, ...], catalog: Path | None, **options: Any) -> None:  # noqa: ANN401
    """List artifacts: of releases, or without TARGET of the whole catalogue.

    Numbers are those measured by `saereg build`; stated ones that stand in for them are marked. Absent values stay
    absent.
    """
    if targets and catalog is not None:
        raise UsageError("name releases or a catalogue, not both")
    if targets:
        _list_releases(targets, options)
    else:
        _list_catalog(catalog, options)


def _list_releases(targets: tuple[str, ...], options: dict[str, Any]) -> None:
    from saereg.registry.catalog.showing import openable
    from saereg.registry.catalog.store import catalog_path
    from saereg.registry.release import open_release

    releases = {target: open_release(openable(target, catalog_path())) for target in targets}
    everything = Selection(tuple(artifact for release in releases.values() for artifact in release))
    chosen = _chosen(everything, options)
    if options["group_by"] is not None:
        _write_groups(chosen, options)
        next_step("saereg ls", *targets)
        return
    usual = ("release", *COLUMNS) if len(releases) > 1 else COLUMNS
    _write(chosen, _view(options, usual), "id")
    if absent := [artifact for artifact in chosen if artifact.pull_command is not None]:
        click.echo(f"{_absent(absent, releases)}: saereg show names the command that fetches one", err=True)
    if len(chosen):
        of = next(target for target, release in releases.items() if release is chosen[0].release)
        next_step("saereg show", f"{of}:{chosen[0].id}")
    else:
        click.echo("no artifact meets every condition" if len(everything) else "no artifacts", err=True)
        next_step("saereg ls", *releases)


def _list_catalog(catalog: Path | None, options: dict[str, Any]) -> None:
    from saereg.registry.catalog.selection import CatalogSelection
    from saereg.registry.catalog.store import catalog_path

    path = catalog or catalog_path()
    everything = CatalogSelection(path)
    chosen = _chosen(everything, options)
    own = ("--catalog", catalog) if catalog else ()
    if options["group_by"] is not None:
        _write_groups(chosen, options)
        next_step("saereg ls", *own)
        return
    seen = _write(chosen, _view(options, CATALOG_COLUMNS), "reference")
    if seen.rows:
        reference, standing = seen.first
        next_step("saereg load" if standing == "foreign" else "saereg show", reference, *own)
    elif next(everything.rows(("id",), 1), None) is None:
        click.echo(f"the catalogue {path} is empty", err=True)
        next_step("saereg registry add FOLDER_OR_hf://ORG/REPO_OR_sae_lens", *own)
    else:
        click.echo("no artifact meets every condition", err=True)
        next_step("saereg ls", *own)


def _chosen(everything: Found[Any], options: dict[str, Any]) -> Any:  # noqa: ANN401 - of the kind that came in
    """Return the artifacts that are asked for, in the order that is asked for."""
    wanted = {f"{name}__in": options[name] for name in ("model", "kind", "layer") if options[name]}
    chosen = everything.find(basis=options["basis"], **wanted).where(*options["where"])
    if options["frontier"] is not None:
        names = options["frontier"].split(",")
        if len(names) != 2:
            raise UsageError(f"--frontier {options['frontier']}: expected two fields, such as l0,ev")
        chosen = chosen.frontier(*(name.strip() for name in names))
    return chosen.sort(*options["sort"].split(",")) if options["sort"] is not None else chosen


def _view(options: dict[str, Any], usual: Sequence[str]) -> _View:
    columns, limit = options["columns"], options["limit"]
    asked = [resolve_field(name.strip()) for name in columns.split(",")] if columns is not None else None
    if limit is None and options["form"] == "table" and sys.stdout is not None and sys.stdout.isatty():
        limit = SHOWN
    return _View(options["form"], asked, usual, limit)


def _write(chosen: Found[Any], view: _View, name: str) -> _Seen:
    """Write the artifacts, and on stderr what must be known of them.

    Args:
        chosen: they.
        view: what is to be seen of them.
        name: field by which `ids` names them.
    """
    seen = _Seen()
    if view.form == "ids":
        for (identifier,) in _watched(chosen, [name], view.limit, seen):
            click.echo(visible(identifier))
    elif view.form in ("json", "csv"):
        names = view.columns or list(FIELDS if view.form == "json" else CSV_COLUMNS)
        write_rows(view.form, names, _watched(chosen, names, view.limit, seen))
    else:
        _write_cells(chosen, view, seen)
    if view.limit is not None and seen.rows == view.limit and (whole := len(chosen)) > seen.rows:
        click.echo(f"the first {seen.rows} of {whole:,} artifacts: --limit shows more", err=True)
    if seen.withdrawn:
        click.echo(f"{plural(seen.withdrawn, 'artifact')} withdrawn: saereg show says why", err=True)
    if seen.stated and chosen.basis is None:
        share = f"{seen.stated} of {plural(seen.numbers, 'number')}"
        click.echo(f"* {share} stated, not measured: --basis measured leaves them out", err=True)
    if seen.per_source:
        click.echo(f"/src: active latents per source of a crosscoder ({PER_SOURCE})", err=True)
    return seen


def _watched(chosen: Found[Any], names: Sequence[str], limit: int | None, seen: _Seen) -> Iterator[tuple[Any, ...]]:
    """Yield some fields of each artifact, and note what the lines on stderr say."""
    for *row, reference, standing, withdrawn in chosen.rows((*names, "reference", "standing", "withdrawn"), limit):
        seen.first = seen.first or (reference, standing)
        seen.rows += 1
        seen.withdrawn += withdrawn is not None
        yield tuple(row)


def _write_cells(chosen: Found[Any], view: _View, seen: _Seen) -> None:
    """Write a table for people: rounded, with marks, and without columns that have no value."""
    names = list(view.columns or view.usual)
    numbers = [name for name in names if name in METRICS]
    others = [name for name in numbers if name not in HEADLINES]
    measured = chosen.of("measured").rows(others, view.limit) if others else itertools.repeat(())
    facts = [*names, "l0_definition", *(f"{name}_basis" for name in numbers if name in HEADLINES)]
    rows = []
    for found, sure in zip(_watched(chosen, facts, view.limit, seen), measured, strict=False):
        row, definition, bases = found[: len(names)], found[len(names)], iter(found[len(names) + 1 :])
        known = dict(zip(others, (value is not None for value in sure), strict=True))
        known |= {name: next(bases) == "measured" for name in numbers if name in HEADLINES}
        rows.append([_cell(name, value, known, definition, seen) for name, value in zip(names, row, strict=True)])
    if view.columns is None and rows:
        kept = [n for n in range(len(names)) if any(row[n] not in ("–", "no") for row in rows)]
        names, rows = [names[n] for n in kept], [[row[n] for n in kept] for row in rows]
    write_rows(view.form, names, rows, SHORT)


def _cell(name: str, value: object, measured: dict[str, bool], definition: str | None, seen: _Seen) -> str:
    text = number(value)
    if value is None or name not in measured:
        return text
    seen.numbers += 1
    if name == "l0" and definition == PER_SOURCE:
        seen.per_source, text = True, f"{text}/src"
    if not measured[name]:
        seen.stated, text = seen.stated + 1, f"{text}*"
    return text


def _write_groups(chosen: Found[Any], options: dict[str, Any]) -> None:
    """Write how many artifacts there are of each combination of values, and the best variance explained of each."""
    if options["form"] == "ids" or options["columns"] is not None:
        raise UsageError("--group-by has its own columns: leave --columns and --format ids out")
    names = [resolve_field(name.strip()) for name in options["group_by"].split(",")]
    best = aim("explained_variance")
    rows: Iterable[tuple[Any, ...]] = ((*one.values, one.size, one.best) for one in chosen.counted(names, best))
    if options["limit"]:
        rows = list(rows)[: options["limit"]]
    write_rows(options["form"], [*names, "artifacts", "best_ev"], rows, SHORT)


def _absent(absent: "list[ReleaseArtifact]", releases: "dict[str, Release]") -> str:
    """Return which artifacts were not pulled, with their release where there are several."""
    names = ", ".join(artifact.id if len(releases) < 2 else artifact.folder.as_posix() for artifact in absent[:NAMED])
    more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
    return f"not pulled: {visible(names)}{more}"
