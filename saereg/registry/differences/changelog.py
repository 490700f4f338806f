"""A section of a changelog, in the form of keepachangelog.com (1.1.0): the same difference gives the same bytes."""

import re
from collections.abc import Iterable, Iterator, Sequence

from saereg.registry.differences.gathering import Gathered, gathered, rank
from saereg.registry.differences.rules import GROUPS, RULES
from saereg.registry.files.natural import natural_key
from saereg.registry.withdrawal import one_line
from saereg.schemas.difference import Change, ChangeKind, Difference, Listed, Value

NAMED = 10
"""Artifacts that one line names, unless all are asked for."""

LONGEST = 120
"""Characters of a value that are shown."""


def section(difference: Difference, date: str | None = None, *, names_all: bool = False) -> str:
    """Return the section of the new version, without a newline at its end.

    Args:
        difference: what changed.
        date: day of the release, as 2026-01-31; None: the heading has none.
        names_all: whether every artifact is named, however many share a line.
    """
    lines: dict[str, list[str]] = {group: [] for group in GROUPS}
    for kind, line in _lines(difference, names_all=names_all):
        group = RULES[kind].group
        if group is not None:
            lines[group].append(f"- {line}")
    parts = [f"## [{difference.new.version}]" + (f" - {date}" if date else "")]
    parts += [f"### {group}\n\n" + "\n".join(lines[group]) for group in GROUPS if lines[group]]
    return "\n\n".join(parts if len(parts) > 1 else [*parts, "Nothing that a reader of the release would see."])


def _lines(difference: Difference, *, names_all: bool) -> Iterator[tuple[ChangeKind, str]]:
    """Yield the lines of a section with the kind that says in which part they stand, the gravest first."""
    most = None if names_all else NAMED
    for change in sorted(difference.release, key=lambda change: rank(change.kind)):
        yield change.kind, _release_line(change)
    yield from (("artifact_removed", line) for line in _listed(difference.removed, is_there=False, most=most))
    yield from (("artifact_added", line) for line in _listed(difference.added, is_there=True, most=most))
    for one in gathered(difference.changed):
        yield one.kind, _gathered_line(one, most)


def _listed(entries: Sequence[Listed], *, is_there: bool, most: int | None) -> list[str]:
    ordered = sorted(entries, key=lambda entry: natural_key(entry.id))
    said = [link(entry.id, entry.path if is_there else None) for entry in ordered[:most]]
    rest = len(ordered) - len(said)
    return [*said, *([f"and {rest} more artifacts"] if rest else [])]


def _release_line(change: Change) -> str:
    return f"{_sentence(RULES[change.kind].words)}: {code(change.where)}{_values(change)}"


def _gathered_line(one: Gathered, most: int | None) -> str:
    if one.kind == "artifact_renamed":
        named = [f"{code(e.old_id)} is now {link(e.id, e.path)} ({e.paired_by} equal)" for e, _ in one.entries[:most]]
    else:
        named = [link(entry.id, entry.path) for entry, _ in one.entries[:most]]
    rest = len(one.entries) - len(named)
    said = ", ".join(named) + (f" and {rest} more" if rest else "")
    where = "" if one.kind in ("artifact_renamed", "canonical_set", "canonical_unset") else f", {code(one.where)}"
    values = _values(one.same) if one.same and where else " (each its own)" if where else ""
    return f"{_sentence(RULES[one.kind].words)}{where}{values}: {said}"


def _values(change: Change) -> str:
    if change.kind.startswith(("withdrawal", "evidence_rebuilt")):
        return f" ({code(change.new or change.old)})"
    note = f" ({one_line(change.note)})" if change.note and change.kind.startswith("metric") else ""
    if change.old is None and change.new is None:
        return note
    if _is_opaque(change.old) and _is_opaque(change.new):
        return note
    if change.old is None or change.new is None:
        return f" {code(change.new if change.old is None else change.old)}{note}"
    return f" from {code(change.old)} to {code(change.new)}{note}"


def _is_opaque(value: Value) -> bool:
    """Whether a value says nothing to people: a digest, or a whole record."""
    return value is None or isinstance(value, dict)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def link(name: str, path: str | None) -> str:
    """Return an id as a link to its folder, as seen from the root of the release."""
    return f"[{code(name)}](<{path}/>)" if path is not None else code(name)


def code(value: Value) -> str:
    """Return a value as inline code, in which no character means anything to Markdown."""
    text = one_line(words_of(value))
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    marks = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{marks}{pad}{text}{pad}{marks}"


def words_of(value: Value) -> str:
    """Return a value in words of one line; an absent one is a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return _record(value)
    return _list(value) if isinstance(value, list) else str(value)


def _record(value: dict[str, Value]) -> str:
    if "sha256" in value and "size" in value:
        return f"{value['size']} bytes, sha256 {str(value['sha256'])[:12]}"
    return _list(f"{name} {words_of(part)}" for name, part in value.items())


def _list(values: Iterable[Value]) -> str:
    return ", ".join(words_of(value) for value in values) or "none"
