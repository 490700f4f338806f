"""Heat maps: one metric of every layer at every snapshot, or under every setting."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saereg.registry.conditions.fields import SMALLER_IS_BETTER
from saereg.registry.figures.artifacts import rounded
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.series import (
    NAMES,
    Entry,
    cut,
    entries,
    evenly,
    fenced,
    listed,
    measured_on,
    series,
    snapshots_in_order,
    spread,
)
from saereg.registry.figures.theme import NEUTRAL, SEQUENTIAL, WIDTH, finished
from saereg.registry.release import Release

if TYPE_CHECKING:
    import altair

METRICS = (
    "explained_variance",
    "fvu",
    "l0",
    "l0_per_source_mean",
    "ce_recovered",
    "mse_per_row",
    "dead_fraction",
)
"""Metrics that get a heat map each; `fvu` only where there is no explained variance, of which it is the rest."""

MOST_ROWS, MOST_COLUMNS = 64, 32
"""Cells of one map; of more rows or columns some are shown, evenly spaced, the first and the last among them."""

LABELLED_COLUMNS, LABELLED_CELLS = 12, 160
"""Most columns and cells for a number in every cell."""

INKS, DARK_BELOW = ("white", "black"), 0.43
"""Letters in cells; the first below that part of the colour scale. On dark pages the cells are the same."""


@dataclass(frozen=True)
class Across:
    """The horizontal axis of a heat map.

    Attributes:
        title: what it counts.
        name: what it is called in sentences.
        of: an artifact → its column, or None where it has none.
        order: every column, in order.
        without: traits of artifacts that it shows, for sentences on what shares a cell.
    """

    title: str
    name: str
    of: Callable[[Entry], str | None]
    order: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One cell: the artifacts in it, and their numbers."""

    row: str
    column: str
    ids: tuple[str, ...]
    values: tuple[float, ...]

    @property
    def value(self) -> float:
        """The number of its artifact; of several the median."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Map:
    """One heat map before it is drawn; rows and columns are in order."""

    metric: str
    rows: tuple[str, ...]
    across: Across
    cells: tuple[Cell, ...]
    entries: tuple[Entry, ...]
    cut: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns."""
        return self.across.order

    @property
    def missing(self) -> int:
        """How many places of the grid have no number."""
        return len(self.rows) * len(self.columns) - len(self.cells)


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return a heat map of each metric that differs from cell to cell."""
    found = [entry for entry in entries(release) if not entry.several]
    has_ev = any(entry.number("explained_variance") is not None for entry in found)
    maps = (_map(found, metric) for metric in METRICS if not (metric == "fvu" and has_ev))
    return tuple(_drawing(one) for one in maps if one is not None)


def _map(found: Sequence[Entry], metric: str) -> Map | None:
    """Return the map of a metric; None where there are no two places or no two columns, or nothing differs."""
    with_it = [entry for entry in found if entry.number(metric) is not None]
    if len({entry.number(metric) for entry in with_it}) < 2:
        return None
    places = _places(with_it)
    across = _across(with_it, places)
    if across is None:
        return None
    rows = tuple(dict.fromkeys(places[entry.id] for entry in sorted(with_it, key=_depth)))
    shown_rows, shown = evenly(rows, MOST_ROWS), evenly(across.order, MOST_COLUMNS)
    cells = tuple(_cells(with_it, metric, places, across))
    kept = tuple(cell for cell in cells if cell.row in shown_rows and cell.column in shown)
    if len(rows) < 2 or len(kept) < 2:
        return None  # a single row is a line, which `trajectories` and `reconstruction` draw
    words = _cut_words(("rows", shown_rows, rows), ("columns", shown, across.order))
    return Map(metric, shown_rows, Across(across.title, across.name, across.of, shown), kept, tuple(with_it), words)


def _places(found: Sequence[Entry]) -> dict[str, str]:
    """Return id → row: the layer, with the stream or model where a layer alone would be several things."""
    words = {entry.id: [entry.place] for entry in found}
    for trait in ("stream", "model_name", "kind"):
        if len({entry.fields[trait] for entry in found}) > 1:
            for entry in found:
                value = entry.fields[trait]
                words[entry.id] += [str(value)] if value and (trait, value) != ("stream", "parameter") else []
    return {identifier: cut(", ".join(parts)) for identifier, parts in words.items()}


def _depth(entry: Entry) -> tuple[Any, ...]:
    layer = entry.fields["layer"]
    model, stream = str(entry.fields["model_name"]), str(entry.fields["stream"])
    return (model, layer is None, layer or 0, stream, str(entry.place), str(entry.fields["kind"]))


def _across(found: Sequence[Entry], places: dict[str, str]) -> Across | None:
    """Return the first axis on which the artifacts differ: snapshot, pretraining step, setting, architecture."""
    snapshots = snapshots_in_order(found)
    if len(snapshots) > 1:
        labels = {name: cut(name) for name in snapshots}
        order = tuple(dict.fromkeys(labels.values()))
        return Across("snapshot of the training", "snapshot", lambda e: labels.get(e.fields["snapshot"] or ""), order)
    steps = sorted({entry.step for entry in found if entry.step is not None})
    if len(steps) > 1:
        order = tuple(f"{step}" for step in steps)
        return Across("pretraining step", "step", lambda e: str(e.step) if e.step is not None else None, order)
    groups = series(found, without=("place", "kind", "stream", "model", "seed"), most=MOST_COLUMNS)
    first = sorted(found, key=lambda e: (str(e.fields["architecture"]), e.fields["d_sae"], _strength(e)))
    order = tuple(dict.fromkeys(groups[entry.id] for entry in first))
    if len(order) > 1:
        return Across("architecture and setting", "setting", lambda e: groups[e.id], order)
    if len(set(places.values())) > 2:
        return Across("", "setting", lambda e: groups[e.id], order)
    return None


def _strength(entry: Entry) -> float:
    found = (entry.fields[name] for name in ("k", "target_l0", "l1_coefficient", "l0_coefficient"))
    return next((float(value) for value in found if value is not None), 0.0)


def _cells(found: Sequence[Entry], metric: str, places: dict[str, str], across: Across) -> Iterator[Cell]:
    groups: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for entry in found:
        column, value = across.of(entry), entry.number(metric)
        if column is not None and value is not None:
            groups.setdefault((places[entry.id], column), []).append((entry.id, value))
    for (row, column), them in groups.items():
        yield Cell(row, column, tuple(name for name, _ in them), tuple(value for _, value in them))


def _cut_words(*axes: tuple[str, Sequence[str], Sequence[str]]) -> str:
    words = [f"{len(shown)} of {len(of)} {name}" for name, shown, of in axes if len(shown) < len(of)]
    return f" Shown are {listed(words)}, evenly spaced." if words else ""


def _drawing(one: Map) -> Drawing:
    name = NAMES.get(one.metric, one.metric)
    what = f"{name} by {_what(one)}"
    title = what[0].upper() + what[1:] + (f" and {one.across.name}" if len(one.columns) > 1 else "")
    spec = finished(_chart(one), title)
    return Drawing(f"heatmap-{one.metric.replace('_', '-')}", "heatmap", title, _caption(one), _alt(one), spec)


def _what(one: Map) -> str:
    return "layer" if any(row.startswith("layer ") for row in one.rows) else "place"


def _caption(one: Map) -> str:
    shared = [len(cell.ids) for cell in one.cells if len(cell.ids) > 1]
    parts = [f"One cell for every {_what(one)} and {one.across.name} of {len(one.entries):,} artifacts:"]
    parts.append(measured_on(one.entries, [one.metric]))
    if shared:
        parts.append(f"In {len(shared)} of {len(one.cells)} cells stands the median of {_range(shared)} artifacts.")
    if one.missing:
        parts.append(f"A cell with a dash has none ({one.missing} of {len(one.rows) * len(one.columns)}).")
    low, high = _domain(one)
    if any(not low <= cell.value <= high for cell in one.cells):
        parts.append(f"The colours end at {low:.4g} and {high:.4g}; what lies beyond has the colour of the end.")
    without = sum(one.across.of(entry) is None for entry in one.entries)
    if without:
        parts.append(f"Left out: {without} artifacts without a {one.across.name}.")
    return " ".join(parts) + one.cut


def _range(counts: Sequence[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _alt(one: Map) -> str:
    smaller = one.metric in SMALLER_IS_BETTER
    ordered = sorted(one.cells, key=lambda cell: cell.value)
    low, high = ordered[0], ordered[-1]
    where = [f"{cell.row}{', ' + cell.column if len(one.columns) > 1 else ''}" for cell in (low, high)]
    ends = f"the lowest at {where[0]}, the highest at {where[1]}"
    size = f"{len(one.rows)} rows by {len(one.columns)} columns"
    better = " Smaller is better." if smaller and not one.metric.startswith("l0") else ""
    return f"Heat map of {size}: {spread([cell.value for cell in one.cells], one.metric)}, {ends}.{better}"


def _domain(one: Map) -> tuple[float, float]:
    return fenced([cell.value for cell in one.cells])


def _is_log(one: Map, low: float, high: float) -> bool:
    return low > 0 and high / low > 20 and one.metric not in ("explained_variance", "ce_recovered")


def _part(value: float, low: float, high: float, *, log: bool) -> float:
    """Return where on the colour scale a value lies, 0 to 1."""
    import math

    if log:
        value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
    return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 1.0


def _rows(one: Map, *, labelled: bool) -> list[dict[str, Any]]:
    low, high = _domain(one)
    log = _is_log(one, low, high)
    known = {(cell.row, cell.column): cell for cell in one.cells}
    rows: list[dict[str, Any]] = []
    for row in one.rows:
        for column in one.columns:
            cell = known.get((row, column))
            place: dict[str, Any] = {"row": row, "column": column}
            if cell is None:
                rows.append(place | {"value": None, "who": "no artifact"})
                continue
            who = cut(cell.ids[0]) if len(cell.ids) == 1 else f"median of {len(cell.ids)} artifacts"
            place |= {"value": rounded(cell.value, 6), "who": who}
            if labelled:
                ink = INKS[_part(cell.value, low, high, log=log) >= DARK_BELOW]
                place |= {"label": label_of(cell.value, one.metric), "ink": ink}
            rows.append(place)
    return rows


def label_of(value: float, metric: str) -> str:
    """Return a number as it fits a cell."""
    if metric in ("dead_fraction", "ce_recovered"):
        return f"{100 * value:.0f}%" if abs(value) < 10 else f"{100 * value:.2g}%"
    if metric in ("explained_variance", "fvu"):
        return f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}"
    return f"{value:.0f}" if 100 <= abs(value) < 10_000 else f"{value:.2g}" if abs(value) < 10_000 else f"{value:.1e}"


def _chart(one: Map) -> "altair.LayerChart":
    import altair as alt

    turned = len(one.columns) == 1  # a single setting: layers from left to right, not a thin column
    wide, deep = (one.rows, one.columns) if turned else (one.columns, one.rows)
    labelled = len(wide) <= LABELLED_COLUMNS and len(wide) * len(deep) <= LABELLED_CELLS
    rows = _rows(one, labelled=labelled)
    names = ("row", "column") if turned else ("column", "row")
    across = "" if turned else one.across.title
    x = alt.X(names[0], type="nominal", sort=list(wide), title=across or None, axis=_x_axis(wide))
    y_axis = alt.Axis(labels=not turned, ticks=False, domain=False, labelLimit=150)
    y = alt.Y(names[1], type="nominal", sort=list(deep), title=None, axis=y_axis)
    tooltip = [
        alt.Tooltip("row:N", title="place"),
        *([alt.Tooltip("column:N", title=one.across.name)] if not turned else []),
        alt.Tooltip("value:Q", title=NAMES.get(one.metric, one.metric), format=".4~g"),
        alt.Tooltip("who:N", title="artifact"),
    ]
    base = alt.Chart(alt.InlineData(rows)).encode(x=x, y=y, tooltip=tooltip)
    there = base.transform_filter("isValid(datum.value)")
    layers = [there.mark_rect().encode(color=_colour(one, min(160, _height(deep)))), *_gaps(base)]
    for ink in INKS if labelled else ():
        letters = there.transform_filter(f"datum.ink == '{ink}'")
        layers.append(letters.mark_text(fontSize=12, color=ink).encode(text="label:N"))
    return alt.layer(*layers).properties(width=WIDTH, height=_height(deep))


def _height(rows: Sequence[str]) -> int:
    return min(max(44 * len(rows), 100), max(28 * len(rows), 300), 680)


def _gaps(base: "altair.Chart") -> "list[altair.Chart]":
    """Return the layers that show what is missing: an empty frame with a dash in it."""
    gaps = base.transform_filter("!isValid(datum.value)")
    frame = gaps.mark_rect(fill="transparent", stroke=NEUTRAL, strokeDash=[2, 2], strokeWidth=0.8)
    return [frame, gaps.mark_text(text="–", color=NEUTRAL, fontSize=12)]


def _x_axis(values: Sequence[str]) -> "altair.Axis":
    import altair as alt

    room = WIDTH / len(values)
    fits = max(map(len, values)) * 7 <= room - 6
    angle = {} if fits else {"labelAngle": -40, "labelAlign": "right"}
    return alt.Axis(ticks=False, domain=False, labelLimit=170, labelOverlap=False, **({"labelAngle": 0} | angle))


def _colour(one: Map, length: int) -> "altair.Color":
    import altair as alt

    low, high = _domain(one)
    kind = "log" if _is_log(one, low, high) else "linear"
    scale = alt.Scale(scheme=SEQUENTIAL, domain=[low, high], clamp=True, type=kind)
    percent = one.metric in ("dead_fraction", "ce_recovered")
    form = (
        {"format": ".0%" if high - low > 0.06 else ".1%"}
        if percent
        else {"format": "~s"}
        if max(abs(low), abs(high)) >= 1000
        else {}
    )
    legend = alt.Legend(title=None, gradientLength=length, tickCount=5, **form)
    return alt.Color("value:Q", scale=scale, legend=legend)


KIND = FigureKind(
    "heatmap",
    "one metric of every layer at every snapshot, or under every setting",
    "heatmap needs numbers of artifacts at several layers, snapshots or settings; saereg build measures them",
    draw,
)
