"""Latents over the sources of a crosscoder: a heat map with one row each, and the axis that stands below it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from saereg.registry.figures.artifacts import rounded, table
from saereg.registry.figures.theme import WIDTH

if TYPE_CHECKING:
    import altair
    from torch import Tensor

MAP_HEIGHT = 330
"""Pixels of a heat map, at most."""


def across(names: Sequence[str], title: str | None) -> "altair.X":
    """Return the channel of sources in their order; without a title it has no labels either."""
    import altair as alt

    room = WIDTH / len(names)
    axis = alt.Axis(
        title=title,
        labels=title is not None,
        ticks=title is not None,
        labelAngle=0 if max(map(len, names)) * 7 < room else -50,
        labelOverlap=False if room >= 14 else "parity",
    )
    return alt.X("source:N", sort=list(names), scale=alt.Scale(paddingInner=0, paddingOuter=0), axis=axis)


def latent_map(
    rows: "Tensor", latents: int, names: Sequence[str], colour: "altair.Color", field: str, titles: tuple[str, str]
) -> "altair.Chart":
    """Return a heat map of latents.

    Args:
        rows: what the colour shows, (rows, K); a row is the mean of as many latents as there are for each.
        latents: how many latents there are in all.
        names: the K sources.
        colour: the channel of the colour.
        field: column of the data that it reads.
        titles: titles of the horizontal and of the vertical axis.
    """
    import altair as alt

    height = latents / max(len(rows), 1)
    cells = [
        {
            "source": name,
            "low": rounded(n * height, 6),
            "high": rounded((n + 1) * height, 6),
            field: rounded(value, 3),
        }
        for n, row in enumerate(rows.tolist())
        for name, value in zip(names, row, strict=True)
    ]
    axis = alt.Axis(format=",d", minExtent=46, grid=False, tickMinStep=1)
    scale = alt.Scale(domain=[0, latents], reverse=True, nice=False)
    y = alt.Y("low:Q", title=titles[1], scale=scale, axis=axis)
    marks = alt.Chart(table(cells)).mark_rect()
    marks = marks.encode(x=across(names, titles[0]), y=y, y2="high:Q", color=colour, tooltip=["source:N", f"{field}:Q"])
    return marks.properties(width=whole_width(len(names)), height=whole_height(len(rows)))


def whole_width(columns: int) -> int:
    """Return the pixels across of a heat map whose columns begin at whole ones: else lines of paper stand between."""
    return columns * max(1, WIDTH // columns) if columns <= WIDTH else WIDTH


def whole_height(rows: int) -> int:
    """Return the pixels up of a heat map whose rows begin at whole ones."""
    return rows * max(1, MAP_HEIGHT // max(rows, 1))
