"""How strongly each latent is active, against how often."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saereg.registry.features.latents import Latents
from saereg.registry.figures.artifacts import chosen, latents_of, left_out, rounded, short_names, sort_of, table
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.series import listed
from saereg.registry.figures.theme import CATEGORIES, HEIGHT, NEUTRAL, SEQUENTIAL, WIDTH, finished
from saereg.registry.files.names import LATENTS_FILE
from saereg.registry.release import Release

if TYPE_CHECKING:
    import altair
    from torch import Tensor

MOST = 4
"""Artifacts in one figure."""

DENSE = 0.1
"""Share of rows from which on a latent is called dense. Source: Bricken et al., "Towards Monosemanticity", 2023."""

FEWEST = 1_500
"""Latents up to which each is a point; more of them are counted in cells."""

NARROW = 2.0
"""Factors of ten below which an axis has labels between them."""

CELLS = (40, 36)
"""Cells across and up."""


Square = tuple[tuple[float, float], tuple[float, float]]
"""Bounds across and up, as log10."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """The latents of one dictionary that are active somewhere.

    Attributes:
        name: what the figure calls the dictionary.
        across: log10 of the share of rows in which each is active, (A,), float64.
        up: log10 of its mean activation over those rows, (A,), float64.
        latents: how many there are in all.
        dead: how many of them are never active.
        dense: how many are active in more than `DENSE` of the rows.
    """

    name: str
    across: "Tensor"
    up: "Tensor"
    latents: int
    dead: int
    dense: int

    @property
    def note(self) -> str:
        """The counts in words."""
        return f"{self.latents:,} latents: {self.dead:,} never active, {self.dense:,} dense"


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return the figure; none where no latents were counted."""
    able = [artifact for artifact in release if (artifact.folder / LATENTS_FILE).is_file()]
    found = {artifact.id: known for artifact in chosen(able, MOST, sort_of) if (known := latents_of(artifact))}
    names = short_names(list(found))
    clouds = [cloud_of(names[identifier], latents) for identifier, latents in found.items()]
    clouds = [cloud for cloud in clouds if len(cloud.across)]
    if not clouds:
        return ()
    title = "How often and how strongly latents are active"
    rows = {latents.evaluation: latents.rows for latents in found.values()}
    data = listed([f"{name} ({count:,} rows)" for name, count in rows.items()])
    caption = (
        "Each latent by the share of rows in which it is active and its mean activation over those rows, both on "
        "logarithmic scales; of a crosscoder whose sources have gates of their own, over all of them together. Behind "
        f"the dashed line are dense latents, active in more than {DENSE:.0%} of rows; those never active have no place "
        f"here. Measured on {data}.{left_out(len(clouds), len(able), 'artifacts with counts of latents')}"
    )
    alt = "; ".join(f"{cloud.name}: {cloud.note}" for cloud in clouds) + "."
    return (
        Drawing("frequency-magnitude", "frequency-magnitude", title, caption, alt, finished(_chart(clouds), title)),
    )


def cloud_of(name: str, latents: Latents) -> Cloud:
    """Return how often and how strongly the latents of one dictionary are active; sources of a crosscoder together."""
    fired, total = latents.fired.sum(0), latents.total.sum(0)
    share = fired.double() / max(latents.rows * len(latents.fired), 1)
    mean = total / fired.clamp_min(1)
    seen = mean != 0  # that of negative activations, of which log10 is taken of the size
    dead, dense = int((fired == 0).sum()), int((share > DENSE).sum())
    return Cloud(name, share[seen].log10(), mean[seen].abs().log10(), len(fired), dead, dense)


def points(cloud: Cloud) -> list[dict[str, float]]:
    """Return every latent as a point, in an order that does not depend on theirs."""
    pairs = sorted(
        (rounded(x, 4), rounded(y, 4)) for x, y in zip(cloud.across.tolist(), cloud.up.tolist(), strict=True)
    )
    return [{"low": x, "below": y} for x, y in pairs]


