"""Small words and tables."""

import shlex
from collections.abc import Sequence

import click


def plural(count: int, noun: str) -> str:
    """Return `1 error`, `2 errors`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def shorten(text: str, width: int) -> str:
    """Return a text of at most `width` characters, its end cut off visibly."""
    return text if len(text) <= width else text[: width - 1] + "…"


def visible(text: str) -> str:
    """Return a text of one line whose control and invisible characters are written out: they would move the cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def size(count: int) -> str:
    """Return a number of bytes for people, in powers of 1000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def number(value: object) -> str:
    """Return a value as it stands in a table; an absent one is a dash, never a zero."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(number(part) for part in value) or "–"
    return f"{value:.4g}" if isinstance(value, float) else visible(str(value))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with aligned columns; numbers stand right."""
    columns = [list(column) for column in zip(head, *rows, strict=True)]
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [all(cell in ("", "–") or _is_number(cell) for cell in column[1:]) for column in columns]
    lines = []
    for line, row in enumerate([head, *rows]):
        cells = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)]
        text = "  ".join(cells).rstrip()
        lines.append(click.style(text, bold=True) if line == 0 else text)
    return "\n".join(lines)


def _is_number(cell: str) -> bool:
    """Whether a cell is a number, perhaps with the marks of `saereg ls` behind it."""
    try:
        float(cell.removesuffix("*").removesuffix("/src"))
    except ValueError:
        return False
    return True


def next_step(command: str, *words: object) -> None:
    """Name the next command on stderr; the words after it are quoted for the shell where they need it."""
    click.echo(" ".join(["next:", command, *(shlex.quote(str(word)) for word in words)]), err=True)
