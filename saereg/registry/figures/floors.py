"""Loss floors: the laws of early snapshots, what later ones say of them, and where each series is heading."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from saereg.registry.figures import floor_panels as charts
from saereg.registry.figures.artifacts import plural, rounded
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.series import NAMES, cut, listed
from saereg.registry.figures.theme import finished
from saereg.registry.floors.fit import floors_of
from saereg.registry.release import Release
from saereg.schemas.floors import FloorFit, LossFloors

if TYPE_CHECKING:
    import altair

MOST_PANELS = 24
"""Curves that are shown; of more series some are, evenly spaced."""

MOST_ROWS = 32
"""Floors in one figure, where a row is not a layer."""


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return the curves, the predictions against what was measured, and the floors; those that there are points for."""
    floors = release.index.floors if release.index and release.index.floors else floors_of(release)
    fits = [fit for fit in floors.fits if fit.floor is not None] if floors else []
    if floors is None or not fits:
        return ()
    sure = any(fit.identified for fit in fits)
    found = [_curves(floors, fits)]
    if sure or floors.basis == "measured":
        found.append(_compared(floors, fits))
    if sure:
        found.append(_ends(floors, fits))
    return tuple(drawing for drawing in found if drawing is not None)


def _drawing(name: str, title: str, words: tuple[str, str], chart: "altair.TopLevelMixin") -> Drawing:
    caption, alt = words
    return Drawing(name, KIND.name, title, caption, alt, finished(chart, title))


def _name(floors: LossFloors) -> str:
    return "variance unexplained" if floors.metric == "fvu_batch_mean" else NAMES.get(floors.metric, floors.metric)


def _data(floors: LossFloors, fits: Sequence[FloorFit]) -> str:
    """Return the sentences on the law and its data that end every caption."""
    if floors.basis == "logged":
        source = f"{floors.metric} as training logs have it, lines averaged in groups along log n; it is not measured"
    else:
        where = sorted({fit.evaluation for fit in fits if fit.evaluation})
        source = f"{floors.metric}, measured on {listed(where)}" if where else floors.metric
    return (
        f"Law: L(n) = L∞ + a·n^−b over n tokens of training, least squares of relative residuals; intervals of "
        f"{100 * floors.level:g} % from {floors.resamples:,} bootstrap resamples. Loss: {source}."
    )


def _doubted(fits: Sequence[FloorFit]) -> str:
    """Return the sentence on floors that are not identified."""
    doubted = [fit for fit in fits if not fit.identified]
    if not doubted:
        return "Every floor is identified by its early points."
    example = f"{cut(doubted[0].series)}: {doubted[0].reason}"
    if len(doubted) == len(fits):
        return f"No floor is identified, all are grey; {example}."
    return f"{len(doubted)} of {len(fits)} floors are not identified and grey; {example}."


def _left_out(shown: int, of: int) -> str:
    return f" Shown are {shown} of {of} series, evenly spaced." if shown < of else ""


def _picked(fits: Sequence[FloorFit], most: int) -> list[FloorFit]:
    if len(fits) <= most:
        return list(fits)
    return [fits[round(n * (len(fits) - 1) / (most - 1))] for n in range(most)]


def _errors(fits: Sequence[FloorFit]) -> str:
    """Return how far held-out points are from what was predicted, and how many are inside their intervals."""
    found = [p for fit in fits for p in fit.predictions if p.measured]
    if not found:
        return "No snapshot was held out."
    inside = sum(1 for p in found if p.interval and p.interval.low <= (p.measured or 0) <= p.interval.high)
    off = sum(abs(p.predicted - (p.measured or 0)) / (p.measured or 1) for p in found) / len(found)
    return (
        f"{inside} of {len(found)} held-out points are inside their intervals; predictions are off by "
        f"{100 * off:.2g} % on average."
    )


def _curves(floors: LossFloors, fits: Sequence[FloorFit]) -> Drawing | None:
    curved = [fit for fit in fits if fit.curve]
    if not curved:
        return None
    shown = _picked(curved, MOST_PANELS)
    names = _unique([fit.series for fit in shown])
    logged = floors.basis == "logged"
    title = "Loss floors from training logs" if logged else "Loss floors from early snapshots"
    caption = (
        f"Losses along training. The line is the law fitted to the filled points, its band an interval of the law; "
        f"hollow points were held out. Dashed: the floor L∞; the bar at the right end is its interval. "
        f"{_doubted(fits)} {_data(floors, fits)}{_left_out(len(shown), len(fits))}"
    )
    ends = [fit.floor.value for fit in shown if fit.floor and fit.identified]
    words = f"to floors from {min(ends):.3g} to {max(ends):.3g} in {len(ends)} of them" if ends else "to no sure floor"
    alt = f"{plural(len(shown), 'small panel')} of {_name(floors)} against tokens; losses fall {words}. {_errors(fits)}"
    return _drawing("loss-floor-curves", title, (caption, alt), charts.curves(shown, names, _name(floors), "tokens"))


