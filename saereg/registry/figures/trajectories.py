"""Trajectories: metrics against the step of the model's pretraining, or snapshots of the dictionary's own training."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from saereg.registry.figures.artifacts import plural, rounded
from saereg.registry.figures.colouring import Colouring, colouring
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.lines import Horizontal, Quantity, stacked
from saereg.registry.figures.series import (
    NAMES,
    Entry,
    cut,
    ends,
    entries,
    evenly,
    fenced,
    listed,
    measured_on,
    run_of,
    sampled,
    series,
)
from saereg.registry.figures.theme import finished
from saereg.registry.release import Release
from saereg.registry.trainings import tokens_of
from saereg.schemas.manifest import CrosscoderArtifact

EV, L0 = "explained_variance", "l0"
STEP_QUANTITIES = (EV, L0)
"""Quantities over pretraining; of a crosscoder their values at each source."""

SNAPSHOT_QUANTITIES = (L0, "dead_fraction", "ce_recovered")
"""Quantities over the snapshots of a dictionary's own training; `reconstruction` has the explained variance."""

SHARES = (EV, "dead_fraction", "ce_recovered")

MOST_LINES, MOST_POINTS = 48, 1400
"""Lines of one figure, and points of all of them; of longer lines some points are left out, evenly spaced."""


@dataclass(frozen=True)
class Line:
    """One line: what it is of, and its points.

    Attributes:
        entry: an artifact that stands for the line in the legend.
        name: what it says when it is pointed at.
        points: (where, metric → number), in order.
        sources: whether the points are the sources of one crosscoder.
    """

    entry: Entry
    name: str
    points: tuple[tuple[float, dict[str, float]], ...]
    sources: bool


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return a figure over pretraining steps, and one over snapshots, where the release has several of them."""
    found = entries(release)
    over_steps = [*_crosscoders(found), *_joined(found, _at_step, STEP_QUANTITIES, lambda entry: entry.step)]
    over_snapshots = list(_joined(found, run_of, SNAPSHOT_QUANTITIES, _at_snapshot))
    drawings = (
        _draw(found, over_steps, STEP_QUANTITIES, "steps"),
        _draw(found, over_snapshots, SNAPSHOT_QUANTITIES, "snapshots"),
    )
    return tuple(drawing for drawing in drawings if drawing is not None)


def _at_snapshot(entry: Entry) -> float | None:
    return tokens_of(entry.artifact) if entry.fields["snapshot"] is not None else None


def _at_step(entry: Entry) -> Hashable:
    """Return what artifacts of one line over pretraining have in common."""
    claim, fields = entry.artifact.claim, entry.fields
    same = (claim.kind, claim.architecture, entry.place, claim.d_sae, claim.sparsity, claim.seed, claim.variant)
    return (*same, claim.snapshot, fields["stream"], fields["model_name"], fields["site_out"])


def _crosscoders(found: Sequence[Entry]) -> Iterator[Line]:
    """Yield the lines of crosscoders over snapshots: their numbers at each source."""
    for entry in found:
        claim = entry.artifact.claim
        if not isinstance(claim, CrosscoderArtifact) or len(claim.sources.steps) < 2:
            continue
        ev, active = (_per_source(entry, name, claim.sources.count) for name in (EV, "l0_per_source_mean"))
        points = []
        for n, step in enumerate(claim.sources.steps):
            pairs = ((name, value[n] if value else None) for name, value in ((EV, ev), (L0, active)))
            values = {name: number for name, number in pairs if number is not None}
            points.append((float(step), values))
        if any(values for _, values in points):
            yield Line(entry, cut(entry.id), tuple(points), sources=True)


def _per_source(entry: Entry, metric: str, count: int) -> tuple[float | None, ...]:
    found = entry.measured[metric].per_source if metric in entry.measured else ()
    return found if len(found) == count else ()


def _joined(
    found: Sequence[Entry],
    same: Callable[[Entry], Hashable],
    metrics: Sequence[str],
    at: Callable[[Entry], float | None],
) -> Iterator[Line]:
    """Yield the lines of artifacts that differ in nothing but where they stand on the axis."""
    lines: dict[Hashable, list[Entry]] = {}
    for entry in found:
        if not entry.several and at(entry) is not None:
            lines.setdefault(same(entry), []).append(entry)
    for them in lines.values():
        places = {at(entry): entry for entry in them}
        ordered = sorted((float(place), entry) for place, entry in places.items() if place is not None)
        points = [(place, _numbers(entry, metrics)) for place, entry in ordered]
        if sum(bool(values) for _, values in points) > 1:
            yield Line(ordered[-1][1], _name(them), tuple(points), sources=False)


def _numbers(entry: Entry, metrics: Sequence[str]) -> dict[str, float]:
    return {name: value for name in metrics if (value := entry.number(name)) is not None}


def _name(them: Sequence[Entry]) -> str:
    return f"{len(them)} artifacts, {cut(them[0].id, 40)} …"


def _draw(found: Sequence[Entry], lines: Sequence[Line], metrics: Sequence[str], over: str) -> Drawing | None:
    shown = sampled(lines, MOST_LINES, lambda line: line.entry.id)
    if not shown:
        return None
    without = ("seed", "snapshot", "step", *(("kind",) if over == "steps" else ()))
    colours = colouring([line.entry for line in shown], without=without)
    rows, low = _fenced([row for line in shown for row in _rows(line, colours, MOST_POINTS // len(shown))])
    panels = [name for name in metrics if len({row.get(name) for row in rows} - {None}) > 1]
    if not panels:
        return None
    steps = over == "steps"
    title = f"{'Over pretraining' if steps else 'Over training'}: {listed([_word(name) for name in panels])}"
    places = [row["at"] for row in rows]
    across = Horizontal("at", "pretraining step" if steps else "tokens seen in training", places, steps=steps)
    quantities = [Quantity(name, _axis(name, shown), name in SHARES) for name in panels]
    chart = stacked(rows, quantities, across, colours, points=len(rows) < 900)
    caption = _caption(found, lines, shown, panels, colours, over) + low
    return Drawing(f"trajectories-{over}", "trajectories", title, caption, _alt(shown, panels), finished(chart, title))


def _word(metric: str) -> str:
    return "active latents" if metric == L0 else NAMES[metric]


def _axis(metric: str, shown: Sequence[Line]) -> str:
    return "active latents at that step" if metric == L0 and any(line.sources for line in shown) else NAMES[metric]


def _rows(line: Line, colours: Colouring, most: int) -> Iterator[dict[str, Any]]:
    for place, values in evenly(line.points, max(most, 6)):
        yield (
            {"run": line.name, "at": place}
            | colours.hue(line.entry)
            | {name: rounded(value, 6) for name, value in values.items()}
        )


def _fenced(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Return the points without those that explain so little that nothing else could be seen, and the words for it."""
    values = [row[EV] for row in rows if EV in row]
    if not values or min(values) > -1:
        return rows, ""
    low = min(fenced(values)[0], 0.0)
    out = sum(value < low for value in values)
    kept = [row | ({EV: None} if row.get(EV, low) < low else {}) for row in rows]
    return kept, f" Left out: {out} points with less than {low:.3g}, the lowest {min(values):.4g}." if out else ""


