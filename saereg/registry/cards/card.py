"""A card read once: its front matter, and the links, tables, code and headings of its body, with their lines."""

import re
from dataclasses import dataclass
from functools import cached_property

from saereg.registry.cards.inline import Code, Inline, Link, definitions_in, html_of, inline_of, plain
from saereg.registry.cards.markdown import Block, blocks_of, cells_of, lines_of
from saereg.registry.cards.yaml_head import FrontMatter, read_front_matter

CARD_FILE = "README.md"
"""The file that the Hub shows as the card of a repository."""

MAX_CARD_BYTES = 4 * 1024 * 1024
"""Largest card that is read; a table of 10,000 artifacts takes one and a half million."""

_MARKER = re.compile(r"^\s{0,3}<!--\s*saereg:(begin|end)\s+(\S+?)(?:\s+(custom))?\s*-->\s*$")


@dataclass(frozen=True)
class Fence:
    """A block of code.

    Attributes:
        language: the first word after its marks, in small letters; empty when there is none.
        text: the code, without the indentation of the list or quote that it stands in.
        line: line of the file of the opening marks; the code starts in the next.
        end: line of the file of the closing marks, or the last one.
    """

    language: str
    text: str
    line: int
    end: int


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: as a reader sees them, without marks; as many as the header has.
        raw: as they stand there.
        line: line of the file.
    """

    cells: tuple[str, ...]
    raw: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        header: cells of its first row, as a reader sees them.
        rows: the other rows.
        line: line of the file of the header.
    """

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    line: int


@dataclass(frozen=True)
class Heading:
    """A heading.

    Attributes:
        level: 1 to 6.
        text: as a reader sees it.
        anchor: what a link to it names, as GitHub and the Hub make it.
        line: line of the file.
    """

    level: int
    text: str
    anchor: str
    line: int


@dataclass(frozen=True)
class Marker:
    """The line at which a generated part begins or ends.

    Attributes:
        kind: `begin` or `end`.
        name: which part.
        line: line of the file.
        custom: whether it says that a template of the user made the part.
    """

    kind: str
    name: str
    line: int
    custom: bool = False


@dataclass(frozen=True, eq=False)
class Card:
    """One card."""

    text: str

    @cached_property
    def front_matter(self) -> FrontMatter:
        """What stands between the `---` lines at its beginning."""
        return read_front_matter(self.text)

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """Its lines."""
        return tuple(lines_of(self.text))

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of its body."""
        first = self.front_matter.end
        return blocks_of(list(self.lines[first:]), first + 1)

    @cached_property
    def fences(self) -> tuple[Fence, ...]:
        """Blocks of code between marks."""
        return tuple(
            Fence(block.language.lower(), block.text, block.line, block.end)
            for block in self.blocks
            if block.kind == "fence"
        )

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """Tables; a row that is too short or too long is filled or cut, as it is when shown."""
        return tuple(_table(block) for block in self.blocks if block.kind == "table")

    @cached_property
    def headings(self) -> tuple[Heading, ...]:
        """Headings, in order."""
        found: list[Heading] = []
        seen: dict[str, int] = {}
        for block in self.blocks:
            if block.kind == "heading":
                text = plain(" ".join(line.text for line in block.lines))
                found.append(Heading(block.level, text, _anchor(text, seen), block.line))
        return tuple(found)

    @cached_property
    def anchors(self) -> frozenset[str]:
        """What a `#link` may name."""
        return frozenset(
            {heading.anchor for heading in self.headings} | {name for i in self._inline for name in i.names}
        )

    @property
    def links(self) -> tuple[Link, ...]:
        """Links and images outside code."""
        return tuple(link for found in self._inline for link in found.links)

    @property
    def codes(self) -> tuple[Code, ...]:
        """Code in the lines of paragraphs, headings and tables."""
        return tuple(code for found in self._inline for code in found.codes)

    @cached_property
    def markers(self) -> tuple[Marker, ...]:
        """Lines at which generated parts begin and end; what stands in code is none."""
        code = {n for block in self.blocks if block.kind in ("fence", "code") for n in range(block.line, block.end + 1)}
        found = ((n, _MARKER.match(line)) for n, line in enumerate(self.lines, 1) if "saereg:" in line)
        return tuple(
            Marker(m[1], m[2], n, m[3] is not None)
            for n, m in found
            if m and n not in code and n > self.front_matter.end
        )

    @cached_property
    def _inline(self) -> tuple[Inline, ...]:
        definitions: dict[str, str] = {}
        for block in self.blocks:
            if block.kind == "paragraph":
                definitions = definitions_in(block.text)[0] | definitions
        return tuple(found for block in self.blocks for found in _inline_of(block, definitions))


def _inline_of(block: Block, definitions: dict[str, str]) -> list[Inline]:
    if block.kind == "html":
        return [html_of(block.text, block.line)]
    if block.kind == "table":
        return [inline_of(cell, row.number, definitions) for row in block.lines for cell in cells_of(row.text)]
    if block.kind == "paragraph":
        return [inline_of(definitions_in(block.text)[1], block.line, definitions)]
    return [inline_of(block.text, block.line, definitions)] if block.kind == "heading" else []


def _table(block: Block) -> Table:
    header = tuple(map(plain, cells_of(block.lines[0].text)))
    rows = []
    for line in block.lines[1:]:
        raw = (*cells_of(line.text), *("" for _ in header))[: len(header)]
        rows.append(Row(tuple(map(plain, raw)), raw, line.number))
    return Table(header, tuple(rows), block.line)


def _anchor(text: str, seen: dict[str, int]) -> str:
    """Return the anchor of a heading, numbered where another has the same."""
    name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
    count = seen.get(name, 0)
    seen[name] = count + 1
    return f"{name}-{count}" if count else name
