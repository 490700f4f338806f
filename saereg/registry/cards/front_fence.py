"""The keys of the front matter that saereg owns, between two comments; what an author writes beside them stays.

A card that has no such comments is completed once (`front_matter.completed`) and never changed again. One that has
them says, between them, what manifest and index say now, but for keys that stand elsewhere: those are the author's.
"""

import re
from dataclasses import dataclass

import yaml

from saereg.registry.cards.front_matter import RELATION, expected, lines_of_keys
from saereg.registry.cards.markdown import whole_lines_of
from saereg.registry.cards.model_index import model_index
from saereg.registry.cards.view import View
from saereg.registry.cards.yaml_head import read_front_matter

BEGIN, END = "# saereg:begin front-matter", "# saereg:end front-matter"

_BEGIN = re.compile(r"# saereg:begin front-matter[ \t]*(?:\r\n|\n|\r)?$")
_END = re.compile(r"# saereg:end front-matter[ \t]*(?:\r\n|\n|\r)?$")


@dataclass(frozen=True)
class Fence:
    """Where the owned keys stand.

    Attributes:
        first: line of the comment that begins them.
        last: line of the comment that ends them.
    """

    first: int
    last: int


def fence_of(text: str) -> Fence | None:
    """Return the lines of the two comments; None where there are not exactly these two in the front matter."""
    end = read_front_matter(text).end
    lines = whole_lines_of(text)[:end]
    first = [n for n, line in enumerate(lines, 1) if _BEGIN.match(line)]
    last = [n for n, line in enumerate(lines, 1) if _END.match(line)]
    return Fence(first[0], last[0]) if len(first) == len(last) == 1 and first[0] < last[0] else None


def refenced(text: str, view: View) -> str:
    """Return a card whose owned keys say what manifest and index say now.

    One without the comments, or whose other lines cannot be read, stays as it is.
    """
    if text.startswith("\ufeff"):
        return "\ufeff" + refenced(text[1:], view)
    fence = fence_of(text)
    if fence is None:
        return text
    lines = whole_lines_of(text)
    outside = read_front_matter("".join([*lines[: fence.first], *lines[fence.last - 1 :]]))
    if outside.problems:
        return text
    newline = "\r\n" if lines[fence.first - 1].endswith("\r\n") else "\n"
    inner = [line + newline for line in owned_lines(view, frozenset(outside.values))]
    result = "".join([*lines[: fence.first], *inner, *lines[fence.last - 1 :]])
    after = read_front_matter(result)
    kept = all(after.values.get(key) == value for key, value in outside.values.items())
    return result if kept and not after.problems else text


def with_fence(text: str, view: View) -> str:
    """Return a card that has no front matter yet with the owned keys before it."""
    return "\n".join(["---", BEGIN, *owned_lines(view), END, "---", "", text])


def owned_lines(view: View, taken: frozenset[str] = frozenset()) -> list[str]:
    """Return the lines of the owned keys.

    Args:
        view: manifest and index.
        taken: keys that the author wrote.
    """
    wanted = expected(view.manifest)
    has_base = bool(wanted.base_model) or "base_model" in taken
    values: dict[str, str | tuple[str, ...] | None] = {
        "library_name": wanted.library_name,
        "license": wanted.license or "other",
        "license_name": None if wanted.license or "license" in taken else wanted.license_name,
        "base_model": wanted.base_model[0] if len(wanted.base_model) == 1 else wanted.base_model,
        "base_model_relation": RELATION if has_base else None,
        "datasets": wanted.datasets,
        "tags": wanted.tags,
    }
    lines = lines_of_keys({key: value for key, value in values.items() if value and key not in taken})
    found = None if "model-index" in taken else model_index(view)
    if found is None:
        return lines
    dumped = yaml.safe_dump({"model-index": found}, sort_keys=False, allow_unicode=True, width=10**6)
    return [*lines, *dumped.rstrip("\n").split("\n")]


def stale_line(text: str, view: View) -> int | None:
    """Return the line of the comment that begins the owned keys, where they are not what they should be."""
    fence = fence_of(text)
    return fence.first if fence is not None and refenced(text, view) != text else None
