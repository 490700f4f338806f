"""A generated section in a changelog that people write: what stands outside of it is never touched."""

import re
from pathlib import Path

from saereg.errors import UsageError
from saereg.registry.cards.card import Card
from saereg.registry.cards.markdown import whole_lines_of
from saereg.registry.files.atomic import exclusive, write_bytes_atomically
from saereg.registry.semver import order

MAX_BYTES = 4 * 1024 * 1024
"""Largest changelog that is read."""

_VERSION = re.compile(r"^\[?v?(\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.-]+)?)\]?(?=$|[\s(:–—-])")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s")

SUFFIXES = ("", ".md", ".markdown", ".mdown", ".txt")
"""What the names of changelogs end with; a section would be the end of a manifest.json."""

FIRST = "# Changelog\n\n"
"""What a new file begins with."""


def write_section(path: Path, version: str, text: str) -> bool:
    """Put a section into a changelog, where its version belongs; the file is replaced in one step.

    Args:
        path: the file; made when it is not there.
        version: the version that the section is on.
        text: the section.

    Returns:
        Whether the file changed.

    Raises:
        UsageError: when the file is no Markdown by its name, cannot be read as text, or has a section on this version
            that somebody wrote.
        OSError: when it cannot be read or written.
    """
    real = path.resolve()  # a link stays a link
    if real.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} is no Markdown; name a changelog, e.g. CHANGELOG.md")
    if not real.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {real.parent}")
    with exclusive(real.parent):
        before = _read(real, path)
        after = inserted(before if before is not None else FIRST, version, text, path)
        if after == before:
            return False
        write_bytes_atomically(real, after.encode("utf-8"))
    return True


def _read(real: Path, path: Path) -> str | None:
    if not real.exists():
        return None
    if not real.is_file():
        raise UsageError(f"{path} is no file; name a changelog, e.g. CHANGELOG.md")
    if (size := real.stat().st_size) > MAX_BYTES:
        raise UsageError(f"{path} has {size} bytes; at most {MAX_BYTES} are read")
    try:
        return real.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8 first") from None


def inserted(text: str, version: str, section: str, path: object = "CHANGELOG.md") -> str:
    """Return a changelog with a section: instead of the generated one on the same version, or where it belongs.

    That is before the first section on an earlier version, else after all others, before the addresses of links at the
    end.

    Args:
        text: the changelog.
        version: the version that the section is on.
        section: its text.
        path: the file, for errors.

    Raises:
        UsageError: when somebody wrote a section on this version, or a mark of a generated part has no other end.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    name = f"changelog-{version}"
    body = f"<!-- saereg:begin {name} -->\n{section}\n<!-- saereg:end {name} -->\n".replace("\n", newline)
    card, lines = Card(text), whole_lines_of(text)
    spans = _spans(card, path)
    if name in spans:
        begin, end = spans[name]
        return "".join(lines[: begin - 1]) + body + "".join(lines[end:])
    place = _place(card, version, list(spans.values()), path)
    before, after = "".join(lines[:place]), "".join(lines[place:])
    gap = newline if after and not after.startswith(("\n", "\r")) else ""
    made = _with_blank(before, newline) + body + gap + after
    if name not in _spans(Card(made), path):
        raise UsageError(f"{path}: a block of code before line {place + 1} is not closed; close it first")
    return made


def _with_blank(text: str, newline: str) -> str:
    """Return a text that ends in an empty line, or is empty."""
    if not text or text.endswith(newline * 2) or not text.strip():
        return text
    return text + (newline if text.endswith(newline) else newline * 2)


def _spans(card: Card, path: object) -> dict[str, tuple[int, int]]:
    """Return name → first and last line of every generated part."""
    spans: dict[str, tuple[int, int]] = {}
    begun = None
    for marker in card.markers:
        if (marker.kind == "begin") == (begun is not None) or (begun and begun.name != marker.name):
            raise UsageError(f"{path}:{marker.line}: the mark saereg:{marker.kind} {marker.name} has no other end")
        if begun is not None:
            spans[marker.name] = (begun.line, marker.line)
        begun = marker if marker.kind == "begin" else None
    if begun is not None:
        raise UsageError(f"{path}:{begun.line}: the mark saereg:begin {begun.name} has no other end")
    return spans


def _place(card: Card, version: str, spans: list[tuple[int, int]], path: object) -> int:
    """Return how many lines stand before the place of a new section."""
    for heading in card.headings:
        found = _VERSION.match(heading.text)
        if found is None:
            continue
        if found[1] == version:
            advice = "take it away, or leave the changelog to your own hands"
            raise UsageError(
                f"{path}:{heading.line}: there is a section on {version} that saereg did not write; {advice}"
            )
        if order(found[1]) < order(version):
            around = [begin for begin, end in spans if begin <= heading.line <= end]
            return (around[0] if around else heading.line) - 1
    return _end(card)


def _end(card: Card) -> int:
    """Return how many lines stand before the addresses of links at the end of a text."""
    place = len(card.lines) - (card.lines[-1] == "")
    last = place
    while last > 0 and (not card.lines[last - 1].strip() or _REFERENCE.match(card.lines[last - 1])):
        last -= 1
        if _REFERENCE.match(card.lines[last]):
            place = last
    return place
