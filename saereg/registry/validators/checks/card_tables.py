"""SR5 and SR401: the tables of the card against the manifest and the index."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from saereg.registry.cards.blocks import lacks_warning, parts_of, render
from saereg.registry.cards.card import CARD_FILE, Card, Row, Table
from saereg.registry.cards.front_fence import stale_line
from saereg.registry.cards.quantities import L0, METRICS, Printed, labelled, printed, quantity_of
from saereg.registry.cards.view import View
from saereg.registry.files.natural import natural_key
from saereg.registry.flat_fields import fields_of
from saereg.registry.validators.findings import finding
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.registry.withdrawal import told
from saereg.schemas.report import Finding

_DECIMALS = re.compile(r"(\d+(?:[.p]\d+)?)")


def generated_blocks(release: ReleaseSubject) -> Iterator[Finding]:
    """SR508: the generated parts of the card are up to date."""
    card, manifest, index = release.card, release.manifest, release.index
    marked = manifest is not None and bool(manifest.withdrawn)
    if card is None or ("saereg:" not in card.text and not marked):
        return
    parts, problems = parts_of(card)
    for problem in problems:
        yield finding("SR508", problem.sentence, path=CARD_FILE, line=problem.line)
    if manifest is None or index is None:
        return
    if lacks_warning(card, manifest):
        message = f"the card does not say that {told(manifest.withdrawn[0])}"
        yield finding("SR508", message, path=CARD_FILE, line=1, fixable="safe", hint="run saereg validate --fix")
    view = View(manifest, index)
    if line := stale_line(card.text, view):
        message = "the keys of the front matter that saereg owns are not what manifest and index say now"
        yield finding("SR508", message, path=CARD_FILE, line=line, fixable="safe", hint="run saereg validate --fix")
    for part in parts:
        fresh = part.text if part.custom else render(part.name, view)
        if part.text != fresh:
            message = f"the generated part {part.name!r} is not what manifest and index say now"
            line = part.line + _first_difference(part.text, fresh)
            yield finding("SR508", message, path=CARD_FILE, line=line, fixable="safe", hint="run saereg validate --fix")


def _first_difference(old: str, new: str) -> int:
    """Return how many lines below the beginning mark the first line stands that differs."""
    pairs = enumerate(zip(old.split("\n"), new.split("\n"), strict=False), 2)
    return next((offset for offset, (one, other) in pairs if one != other), 0) if old else 0


def tables_agree(release: ReleaseSubject) -> Iterator[Finding]:
    """SR508: numbers in the card's tables are those of the manifest and the index."""
    if release.manifest is None or not release.artifacts:
        return
    tables = [table for table in _own_tables(release.card) if _states_numbers(table)]
    names = _Names(release) if tables else None
    for table in tables:
        if names:
            yield from _table_findings(table, names)


def _own_tables(card: Card | None) -> list[Table]:
    """Return the tables that the author wrote, or templates of the author's."""
    if card is None:
        return []
    parts = parts_of(card)[0] if card.markers else []
    return [
        table
        for table in card.tables
        if not any(part.line < table.line < part.end and not part.custom for part in parts)
    ]


def _states_numbers(table: Table) -> bool:
    return any(map(quantity_of, table.header)) or any(labelled(cell) for row in table.rows[:3] for cell in row.cells)


@dataclass
class _Names:
    """Which artifact a cell names."""

    release: ReleaseSubject
    _values: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)

    @cached_property
    def known(self) -> dict[str, ArtifactSubject | None]:
        """Name → artifact, or None where several have it."""
        found: dict[str, ArtifactSubject | None] = {}
        for artifact in self.release.artifacts:
            claim, evidence = artifact.claim, artifact.evidence
            files = (
                [file.path for file in evidence.files] if evidence else [artifact.weights_path, artifact.config_path]
            )
            for name in {claim.id, claim.path, *(f"{claim.path}{end}" for end in ("/", ".safetensors", ".pt")), *files}:
                found[name] = None if name in found else artifact
        return found

    def artifact(self, cell: str) -> ArtifactSubject | None:
        """Return the artifact that a cell names, by id, folder or file."""
        name = cell.strip().removeprefix("./")
        return self.known.get(name) if name and not name.isdigit() else None

    def values(self, artifact: ArtifactSubject, quantity: str) -> list[tuple[float, float]]:
        """Return every (value, tolerance) that manifest or index state of a quantity; none where they are silent."""
        mine = self._values.setdefault(artifact.claim.id, {})
        if not mine:
            mine |= _values_of(artifact)
        return mine.get(quantity, [])


def _values_of(artifact: ArtifactSubject) -> dict[str, list[tuple[float, float]]]:
    """Return quantity → every (value, tolerance) of an artifact."""
    found: dict[str, list[tuple[float, float]]] = {"": []}
    manifest = artifact.release.manifest
    if manifest is None:
        return found
    for name, value in fields_of(artifact.claim, manifest, {}).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = [(float(value), 0.0)]
    if len(getattr(getattr(artifact.claim, "sources", None), "site_keys", ())) > 1:
        found.pop("layer", None)  # one of several
    for claim in artifact.claim.claims:
        found.setdefault(claim.metric, []).append((claim.value, claim.tolerance or 0.0))
    for measurement in artifact.evidence.metrics if artifact.evidence else ():
        if measurement.value is not None:
            found.setdefault(measurement.metric, []).append((measurement.value, measurement.tolerance))
    return found


