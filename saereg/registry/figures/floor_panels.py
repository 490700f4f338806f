"""The charts of loss floors: curves in small panels, predictions against measurements, floors in a row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from saereg.registry.figures.artifacts import rounded
from saereg.registry.figures.axes import log_scale, log_ticks, wide
from saereg.registry.figures.theme import CATEGORIES, NEUTRAL, WIDTH
from saereg.schemas.floors import FloorFit, Interval

if TYPE_CHECKING:
    import altair

BLUE, ORANGE = CATEGORIES[0], CATEGORIES[1]

EARLY, LATER = "early, fitted", "later, held out"
SNAPSHOT, FLOOR = "held-out snapshot", "floor"
DETERMINED, OPEN = "identified", "not identified"
LAST = "last loss"

ALIKE = 5.0
"""Largest first loss over the smallest one up to which all panels share an axis."""

SQUARE = 400
"""Pixels of the figure of predictions, which is as high as it is wide."""

COUNT = "replace(format(datum.value, '~s'), 'G', 'B')"
"""A number of tokens as people write it: 50M, 1B."""

PLAIN = "abs(datum.value) >= 1000 ? format(datum.value, '~s') : format(datum.value, '~r')"
"""A loss as people write it: 0.3, 30, 3k; never 3e+1."""

Row = dict[str, Any]


def curves(fits: Sequence[FloorFit], names: Sequence[str], name: str, across: str) -> "altair.FacetChart":
    """Return a panel for each fit: points, law with its band, floor.

    Args:
        fits: fits with a curve, at most two dozen.
        names: what the panels are called; all differ.
        name: what the vertical axes show.
        across: what the horizontal axes count.
    """
    import altair as alt

    columns = _columns(len(fits))
    own = max(fit.values[0] for fit in fits) > ALIKE * min(fit.values[0] for fit in fits)
    width = (WIDTH + 90) // columns - (46 if own else 18)
    rows = [row | {"series": words} for words, fit in zip(names, fits, strict=True) for row in _rows(fit)]
    ends = [min(fit.tokens[0] for fit in fits), max(fit.curve[-1].tokens for fit in fits)]
    layers = _layers(_across(ends, across), _upward(name, _top(rows), own=own))
    header = alt.Header(title=None, labelFontSize=12, labelLimit=width, labelAnchor="start", labelPadding=6)
    panel = alt.layer(*layers, data=alt.InlineData(rows))
    panel = panel.properties(width=width, height=max(108, min(width * 3 // 5, 230)))
    grid = panel.facet(facet=alt.Facet("series:N", sort=list(names), header=header), columns=columns, spacing=14)
    return grid.resolve_scale(y="independent") if own else grid


def _columns(count: int) -> int:
    """Return a number of columns that leaves no place empty, where there is one."""
    if count <= 3:
        return count
    return 2 if count == 4 else next((n for n in (4, 3, 5) if count % n == 0), 4)


def _top(rows: Sequence[Row]) -> float:
    return max(float(row[name]) for row in rows for name in ("y", "high") if name in row)


def _rows(fit: FloorFit) -> list[Row]:
    """Return the rows of one panel; `part` says which of its layers a row belongs to."""
    state = DETERMINED if fit.identified else OPEN
    law = [_row(p.tokens, p.predicted, p.interval) | {"part": "law", "state": state} for p in fit.curve]
    floor = _row(fit.curve[-1].tokens, fit.floor.value, fit.floor.interval) if fit.floor else {}
    points = [
        {"x": rounded(n), "y": rounded(loss), "part": "point", "what": EARLY if i < fit.fitted else LATER}
        for i, (n, loss) in enumerate(zip(fit.tokens, fit.values, strict=True))
    ]
    return [*law, floor | {"part": "floor", "state": state}, *points]


def _row(x: float, y: float, bounds: Interval | None) -> Row:
    low, high = (bounds.low, bounds.high) if bounds else (y, y)
    return {"x": rounded(x), "y": rounded(y), "low": rounded(low), "high": rounded(high)}


def _upward(title: str, top: float, *, own: bool) -> "altair.Y":
    import altair as alt

    scale = alt.Scale(zero=True, nice=True) if own else alt.Scale(domain=[0, rounded(top * 1.06, 3)], nice=False)
    axis = alt.Axis(title=title, tickCount=4, labelExpr=PLAIN, minExtent=30, titleFontSize=11)
    return alt.Y("y:Q", axis=axis, scale=scale)


def _across(ends: Sequence[float], title: str) -> "altair.X":
    import altair as alt

    ticks = log_ticks(min(ends), max(ends))
    axis = alt.Axis(title=title, values=ticks[:: -(-len(ticks) // 4)], labelExpr=COUNT, titleFontSize=11)
    return alt.X("x:Q", axis=axis, scale=log_scale(ends, 0.03))


def _layers(x: "altair.X", y: "altair.Y") -> list["altair.Chart"]:
    import altair as alt

    def part(name: str) -> "altair.Chart":
        return alt.Chart().transform_filter(f"datum.part === '{name}'")

    shades = alt.Scale(domain=[DETERMINED, OPEN], range=[BLUE, NEUTRAL])
    state = alt.Color("state:N", scale=shades, legend=None)
    bounds = {"x": x, "y": _over(y, "low"), "y2": "high:Q", "color": state}
    kinds = _marked([EARLY, LATER], [BLUE, ORANGE], [BLUE, "transparent"], ["circle", "diamond"])
    tooltip = [
        alt.Tooltip("x:Q", title="tokens", format=".4~s"),
        alt.Tooltip("y:Q", title="loss", format=".4~g"),
        alt.Tooltip("what:N", title="point"),
    ]
    return [
        part("law").mark_area(opacity=0.2).encode(**bounds),
        part("floor").mark_rule(strokeDash=[4, 3], strokeWidth=1.2).encode(y=y, color=state),
        part("floor").mark_rule(strokeWidth=4, opacity=0.75).encode(**bounds),
        part("law").mark_line(strokeWidth=1.6, interpolate="monotone").encode(x=x, y=y, color=state),
        part("point").mark_point(size=34, strokeWidth=1.5, opacity=1).encode(x=x, y=y, **kinds, tooltip=tooltip),
    ]


def _over(y: "altair.Y", field: str) -> "altair.Y":
    import altair as alt

    return alt.Y(f"{field}:Q", axis=y["axis"], scale=y["scale"])


def _marked(
    kinds: list[str], strokes: list[str], fills: list[str], shapes: list[str], columns: int = 4
) -> dict[str, "altair.Stroke | altair.Fill | altair.Shape"]:
    """Return the channels of points whose kind, `what`, is said by colour, filling and shape, with one legend."""
    import altair as alt

    legend = alt.Legend(
        title=None, orient="top", symbolOpacity=1, symbolStrokeWidth=1.5, symbolSize=60, columns=columns
    )
    return {
        "stroke": alt.Stroke("what:N", scale=alt.Scale(domain=kinds, range=strokes), legend=legend),
        "fill": alt.Fill("what:N", scale=alt.Scale(domain=kinds, range=fills), legend=legend),
        "shape": alt.Shape("what:N", scale=alt.Scale(domain=kinds, range=shapes), legend=legend),
    }


def compared(rows: Sequence[Row], name: str) -> "altair.VConcatChart":
    """Return predictions against measurements, and below it by how many percent they differ.

    Args:
        rows: `x` measured, `y` predicted, `low` and `high`, `what`, `series`, `off` in percent.
        name: what is predicted.
    """
    import altair as alt

    values = [row[key] for row in rows for key in ("x", "y")]
    found = [f"{SNAPSHOT}, {DETERMINED}", f"{FLOOR}, {DETERMINED}", f"{SNAPSHOT}, {OPEN}", f"{FLOOR}, {OPEN}"]
    kinds = [kind for kind in found if any(row["what"] == kind for row in rows)]
    marks = _marked(
        kinds,
        [NEUTRAL if OPEN in k else ORANGE if SNAPSHOT in k else BLUE for k in kinds],
        ["transparent" if OPEN in k else ORANGE if SNAPSHOT in k else BLUE for k in kinds],
        ["circle" if SNAPSHOT in k else "diamond" for k in kinds],
        columns=2,
    )
    low, high = min(values), max(values)
    ticks: dict[str, Any] = {"tickCount": 6, "labelExpr": PLAIN}
    if wide(values, 12):
        scale, ticks = log_scale(values), {"values": log_ticks(low, high), "labelExpr": PLAIN}
    else:
        pad = (high - low) * 0.06 or high * 0.1
        scale = alt.Scale(domain=[rounded(max(low - pad, 0), 4), rounded(high + pad, 4)], nice=False, zero=False)
    x = alt.X("x:Q", scale=scale, axis=alt.Axis(title=None, **ticks))
    y = alt.Y("y:Q", scale=scale, axis=alt.Axis(title=f"{name}, predicted", **ticks))
    bounds = list(scale["domain"])
    upper = _against(rows, (x, y), marks, bounds).properties(width=SQUARE, height=SQUARE)
    return alt.vconcat(upper, _differences(rows, scale, ticks, name, marks), spacing=14)


def _against(
    rows: Sequence[Row], axes: tuple["altair.X", "altair.Y"], marks: dict[str, Any], bounds: list[float]
) -> "altair.LayerChart":
    import altair as alt

    x, y = axes
    inside = [{**row, "low": max(row["low"], bounds[0]), "high": min(row["high"], bounds[1])} for row in rows]
    data = alt.Chart(alt.InlineData(inside))
    diagonal = alt.Chart(alt.InlineData([{"x": end, "y": end} for end in bounds]))
    tooltip = [
        alt.Tooltip("series:N"),
        alt.Tooltip("x:Q", title="measured", format=".4~g"),
        alt.Tooltip("y:Q", title="predicted", format=".4~g"),
        alt.Tooltip("off:Q", title="difference in %", format="+.2~f"),
    ]
    return alt.layer(
        diagonal.mark_line(color=NEUTRAL, strokeDash=[5, 4], strokeWidth=1.2).encode(x=x, y=y),
        data.mark_rule(strokeWidth=1.2, opacity=0.55).encode(
            x=x, y=_over(y, "low"), y2="high:Q", stroke=marks["stroke"]
        ),
        data.mark_point(size=48, strokeWidth=1.4, opacity=0.95).encode(x=x, y=y, **marks, tooltip=tooltip),
    )


def _differences(
    rows: Sequence[Row], scale: "altair.Scale", ticks: dict[str, Any], name: str, marks: dict[str, Any]
) -> "altair.LayerChart":
    import altair as alt

    words = f"{name}, measured; of a floor, fitted to all points"
    x = alt.X("x:Q", scale=scale, axis=alt.Axis(title=words, **ticks))
    shown = [{**row, "off": max(min(row["off"], 100.0), -100.0)} for row in rows if row["off"] is not None]
    y = alt.Y("off:Q", axis=alt.Axis(title="difference, %", tickCount=4, format="+~f"), scale=alt.Scale(nice=True))
    zero = alt.Chart(alt.InlineData([{"off": 0}])).mark_rule(color=NEUTRAL, strokeDash=[5, 4]).encode(y=y)
    points = (
        alt.Chart(alt.InlineData(shown)).mark_point(size=36, strokeWidth=1.4, opacity=0.95).encode(x=x, y=y, **marks)
    )
    return alt.layer(zero, points).properties(width=SQUARE, height=110)


def by_layer(rows: Sequence[Row], name: str) -> "altair.LayerChart":
    """Return the floor of every layer with its interval, and the loss that it had at last.

    Args:
        rows: `layer`, `y`, `low`, `high`, `last`, `what`.
        name: what is lost.
    """
    import altair as alt

    layers = sorted({row["layer"] for row in rows})
    step = -(-len(layers) // 24)
    x = alt.X("layer:O", axis=alt.Axis(title="layer", labelAngle=0, values=layers[::step]))
    top = max(max(row["high"], row["last"]) for row in rows) * 1.04
    y = alt.Y(
        "y:Q", axis=alt.Axis(title=name, labelExpr=PLAIN, tickCount=6), scale=alt.Scale(domain=[0, rounded(top, 4)])
    )
    chart = _floors(rows, (x, y), upright=True)
    return chart.properties(width=min(WIDTH, 40 * len(layers) + 60), height=300)


def by_series(rows: Sequence[Row], name: str) -> "altair.LayerChart":
    """Return the same as `by_layer`, a row for each series: for series that are not one a layer."""
    import altair as alt

    names = [row["series"] for row in rows]
    axis = alt.Axis(title=None, labelLimit=330)
    y = alt.Y("series:N", sort=names, axis=axis)
    top = max(max(row["high"], row["last"]) for row in rows) * 1.04
    x = alt.X(
        "y:Q", axis=alt.Axis(title=name, labelExpr=PLAIN, tickCount=6), scale=alt.Scale(domain=[0, rounded(top, 4)])
    )
    return _floors(rows, (x, y), upright=False).properties(width=WIDTH - 190, height=alt.Step(22))


def _floors(rows: Sequence[Row], axes: tuple["altair.X", "altair.Y"], *, upright: bool) -> "altair.LayerChart":
    import altair as alt

    x, y = axes
    amount = y if upright else x
    kinds = [f"{FLOOR}, {kind}" for kind in (DETERMINED, OPEN)]
    kinds = [kind for kind in kinds if any(row["what"] == kind for row in rows)] + [LAST]
    colours = {kinds[-1]: ORANGE} | {k: NEUTRAL if OPEN in k else BLUE for k in kinds[:-1]}
    fills = ["transparent" if OPEN in k or k == LAST else BLUE for k in kinds]
    marks = _marked(kinds, [colours[k] for k in kinds], fills, ["circle"] * (len(kinds) - 1) + ["stroke"])
    data = alt.Chart(alt.InlineData(list(rows)))
    last = alt.Chart(alt.InlineData([{**row, "y": row["last"], "what": LAST} for row in rows]))
    low = _over(amount, "low") if upright else alt.X("low:Q", axis=amount["axis"], scale=amount["scale"])
    ends = {"x": x, "y": low, "y2": "high:Q"} if upright else {"x": low, "y": y, "x2": "high:Q"}
    tooltip = [
        alt.Tooltip("series:N"),
        alt.Tooltip("y:Q", title="loss", format=".4~g"),
        alt.Tooltip("low:Q", title="interval from", format=".4~g"),
        alt.Tooltip("high:Q", title="to", format=".4~g"),
    ]
    return alt.layer(
        data.mark_rule(strokeWidth=2, opacity=0.7).encode(**ends, stroke=marks["stroke"]),
        last.mark_point(size=90, strokeWidth=2, angle=0 if upright else 90).encode(x=x, y=y, **marks),
        data.mark_point(size=52, strokeWidth=1.6, opacity=1).encode(x=x, y=y, **marks, tooltip=tooltip),
    )
