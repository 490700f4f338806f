"""Lines of several quantities, one panel below the other on one axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saereg.registry.figures.axes import log_axis, log_scale, step_axis, vertical, wide
from saereg.registry.figures.colouring import Colouring
from saereg.registry.figures.theme import WIDTH

if TYPE_CHECKING:
    import altair

PANEL_HEIGHT = 170
"""Pixels of one of several panels."""


@dataclass(frozen=True)
class Quantity:
    """What one panel shows: a column of the data, the title of its axis, and whether it is a share of a whole."""

    name: str
    title: str
    share: bool = False


@dataclass(frozen=True)
class Horizontal:
    """The axis that all panels share.

    Attributes:
        name: column of the data.
        title: title of the axis.
        values: every value on it.
        steps: whether they are pretraining steps, with a place for step 0.
    """

    name: str
    title: str
    values: Sequence[float]
    steps: bool = False

    def channel(self, *, labelled: bool) -> "altair.X":
        """Return the channel; only the last panel has labels."""
        import altair as alt

        title = self.title if labelled else None
        if self.steps:
            x = step_axis([int(value) for value in self.values], self.name, title)
            x.axis.labels = x.axis.ticks = labelled
            return x
        if wide(self.values, 15):
            axis, scale = log_axis(title, self.values, labelled=labelled), log_scale(self.values, 0.0)
        else:
            axis = alt.Axis(title=title, labels=labelled, ticks=labelled, format="~s", tickCount=8)
            scale = alt.Scale(nice=False, zero=False)
        return alt.X(self.name, type="quantitative", axis=axis, scale=scale)


def stacked(
    rows: Sequence[dict[str, Any]],
    quantities: Sequence[Quantity],
    across: Horizontal,
    colours: Colouring,
    *,
    points: bool = False,
) -> "altair.VConcatChart":
    """Return a panel of lines for each quantity.

    Args:
        rows: points, with the columns `run`, `layer` or `series`, that of the axis, and those of the quantities.
        quantities: the panels.
        across: the axis.
        colours: what the colour of a line says.
        points: whether points stand on the lines.
    """
    import altair as alt

    charts = []
    height = PANEL_HEIGHT if len(quantities) > 1 else 300
    for one in quantities:
        mark = {"point": alt.OverlayMarkDef(size=22, filled=True)} if points else {}
        lines = alt.Chart().mark_line(strokeWidth=1.6, strokeOpacity=0.8, **mark)
        lines = lines.encode(
            x=across.channel(labelled=one is quantities[-1]),
            y=vertical(one.name, one.title, _column(rows, one.name), share=one.share),
            color=colours.channel(),
            detail="run:N",
            tooltip=[
                alt.Tooltip("run:N", title="artifact"),
                alt.Tooltip(across.name, type="quantitative", format=",d" if across.steps else ".4~s"),
                alt.Tooltip(one.name, type="quantitative", title=one.title, format=".4~g"),
            ],
        )
        charts.append(lines.transform_filter(f"isValid(datum.{one.name})").properties(width=WIDTH, height=height))
    return alt.vconcat(*charts, data=alt.InlineData(list(rows)), spacing=16)


def _column(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]
