"""Parts of a card that saereg writes, between `<!-- saereg:begin NAME -->` and `<!-- saereg:end NAME -->`.

A part is a function of manifest and index alone, so that anybody who has both can write it again and compare. Behind
the name of one that a template of the user made stands `custom`: it is theirs, and only that template writes it again.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from saereg.registry.cards.card import Card, Marker
from saereg.registry.cards.front_fence import refenced
from saereg.registry.cards.markdown import whole_lines_of
from saereg.registry.cards.parts import (
    about,
    data,
    evidence,
    figures,
    files,
    floors,
    inventory,
    limitations,
    metrics,
    picks,
    semantics,
    sites,
    training,
    usage,
)
from saereg.registry.cards.templating import has_own, rendered
from saereg.registry.cards.view import Values, View
from saereg.registry.cards.withdrawn import PART as WITHDRAWN
from saereg.registry.cards.withdrawn import inserted, removed, sent_on, warning
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest

_MARK_END = re.compile(r"\s*-->")


def _withdrawn(view: View) -> Values | None:
    return {"warning": warning(view.manifest)} if view.manifest.withdrawn else None


BLOCKS: Mapping[str, Callable[[View], Values | None]] = {
    WITHDRAWN: _withdrawn,
    "summary": picks.summary,
    "usage": usage.values,
    "inventory": inventory.values,
    "canonical": picks.canonical,
    "figures": figures.values,
    "floors": floors.values,
    "metrics": metrics.values,
    "sites": sites.values,
    "semantics": semantics.values,
    "training": training.values,
    "data": data.values,
    "evidence": evidence.values,
    "limitations": limitations.values,
    "files": files.values,
    "sisters": about.sisters,
    "licences": about.licences,
    "citation": about.citation,
}
"""Name of a generated part → what its template is given, None where it has nothing to say; in the order of a card."""


@dataclass(frozen=True)
class Part:
    """A generated part as it stands in a card.

    Attributes:
        name: which.
        line: line of its beginning mark.
        end: line of its end mark.
        text: what stands between them.
        custom: whether a template of the user made it.
    """

    name: str
    line: int
    end: int
    text: str
    custom: bool = False


@dataclass(frozen=True)
class MarkProblem:
    """A mark that is wrong.

    Attributes:
        sentence: what is wrong.
        line: line of the file.
    """

    sentence: str
    line: int


def template_of(name: str) -> str:
    """Return the file of the template of a part, below a folder of templates."""
    return f"parts/{name}.md.j2"


def render(name: str, view: View, templates: Path | None = None) -> str:
    """Return what belongs between the marks of a part; empty where it has nothing to say.

    Args:
        name: one of `BLOCKS`.
        view: manifest and index; the entry of the card itself is not looked at.
        templates: folder of the user's own templates.

    Raises:
        UsageError: when a template of the user fails.
    """
    found = BLOCKS[name](view)
    if _own(name, templates):
        documents = {"manifest": view.manifest, "index": view.index}
        return tidy(rendered(template_of(name), templates, part=found, **documents, **(found or {})))
    return tidy(rendered(template_of(name), **found)) if found is not None else ""


def _own(name: str, templates: Path | None) -> bool:
    """Whether the user has a template of a part; the warning of what is withdrawn is always ours."""
    return has_own(template_of(name), templates) and name != WITHDRAWN


def tidy(text: str) -> str:
    """Return what a template made without the blanks that its own lines left: no two empty lines outside of code."""
    lines: list[str] = []
    mark = ""
    for line in text.strip("\n").split("\n"):
        start = line.lstrip()
        if mark:
            mark = "" if start.startswith(mark) and not start.strip("`") else mark
        elif start.startswith("```"):
            mark = start[: len(start) - len(start.lstrip("`"))]
        elif not line.strip() and (not lines or not lines[-1]):
            continue
        lines.append(line if mark else line.rstrip())
    return "\n".join(lines).strip("\n")


def parts_of(card: Card, names: Collection[str] = tuple(BLOCKS)) -> tuple[list[Part], list[MarkProblem]]:
    """Return the generated parts of a card, and the marks that begin or end none.

    Args:
        card: the card.
        names: which parts there are.
    """
    parts: list[Part] = []
    problems: list[MarkProblem] = []
    begun = None
    for marker in card.markers:
        if marker.kind == "begin":
            if begun:
                problems.append(MarkProblem(f"the generated part {begun.name!r} is not ended", begun.line))
            begun = marker
            continue
        if begun is None or begun.name != marker.name:
            problems.append(MarkProblem(f"the end of the generated part {marker.name!r} has no beginning", marker.line))
            continue
        if marker.name in names:
            text = "\n".join(card.lines[begun.line : marker.line - 1]).strip("\n")
            parts.append(Part(marker.name, begun.line, marker.line, text, _is_custom(begun)))
        else:
            known = ", ".join(names)
            problems.append(MarkProblem(f"there is no generated part {marker.name!r}, only {known}", begun.line))
        begun = None
    if begun:
        problems.append(MarkProblem(f"the generated part {begun.name!r} is not ended", begun.line))
    return parts, problems


def _is_custom(marker: Marker) -> bool:
    """Whether a part is the user's own; the warning of what is withdrawn never is."""
    return marker.custom and marker.name != WITHDRAWN


def lacks_warning(card: Card, manifest: Manifest) -> bool:
    """Whether something is withdrawn and the card has no part that says so; `replaced` gives it one."""
    return bool(manifest.withdrawn) and not any(part.name == WITHDRAWN for part in parts_of(card)[0])


def replaced(
    text: str, manifest: Manifest, index: Index, former: Manifest | None = None, templates: Path | None = None
) -> str:
    """Return a card with its generated parts up to date; what stands outside of them is not touched.

    The part on what is withdrawn, and the key of the front matter that goes with it, come and go with the marks.
    A part that a template of the user made stays as it is where that template is not at hand.

    Args:
        text: the card.
        manifest: the claims.
        index: the evidence; the entry of the card itself is not looked at.
        former: the claims before a mark was taken back.
        templates: folder of the user's own templates.

    Raises:
        UsageError: when a template of the user fails.
    """
    view = View(manifest, index)
    text = sent_on(_placed(refenced(text, view), manifest), manifest, former)
    card = Card(text)
    pieces = whole_lines_of(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    for part in reversed(parts_of(card)[0]):
        own = _own(part.name, templates)
        if part.custom and not own:
            continue
        fresh = render(part.name, view, templates)
        if part.text != fresh:
            between = ("", *fresh.split("\n"), "") if fresh else ()
            pieces[part.line : part.end - 1] = [line + newline for line in between]
        if own and not part.custom:
            pieces[part.line - 1] = _MARK_END.sub(" custom -->", pieces[part.line - 1], count=1)
    return "".join(pieces)


def _placed(text: str, manifest: Manifest) -> str:
    """Return a card with a part for the warning where something is withdrawn, and without one where nothing is."""
    if manifest.withdrawn:
        return inserted(text) if lacks_warning(Card(text), manifest) else text
    if f"saereg:begin {WITHDRAWN}" in text:
        for part in reversed(parts_of(Card(text))[0]):
            text = removed(text, part.line, part.end) if part.name == WITHDRAWN else text
    return text
