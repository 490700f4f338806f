"""Text that was written in UTF-8 and read as something else: `Ã©` for é, `â€”` for —, `位` for λ.

What looks broken is written back as the bytes that it was made from. Where these are UTF-8, and give a character that
such texts hold, it is reported; honest words in French, German, Portuguese, Russian or Chinese hardly ever do that.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Garbled:
    """One place.

    Attributes:
        line: number of the line among those given, counted from 1.
        column: column of its first character, counted from 1.
        found: what stands there.
        meant: what it was before, or None where that is lost.
    """

    line: int
    column: int
    found: str
    meant: str | None


def _table(codec: str) -> dict[str, int]:
    """Return character → byte of a one-byte encoding, with the bytes that it leaves out as Latin-1 has them."""
    return {bytes([byte]).decode(codec, "ignore") or chr(byte): byte for byte in range(128, 256)}


_CP1252, _LATIN_1 = _table("cp1252"), {chr(byte): byte for byte in range(128, 256)}
_WESTERN = _CP1252 | _LATIN_1
_DOS = (_table("cp437"), _table("cp850"))
_ELSEWHERE = tuple(_CP1252 | _table(codec) for codec in ("cp1253", "cp1251", "cp1250", "cp1257", "mac_roman"))
"""Of Greek, Cyrillic, central European and Baltic machines, and of old Macintoshes: their users write such letters.

Bytes that one of them leaves out are those of the Western one, as browsers have it."""

_PUNCTUATION = frozenset("“”‘’„‚…–—•‹›«»\u00a0°·¿¡†‡")
"""What honest text puts right behind a letter."""

_CJK = re.compile(r"[\u3400-\u9fff]+")

_STRONG, _WEAK = 2, 1


def garbled_in(lines: list[str]) -> list[Garbled]:
    """Return the places in a text that were read in another encoding than they were written in."""
    found: list[tuple[int, Garbled]] = []
    for number, line in enumerate(lines, 1):
        if line.isascii():
            continue
        found += [(_STRONG, Garbled(number, at + 1, "\ufffd", None)) for at, c in enumerate(line) if c == "\ufffd"]
        for table in (_WESTERN, *_DOS):
            found += [
                (weight, Garbled(number, at + 1, was, meant)) for weight, at, was, meant in _bytewise(line, table)
            ]
    for table in _ELSEWHERE:
        found += _elsewhere(lines, table)
    found += [(_STRONG, place) for place in _gbk(lines)]
    certain = any(weight == _STRONG for weight, _ in found)
    places = {(g.line, g.column): g for weight, g in found if weight == _STRONG or certain}
    return [places[key] for key in sorted(places)]


def _bytewise(line: str, table: dict[str, int]) -> Iterator[tuple[int, int, str, str]]:
    """Yield (weight, position, what stands there, what was meant) for an encoding of one byte per character."""
    at = 0
    while at < len(line):
        lead = table.get(line[at], 0)
        length = 4 if 0xF0 <= lead < 0xF5 else 3 if 0xE0 <= lead < 0xF0 else 2 if 0xC2 <= lead < 0xE0 else 0
        piece = line[at : at + length]
        meant = _decoded(piece, table) if length and len(piece) == length else None
        weight = _weight(lead, piece, meant, table) if meant else 0
        if meant and weight:
            yield weight, at, piece, meant
            at += length
        else:
            at += 1


def _elsewhere(lines: list[str], table: dict[str, int]) -> Iterator[tuple[int, Garbled]]:
    """Yield what was read in an encoding of other machines: all of it, but only where a dash or a quote is among it.

    `Γ—` may be a Greek letter and a dash, `β€”` is neither Greek nor a price.
    """
    chars = {byte: char for char, byte in table.items()}
    marks = (chars[0xE2] + chars[0x80], chars[0xF0] + chars[0x9F])
    if not any(mark in line for line in lines for mark in marks):
        return
    places = [
        Garbled(number, at + 1, was, meant)
        for number, line in enumerate(lines, 1)
        for _, at, was, meant in _bytewise(line, table)
    ]
    if any(place.found.startswith(marks) for place in places):
        yield from ((_STRONG, place) for place in places)


def _decoded(piece: str, table: dict[str, int]) -> str | None:
    try:
        return bytes(table[c] for c in piece).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        return None


def _weight(lead: int, piece: str, meant: str, table: dict[str, int]) -> int:
    """Return how sure it is that a piece of text was meant to be one other character."""
    if table in _ELSEWHERE:
        readable = 0xC2 <= lead <= 0xD1 or "\u2010" <= meant <= "\u2bff" or meant >= "\U0001f000"
        return _WEAK if readable and not piece.isalpha() else 0
    if table is not _WESTERN:
        # Tables drawn with lines hold the same characters: only what no drawing has is looked at.
        plain = all(c < "\u2500" or c > "\u259f" for c in piece[1:])
        return _STRONG if plain and (lead == 0xE2 or lead in (0xC2, 0xC3)) and not piece[0].isascii() else 0
    if lead >= 0xF0:
        return _STRONG if meant >= "\U0001f000" else 0
    if lead == 0xE2:
        return _STRONG if "\u2010" <= meant <= "\u2bff" or meant == "\u200b" else 0
    if lead >= 0xE0:
        return 0 if set(piece[1:]) & _PUNCTUATION else _WEAK
    if lead not in (0xC2, 0xC3, 0xCE, 0xCF, 0xD0, 0xD1):
        return 0
    greek = lead in (0xCE, 0xCF) and piece[1] == "»"
    return _WEAK if piece[1] in _PUNCTUATION and not greek else _STRONG


def _gbk(lines: list[str]) -> list[Garbled]:
    """Return Greek letters and marks that became Chinese ones; a text with Chinese of its own has none.

    The bytes of Chinese words are hardly ever UTF-8, so that one that is not tells a text that means what it says.
    """
    found: list[Garbled] = []
    for number, line in enumerate(lines, 1):
        for run in _CJK.finditer(line):
            try:
                meant = run[0].encode("gbk").decode("utf-8")
            except UnicodeError:
                return []
            beside = line[max(run.start() - 1, 0) : run.start()] + line[run.end() : run.end() + 1]
            if re.search(r"[A-Za-z0-9=_-]", beside):
                found.append(Garbled(number, run.start() + 1, run[0], meant))
    return found
