"""The blocks of a Markdown text: fences, tables, headings, paragraphs and raw HTML, each with its lines.

As CommonMark and GitHub's tables have them, in quotes and lists too. Only as much is read as a card rule needs.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["fence", "code", "heading", "table", "html", "paragraph"]

DEEPEST = 100
"""Quotes and lists that are looked into inside one another: a line of a million marks would take minutes."""

_WHOLE_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z")
_QUOTE = re.compile(r" {0,3}> ?")
_ITEM = re.compile(r"( {0,3})([-+*]|(\d{1,9})[.)])( +|$)")
_RULE = re.compile(r" {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$")
_FENCE = re.compile(r"( {0,3})(?:(`{3,})([^`]*)|(~{3,})(.*))$")
_HEADING = re.compile(r" {0,3}(#{1,6})(?: +(.*))?$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_DELIMITER = re.compile(r"\s*:?-+:?\s*$")
_HTML_NAMES = (
    "address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir|div|dl|dt|"
    "fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|legend|li|link|main|menu|"
    "menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead|title|tr|"
    "track|ul"
)
_VERBATIM = "script|pre|style|textarea"
_ATTRIBUTE = r"""\s+[A-Za-z_:][\w.:-]*(?:\s*=\s*(?:[^\s"'=<>`]+|'[^']*'|"[^"]*"))?"""
_HTML: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = (
    (re.compile(rf" {{0,3}}<(?:{_VERBATIM})(?:\s|>|$)", re.I), re.compile(rf"</(?:{_VERBATIM})>", re.I)),
    (re.compile(r" {0,3}<!--"), re.compile(r"-->")),
    (re.compile(r" {0,3}<\?"), re.compile(r"\?>")),
    (re.compile(r" {0,3}<!\[CDATA\["), re.compile(r"\]\]>")),
    (re.compile(r" {0,3}<![A-Za-z]"), re.compile(r">")),
    (re.compile(rf" {{0,3}}</?(?:{_HTML_NAMES})(?:\s|/?>|$)", re.I), re.compile(r"^\s*$")),
    (re.compile(rf" {{0,3}}(?:<[A-Za-z][\w-]*(?:{_ATTRIBUTE})*\s*/?>|</[A-Za-z][\w-]*\s*>)\s*$"), re.compile(r"^\s*$")),
)  # fmt: skip
"""How each kind of HTML block starts, and how it ends; the last kind cannot interrupt a paragraph."""


@dataclass(frozen=True)
class Line:
    """One line of a block, without the quote marks and list indentation before it.

    Attributes:
        number: its number in the file, counted from 1.
        text: what stands in it.
    """

    number: int
    text: str


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        kind: what it is.
        line: number of its first line; of a fence, that of the opening marks.
        end: number of its last line; of a fence, that of the closing marks.
        lines: what stands in it; of a fence, without the marks; of a table, without the delimiter row.
        language: of a fence, the first word after its marks; empty when there is none.
        level: of a heading, 1 to 6.
    """

    kind: Kind
    line: int
    end: int
    lines: tuple[Line, ...]
    language: str = ""
    level: int = 0

    @property
    def text(self) -> str:
        """Its lines."""
        return "\n".join(line.text for line in self.lines)


def lines_of(text: str) -> list[str]:
    """Return the lines of a text as editors count them: only CR, LF and CRLF end one."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def whole_lines_of(text: str) -> list[str]:
    """Return the same lines with their ends, so that together they are the text again; a last empty one is none."""
    return _WHOLE_LINE.findall(text)


def blocks_of(lines: list[str], first: int = 1) -> tuple[Block, ...]:
    """Return the blocks of a text, in order.

    Args:
        lines: its lines.
        first: number of the first one in its file.
    """
    scanner = _Scanner()
    for number, line in enumerate(lines, first):
        scanner.feed(number, line)
    scanner.close(first + len(lines) - 1)
    return tuple(scanner.blocks)


def cells_of(row: str) -> tuple[str, ...]:
    """Return the cells of a table row; a pipe behind a backslash is no border, in code neither."""
    text = row.strip()
    parts = re.split(r"(?<!\\)\|", text.removeprefix("|"))
    if len(parts) > 1 and not parts[-1].strip() and text.endswith("|"):
        parts.pop()
    return tuple(part.strip().replace("\\|", "|") for part in parts)


@dataclass
class _Open:
    """The block that is being read."""

    kind: Kind
    line: int
    lines: list[Line] = field(default_factory=list)
    mark: str = ""
    indent: int = 0
    language: str = ""
    level: int = 0
    until: re.Pattern[str] | None = None


class _Scanner:
    """Reads line by line: the state is the quotes and list items that are open, and the block inside them."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.containers: list[int] = []  # 0 is a quote, any other number the indentation of a list item's content
        self.open: _Open | None = None

    def feed(self, number: int, line: str) -> None:
        """Take the next line."""
        rest, matched = self._inside(_untabbed(line))
        if self.open and self.open.kind in ("fence", "html"):
            if matched == len(self.containers):
                # Where nothing stands before it, a line of code stays as it was, tabs and all.
                self._continue_verbatim(Line(number, rest if self.containers else line))
                return
            self.close(number - 1)
        rest, opened = self._containers(rest, matched)
        if not opened and matched < len(self.containers) and self._is_lazy(rest):
            self._append(number, rest.strip())
            return
        if opened or matched < len(self.containers):
            self.close(number - 1)
            self.containers[matched:] = opened
        self._leaf(number, rest)

    def close(self, end: int) -> None:
        """Finish the block that is open."""
        if self.open is None:
            return
        block, self.open = self.open, None
        if block.kind == "code":
            while block.lines and not block.lines[-1].text.strip():
                block.lines.pop()
        if block.kind != "fence":
            end = block.lines[-1].number if block.lines else block.line
        self.blocks.append(Block(block.kind, block.line, end, tuple(block.lines), block.language, block.level))

    def _inside(self, rest: str) -> tuple[str, int]:
        """Return what follows the marks of the open containers, and how many of those go on in this line."""
        for matched, width in enumerate(self.containers):
            if width == 0:
                mark = _QUOTE.match(rest)
                if mark is None:
                    return rest, matched
                rest = _untabbed(rest[mark.end() :])
            elif rest.strip() and _indent(rest) < width:
                return rest, matched
            else:
                rest = rest[width:]
        return rest, len(self.containers)

    def _containers(self, rest: str, matched: int) -> tuple[str, list[int]]:
        """Return what follows the marks of new containers, and those."""
        opened: list[int] = []
        while _indent(rest) < 4 and matched + len(opened) < DEEPEST:
            mark = _QUOTE.match(rest)
            if mark:
                opened.append(0)
                rest = _untabbed(rest[mark.end() :])
                continue
            item = None if _RULE.match(rest) else _ITEM.match(rest)
            if item is None or not self._may_start(item, rest, first=not opened and matched == len(self.containers)):
                break
            spaces = len(item[4])
            content = rest[item.end() :]
            width = len(item[1]) + len(item[2]) + (spaces if 1 <= spaces <= 4 and content.strip() else 1)
            opened.append(width)
            rest = rest[width:]
        return rest, opened

    def _may_start(self, item: re.Match[str], rest: str, *, first: bool) -> bool:
        """Only a list that starts at 1 and has content interrupts a paragraph."""
        if not first or self.open is None or self.open.kind != "paragraph":
            return True
        if _UNDERLINE.match(rest):
            return False
        return item[3] in (None, "1") and bool(rest[item.end() :].strip())

    def _is_lazy(self, rest: str) -> bool:
        """Whether a line without the marks of its quote or list goes on with the paragraph in it."""
        if self.open is None or self.open.kind != "paragraph" or not rest.strip():
            return False
        return _indent(rest) >= 4 or not _starts_block(rest, in_paragraph=True)

    def _continue_verbatim(self, line: Line) -> None:
        block = self.open
        if block is None:
            return
        if block.kind == "html":
            if block.until and block.until.pattern == r"^\s*$" and not line.text.strip():
                self.close(line.number)
                return
            block.lines.append(line)
            if block.until and block.until.search(line.text):
                self.close(line.number)
        elif re.fullmatch(rf" {{0,3}}{re.escape(block.mark[0])}{{{len(block.mark)},}}\s*", _untabbed(line.text)):
            self.close(line.number)
        else:
            indent = min(block.indent, _indent(line.text))
            block.lines.append(Line(line.number, line.text[indent:]))

    def _leaf(self, number: int, rest: str) -> None:
        kind = self.open.kind if self.open else None
        if not rest.strip():
            if kind == "code":
                self._append(number, "")
            else:
                self.close(number)
        elif _indent(rest) >= 4 and kind not in ("paragraph", "table"):
            self._add_to("code", number, rest[4:])
        elif kind == "paragraph" and self._is_table(rest):
            self._start_table(number)
        elif kind == "paragraph" and _UNDERLINE.match(rest):
            self._underline(number, rest)
        elif _indent(rest) < 4 and _starts_block(rest, in_paragraph=kind == "paragraph"):
            self.close(number - 1)
            self._start(number, rest)
        else:
            self._add_to("table" if kind == "table" else "paragraph", number, rest.strip())

    def _add_to(self, kind: Kind, number: int, text: str) -> None:
        if self.open is None or self.open.kind != kind:
            self.close(number - 1)
            self.open = _Open(kind, number)
        self._append(number, text)

    def _append(self, number: int, text: str) -> None:
        if self.open:
            self.open.lines.append(Line(number, text))

    def _start(self, number: int, rest: str) -> None:
        if fence := _FENCE.match(rest):
            words = (fence[3] or fence[5] or "").split()
            language = re.split(r"[,{;:]", words[0])[0] if words else ""
            mark, indent = fence[2] or fence[4], len(fence[1])
            self.open = _Open("fence", number, mark=mark, indent=indent, language=language)
        elif heading := _HEADING.match(rest):
            title = re.sub(r"(?:^| +)#+ *$", "", heading[2] or "").strip()
            self.blocks.append(Block("heading", number, number, (Line(number, title),), level=len(heading[1])))
        elif not _RULE.match(rest):
            until = next(end for start, end in _HTML if start.match(rest))
            self.open = _Open("html", number, until=until)
            self._append(number, rest)
            if until.search(rest):
                self.close(number)

    def _underline(self, number: int, rest: str) -> None:
        if self.open:
            lines, self.open = self.open.lines, None
            level = 1 if "=" in rest else 2
            self.blocks.append(Block("heading", lines[0].number, number, tuple(lines), level=level))

    def _is_table(self, rest: str) -> bool:
        if self.open is None or not self.open.lines or "|" not in self.open.lines[-1].text:
            return False
        cells = cells_of(rest)
        return all(map(_DELIMITER.match, cells)) and len(cells) == len(cells_of(self.open.lines[-1].text))

    def _start_table(self, number: int) -> None:
        if self.open:
            header = self.open.lines.pop()
            if self.open.lines:
                self.close(number)
            self.open = _Open("table", header.number, [header])


def _starts_block(rest: str, *, in_paragraph: bool) -> bool:
    """Whether a line, no list and no quote, starts a block that ends a paragraph or table."""
    if _FENCE.match(rest) or _HEADING.match(rest) or _RULE.match(rest):
        return True
    return any(start.match(rest) for start, _ in (_HTML[:-1] if in_paragraph else _HTML))


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip(" "))


def _untabbed(text: str) -> str:
    """Return a line with the tabs of its indentation written as spaces."""
    content = text.lstrip(" \t")
    return text[: len(text) - len(content)].expandtabs(4) + content
