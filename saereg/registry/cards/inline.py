"""What stands in a line of Markdown: links, images, code, and the text that a reader sees."""

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

MOST_MARKED = 2_000
"""Longest cell, heading or link text whose marks are taken away, in characters."""

_SPECIAL = re.compile(r"\\.|`+|!?\[|\]|<", re.S)
_DESTINATION = re.compile(r"\(\s*(?:<((?:\\.|[^<>\n\\])*)>|((?:\\.|[^\s()\\]|\((?:\\.|[^\s()\\]|\([^\s()]*\))*\))*))")
_TITLE = re.compile(r"""\s*(?:\s(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\((?:\\.|[^()\\])*\)))?\s*\)""", re.S)
_LABEL = re.compile(r"\[((?:\\.|[^\[\]\\])*)\]", re.S)
_DEFINITION = re.compile(
    r""" {0,3}\[((?:\\.|[^\[\]\\])+)\]:[ \t]*(?:<([^<>\n]*)>|([^<\s]\S*))"""
    r"""(?:[ \t]+(?:"[^"]*"|'[^']*'|\([^()]*\)))?[ \t]*$"""
)
_TAG = re.compile(r"<(a|img|[A-Za-z][\w-]*)\b([^<>]*)>|</[A-Za-z][\w-]*\s*>", re.I)
_HREF = {
    "a": re.compile(r"""\bhref\s*=\s*["']?([^"'\s>]+)""", re.I),
    "img": re.compile(r"""\bsrc\s*=\s*["']?([^"'\s>]+)""", re.I),
}
_NAME = re.compile(r"""\b(?:id|name)\s*=\s*["']?([^"'\s>]+)""", re.I)
_AUTO = re.compile(r"<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*)>")
_ONE_CODE = re.compile(r"`[^`\n]+`$")
_NOT_A_BREAK = re.compile(r"[^\n]")
_EMPHASIS = re.compile(r"(?<!\\)(?:\*+|~~|(?<!\w)_+(?=\w)|(?<=\w)_+(?!\w))")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


@dataclass(frozen=True)
class Link:
    """A link or image.

    Attributes:
        target: where it leads, percent-encoding undone.
        text: what stands between its brackets.
        line: line of the file.
        kind: `link`, `image`, or `html` for an `<a>` or `<img>`.
    """

    target: str
    text: str
    line: int
    kind: Literal["link", "image", "html"] = "link"


@dataclass(frozen=True)
class Code:
    """A piece of code in a line.

    Attributes:
        text: what stands between the backticks.
        line: line of the file.
    """

    text: str
    line: int


@dataclass(frozen=True)
class Inline:
    """What was found in a piece of text."""

    links: tuple[Link, ...] = ()
    codes: tuple[Code, ...] = ()
    names: tuple[str, ...] = ()


NOTHING = Inline()


def inline_of(text: str, line: int, definitions: Mapping[str, str]) -> Inline:
    """Return the links, the code and the named anchors of a paragraph, heading or cell.

    Args:
        text: it, lines separated by newlines.
        line: number of its first line.
        definitions: label → target of reference links, labels as `label_of` gives them.
    """
    if not _SPECIAL.search(text):
        return NOTHING
    if _ONE_CODE.match(text):  # as in every row of an inventory
        return Inline(codes=(Code(text[1:-1].strip(), line),))
    return _Inline(text, line, definitions).found()


def html_of(text: str, line: int) -> Inline:
    """Return the links and the named anchors of a block of HTML."""
    bare = _without_comments(text)
    links: list[Link] = []
    names: list[str] = []
    for tag in _TAG.finditer(bare):
        _read_tag(tag, line + bare.count("\n", 0, tag.start()), links, names)
    return Inline(tuple(links), (), tuple(names))


def _without_comments(text: str) -> str:
    """Return a text of the same length and lines with blanks for its comments; each is looked for once."""
    parts, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start)) >= 0:
        parts += [text[at:start], _NOT_A_BREAK.sub(" ", text[start : end + 3])]
        at = end + 3
    return "".join([*parts, text[at:]])


def definitions_in(text: str) -> tuple[dict[str, str], str]:
    """Return label → target of the reference definitions at the beginning of a paragraph, and the text without them."""
    found: dict[str, str] = {}
    rows = text.split("\n")
    for position, row in enumerate(rows):
        definition = _DEFINITION.match(row)
        if definition is None:
            break
        found.setdefault(label_of(definition[1]), _target(definition[2] or definition[3] or ""))
        rows[position] = ""
    return found, "\n".join(rows)


def label_of(text: str) -> str:
    """Return a label as references are compared: in one case, with single spaces."""
    return " ".join(text.casefold().split())


