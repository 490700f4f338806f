"""What changed, as Markdown: for a pull request or a page."""

from collections.abc import Iterable, Iterator, Sequence

from saereg.cli.render.difference import totals
from saereg.cli.render.markdown import escaped
from saereg.registry.differences.changelog import code
from saereg.registry.differences.gathering import gathered, rank
from saereg.registry.differences.rules import RULES
from saereg.schemas.difference import Change, Difference, Listed

MOST_ROWS, MOST_NAMED = 200, 10
"""Rows of a table, and artifacts of a row, unless all are asked for."""


def as_markdown(difference: Difference, *, show_all: bool = False) -> str:
    """Return a difference as Markdown: the advice, the counts, and a table per part.

    Args:
        difference: what changed.
        show_all: whether every row and artifact is shown.
    """
    old, new = difference.old, difference.new
    parts = [f"## {escaped(old.name)} {escaped(old.version)} → {escaped(new.name)} {escaped(new.version)}"]
    if difference.compared == "artifacts":
        parts = [f"## {code(old.target)} → {code(new.target)}"]
    if difference.advice is not None:
        fits = "" if difference.advice.fits else "**The version does not fit:** "
        parts.append(fits + escaped(difference.advice.sentence))
        parts.append(escaped(totals(difference)))
    parts += [f"> {escaped(note)}" for note in difference.notes]
    parts += list(_parts(difference, show_all=show_all))
    return "\n\n".join(parts) + "\n"


def _parts(difference: Difference, *, show_all: bool) -> Iterator[str]:
    ordered = sorted(difference.release, key=lambda change: rank(change.kind))
    if ordered:
        yield "### Release\n\n" + _table(("change", "what", "from", "to"), map(_cells, ordered), show_all=show_all)
    for name, entries in (("Added", difference.added), ("Removed", difference.removed)):
        if entries:
            yield f"### {name}\n\n" + _list(entries, show_all=show_all)
    if difference.changed:
        rows = [
            (*(_cells(one.same or _each(one.entries[0][1]))), _named([entry.id for entry, _ in one.entries], show_all))
            for one in gathered(difference.changed)
        ]
        yield "### Changed\n\n" + _table(("change", "what", "from", "to", "artifacts"), rows, show_all=show_all)


def _cells(change: Change) -> tuple[str, str, str, str]:
    words = RULES[change.kind].words
    words = f"**{words}**" if RULES[change.kind].grave else words
    return (
        words,
        _cell(change.where),
        _cell(change.old),
        _cell(change.new) + (f" ({escaped(change.note)})" if change.note else ""),
    )


def _each(change: Change) -> Change:
    return change.model_copy(update={"old": None, "new": "each its own", "note": None})


def _cell(value: object) -> str:
    """Return a value as code in a cell: a pipe would end it, in code too."""
    return "–" if value is None else code(value).replace("|", "\\|")  # type: ignore[arg-type]


def _named(ids: Sequence[str], show_all: bool) -> str:
    shown = ids if show_all else ids[:MOST_NAMED]
    more = f" and {len(ids) - len(shown)} more" if len(ids) > len(shown) else ""
    return ", ".join(map(code, shown)) + more


def _list(entries: Sequence[Listed], *, show_all: bool) -> str:
    shown = entries if show_all else entries[:MOST_ROWS]
    lines = [f"- {code(entry.id)}" for entry in shown]
    rest = len(entries) - len(shown)
    return "\n".join([*lines, *([f"- and {rest} more"] if rest else [])])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, show_all: bool) -> str:
    every = list(rows)
    shown = every if show_all else every[:MOST_ROWS]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *shown)]
    rest = len(every) - len(shown)
    return "\n".join(lines) + (f"\n\nand {rest} more rows" if rest else "")