def _table_findings(table: Table, names: _Names) -> Iterator[Finding]:
    columns = [quantity_of(header) for header in table.header]
    naming = _naming_column(table, names)
    if naming is None:
        return
    for row in table.rows:
        artifact = names.artifact(row.cells[naming])
        if artifact is None:
            continue
        for position, cell in enumerate(row.cells):
            if position != naming:
                yield from _cell_findings(row, table.header[position], cell, columns[position], (names, artifact))


def _naming_column(table: Table, names: _Names) -> int | None:
    """Return the column that names artifacts, by most of its cells; None where there is none."""
    width = len(table.header)
    counts = [sum(names.artifact(row.cells[i]) is not None for row in table.rows) for i in range(width)]
    best = max(counts, default=0)
    return counts.index(best) if best else None


def _cell_findings(
    row: Row, header: str, cell: str, quantity: tuple[str, ...], named: tuple[_Names, ArtifactSubject]
) -> Iterator[Finding]:
    names, artifact = named
    stated: list[tuple[str, tuple[str, ...], Printed]] = []
    if quantity:
        number = printed(cell)
        stated = [(header, quantity, number)] if number else []
    if not stated:
        stated = [(label, quantity_of(label), number) for label, number in labelled(cell)]
    for label, fields, number in stated:
        if "%" in label + number.unit and set(fields) <= set(L0):
            continue  # a share of the latents, which no document states
        values = [pair for name in fields for pair in names.values(artifact, name)]
        if values and not any(number.agrees(*pair) for pair in values):
            shown = f"{values[-1][0]:.6g}"
            message = f"the table says {label} {number.text} of {artifact.claim.id!r}, manifest and index say {shown}"
            where = {"path": CARD_FILE, "line": row.line, "artifact": artifact.claim.id}
            yield finding("SR508", message, expected=shown, found=number.text, **where)


def tables_in_natural_order(release: ReleaseSubject) -> Iterator[Finding]:
    """SR509: rows are not sorted as text where their numbers then stand out of order."""
    for table in _own_tables(release.card):
        if len(table.rows) < 3:
            continue
        columns = list(zip(*(row.cells for row in table.rows), strict=True))
        if any(_is_sorted_by_number(cells) for cells in columns):
            continue
        for cells in columns:
            at = sorted_as_text(cells)
            if at is not None:
                message = f"the table is sorted as text: {cells[at]} stands before {cells[at + 1]}"
                line, order = table.rows[at + 1].line, f"{cells[at + 1]} before {cells[at]}"
                yield finding("SR509", message, path=CARD_FILE, line=line, expected=order, fixable="unsafe")
                break


def _is_sorted_by_number(cells: tuple[str, ...]) -> bool:
    """Whether a column of numbers alone rises or falls, and is not the same all over: the table is sorted by it."""
    numbers = [number.value for cell in cells if (number := printed(cell))]
    if len(numbers) < len(cells) or len(set(numbers)) < 3:
        return False
    return numbers in (sorted(numbers), sorted(numbers, reverse=True))


def sorted_as_text(cells: tuple[str, ...]) -> int | None:
    """Return the first position at which text order and number order differ, of cells in text order; else None."""
    if len(set(cells)) < len(cells) or not all(cells) or list(cells) != sorted(cells):
        return None
    for position in range(len(cells) - 1):
        one, other = cells[position], cells[position + 1]
        if number_key(one) > number_key(other) and natural_key(one) > natural_key(other):
            return position
    return None


def number_key(text: str) -> tuple[tuple[int, float, str], ...]:
    """Return a key that sorts by the numbers in a text, `0.25` and `0p25` as decimals."""
    parts = _DECIMALS.split(text)
    return tuple(
        (0, float(part.replace("p", ".")), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts) if part
    )


def metrics_defined(release: ReleaseSubject) -> Iterator[Finding]:
    """SR401: a card that prints EV or L0 says by which definition they were computed."""
    card = release.card
    if card is None or _defines(card):
        return
    for table in _own_tables(card):
        for position, header in enumerate(table.header):
            metric = set(quantity_of(header)) & (METRICS - {""})
            numbers = [row for row in table.rows if metric and printed(row.cells[position])]
            combined = [row for row in table.rows if labelled(row.cells[position])]
            if numbers or combined:
                name = header if numbers else " and ".join(label for label, _ in labelled(combined[0].cells[position]))
                message = f"the table states {name}, and the card does not say by which definition"
                yield finding("SR401", message, path=CARD_FILE, line=table.line, found=name)
                return


def _defines(card: Card) -> bool:
    """Whether the card names a definition: its id, or a link to the page of the definitions."""
    if any("metrics.md" in link.target for link in card.links):
        return True
    ids = "|".join(sorted(METRICS - {"l0", "fvu"}))
    return re.search(rf"\b(?:{ids})\b|`(?:l0|fvu)`", card.text) is not None
