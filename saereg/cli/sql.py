"""`saereg sql`."""

import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saereg.cli.options import catalog_option
from saereg.cli.render.rows import FORMS, write_rows
from saereg.cli.render.text import next_step
from saereg.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from saereg.registry.catalog.guard import Guard
    from saereg.registry.catalog.sql import Value

SHOWN = 1_000
"""Rows of a table or of Markdown, unless --limit says otherwise: both are read by people."""

LONGEST = 1_000_000
"""Bytes that are read from stdin: more than a query may have."""

DAY = 86_400.0
"""Seconds; the longest time limit."""

_PAUSE = 0.1
"""Seconds between two looks at the clock."""


@click.command()
@click.argument("text", required=False, metavar="SELECT|-")
@click.option("--schema", is_flag=True, help="Print the tables, views and columns that can be asked for.")
@click.option("--format", "form", type=click.Choice(FORMS), default="table", show_default=True)
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Value of :NAME in the query; repeat it.")
@click.option("--limit", type=click.IntRange(min=1), help=f"Most rows.  [default: {SHOWN:,} in table and md, else all]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=DAY),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the query may compute.",
)
@catalog_option
def command(
    text: str | None,
    schema: bool,
    form: str,
    params: tuple[str, ...],
    limit: int | None,
    timeout: float,
    catalog: Path | None,
) -> None:
    """Ask the catalogue in SQL (SQLite's); - reads the query from stdin. Nothing can be changed or reached by it.

    saereg sql "SELECT reference, l0, ev FROM artifacts WHERE l0 < 64 ORDER BY ev DESC"
    """
    if schema:
        _print_schema(form)
        next_step("saereg sql", "SELECT reference, l0, ev FROM artifacts LIMIT 10")
        return
    if text is None:
        raise UsageError("no query; saereg sql --schema lists tables and columns")
    from saereg.registry.catalog.guard import Guard
    from saereg.registry.catalog.sql import asking
    from saereg.registry.catalog.store import catalog_path

    most = limit or (SHOWN if form in ("table", "md") else None)
    guard = Guard(timeout, alone=True)
    threading.Thread(target=_watch, args=(guard,), daemon=True).start()
    with asking(catalog or catalog_path(), _text(text), _parameters(params), guard) as answer:
        first = next(answer.rows, None)
        rows = iter(()) if first is None else itertools.chain([first], answer.rows)
        write_rows(form, answer.columns, itertools.islice(rows, most))
        if next(rows, None) is not None:
            more = "" if limit else ": --limit N shows more, --format csv all"
            click.echo(f"only the first {most:,} rows{more}", err=True)
        _say_next(answer.columns, first, catalog)


def _watch(guard: "Guard") -> None:
    """End the process when SQLite does not see that the time is over: some texts take minutes to be understood."""
    from saereg.registry.catalog.sql import too_long

    while not guard.overdue:
        time.sleep(_PAUSE)
    sys.stderr.write(f"error: {too_long(guard)}\n")
    sys.stderr.flush()
    os._exit(int(ExitCode.USAGE))


def _text(text: str) -> str:
    if text != "-":
        return text
    if sys.stdin is None:
        raise UsageError("stdin is closed; the query is read from there")
    return sys.stdin.buffer.read(LONGEST).decode("utf-8-sig", "surrogateescape")


def _parameters(words: Sequence[str]) -> "dict[str, Value]":
    """Return name → value; `l0=64` is a number, `name="64"` and anything else that is no JSON is text.

    Raises:
        UsageError: when one is not NAME=VALUE, or a name is given twice.
    """
    found: dict[str, Value] = {}
    for word in words:
        name, mark, value = word.partition("=")
        name = name.strip().lstrip(":")
        if not mark or not name.isidentifier():
            raise UsageError(f"--param {word}: expected NAME=VALUE")
        if name in found:
            raise UsageError(f"--param {name} is given twice")
        found[name] = _value(value)
    return found


def _value(text: str) -> "Value":
    try:
        value = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str | int | float | None) else text


def _print_schema(form: str) -> None:
    from saereg.registry.catalog.sql import describe

    tables = describe()
    if form != "table":
        rows: Iterator[tuple[str, ...]] = (
            (one.name, column, kind, one.meaning) for one in tables for column, kind in one.columns.items()
        )
        write_rows(form, ("table", "column", "type", "meaning"), rows)
        return
    for one in tables:
        click.echo(f"{click.style(one.name, bold=True)}: {one.meaning}")
        listed = ", ".join(f"{column} {kind}" for column, kind in one.columns.items())
        click.echo(click.wrap_text(listed, 100, "    ", "    "))


def _say_next(columns: Sequence[str], first: "tuple[Value, ...] | None", catalog: Path | None) -> None:
    if first is None:
        click.echo("no rows", err=True)
    if first is not None and "reference" in columns and first[columns.index("reference")] is not None:
        next_step("saereg show", first[columns.index("reference")], *(("--catalog", catalog) if catalog else ()))
    else:
        next_step("saereg sql --schema")
