"""What changed, for the terminal: in groups, the gravest first."""

from collections.abc import Iterator, Sequence

import click

from saereg.cli.render.text import plural, shorten, table, visible
from saereg.registry.differences.changelog import words_of
from saereg.registry.differences.gathering import Gathered, folded, gathered, rank
from saereg.registry.differences.rules import RULES
from saereg.schemas.difference import ArtifactDifference, Change, ChangeKind, Difference, Listed, Value

MOST_ARTIFACTS, MOST_LINES, MOST_NAMED = 10, 60, 3
"""Changed artifacts up to which each is told by itself; lines of one part; artifacts that a line names."""

WIDEST = 60
"""Characters of a value."""


def as_text(difference: Difference, *, show_all: bool = False) -> str:
    """Return a difference for people.

    Args:
        difference: what changed.
        show_all: whether every artifact and line is shown.
    """
    parts = [_head(difference)]
    if difference.release:
        ordered = sorted(difference.release, key=lambda change: rank(change.kind))
        parts.append(_part("release", [_line(change) for change in ordered], show_all=show_all))
    for name, entries in (("added", difference.added), ("removed", difference.removed)):
        if entries:
            parts.append(_part(name, _ids(entries), show_all=show_all))
    parts += _changed(difference, show_all=show_all)
    if difference.advice is not None:
        parts.append(_advice(difference))
    return "\n\n".join(parts) + "\n"


def _head(difference: Difference) -> str:
    old, new = difference.old, difference.new
    lines = [f"{visible(old.target)} → {visible(new.target)}"]
    if difference.compared == "releases":
        lines[0] = f"{old.name} {old.version} → {new.name} {new.version}  ({lines[0]})"
        lines.append(totals(difference))
    elif not difference.changed:
        lines.append("no difference")
    lines += [f"note: {visible(note)}" for note in difference.notes]
    return "\n".join([click.style(lines[0], bold=True), *lines[1:]])


def totals(difference: Difference) -> str:
    """Return how many artifacts were added, removed, renamed, changed, and stayed as they are."""
    renamed = sum(entry.id != entry.old_id for entry in difference.changed)
    counts = {
        "added": len(difference.added),
        "removed": len(difference.removed),
        "renamed": renamed,
        "changed": len(difference.changed) - renamed,
        "unchanged": difference.unchanged,
    }
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"artifacts: {said or 'none'}"


def _part(name: str, lines: Sequence[str], *, show_all: bool) -> str:
    shown = lines if show_all or len(lines) <= MOST_LINES + 1 else lines[:MOST_LINES]
    rest = len(lines) - len(shown)
    more = [f"  … and {rest} more; --all shows them"] if rest else []
    return "\n".join([click.style(name, bold=True), *(f"  {line}" for line in shown), *more])


def _ids(entries: Sequence[Listed]) -> list[str]:
    return [visible(entry.id) for entry in entries]


def _changed(difference: Difference, *, show_all: bool) -> Iterator[str]:
    if difference.compared == "artifacts":
        yield from map(_side_by_side, difference.changed)
    elif show_all or len(difference.changed) <= MOST_ARTIFACTS:
        for entry in difference.changed:
            every = entry.changes if show_all else folded(entry.changes)
            ordered = sorted(every, key=lambda change: rank(change.kind))
            lines = [_line(change) for change in ordered if change.kind != "artifact_renamed"]
            yield _part(_title(entry), lines, show_all=show_all)
    else:
        lines = [_gathered(one) for one in gathered(difference.changed)]
        yield _part(f"{len(difference.changed)} changed artifacts", lines, show_all=show_all)


def _side_by_side(entry: ArtifactDifference) -> str:
    """Return a table of all in which two artifacts differ; what is not in it is equal."""
    ordered = sorted(entry.changes, key=lambda change: rank(change.kind))
    rows = [
        [TOPICS.get(change.kind.partition("_")[0], "file"), visible(change.where), value(change.old), value(change.new),
         visible(change.note or "")]
        for change in ordered
    ]  # fmt: skip
    return table(["", "", shorten(visible(entry.old_id), WIDEST), shorten(visible(entry.id), WIDEST), ""], rows)


TOPICS = {
    "weights": "weights",
    "tensor": "tensor",
    "semantics": "semantics",
    "identity": "field",
    "site": "site",
    "label": "field",
    "canonical": "field",
    "facts": "fact",
    "assumption": "assumption",
    "claim": "claim",
    "verdict": "verdict",
    "metric": "metric",
    "proof": "proof",
    "evidence": "evidence",
}
"""First word of a kind of change → what the row is on; all others are on files."""


def _title(entry: ArtifactDifference) -> str:
    if entry.id == entry.old_id:
        return visible(entry.id)
    return f"{visible(entry.id)}, renamed: it was {visible(entry.old_id)} (equal {entry.paired_by})"


def _line(change: Change) -> str:
    note = f"  ({visible(change.note)})" if change.note else ""
    return f"{_mark(change.kind)} {RULES[change.kind].words}: {visible(change.where)}{_values(change)}{note}"


def _mark(kind: ChangeKind) -> str:
    return click.style("!", fg="red", bold=True) if RULES[kind].grave else "-"


def _values(change: Change) -> str:
    if change.old is None and change.new is None:
        return ""
    if change.kind.endswith("_added") or change.kind.endswith("_removed"):
        return f"  {value(change.new if change.old is None else change.old)}"
    return f"  {value(change.old)} → {value(change.new)}"


def value(of: Value) -> str:
    """Return a value in a few words."""
    return visible(shorten(words_of(of), WIDEST))


def _gathered(one: Gathered) -> str:
    named = ", ".join(visible(entry.id) for entry, _ in one.entries[:MOST_NAMED])
    rest = len(one.entries) - MOST_NAMED
    values = _values(one.same) if one.same else "  (each its own)"
    where = f": {visible(one.where)}{values}"
    return f"{_mark(one.kind)} {RULES[one.kind].words}{where}  {plural(len(one.entries), 'artifact')}: {named}" + (
        f" and {rest} more" if rest > 0 else ""
    )


def _advice(difference: Difference) -> str:
    advice = difference.advice
    if advice is None:
        return ""
    lines = [f"version: {advice.sentence}"]
    if advice.level != "none":
        lines += [f"  {RULES[kind].words}: {RULES[kind].why}" for kind in advice.because]
    if advice.overwritten:
        count, version = plural(len(advice.overwritten), "artifact"), difference.new.version
        said = f"error: the weights of {count} changed and both say {version}: a published version is never overwritten"
        lines.append(click.style(said, fg="red"))
    return "\n".join(lines)
