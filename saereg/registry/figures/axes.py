"""Axes of figures: logarithmic ones with few lines, and one of pretraining steps that begins at 0.

Nothing is clipped: a clip path for every line makes a picture ten times as slow to draw. What an axis does not reach is
taken out of the data, and the caption says so.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import altair

HEADS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), tuple(n / 2 for n in range(2, 20)))
"""First digits of the labels of a logarithmic axis: of these the first ones that give three labels or more."""

STEP_LABEL = "datum.value >= 1000 ? format(datum.value / 1000, '~r') + 'k' : format(datum.value, 'd')"
"""Expression of the label of a step: 512, 1k, 143k."""


def log_axis(title: str | None, values: Sequence[float], *, labelled: bool = True, form: str = "~s") -> "altair.Axis":
    """Return a logarithmic axis of some numbers above 0, with a line at 1, 10, 100 …, or at 1, 2, 5, 10 … ."""
    import altair as alt

    low, high = min(values), max(values)
    return alt.Axis(title=title, values=log_ticks(low, high), format=form, labels=labelled, ticks=labelled)


def log_ticks(low: float, high: float) -> list[float]:
    """Return where a logarithmic axis has labels: few where it is long, more where it is short."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for heads in HEADS:
        found = [head * 10.0**decade for decade in decades for head in heads]
        inside = [float(f"{value:.6g}") for value in found if low * 0.999 <= value <= high * 1.001]
        if len(inside) >= 3:
            return inside[:: -(-len(inside) // 9)]
    return [low, high] if high > low else [low]


def wide(values: Sequence[float], times: float = 8) -> bool:
    """Whether numbers are above 0 and so far apart that an axis of them is logarithmic."""
    return min(values) > 0 and max(values) / min(values) > times


def log_scale(values: Sequence[float], pad: float = 0.04) -> "altair.Scale":
    """Return a logarithmic scale of some numbers above 0, with a little room at both ends."""
    import altair as alt

    low, high = min(values), max(values)
    room = (high / low) ** pad if high > low else 1.2
    return alt.Scale(type="log", domain=[float(f"{low / room:.4g}"), float(f"{high * room:.4g}")], nice=False)


def vertical(field: str, title: str, values: Sequence[float], *, share: bool = False) -> "altair.Y":
    """Return a vertical axis of some numbers: logarithmic where they are far apart, and are no shares of a whole."""
    import altair as alt

    if wide(values) and not share:
        return alt.Y(field, type="quantitative", axis=log_axis(title, values), scale=log_scale(values))
    form = {"format": "~s"} if max(map(abs, values)) >= 1000 else {}
    axis = alt.Axis(title=title, tickCount=5, **form)
    scale = alt.Scale(zero=False, nice=True, domain=room(values))
    return alt.Y(field, type="quantitative", axis=axis, scale=scale)


def room(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Return the bounds of some numbers with a little room; below 0 only where numbers are."""
    low, high = min(values), max(values)
    more = (high - low) * share or abs(high) * 0.1 or 1.0
    bottom = low - more
    return [float(f"{value:.5g}") for value in (max(bottom, 0.0) if low >= 0 else bottom, high + more)]


def landmarks(steps: Sequence[int]) -> list[int]:
    """Return where an axis of these steps has labels: at 0, at powers of ten, and at the last step."""
    last = max(steps)
    powers = [10**n for n in range(12) if min(steps) <= 10**n <= last]
    room = [power for power in powers if last >= 1.6 * power or power == last]
    return sorted({*([0] if 0 in steps else []), *room, last})


def step_axis(steps: Sequence[int], field: str = "step", title: str | None = "pretraining step") -> "altair.X":
    """Return the channel of a field of steps: linear to 1, logarithmic behind it."""
    import altair as alt

    axis = alt.Axis(values=landmarks(steps), labelExpr=STEP_LABEL, title=title, grid=True, labelFlush=True)
    scale = alt.Scale(type="symlog", constant=1, domain=[min(steps), max(steps)], nice=False, zero=False)
    return alt.X(f"{field}:Q", scale=scale, axis=axis)
