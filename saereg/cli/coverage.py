"""`saereg coverage`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from saereg.cli.options import catalog_option
from saereg.cli.render.text import next_step, plural
from saereg.errors import UsageError

if TYPE_CHECKING:
    from saereg.registry.coverage.holdings import Held
    from saereg.schemas.coverage import Coverage, CoverageRow

FORMS = ("table", "md", "json", "csv")


@click.command()
@click.option("--format", "form", type=click.Choice(FORMS), default="table", show_default=True)
@click.option("--by", type=click.Choice(["family", "model"]), default="family", show_default=True, help="Rows.")
@click.option("--columns", metavar="NAME,…", help="checkpoints, saes, benchmarks.  [default: checkpoints,saes,MBPP]")
@click.option("--explain", metavar="FAMILY", help="Say of one row by which rule each cell is decided, and from what.")
@click.option("--rules", is_flag=True, help="List the rules.")
@click.option(
    "--facts", type=click.Path(path_type=Path), help="YAML file of facts to add, or to put in place of others."
)
@catalog_option
def command(
    form: str,
    by: Literal["family", "model"],
    columns: str | None,
    explain: str | None,
    rules: bool,
    facts: Path | None,
    catalog: Path | None,
) -> None:
    """Which model families have checkpoints of training, dictionaries, and results of benchmarks.

    Every cell is yes, partial, no or unknown, by a rule, from sourced facts and the rows of the catalogue.
    """
    if rules:
        _print_rules(form)
        next_step("saereg coverage")
        return
    from saereg.registry.coverage.facts import load_facts
    from saereg.registry.coverage.table import DEFAULT, coverage, row_of

    known = load_facts(facts)
    held = _held(catalog)
    names = DEFAULT if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    found = coverage(known, held, names, by)
    row = None if explain is None else row_of(found, explain, known)
    _print(found if row is None else found.model_copy(update={"rows": (row,)}), form, row)
    _say(found, row)


def _held(catalog: Path | None) -> "Held | None":
    """Return what the catalogue holds; a user who has none gets the facts alone, and is told."""
    from saereg.registry.catalog.store import catalog_path
    from saereg.registry.coverage.holdings import read_held

    path = catalog or catalog_path()
    if catalog is None and not path.exists():
        click.echo("no catalogue yet: facts only; saereg registry add makes one", err=True)
        return None
    return read_held(path)


def _print(found: "Coverage", form: str, row: "CoverageRow | None") -> None:
    from saereg.cli.render.coverage import FIELDS, as_markdown, as_rows, as_table, explanation
    from saereg.cli.render.rows import write_rows

    if form == "json":
        click.echo(found.text(), nl=False)
    elif form == "csv":
        write_rows("csv", FIELDS, as_rows(found))
    elif form == "md":
        click.echo(as_markdown(found), nl=False)
    else:
        click.echo(as_table(found) if row is None else explanation(row, found))


def _print_rules(form: str) -> None:
    from saereg.cli.render.coverage import rules_markdown, rules_text
    from saereg.registry.coverage.rules import listed

    if form == "csv":
        raise UsageError("--rules are written as table, md or json")
    if form == "json":
        click.echo(json.dumps([rule.model_dump() for rule in listed()], indent=2, ensure_ascii=False))
    else:
        click.echo(rules_markdown(listed()) if form == "md" else rules_text(listed()))


def _say(found: "Coverage", row: "CoverageRow | None") -> None:
    """Say on stderr what the table leaves out, and what to ask next."""
    from saereg.cli.render.coverage import unplaced_text

    if found.unplaced and found.by == "family" and row is None:
        click.echo(f"{unplaced_text(found.unplaced)}; --by model shows them", err=True)
    if found.nameless and row is None:
        click.echo(f"{plural(found.nameless, 'row')} of the catalogue without a model: in no cell", err=True)
    if row is not None:
        next_step("saereg coverage --rules")
    elif found.rows:
        by = ("--by", "model") if found.by == "model" else ()
        next_step("saereg coverage", *by, "--explain", found.rows[0].id)
