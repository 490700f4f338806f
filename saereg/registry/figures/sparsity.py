"""How many latents are active in a row, and how often each of them is."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from saereg.registry.features.latents import Latents
from saereg.registry.figures.artifacts import (
    chosen,
    crosscoders,
    latents_of,
    left_out,
    plural,
    rounded,
    short_names,
    sort_of,
    source_axis,
    source_names,
    sources_of,
    table,
)
from saereg.registry.figures.axes import step_axis
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.histograms import Bar, Horizontal, Panel, histograms
from saereg.registry.figures.series import listed
from saereg.registry.figures.theme import CATEGORIES, HEIGHT, SHAPES, WIDTH, finished
from saereg.registry.files.names import LATENTS_FILE
from saereg.registry.release import Release, ReleaseArtifact
from saereg.schemas.metrics import Histogram, Measurement

if TYPE_CHECKING:
    import altair

MOST = 6
"""Artifacts in one figure."""

COUNTS = ("l0", "l0_any_source")
"""Metrics that have a histogram; of a crosscoder with a gate per source, only the second."""

FAR = 20.0
"""Ratio of the largest mean to the smallest after which the axis is logarithmic."""

PER_DECADE = 4
"""Bars of each factor of ten."""


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return the histograms of L0, its course over the sources of crosscoders, and the frequencies of latents."""
    found = (_rows(release), _sources(release), _frequencies(release))
    return tuple(drawing for drawing in found if drawing is not None)


def counted(artifact: ReleaseArtifact) -> Measurement | None:
    """Return the number of active latents of an artifact that has a histogram."""
    metrics = artifact.evidence.metrics if artifact.evidence else ()
    return next((m for m in metrics if m.metric in COUNTS and m.histogram and m.value is not None), None)


def _rows(release: Release) -> Drawing | None:
    known = {artifact.id: m for artifact in release if (m := counted(artifact)) is not None}
    shown = chosen([artifact for artifact in release if artifact.id in known], MOST, sort_of)
    if not shown:
        return None
    measured = [known[artifact.id] for artifact in shown]
    names = short_names([artifact.id for artifact in shown])
    panels = [_panel(names[artifact.id], known[artifact.id]) for artifact in shown]
    title = "Active latents per row"
    ids = " or ".join(dict.fromkeys(m.metric for m in measured))
    several = "l0_any_source" in ids
    caption = (
        f"How many rows have how many active latents ({ids}), exact counts; dashed: their mean. {_data(measured)}"
        + (" l0_any_source counts the latents that are active at one source of a crosscoder at least." * several)
        + left_out(len(shown), len(known), "artifacts with counts")
    )
    means = sorted(m.value for m in measured if m.value is not None)
    alt = f"Histograms of the active latents per row of {plural(len(panels), 'artifact')}; " + (
        f"means from {means[0]:.4g} to {means[-1]:.4g}." if len(means) > 1 else f"the mean is {means[0]:.4g}."
    )
    spec = finished(histograms(panels, _axis(measured), "rows"), title)
    return Drawing("sparsity", "sparsity", title, caption, alt, spec)


def _panel(name: str, m: Measurement) -> Panel:
    histogram = m.histogram or Histogram(edges=(0, 1), counts=(0,))
    pairs = zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts, strict=True)
    bars = tuple(
        Bar(low - 0.5, high - 0.5, count, str(low) if high - low == 1 else f"{low} to {high - 1}")
        for low, high, count in pairs
        if count
    )
    if m.minimum is None or m.maximum is None:
        return Panel(name, f"mean {m.value:.4g}", bars, m.value)
    if m.minimum == m.maximum:
        return Panel(name, f"exactly {m.minimum:.0f} in every row", bars)
    return Panel(name, f"mean {m.value:.4g}, from {m.minimum:.0f} to {m.maximum:.0f}", bars, m.value)


def _axis(measured: Sequence[Measurement]) -> Horizontal:
    found = [m.histogram for m in measured if m.histogram]
    low, high = min(h.edges[0] for h in found), max(h.edges[-1] for h in found)
    means = [m.value for m in measured if m.value is not None]
    if max(means) > FAR * max(min(means), 1.0):
        powers = (float(10**n) for n in range(12) if 10**n <= high)
        return Horizontal("active latents per row (logarithmic)", -0.5, high * 1.1, "symlog", (0.0, *powers))
    margin = max((high - low) * 0.03, 1.0)
    return Horizontal("active latents per row", max(low - margin, -0.5), high + margin)


def _data(measured: Sequence[Measurement]) -> str:
    rows = {m.evaluation: m.rows for m in measured}
    return f"Data: {listed([f'{name} ({count:,} rows)' for name, count in rows.items()])}."


def per_source(artifact: ReleaseArtifact) -> Measurement | None:
    """Return the number of active latents at each source of a crosscoder that has a gate for each."""
    count = sources_of(artifact).count
    metrics = artifact.evidence.metrics if artifact.evidence else ()
    complete = (m for m in metrics if m.metric == "l0_per_source_mean" and len(m.per_source) == count)
    return next(complete, None)


