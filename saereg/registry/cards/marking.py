"""Texts of others as Markdown that shows them and does nothing else: in a line, a cell, code, a link, a paragraph."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from urllib.parse import quote

ABSENT = "–"
"""What stands in a cell that has nothing to say."""

LONGEST = 2_000
"""Longest text of others that is shown in a line, in characters."""

_PUNCTUATION = re.compile(r"([\\`*\[\]<>|~$]|(?<!\w)_|_(?!\w))")
_PLAIN_CODE = re.compile(r"[^`|\\]+")
_JOINING = "\u200c\u200d"
"""Characters that cannot be seen and belong to words of some scripts, and to emojis."""

_BLOCK_START = re.compile(r"^(?:([#>+*=~`|:-])|(\d{1,9})([.)]))")
_TAG = re.compile(r"<(?=[!/?A-Za-z])")


def cleaned(value: object) -> str:
    """Return a text on one line, without characters that cannot be seen or that turn the direction of others."""
    line = " ".join(str(value).split())
    if not line.isprintable():
        line = "".join(c for c in line if c.isprintable() or c in _JOINING)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def text(value: object) -> str:
    """Return a text for a line or a cell, every mark of Markdown and HTML in it shown as it is."""
    return (
        _PUNCTUATION.sub(r"\\\1", cleaned(value).replace("&", "&amp;")).replace("\\<", "&lt;").replace("\\|", "&#124;")
    )


def html(value: object) -> str:
    """Return a text for a line of HTML, where Markdown is not read."""
    return escape(cleaned(value))


def code(value: object) -> str:
    """Return a name as code, for a line or a cell.

    One with a backtick, bar or backslash in it is written as HTML: Markdown reads those differently in a cell.
    """
    name = cleaned(value)
    if not name:
        return ABSENT
    if _PLAIN_CODE.fullmatch(name):
        return f"`{name}`"
    return (
        "<code>"
        + "".join(c if c.isalnum() or c in " /.-" or ord(c) > 127 else f"&#{ord(c)};" for c in name)
        + "</code>"
    )


def codes(names: Iterable[object], most: int = 3) -> str:
    """Return the first of some names as code, and how many more there are."""
    listed = list(names)
    shown = [code(name) for name in listed[:most]]
    return ", ".join(shown) + (f" and {len(listed) - most:,} more" if len(listed) > most else "")


def link(label: str, target: str) -> str:
    """Return a link.

    Args:
        label: Markdown.
        target: an address, or a path in the release.
    """
    return f"[{label}]({quote(target, safe='/:#?&=@+,;%~-._')})"


def prose(value: str) -> str:
    """Return the paragraphs of a text that somebody wrote: emphasis, code and links in it stay, blocks and HTML do not.

    So nothing in it can open a fence, a comment or a table that swallows what follows.
    """
    paragraphs = re.split(r"\n[ \t]*(?:\n[ \t]*)+", "\n".join(value.splitlines()).strip())
    return "\n\n".join("\n".join(_prose_line(line) for line in p.split("\n") if line.strip()) for p in paragraphs)


def _prose_line(line: str) -> str:
    line = _TAG.sub("&lt;", cleaned(line)) if len(line) <= LONGEST else text(line)
    return _BLOCK_START.sub(lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", line)


def fenced(value: str, language: str) -> str:
    """Return a block of code that nothing in it can end."""
    lines = value.strip("\n").splitlines()
    lines = [line if line.isprintable() else "".join(c for c in line if c.isprintable() or c == "\t") for line in lines]
    mark = "```"
    while any(mark in line for line in lines):
        mark += "`"
    return "\n".join([f"{mark}{language}", *lines, mark])


def alt(value: object) -> str:
    """Return what stands in the brackets of an image."""
    return text(value)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown already."""
    lines = [list(header), ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def joined(parts: Sequence[str]) -> str:
    """Return parts as a sentence has them: `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def decimals(value: float | None, digits: int) -> str:
    """Return a number with a fixed count of decimals, or the mark of what is absent."""
    return ABSENT if value is None else f"{value:.{digits}f}"


def short(value: float | None) -> str:
    """Return a number with four digits that count, or the mark of what is absent."""
    if value is None:
        return ABSENT
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e9 else f"{value:,.0f}"
