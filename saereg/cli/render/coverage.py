"""The coverage table for people: aligned, as Markdown with its sources, and one row explained."""

from collections.abc import Iterable, Iterator, Sequence

from saereg.cli.render.markdown import escaped
from saereg.cli.render.text import shorten, table, visible
from saereg.schemas.coverage import Coverage, CoverageCell, CoverageRow, CoverageRule, Evidence

HEADS = {"checkpoints": "checkpoints", "saes": "SAEs", "all": "all"}
"""Heading of a column that is no benchmark."""

LISTED = 8
"""Releases that are named for one source of the catalogue."""

FIELDS = ("row", "family", "column", "mark", "summary", "rule", "confirmed", "sources")
"""Columns of CSV, one line for each cell."""


def short(cell: CoverageCell) -> str:
    """Return a cell as it stands in a table, e.g. `yes (154 steps)`."""
    words = [cell.summary or "", "" if cell.confirmed else "unconfirmed"]
    inside = ", ".join(word for word in words if word)
    return f"{cell.mark} ({inside})" if inside else cell.mark


def as_table(found: Coverage) -> str:
    """Return the table with aligned columns."""
    head, rows = _grid(found)
    return table([visible(name) for name in head], [[visible(text) for text in row] for row in rows])


def _grid(found: Coverage) -> tuple[list[str], list[list[str]]]:
    first = ["family"] if found.by == "family" else ["model", "family"]
    head = [*first, *(HEADS.get(name, name) for name in found.columns)]
    names = ([row.name] if found.by == "family" else [row.name, row.family or "–"] for row in found.rows)
    cells = [[short(row.cells[name]) for name in found.columns] for row in found.rows]
    return head, [[*name, *row] for name, row in zip(names, cells, strict=True)]


def as_rows(found: Coverage) -> Iterator[tuple[str | bool | None, ...]]:
    """Yield one line for each cell, as FIELDS."""
    for row in found.rows:
        family = row.id if found.by == "family" else row.family
        for name in found.columns:
            cell = row.cells[name]
            sources = "; ".join(f"{one.url or one.source} ({_when(one)})" for one in cell.evidence if one.decides)
            yield row.name, family, name, cell.mark, cell.summary, cell.rule, cell.confirmed, sources or None


def as_markdown(found: Coverage) -> str:
    """Return the table with a footnote for everything that decides a cell: what it says, its source and its dates."""
    notes: dict[str, int] = {}
    head, rows = _grid(found)
    wide = len(head) - len(found.columns)
    lines = [f"| {' | '.join(map(escaped, head))} |", f"|{'---|' * len(head)}"]
    for row, texts in zip(found.rows, rows, strict=True):
        marks = [_marks(row.cells[name], notes) for name in found.columns]
        cells = [f"{escaped(text)}{mark}" for text, mark in zip(texts[wide:], marks, strict=True)]
        lines.append(f"| {' | '.join([*map(escaped, texts[:wide]), *cells])} |")
    feet = [f"[^{number}]: {note}" for note, number in notes.items()]
    return "\n".join([*lines, "", *feet]).rstrip() + "\n"


def _marks(cell: CoverageCell, notes: dict[str, int]) -> str:
    numbers = [notes.setdefault(_note(one), len(notes) + 1) for one in cell.evidence if one.decides]
    return "".join(f"[^{number}]" for number in dict.fromkeys(numbers))


def _note(one: Evidence) -> str:
    source = f"[{escaped(one.source)}]({one.url})" if one.url else escaped(one.source)
    doubt = "" if one.confirmed else " Not confirmed."
    more = f" {escaped(one.note)}" if one.note else ""
    return f"{escaped(one.text)}. {source}, {_when(one)}.{doubt}{more}"


def _when(one: Evidence) -> str:
    if one.kind == "catalogue":
        return f"synced {one.retrieved}" + (f", pin {one.pin[:12]}" if one.pin else "")
    return f"{one.date}, looked up {one.retrieved}" if one.date else f"looked up {one.retrieved}"


def explanation(row: CoverageRow, found: Coverage) -> str:
    """Return every cell of one row: its rule, and what it rests on."""
    rules = {rule.id: rule for rule in found.rules}
    head = row.name if row.id == row.name else f"{row.name} ({row.id})"
    lines = [visible(head)]
    if row.models:
        lines.append(f"  models in the catalogue: {visible(', '.join(row.models))}")
    for name in found.columns:
        lines += ["", *_explained(name, row.cells[name], rules)]
    return "\n".join(lines)


def _explained(name: str, cell: CoverageCell, rules: dict[str, CoverageRule]) -> Iterator[str]:
    yield f"{visible(HEADS.get(name, name))}: {visible(short(cell))}"
    yield f"  rule {cell.rule}: {rules[cell.rule].sentence}"
    for title, decides in (("from", True), ("beside it", False)):
        chosen = [one for one in cell.evidence if one.decides is decides]
        if chosen:
            yield f"  {title}:"
        for one in chosen:
            yield from _told(one)


def _told(one: Evidence) -> Iterator[str]:
    yield f"  - {visible(one.text)}" + ("" if one.confirmed else " (not confirmed)")
    yield f"    {visible(one.source)}, {visible(_when(one))}"
    if one.releases:
        yield f"    {_named(one.releases)}"
    if one.url:
        yield f"    {one.url}"
    if one.note:
        yield f"    note: {visible(one.note)}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return visible(", ".join(names[:LISTED])) + more


def rules_text(rules: Iterable[CoverageRule]) -> str:
    """Return the rules, in the order in which they are tried."""
    return "\n".join(f"{rule.id:<22} {rule.mark or '–':<8} {rule.sentence}" for rule in rules)


def rules_markdown(rules: Iterable[CoverageRule]) -> str:
    """Return the rules as a table."""
    lines = ["| rule | column | cell | when |", "|---|---|---|---|"]
    lines += [f"| `{rule.id}` | {rule.column} | {rule.mark or ''} | {escaped(rule.sentence)} |" for rule in rules]
    return "\n".join(lines)


def unplaced_text(models: Sequence[str], most: int = 4) -> str:
    """Return which models are in no family, in one line."""
    named = ", ".join(visible(shorten(model, 60)) for model in models[:most])
    more = f" and {len(models) - most:,} more" if len(models) > most else ""
    one = len(models) == 1
    return (
        f"{len(models):,} model{'' if one else 's'} of the catalogue {'is' if one else 'are'} in no family of the"
        f" facts: {named}{more}"
    )