def _compared(floors: LossFloors, fits: Sequence[FloorFit]) -> Drawing | None:
    rows = [row for fit in fits for row in _rows(fit)]
    if not rows:
        return None
    title = "Loss floors, predicted against measured"
    caption = (
        f"What the early part of each training predicts, against what came: losses of held-out points, and the floor "
        f"L∞ against the one fitted to all points, for a floor itself is never measured. Below: by how many percent "
        f"predictions are above. {_errors(fits)} {_doubted(fits)} {_data(floors, fits)}"
    )
    alt = f"{len(rows)} points of {len(fits)} series about the diagonal of a square. {_errors(fits)} {_doubted(fits)}"
    return _drawing("loss-floor", title, (caption, alt), charts.compared(rows, _name(floors)))


def _rows(fit: FloorFit) -> list[charts.Row]:
    """Return the points of one fit: held-out losses, and its floor where that of all points is above 0."""
    kind = charts.DETERMINED if fit.identified else charts.OPEN
    found = [(p.measured, p.predicted, p.interval, charts.SNAPSHOT) for p in fit.predictions if p.measured]
    if fit.floor and fit.floor_of_all and fit.floor.value > 0 and fit.floor_of_all.value > 0:
        found.append((fit.floor_of_all.value, fit.floor.value, fit.floor.interval, charts.FLOOR))
    return [
        {
            "x": rounded(measured),
            "y": rounded(predicted),
            "low": rounded(interval.low if interval else predicted),
            "high": rounded(interval.high if interval else predicted),
            "off": rounded(100 * (predicted / measured - 1), 4),
            "what": f"{what}, {kind}",
            "series": cut(fit.series),
        }
        for measured, predicted, interval, what in found
    ]


def _ends(floors: LossFloors, fits: Sequence[FloorFit]) -> Drawing | None:
    layers = [fit.layer for fit in fits]
    one_each = None not in layers and len(set(layers)) == len(layers)
    shown = list(fits) if one_each else _picked(fits, MOST_ROWS)
    if len(shown) < 2:
        return None
    names = _unique([fit.series for fit in shown])
    rows = [row for name, fit in zip(names, shown, strict=True) if (row := _end(name, fit)) is not None]
    title = "Loss floor of every layer" if one_each else "Loss floor of every series"
    chart = charts.by_layer(rows, _name(floors)) if one_each else charts.by_series(rows, _name(floors))
    caption = (
        f"The floor L∞ that the early points of each series lead to, with its interval, and the loss at the last one. "
        f"{_doubted(fits)} {_data(floors, fits)}{_left_out(len(shown), len(fits))}"
    )
    low, high = (pick(rows, key=lambda row: row["y"]) for pick in (min, max))
    alt = (
        f"Floors of {len(rows)} series, from {low['y']:.3g} ({low['series']}) to {high['y']:.3g} ({high['series']}); "
        f"{sum(fit.identified for fit in shown)} of them are identified."
    )
    return _drawing("loss-floor-layers", title, (caption, alt), chart)


def _unique(names: Sequence[str]) -> list[str]:
    """Return names that are cut and all differ: of two that are cut to one, the second gets a number."""
    found: list[str] = []
    for name in names:
        short = cut(name)
        found.append(short if short not in found else f"{short} ({len(found) + 1})")
    return found


def _end(name: str, fit: FloorFit) -> charts.Row | None:
    if fit.floor is None:
        return None
    bounds = fit.floor.interval
    return {
        "layer": fit.layer,
        "series": name,
        "y": rounded(fit.floor.value),
        "low": rounded(bounds.low if bounds else fit.floor.value),
        "high": rounded(bounds.high if bounds else fit.floor.value),
        "last": rounded(fit.values[-1]),
        "what": f"{charts.FLOOR}, {charts.DETERMINED if fit.identified else charts.OPEN}",
    }


KIND = FigureKind(
    "loss-floor",
    "laws fitted to early snapshots: their floors, and what they predict of later ones",
    "loss-floor needs five or more snapshots of one training with `training.tokens` and a measured fvu or mse_per_row, "
    "or training logs with `tokens` and `explained_variance` or `mse_loss`",
    draw,
)