def plain(text: str) -> str:
    """Return what a reader sees of a cell or heading: without marks, links as their text."""
    if len(text) > MOST_MARKED or not re.search(r"[\\`*_\[<~&]", text):
        return text.strip()
    found: list[str] = []
    at = 0
    for piece in re.finditer(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", text, re.S):
        found += [_undecorated(text[at : piece.start()]), piece[2].strip()]
        at = piece.end()
    return "".join([*found, _undecorated(text[at:])]).strip()


def _undecorated(text: str) -> str:
    bare = _TAG.sub("", text)
    bare = re.sub(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])", r"\1", bare)
    # A link around code is cut by it: its halves are `[` and `](target)`.
    bare = re.sub(r"\](?:\([^()]*\)|\[[^\[\]]*\])|(?<!\\)!?\[$", "", bare)
    return _ESCAPE.sub(r"\1", _EMPHASIS.sub("", bare)).replace("&nbsp;", " ").replace("&amp;", "&")


def _target(raw: str) -> str:
    return unquote(_ESCAPE.sub(r"\1", raw).replace("&amp;", "&"))


def _read_tag(tag: re.Match[str], line: int, links: list[Link], names: list[str]) -> None:
    if tag[1] is None:
        return
    name = tag[1].lower()
    if name in _HREF and (target := _HREF[name].search(tag[2])):
        links.append(Link(_target(target[1]), "", line, "html"))
    if anchor := _NAME.search(tag[2]):
        names.append(anchor[1])


class _Inline:
    """One walk over a text."""

    def __init__(self, text: str, line: int, definitions: Mapping[str, str]) -> None:
        self.text, self.line, self.definitions = text, line, definitions
        self.links: list[Link] = []
        self.codes: list[Code] = []
        self.names: list[str] = []
        self.brackets: list[tuple[int, bool, bool]] = []  # (position, is image, may still become a link)
        self.runs: dict[int, list[int]] = {}
        for run in re.finditer(r"`+", text):
            self.runs.setdefault(len(run[0]), []).append(run.start())
        self.comment_end = 0  # -1 once it is known that no comment ends any more
        self.breaks = [found.start() for found in re.finditer(r"\n", text)]

    def found(self) -> Inline:
        """Return everything."""
        at = 0
        while special := _SPECIAL.search(self.text, at):
            at = self._step(special)
        return Inline(tuple(self.links), tuple(self.codes), tuple(self.names))

    def _line(self, at: int) -> int:
        return self.line + bisect_left(self.breaks, at)

    def _step(self, special: re.Match[str]) -> int:
        """Look at one special character; return where to go on."""
        mark, at = special[0], special.start()
        if mark[0] == "`":
            return self._code(at, len(mark))
        if mark == "<":
            return self._tag(at)
        if mark.endswith("[") and mark[0] != "\\":
            self.brackets.append((special.end() - 1, mark[0] == "!", True))
        elif mark == "]" and self.brackets:
            return self._closed(at, *self.brackets.pop())
        return special.end()

    def _code(self, at: int, length: int) -> int:
        starts = self.runs.get(length, [])
        position = bisect_left(starts, at + length)
        if position == len(starts):
            return at + length
        self.codes.append(Code(self.text[at + length : starts[position]].strip(), self._line(at)))
        return starts[position] + length

    def _tag(self, at: int) -> int:
        if self.text.startswith("<!--", at):
            self.comment_end = self.text.find("-->", at) if self.comment_end >= 0 else -1
            return self.comment_end + 3 if self.comment_end >= 0 else at + 4
        if auto := _AUTO.match(self.text, at):
            return auto.end()
        tag = _TAG.match(self.text, at)
        if tag is None:
            return at + 1
        _read_tag(tag, self._line(at), self.links, self.names)
        return tag.end()

    def _closed(self, at: int, start: int, is_image: bool, active: bool) -> int:
        """A `]`: look whether it ends a link that began with the `[` at `start`; return where to go on."""
        inner = self.text[start + 1 : at] if at - start < MOST_MARKED else ""
        target, end = self._goal(at + 1, inner)
        if target is None or not active:
            return at + 1
        self.links.append(Link(target, plain(inner), self._line(start), "image" if is_image else "link"))
        if not is_image:  # links do not nest
            self.brackets = [(place, image, image and live) for place, image, live in self.brackets]
        return end

    def _goal(self, at: int, inner: str) -> tuple[str | None, int]:
        """Return the target that is named from `at` on, and where that ends."""
        if (place := _DESTINATION.match(self.text, at)) and (title := _TITLE.match(self.text, place.end())):
            return _target(place[1] if place[1] is not None else place[2] or ""), title.end()
        label = _LABEL.match(self.text, at)
        if label and label[1].strip():
            return self.definitions.get(label_of(label[1])), label.end()
        return self.definitions.get(label_of(inner)), label.end() if label else at
