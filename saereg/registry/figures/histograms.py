"""Histograms one below the other, on one axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saereg.registry.figures.artifacts import rounded, table
from saereg.registry.figures.theme import CATEGORIES, NEUTRAL, WIDTH

if TYPE_CHECKING:
    import altair

PANEL_HEIGHT = 66
"""Pixels of one histogram."""

THINNEST = 3
"""Pixels that a lone bar is wider: one of a single whole number would not be seen on a wide axis."""


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram.

    Attributes:
        low: where it begins.
        high: where it ends.
        count: what is in it.
        words: what it says when it is pointed at.
        odd: whether it stands for something else than the others.
    """

    low: float
    high: float
    count: int
    words: str
    odd: bool = False


@dataclass(frozen=True)
class Panel:
    """One histogram.

    Attributes:
        name: what it is of; may be a stranger's word.
        note: a few numbers in words.
        bars: its bars.
        mark: where a dashed line stands, as at the mean.
    """

    name: str
    note: str
    bars: tuple[Bar, ...]
    mark: float | None = None


@dataclass(frozen=True)
class Horizontal:
    """The axis that all histograms share.

    Attributes:
        title: what it counts, with units.
        low: where it begins.
        high: where it ends.
        scale: `linear` or `symlog`.
        values: where labels stand; none: where Vega puts them.
        labels: expression of a label; none: the number.
    """

    title: str
    low: float
    high: float
    scale: str = "linear"
    values: tuple[float, ...] = ()
    labels: str | None = None

    def encoding(self, *, labelled: bool) -> "altair.X":
        """Return the channel; only the last histogram has labels."""
        import altair as alt

        axis = alt.Axis(
            title=self.title if labelled else None,
            labels=labelled,
            ticks=labelled,
            values=list(self.values) or alt.Undefined,
            labelExpr=self.labels or alt.Undefined,
        )
        scale = alt.Scale(domain=[self.low, self.high], type=self.scale, nice=False, zero=False)
        return alt.X("low:Q", scale=scale, axis=axis)


def histograms(panels: Sequence[Panel], across: Horizontal, what: str) -> "altair.VConcatChart":
    """Return the histograms one below the other.

    Args:
        panels: the histograms.
        across: the axis that they share.
        what: what is counted, one word: the share of it is the height of a bar.
    """
    import altair as alt

    charts = [_chart(panel, across, what, last=panel is panels[-1]) for panel in panels]
    return alt.vconcat(*charts, spacing=26)


def _chart(panel: Panel, across: Horizontal, what: str, *, last: bool) -> "altair.LayerChart":
    import altair as alt

    x = across.encoding(labelled=last)
    bars, odd = ([bar for bar in panel.bars if bar.odd is side] for side in (False, True))
    layers = [_bars(some, x, what, colour) for some, colour in ((bars, CATEGORIES[0]), (odd, CATEGORIES[1])) if some]
    if panel.mark is not None:
        place = alt.Chart(table([{"low": rounded(panel.mark)}]))
        layers.append(place.mark_rule(color=NEUTRAL, strokeDash=[4, 3], strokeWidth=1.5).encode(x=x))
    layers += [_words(panel.name, 0, "left", WIDTH - 230), _words(panel.note, WIDTH, "right", 225)]
    return alt.layer(*layers).properties(width=WIDTH, height=PANEL_HEIGHT)


def _words(text: str, x: float, align: str, limit: int) -> "altair.Chart":
    """Return a line of text above a histogram."""
    import altair as alt

    mark = alt.Chart(table([{"words": text}])).mark_text(
        align=align,
        baseline="bottom",
        limit=limit,
    )
    return mark.encode(text="words:N", x=alt.value(x), y=alt.value(-6))


def _bars(bars: Sequence[Bar], x: "altair.X", what: str, colour: str) -> "altair.Chart":
    import altair as alt

    rows = [{"low": bar.low, "high": bar.high, "n": bar.count, "words": bar.words} for bar in bars]
    data = alt.Chart(table(rows))
    return data.mark_rect(
        color=colour, stroke=colour, strokeWidth=THINNEST if [bar.odd for bar in bars] == [False] else 0.6
    ).encode(
        x=x,
        x2="high:Q",
        y=alt.Y(
            "n:Q",
            title=what,
            axis=alt.Axis(tickCount=3, format=",d", minExtent=46, tickMinStep=1),
            scale=alt.Scale(zero=True),
        ),
        y2=alt.datum(0),
        tooltip=[alt.Tooltip("words:N", title="range"), alt.Tooltip("n:Q", title=what, format=",")],
    )
