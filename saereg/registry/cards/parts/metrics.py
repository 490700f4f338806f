"""`metrics`: every measured number as an aggregate with its definition, and what became of the stated ones."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import get_args

from saereg.registry.cards.marking import ABSENT, code, link, short, text
from saereg.registry.cards.view import KINDS, METRICS_PAGE, Values, View, grouped
from saereg.schemas.metrics import BATCHED, Measurement, MetricId

MOST_STATED = 50
"""Claims that are not verified of which each is shown."""

VERDICTS = ("verified", "matches_another", "differs", "not_verifiable")
"""In the order of the columns."""

WITH_A_MODEL = ("ce_recovered", "ce_clean", "ce_spliced", "ce_ablated")

OTHERS = (
    *("nmse_uncentred_row", "ev_uncentred", "ev_scalar_mean", "ev_saelens_uncentred", "r2_uniform_average"),
    *("l0_positive", "dead_rate_1e_6", "l1_norm", "l1_norm_per_source_mean"),
    *BATCHED,
)

ORDER = {name: position for position, name in enumerate(get_args(MetricId))}


def anchor(metric: str) -> str:
    """Return the section of the page of definitions in which a metric stands."""
    return "with-a-model" if metric in WITH_A_MODEL else "definitions-of-others" if metric in OTHERS else "canon"


def defined(metric: str) -> str:
    """Return a metric as code with a link to its definition."""
    return link(code(metric), f"{METRICS_PAGE}#{anchor(metric)}")


@dataclass(frozen=True, order=True)
class _Row:
    """One row: what its measurements have in common."""

    kind: int
    normalized: bool
    metric: int
    batch_rows: int

    @property
    def name(self) -> str:
        return str(get_args(MetricId)[self.metric])


_Found = dict[_Row, list[tuple[str, Measurement]]]
"""What rows have in common → id and measurement."""


def values(view: View) -> Values | None:
    """Return the aggregates; None where nothing was measured and nothing is stated."""
    kinds = {claim.id: list(KINDS).index(claim.kind) for claim in view.claims}
    found: _Found = {}
    for entry in view.index.artifacts:
        for m in entry.metrics:
            row = _Row(kinds.get(entry.id, 0), m.units != "raw", ORDER[m.metric], m.batch_rows or 0)
            found.setdefault(row, []).append((entry.id, m))
    stated = _stated(view)
    if not found and stated is None:
        return None
    return {
        "measured": _measured(found),
        "undefined": _undefined(found),
        "stated": stated,
        "metrics_page": METRICS_PAGE,
    }


def _measured(found: _Found) -> Values:
    """Return one row for what can be taken together."""
    several = len({row.kind for row in found}) > 1
    header = ["definition", *(["of"] if several else []), "artifacts", "smallest", "median", "largest"]
    rows = []
    for row in sorted(found):
        known = [(name, m) for name, m in found[row] if m.value is not None]
        if known:
            artifacts = len({name for name, _ in known})
            rows.append(_aggregate(row, [m for _, m in known], artifacts, several=several))
    return {"header": [*header, "rows", "evaluation"], "rows": rows}


def _undefined(found: _Found) -> list[Values]:
    """Return the definitions that have a value nowhere, with why; those with one reason together."""
    silent = {row.name: {m.reason for _, m in found[row]} for row in sorted(found)}
    for row in found:
        if any(m.value is not None for _, m in found[row]):
            silent.pop(row.name, None)
    reasons = [(name, min((why for why in said if why), default="no reason is given")) for name, said in silent.items()]
    return [{"metric": code(name), "reason": text(reason)} for name, reason in reasons]


def _aggregate(row: _Row, measurements: Sequence[Measurement], artifacts: int, *, several: bool) -> list[str]:
    numbers = [m.value for m in measurements if m.value is not None]
    name = defined(row.name) + (", normalized units" if row.normalized else "")
    name += f", batches of {row.batch_rows:,}" if row.batch_rows else ""
    kind = [list(KINDS.values())[row.kind][0 if artifacts == 1 else 1]] if several else []
    spread = [short(min(numbers)), short(median(numbers)), short(max(numbers))]
    counts = sorted({m.rows for m in measurements})
    rows = short(counts[0]) if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    used = list(dict.fromkeys(m.evaluation for m in measurements))
    data = code(used[0]) if len(used) == 1 else f"{len(used):,} evaluations"
    return [name, *kind, f"{artifacts:,}", *spread, rows, data]


def _stated(view: View) -> Values | None:
    """Return how many stated numbers the measured ones bear out, and those that they do not."""
    counts: dict[str, Counter[str]] = {}
    open_rows: list[list[str]] = []
    reasons: Counter[str] = Counter()
    for claim in view.claims:
        entry = view.evidence.get(claim.id)
        verdicts = {v.claim: v for v in entry.verdicts} if entry else {}
        for position, one in enumerate(claim.claims):
            verdict = verdicts.get(position)
            kind = verdict.verdict if verdict else "not_verifiable"
            counts.setdefault(one.metric, Counter())[kind] += 1
            if kind != "verified":
                why = (verdict.why if verdict else None) or "it was not measured"
                reasons[why if kind == "not_verifiable" else ""] += 1
                measured = short(verdict.measured) if verdict else ABSENT
                matches = code(verdict.matches) if verdict and verdict.matches else text(why)
                open_rows.append(
                    [view.name(claim.id), code(one.metric), f"{one.value:g}", measured, kind.replace("_", " "), matches]
                )
    if not counts:
        return None
    rows = [[defined(name), str(sum(c.values())), *(str(c[v]) for v in VERDICTS)] for name, c in _ordered(counts)]
    total = sum(sum(c.values()) for c in counts.values())
    verified = sum(c["verified"] for c in counts.values())
    return {
        "total": total,
        "verified": verified,
        "counts": {"header": ["definition", "stated", *(v.replace("_", " ") for v in VERDICTS)], "rows": rows},
        "open": {
            "header": ["artifact", "definition", "stated", "measured", "verdict", "why"],
            "rows": open_rows[:MOST_STATED],
        },
        "more": max(len(open_rows) - MOST_STATED, 0),
    }


def _ordered(counts: dict[str, Counter[str]]) -> Iterable[tuple[str, Counter[str]]]:
    return sorted(counts.items(), key=lambda item: ORDER[item[0]])


def by_reason(view: View) -> list[tuple[str, int]]:
    """Return why stated numbers cannot be verified, with how many, the most frequent reason first."""
    found: Counter[str] = Counter()
    for entry in view.index.artifacts:
        found.update(v.why or "no reason is given" for v in entry.verdicts if v.verdict == "not_verifiable")
    return sorted(grouped_counts(found), key=lambda pair: (-pair[1], pair[0]))


def grouped_counts(found: Counter[str]) -> list[tuple[str, int]]:
    """Return reason → count, reasons that differ in their numbers alone taken together."""
    groups = grouped(found.items(), lambda pair: "".join("#" if c.isdigit() else c for c in pair[0]))
    return [(members[0][0], sum(count for _, count in members)) for members in groups.values()]
