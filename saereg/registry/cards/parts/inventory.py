"""`inventory`: every artifact in a table; of a large release one table per site, folded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from saereg.registry.cards.marking import ABSENT, code, counted, decimals, html, joined, table, text
from saereg.registry.cards.view import KINDS, METRICS_PAGE, Values, View, grouped, site_cell, sparsity_of
from saereg.schemas.manifest import Artifact, CrosscoderArtifact, Manifest

MOST_FLAT = 200
"""Artifacts that stand in one table; more are grouped."""

MOST_GROUPS = 100
"""Tables of a large release: more would be no shorter to read."""

MOST_BYTES = 2 << 20
"""Bytes of all tables together: what is left out is in the documents, and the card stays one that the Hub shows."""


def _plain(value: object) -> str:
    if value is None or value == "":
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:g}"
    return text(value) if isinstance(value, str) else str(value)


def _sources(claim: Artifact) -> str:
    """Return what a crosscoder reads at once."""
    if not isinstance(claim, CrosscoderArtifact):
        return ABSENT
    steps = claim.sources.steps
    if len(steps) == 1:
        return f"step {steps[0]:,}"
    return f"{claim.sources.count} {claim.sources.axis}s"


@dataclass(frozen=True)
class Column:
    """A column of the inventory.

    Attributes:
        header: what stands above it; Markdown.
        cell: what stands in it for an artifact and its flat fields; Markdown.
        always: whether it is there where no artifact has a value.
        once: whether a value that all share is said once, below the table, which is narrower so.
    """

    header: str
    cell: Callable[[Artifact, dict[str, Any], View], str]
    always: bool = True
    once: bool = False


def _field(header: str, name: str, *, always: bool = True, once: bool = False) -> Column:
    return Column(header, lambda _claim, fields, _view: _plain(fields[name]), always, once)


def _metric(header: str, name: str, digits: int, *, always: bool = True) -> Column:
    return Column(f"{header} (`{name}`)", lambda _claim, fields, _view: decimals(fields[name], digits), always)


COLUMNS: tuple[Column, ...] = (
    Column("id", lambda claim, _fields, view: view.name(claim.id)),
    _field("kind", "kind", once=True),
    _field("architecture", "architecture"),
    Column("site", lambda claim, _fields, _view: site_cell(claim), once=True),
    Column("sources", lambda claim, _fields, _view: _sources(claim), always=False, once=True),
    _field("layer", "layer", always=False, once=True),
    _field("d_in", "d_in", once=True),
    _field("d_sae", "d_sae"),
    Column("sparsity", lambda claim, _fields, _view: sparsity_of(claim)),
    _field("seed", "seed", always=False, once=True),
    _field("snapshot", "snapshot", always=False, once=True),
    _field("variant", "variant", always=False, once=True),
    _metric("EV", "explained_variance", 4),
    _metric("L0", "l0", 1),
    _metric("L0 per source", "l0_per_source_mean", 1, always=False),
    _metric("loss recovered", "ce_recovered", 4, always=False),
    Column("canonical", lambda claim, _fields, _view: "yes" if claim.canonical else ""),
    _field("withdrawn", "withdrawn", always=False),
)
"""The columns of the inventory, in order; those that are not always there need an artifact that has a value."""


def values(view: View) -> Values:
    """Return the tables."""
    claims, left = view.claims, MOST_BYTES
    groups = [("", list(claims))] if len(claims) <= MOST_FLAT else _groups(claims, view)
    shown, omitted = [], 0
    for title, members in groups:
        header, rows, shared = _rows(members, view)
        fitting = _fitting(rows, left)
        left -= sum(len(cell) + 3 for row in rows[:fitting] for cell in row)
        omitted += len(rows) - fitting
        if fitting or not members:
            shown.append({"title": title, "table": table(header, rows[:fitting]), "shared": shared})
    return {
        "groups": shown,
        "omitted": omitted,
        "metrics_page": METRICS_PAGE,
        "total": len(claims),
        "data": view.measured_on(claims),
        "content": content_of(view.manifest),
        "version": view.manifest.release.version,
    }


def content_of(manifest: Manifest) -> str:
    """Return what is in the release, in Markdown, e.g. `3 sparse autoencoders of M`."""
    counts = []
    for kind, names in KINDS.items():
        number = sum(artifact.kind == kind for artifact in manifest.artifacts)
        if number:
            counts.append(counted(number, *names))
    models = list(dict.fromkeys(model.id for model in manifest.base_models.values()))
    named = joined([code(name) for name in models[:5]]) + (f" and {len(models) - 5} more" if len(models) > 5 else "")
    what = joined(counts) or "Dictionaries"
    return f"{what} of {named}." if models else f"{what}."


def _rows(claims: Sequence[Artifact], view: View) -> tuple[list[str], list[list[str]], str | None]:
    """Return header, rows and what all rows share, which has no column."""
    rows = [[column.cell(claim, view.fields[claim.id], view) for column in COLUMNS] for claim in claims]
    shown = [i for i, column in enumerate(COLUMNS) if column.always or any(row[i] != ABSENT for row in rows)]
    same = [i for i in shown if COLUMNS[i].once and len(rows) > 1 and len({row[i] for row in rows}) == 1]
    shared = ", ".join(f"{COLUMNS[i].header} {rows[0][i]}" for i in same if rows[0][i] != ABSENT)
    kept = [i for i in shown if i not in same]
    return [COLUMNS[i].header for i in kept], [[row[i] for i in kept] for row in rows], shared or None


def _fitting(rows: Sequence[Sequence[str]], left: int) -> int:
    """Return how many of the rows fit into what is left."""
    for count, row in enumerate(rows):
        left -= sum(len(cell.encode()) + 3 for cell in row)
        if left < 0:
            return count
    return len(rows)


def _groups(claims: Sequence[Artifact], view: View) -> list[tuple[str, list[Artifact]]]:
    """Return title → artifacts, by site where there are few, else by kind and model, else by kind."""

    def model(claim: Artifact) -> str:
        return f"{_name(claim)} of {view.fields[claim.id]['model'] or 'no model'}"

    def site(claim: Artifact) -> str:
        return f"{_name(claim)} at {site_cell(claim)}"

    for key in (site, model):
        found = grouped(claims, key)
        if len(found) <= MOST_GROUPS:
            return _titled(found)
    return _titled(grouped(claims, _name))


def _name(claim: Artifact) -> str:
    return KINDS[claim.kind][1].capitalize()


def _titled(found: dict[str, list[Artifact]]) -> list[tuple[str, list[Artifact]]]:
    return [(f"{html(title)} ({counted(len(members), 'artifact')})", members) for title, members in found.items()]