def _sources(release: Release) -> Drawing | None:
    known = {artifact.id: m for artifact in crosscoders(release) if (m := per_source(artifact)) is not None}
    able = [artifact for artifact in release if artifact.id in known]
    axes = {sources_of(artifact).axis for artifact in able}
    axis = "snapshot" if "snapshot" in axes else next(iter(axes), None)
    able = [artifact for artifact in crosscoders(release, axis) if artifact.id in known]
    shown = chosen(able, MOST, sort_of)
    if not shown:
        return None
    names = short_names([artifact.id for artifact in shown])
    rows = [row for artifact in shown for row in _points(artifact, names[artifact.id], known[artifact.id])]
    title = "Active latents at each source"
    means = [row["l0"] for row in rows if isinstance(row["l0"], float)]
    caption = (
        "Mean number of active latents per row at each source of crosscoders whose sources have gates of their own "
        f"(l0_per_source_mean at one source). {_data([known[artifact.id] for artifact in shown])}"
        f"{left_out(len(shown), len(able), 'crosscoders with such counts')}"
    )
    alt = f"Lines of {len(shown)} crosscoders over their sources, from {min(means):.4g} to {max(means):.4g}."
    chart = _lines(rows, [names[artifact.id] for artifact in shown], source_axis(shown[0]))
    return Drawing("sparsity-sources", "sparsity", title, caption, alt, finished(chart, title))


def _points(artifact: ReleaseArtifact, name: str, m: Measurement) -> list[dict[str, object]]:
    pairs = zip(source_names(artifact), m.per_source, strict=True)
    return [
        {"name": name, "source": source, "step": int(source) if source.isdigit() else 0, "l0": rounded(value)}
        for source, value in pairs
        if value is not None
    ]


def _lines(rows: Sequence[dict[str, object]], names: Sequence[str], axis: str) -> "altair.Chart":
    import altair as alt

    order = list(dict.fromkeys(str(row["source"]) for row in rows))
    steps = [int(str(row["step"])) for row in rows]
    x = step_axis(steps) if axis == "pretraining step" else alt.X("source:N", sort=order, title=axis)
    legend = alt.Legend(orient="bottom", columns=2, labelLimit=WIDTH // 2 - 30, title=None)
    colours = alt.Scale(domain=list(names), range=list(CATEGORIES[: len(names)]))
    shapes = alt.Scale(domain=list(names), range=list(SHAPES[: len(names)]))
    chart = alt.Chart(table(rows))
    lines = chart.mark_line(point=alt.OverlayMarkDef(filled=True, size=34), strokeWidth=1.8).encode(
        x=x,
        y=alt.Y("l0:Q", title="active latents per row", scale=alt.Scale(zero=True)),
        color=alt.Color("name:N", sort=list(names), scale=colours, legend=legend),
        shape=alt.Shape("name:N", sort=list(names), scale=shapes),
        tooltip=["name:N", "source:N", "l0:Q"],
    )
    return lines.properties(width=WIDTH, height=HEIGHT)


def _frequencies(release: Release) -> Drawing | None:
    able = [artifact for artifact in release if (artifact.folder / LATENTS_FILE).is_file()]
    statistics = {artifact.id: found for artifact in chosen(able, MOST, sort_of) if (found := latents_of(artifact))}
    if not statistics:
        return None
    names = short_names(list(statistics))
    first = min(math.floor(math.log10(1 / (found.rows * len(found.fired)))) for found in statistics.values())
    panels = [_latents_panel(names[identifier], found, first) for identifier, found in statistics.items()]
    title = "How often each latent is active"
    rows = {found.evaluation: found.rows for found in statistics.values()}
    caption = (
        "Share of rows in which a latent is active, of all latents; of a crosscoder whose sources have gates of their "
        "own, the mean over sources. The bar on the left, of another colour, holds those that are never active; the "
        "median is that of the others. "
        f"Data: {listed([f'{name} ({count:,} rows)' for name, count in rows.items()])}."
        f"{left_out(len(panels), len(able), 'artifacts with counts of latents')}"
    )
    dead = [dead_share(found) for found in statistics.values()]
    alt = f"Histograms of the frequencies of latents of {len(panels)} artifacts; never active are " + (
        f"{min(dead):.1%} to {max(dead):.1%} of them." if len(dead) > 1 else f"{dead[0]:.1%} of them."
    )
    spec = finished(histograms(panels, _frequency_axis(first), "latents"), title)
    return Drawing("sparsity-frequency", "sparsity", title, caption, alt, spec)


def dead_share(latents: Latents) -> float:
    """Return the share of latents that are active in no row, at no source."""
    return float((latents.fired.sum(0) == 0).double().mean())


def _latents_panel(name: str, latents: Latents, first: int) -> Panel:
    import torch

    share = latents.frequency.mean(0)
    alive = share[share > 0]
    places = (alive.log10() * PER_DECADE).floor().clamp(first * PER_DECADE, -1).long() - first * PER_DECADE
    counts = torch.bincount(places, minlength=-first * PER_DECADE).tolist()
    edges = [first + n / PER_DECADE for n in range(len(counts) + 1)]
    bars = [
        Bar(low, high, count, f"{10**low:.2g} to {10**high:.2g} of rows")
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        if count
    ]
    dead = len(share) - len(alive)
    if dead:
        bars.append(Bar(first - 0.75, first - 0.5, dead, "never active", odd=True))
    median = f", median {_percent(float(alive.median()))}" if len(alive) else ""
    return Panel(name, f"never {_percent(dead / max(len(share), 1))}{median}", tuple(bars))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _frequency_axis(first: int) -> Horizontal:
    values = (first - 0.625, *map(float, range(first, 1)))
    labels = f"datum.value < {first - 0.1} ? 'never' : format(pow(10, datum.value) * 100, '~r') + ' %'"
    return Horizontal("share of rows (logarithmic)", first - 0.85, 0.0, "linear", values, labels)


KIND = FigureKind(
    name="sparsity",
    about="histograms of the active latents per row, and of how often each latent is active",
    needs="sparsity needs a built index with counts of active latents: an evaluation, and saereg build",
    draw=draw,
)
