"""What dictionaries lose on other corpora than the one that they were trained on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from saereg.registry.figures.artifacts import chosen, left_out, rounded, short_names, sort_of, table
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.matrices import TRANSFER_FILE, Found, matrix_of
from saereg.registry.figures.series import NAMES, cut, listed
from saereg.registry.figures.theme import CATEGORIES, WIDTH, finished
from saereg.registry.release import Release
from saereg.schemas.metrics import MetricId
from saereg.schemas.transfer import TransferCell, TransferMatrix

if TYPE_CHECKING:
    import altair

MOST_DICTIONARIES, MOST_CORPORA = 8, 6
"""Bars of one group, and groups: more cannot be told apart."""

METRICS: tuple[tuple[MetricId, ...], ...] = (
    ("explained_variance",),
    ("fvu", "mse_per_element"),
    ("l0", "l0_per_source_mean"),
    ("ce_recovered",),
)
"""One panel each: the first of its metrics that the matrix has."""

PANEL_HEIGHT = 130
"""Pixels of one panel."""


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return the figure; none where nothing was measured away from home."""
    found = matrix_of(release)
    if found is None:
        return ()
    metrics = [metric for group in METRICS if (metric := _first(found.matrix, group))]
    names = [dictionary.name for dictionary in found.matrix.dictionaries]
    picked = [a.id for a in chosen([a for a in release if a.id in names], MOST_DICTIONARIES, sort_of)]
    picked.sort(key=names.index)
    corpora = [corpus.name for corpus in found.matrix.corpora][:MOST_CORPORA]
    if not metrics or not picked:
        return ()
    title = "Transfer to other corpora"
    chart = _chart(found.matrix, metrics, picked, corpora)
    caption = _caption(found, metrics, len(picked), len(corpora))
    return (
        Drawing("transfer", "transfer", title, caption, _alt(found.matrix, picked, metrics), finished(chart, title)),
    )


def _first(matrix: TransferMatrix, metrics: Sequence[MetricId]) -> MetricId | None:
    return next((m for m in metrics if any(cell.value(m) is not None for cell in matrix.cells)), None)


def _caption(found: Found, metrics: Sequence[MetricId], dictionaries: int, corpora: int) -> str:
    matrix = found.matrix
    rows = listed(
        [f"{cut(corpus.name)} ({corpus.rows:,} rows)" for corpus in matrix.corpora[:MOST_CORPORA]], MOST_CORPORA
    )
    kinds = {lost.kind for cell in matrix.cells for lost in cell.degradation if lost.metric in metrics}
    compared = " and ".join(
        words for kind, words in (("ratio", "× away / home"), ("difference", "± away − home")) if kind in kinds
    )
    return (
        f"{listed(list(metrics), 4)} of each dictionary on {rows}. Outlined: at home, on the corpus it was trained on"
        + (f"; above the other bars what is lost or gained: {compared}. " if compared else ". ")
        + (f"From {TRANSFER_FILE}." if found.shipped else "From the evaluations of the release.")
        + (
            f" Left out, as the release does not name them: {listed([cut(n) for n in found.strange])}."
            if found.strange
            else ""
        )
        + left_out(dictionaries, len(matrix.dictionaries), "dictionaries")
        + (f" Shown are {corpora} of {len(matrix.corpora)} corpora." if corpora < len(matrix.corpora) else "")
    )


def _alt(matrix: TransferMatrix, picked: Sequence[str], metrics: Sequence[MetricId]) -> str:
    pairs = [
        (cell, value)
        for cell in matrix.cells
        if cell.dictionary in picked and (value := cell.value(metrics[0])) is not None
    ]
    words = []
    for where, home in (("at home", True), ("away", False)):
        values = [value for cell, value in pairs if cell.at_home is home]
        if values:
            words.append(f"{where} from {min(values):.4g} to {max(values):.4g}")
    return f"{NAMES.get(metrics[0], metrics[0])} of {len(picked)} dictionaries: {', '.join(words)}."


def _chart(
    matrix: TransferMatrix, metrics: Sequence[MetricId], picked: Sequence[str], corpora: Sequence[str]
) -> "altair.VConcatChart":
    import altair as alt

    names, places = short_names(list(picked)), short_names(list(corpora))
    cells = [cell for cell in matrix.cells if cell.dictionary in names and cell.corpus in places]
    panels = [
        _panel(
            [_row(cell, metric, names, places) for cell in cells], metric, list(names.values()), list(places.values())
        )
        for metric in metrics
    ]
    return alt.vconcat(*panels, spacing=16).resolve_scale(color="shared")


def _row(cell: TransferCell, metric: MetricId, names: dict[str, str], places: dict[str, str]) -> dict[str, object]:
    lost = next((d for d in cell.degradation if d.metric == metric and d.value is not None), None)
    value = cell.value(metric)
    change = (
        ""
        if lost is None or lost.value is None
        else f"{lost.value:.2f}×"
        if lost.kind == "ratio"
        else f"{lost.value:+.2g}"
    )
    return {
        "dictionary": names[cell.dictionary],
        "corpus": places[cell.corpus],
        "value": None if value is None else rounded(value),
        "home": cell.at_home,
        "words": "home" if cell.at_home else change.replace("-", "−"),
    }


def _panel(
    rows: Sequence[dict[str, object]], metric: MetricId, names: Sequence[str], places: Sequence[str]
) -> "altair.LayerChart":
    import altair as alt

    values = [float(str(row["value"])) for row in rows if row["value"] is not None]
    slim = WIDTH / (len(names) * len(places)) < 40
    domain = [min(0.0, min(values) * 1.15), max(max(values) * (1.35 if slim else 1.18), 1e-9)]
    x = alt.X(
        "corpus:N",
        sort=list(places),
        title=None,
        axis=alt.Axis(labelAngle=0, labelLimit=WIDTH // len(places) - 8, grid=False),
    )
    offset = alt.XOffset("dictionary:N", sort=list(names), scale=alt.Scale(paddingInner=0.12))
    y = alt.Y(
        "value:Q",
        title=NAMES.get(metric, metric),
        scale=alt.Scale(domain=domain, nice=False),
        axis=alt.Axis(tickCount=4, minExtent=52, titleLimit=PANEL_HEIGHT + 30),
    )
    scale = alt.Scale(domain=list(names), range=list(CATEGORIES[: len(names)]))
    legend = alt.Legend(orient="bottom", title=None, columns=2, labelLimit=WIDTH // 2 - 40, symbolType="square")
    data = alt.Chart(table(rows))
    bars = data.mark_bar(strokeWidth=2.5).encode(
        x=x, xOffset=offset, y=y,
        color=alt.Color("dictionary:N", sort=list(names), scale=scale, legend=legend),
        stroke=alt.condition("datum.home", alt.value("#000000"), alt.value(None)),
        tooltip=["dictionary:N", "corpus:N", "value:Q", "words:N"],
    )  # fmt: skip
    turned = (
        {"angle": 270, "align": "left", "baseline": "middle", "dx": 4} if slim else {"baseline": "bottom", "dy": -4}
    )
    texts = data.transform_filter("isValid(datum.value)").mark_text(fontSize=11, **turned).encode(
        x=x, xOffset=offset, y=y, text="words:N"
    )  # fmt: skip
    return alt.layer(bars, texts).properties(width=WIDTH, height=PANEL_HEIGHT)


KIND = FigureKind(
    name="transfer",
    about="what dictionaries lose on other corpora than the one that they were trained on",
    needs=f"transfer needs evaluations of two data sets, or a transfer matrix in {TRANSFER_FILE}",
    draw=draw,
)