def _caption(
    found: Sequence[Entry],
    lines: Sequence[Line],
    shown: Sequence[Line],
    panels: Sequence[str],
    colours: Colouring,
    over: str,
) -> str:
    sources = [line.entry for line in shown if line.sources]
    single = [entry for entry in found if not entry.several and not (over == "steps" and entry.step is None)]
    parts = []
    if sources:
        ids = [name if name != L0 else "l0_per_source_mean" for name in panels]
        parts.append(
            f"Lines of {plural(len(sources), 'crosscoder')}, one point for each source: {measured_on(sources, ids)}"
        )
    if len(sources) < len(shown):
        count = len(shown) - len(sources)
        what = "step" if over == "steps" else "snapshot"
        parts.append(f"{count} {'line' if count == 1 else 'lines'} of one dictionary per {what}: "
                     f"{measured_on(single, list(panels))}")  # fmt: skip
    if len(shown) < len(lines):
        parts.append(f"Shown are {len(shown)} of {len(lines)} lines, a sample.")
    if any(count > 1 for count in Counter(series([line.entry for line in shown]).values()).values()):
        parts.append("Lines of one colour differ in their seed or setting.")
    if over == "steps":
        parts.append("The axis is linear up to step 1 and logarithmic behind it.")
    return " ".join(filter(None, [*parts, colours.words()]))


def _alt(shown: Sequence[Line], panels: Sequence[str]) -> str:
    words = []
    for name in panels:
        both = [(values[0], values[-1]) for line in shown if (values := [v[name] for _, v in line.points if name in v])]
        first, last = ([pair[side] for pair in both] for side in (0, 1))
        words.append(f"{_word(name)} from {ends(first)} at the first to {ends(last)} at the last point")
    return f"{len(shown)} lines: {'; '.join(words)}."


KIND = FigureKind(
    "trajectories",
    "metrics over pretraining steps, or over snapshots of the dictionary's own training",
    "trajectories needs dictionaries of several pretraining steps or snapshots with numbers, or a crosscoder over "
    "snapshots that saereg build has measured",
    draw,
)
