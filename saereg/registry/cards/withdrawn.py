"""What a card says at its top of versions and artifacts that were withdrawn, and where readers are sent instead."""

import re
from itertools import groupby

from saereg.errors import UsageError
from saereg.registry.cards.front_matter import is_hub_id
from saereg.registry.cards.markdown import whole_lines_of
from saereg.registry.cards.yaml_head import read_front_matter
from saereg.registry.files.natural import natural_key
from saereg.registry.refs import parse_reference
from saereg.registry.withdrawal import is_version, mark_of, one_line, without_v
from saereg.schemas.manifest import Manifest
from saereg.schemas.withdrawal import Withdrawal

PART = "withdrawn"
"""Name of the generated part."""

KEY = "new_version"
"""Key of the front matter by which the Hub sends readers to another repository."""

NAMED = 20
"""Ids that one sentence names; the inventory and the manifest have them all."""

_OURS = re.compile(rf"{KEY}:[ \t]*\S+[ \t]*(?:\r\n|\n|\r)?$")


def warning(manifest: Manifest) -> str:
    """Return the text of the part: one callout with a paragraph per reason; empty where nothing is withdrawn."""
    own = manifest.release.version
    marks = sorted(manifest.withdrawn, key=lambda mark: (mark.version != own, _said_once(mark)))
    paragraphs = [_paragraph(list(group)) for _, group in groupby(marks, key=_said_once)]
    return "\n>\n".join(["> [!WARNING]", *paragraphs]).replace("\n>\n", "\n", 1) if paragraphs else ""


def inserted(text: str) -> str:
    """Return a card with an empty part above everything that the author wrote, below the front matter.

    A card whose front matter is never closed is left as it is: nobody can tell where its text begins.
    """
    if text.startswith("\ufeff"):  # which would hide a mark that is in its line
        front = read_front_matter(text[1:])
        return "\ufeff" + ("" if front.present else "\n") + inserted(text[1:])
    front, lines = read_front_matter(text), whole_lines_of(text)
    if front.present and not front.end:
        return text
    newline = "\r\n" if "\r\n" in text else "\n"
    part = [f"<!-- saereg:begin {PART} -->", f"<!-- saereg:end {PART} -->"]
    above = [""] if front.end else []
    below = [""] if front.end < len(lines) and lines[front.end].strip() else []
    if front.end and not lines[front.end - 1].endswith(("\n", "\r")):
        lines[front.end - 1] += newline
    lines[front.end : front.end] = [line + newline for line in (*above, *part, *below)]
    return "".join(lines)


def removed(text: str, first: int, last: int) -> str:
    """Return a card without the part on these lines, and without one of the two empty lines around it.

    Args:
        text: the card.
        first: line of the mark at which it begins.
        last: line of the mark at which it ends.
    """
    lines = whole_lines_of(text)
    above = first >= 2 and not lines[first - 2].strip("\r\n")
    below = last >= len(lines) or not lines[last].strip("\r\n")
    start = first - 2 if above and below else first - 1
    end = last + 1 if first == 1 and below else last
    return "".join([*lines[:start], *lines[end:]])


def sent_on(text: str, manifest: Manifest, former: Manifest | None = None) -> str:
    """Return a card whose front matter names the repository that took the place of this one, where there is one.

    What an author wrote there stays; a name that comes from a mark of this or the former manifest, and that no mark of
    the manifest's own version asks for any more, goes.

    Args:
        text: the card.
        manifest: the claims.
        former: what the claims were before, where that is known.
    """
    if text.startswith("\ufeff"):
        return "\ufeff" + sent_on(text[1:], manifest, former)
    front, wanted = read_front_matter(text), new_home(manifest, manifest.release.version)
    value = front.values.get(KEY)
    if front.problems or value == wanted:
        return text
    newline = "\r\n" if "\r\n" in text[:1000] else "\n"
    line = f"{KEY}: {wanted}{newline}" if wanted else ""
    lines = whole_lines_of(text)
    if KEY not in front.lines:
        if not front.present:
            return f"---{newline}{line}---{newline}{newline}{text}"
        lines.insert(front.end - 1, line)
    elif value in _homes(manifest, former) and _OURS.match(lines[front.lines[KEY] - 1]):
        lines[front.lines[KEY] - 1] = line
    result = "".join(lines)
    return result if read_front_matter(result).values.get(KEY) == wanted else text


def new_home(manifest: Manifest, version: str) -> str | None:
    """Return the repository on the Hub that takes the place of a version that is withdrawn as a whole, or None."""
    mark = mark_of(manifest, version)
    if mark is None or mark.successor is None or not mark.successor.startswith("hf://"):
        return None
    try:
        repo = parse_reference(mark.successor).repo
    except UsageError:
        return None
    return repo if repo is not None and is_hub_id(repo) else None


def _homes(manifest: Manifest, former: Manifest | None) -> set[str | None]:
    """Return every repository that a mark of a whole version names."""
    several = [manifest, former] if former is not None else [manifest]
    return {new_home(one, mark.version) for one in several for mark in one.withdrawn if mark.artifact is None} - {None}


def _said_once(mark: Withdrawal) -> tuple[object, ...]:
    """Return what marks have in common that are told in one sentence, sorted: the newest version first."""
    version = tuple((-rank, -number, text) for rank, number, text in natural_key(mark.version))
    return (version, mark.artifact is not None, mark.kind, mark.reason, mark.successor or "", mark.date)


def _paragraph(marks: list[Withdrawal]) -> str:
    first, ids = marks[0], [mark.artifact for mark in marks if mark.artifact is not None]
    what = f"Version {first.version}"
    if ids:
        shown = ", ".join(f"`{name}`" for name in sorted(ids, key=natural_key)[:NAMED])
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        what = f"{shown}{more} of version {first.version}"
    verb = "were" if len(ids) > 1 else "was"
    reason = one_line(first.reason).replace("<", "&lt;")
    stop = "" if reason.endswith((".", "!", "?")) else "."
    return f"> **{what} {verb} {first.kind} on {first.date}.** {reason}{stop}{_instead(first.successor)}"


def _instead(successor: str | None) -> str:
    if successor is None:
        return ""
    if is_version(successor):
        return f" Use version {without_v(successor)} instead."
    if successor.startswith("https://"):
        return f" Use <{successor}> instead."
    return f" Use `{successor}` instead."
