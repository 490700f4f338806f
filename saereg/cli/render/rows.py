"""Rows as a table, JSON, CSV or Markdown: what `saereg ls` and `saereg sql` print.

Rows are written as they come; only a table waits for all of them, because its columns are aligned.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import click

from saereg.cli.render.text import number, table, visible

Row = Sequence[object]

FORMS = ("table", "json", "csv", "md")
"""What `write_rows` can write."""

_GATHERED = 200
"""Lines that are written at once: one call of the terminal for each would take half the time."""


def write_rows(form: str, columns: Sequence[str], rows: Iterable[Row], heads: Mapping[str, str] | None = None) -> None:
    """Write rows to stdout.

    JSON is a list of objects with the values as they are. CSV has them too, with an empty cell where a value is absent.
    In tables and Markdown numbers are rounded to four digits and an absent value is a dash. Control characters in
    texts are written out as `visible` does, in all of them: a terminal would obey them.

    Args:
        form: one of `FORMS`.
        columns: names of the columns, each once.
        rows: one value per column.
        heads: short headings for the table, by column.
    """
    if form == "table":
        names = [visible((heads or {}).get(name, name)) for name in columns]
        click.echo(table(names, [[cell(value) for value in row] for row in rows]))
        return
    gathered: list[str] = []
    for line in _WRITERS[form](columns, rows):
        gathered.append(line)
        if len(gathered) == _GATHERED:
            click.echo("".join(gathered), nl=False)
            gathered.clear()
    click.echo("".join(gathered), nl=False)


def cell(value: object) -> str:
    """Return a value as it stands in a table; bytes as SQL writes them."""
    return f"x'{value.hex()}'" if isinstance(value, bytes) else number(value)


def _json(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    mark = "[\n"
    for row in rows:
        record = {name: _plain(value) for name, value in zip(columns, row, strict=True)}
        yield f"{mark}  {_ascii_controls(json.dumps(record, ensure_ascii=False, allow_nan=False))}"
        mark = ",\n"
    yield "[]\n" if mark == "[\n" else "\n]\n"


def _plain(value: object) -> object:
    """Return what JSON can hold: bytes become text, and so do the numbers that it has no word for."""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _ascii_controls(text: str) -> str:
    """Write out the invisible characters that `json.dumps` leaves as they are, as JSON does."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _csv(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([visible(name) for name in columns])
    for row in rows:
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        writer.writerow([_exact(value) for value in row])
    yield buffer.getvalue()


def _exact(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return json.dumps(value, separators=(",", ":"))
    return visible(value) if isinstance(value, str) else _plain(value)


def _md(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    from saereg.cli.render.markdown import escaped

    yield f"| {' | '.join(map(escaped, columns))} |\n"
    yield f"|{'---|' * len(columns)}\n"
    for row in rows:
        yield f"| {' | '.join(escaped(cell(value)) for value in row)} |\n"


_WRITERS: dict[str, Callable[[Sequence[str], Iterable[Row]], Iterator[str]]] = {"json": _json, "csv": _csv, "md": _md}