def cells(cloud: Cloud, square: Square) -> list[dict[str, float]]:
    """Return the cells of a grid that hold latents, each with their number `n`."""
    import torch

    across, up = (torch.linspace(*bounds, n + 1, dtype=torch.float64) for bounds, n in zip(square, CELLS, strict=True))
    column = torch.bucketize(cloud.across, across[1:-1], right=True)
    row = torch.bucketize(cloud.up, up[1:-1], right=True)
    counts = torch.bincount(column * CELLS[1] + row, minlength=CELLS[0] * CELLS[1]).reshape(CELLS)
    x, y = ([rounded(value, 4) for value in edges.tolist()] for edges in (across, up))
    return [
        {"low": x[i], "high": x[i + 1], "below": y[j], "above": y[j + 1], "n": int(counts[i, j])}
        for i, j in counts.nonzero().tolist()
    ]


def square_of(clouds: Sequence[Cloud]) -> Square:
    """Return bounds, in quarters of a factor of ten, that hold every latent and the border of the dense ones."""
    low, high = min(math.log10(DENSE) - 0.01, *(float(cloud.across.min()) for cloud in clouds)), 0.0
    below, above = min(float(cloud.up.min()) for cloud in clouds), max(float(cloud.up.max()) for cloud in clouds)
    return (_floor(low), high), (_floor(below), _floor(above) + 0.25)


def _floor(value: float) -> float:
    return math.floor(value * 4) / 4


def _chart(clouds: Sequence[Cloud]) -> "altair.TopLevelMixin":
    import altair as alt

    square, many = square_of(clouds), sum(len(cloud.across) for cloud in clouds) > FEWEST
    if len(clouds) == 1:
        return _panel(clouds[0], square, (WIDTH, HEIGHT), many=many)
    panels = [_panel(cloud, square, (WIDTH // 2 - 45, 200), many=many) for cloud in clouds]
    return alt.concat(*panels, columns=2, spacing=22).resolve_scale(color="shared")


def _panel(cloud: Cloud, square: Square, size: tuple[int, int], *, many: bool) -> "altair.LayerChart":
    import altair as alt

    x = _log("low", square[0], "share of rows", "format(pow(10, datum.value) * 100, '~r') + ' %'")
    y = _log("below", square[1], "mean activation", "format(pow(10, datum.value), '~r')")
    if many:
        scale = alt.Scale(type="log", scheme=SEQUENTIAL, reverse=True)
        legend = alt.Legend(orient="bottom", tickCount=4, format="~s", gradientLength=220, title="latents in a cell")
        colour = alt.Color("n:Q", scale=scale, legend=legend)
        chart = alt.Chart(table(cells(cloud, square))).mark_rect()
        marks = chart.encode(
            x=x, x2="high:Q", y=y, y2="above:Q", color=colour, tooltip=alt.Tooltip("n:Q", title="latents")
        )
    else:
        chart = alt.Chart(table(points(cloud))).mark_circle(size=16, color=CATEGORIES[0], opacity=0.5)
        marks = chart.encode(x=x, y=y)
    dense = alt.Chart(table([{"low": math.log10(DENSE)}]))
    line = dense.mark_rule(color=NEUTRAL, strokeDash=[4, 3], strokeWidth=1.5).encode(x=x)
    title = alt.TitleParams(
        cloud.name,
        subtitle=cloud.note,
        anchor="start",
        fontSize=12,
        subtitleFontSize=11,
        fontWeight="normal",
        frame="group",
        limit=size[0],
        offset=6,
    )
    return alt.layer(marks, line).properties(width=size[0], height=size[1], title=title)


def _log(field: str, domain: tuple[float, float], title: str, label: str) -> "altair.X | altair.Y":
    import altair as alt

    each = (1, 2, 5) if domain[1] - domain[0] < NARROW else (1,)
    values = _marks(domain, each)
    if len(values) < 2:  # bounds that are closer than a factor of two or so
        values = _marks(domain, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9))
    axis = alt.Axis(values=values, labelExpr=label, title=title)
    channel = alt.X if field == "low" else alt.Y
    return channel(f"{field}:Q", scale=alt.Scale(domain=list(domain), nice=False, zero=False), axis=axis)


def _marks(domain: tuple[float, float], digits: Sequence[float]) -> list[float]:
    """Return log10 of the numbers that begin with some digits, of those between two bounds."""
    powers = range(math.floor(domain[0]), math.ceil(domain[1]) + 1)
    marks = [rounded(n + math.log10(digit), 7) for n in powers for digit in digits]
    return [value for value in marks if domain[0] <= value <= domain[1]]


KIND = FigureKind(
    name="frequency-magnitude",
    about="how strongly each latent is active against how often",
    needs="frequency-magnitude needs counts of latents, which saereg build writes where a release has an evaluation",
    draw=draw,
)
