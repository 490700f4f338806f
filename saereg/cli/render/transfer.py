"""A transfer matrix as text, Markdown and CSV."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence

import click

from saereg.cli.render.markdown import escaped
from saereg.cli.render.text import visible
from saereg.registry.transfer.matrix import COMPARED
from saereg.schemas.metrics import MetricId
from saereg.schemas.transfer import Degradation, TransferCell, TransferMatrix

MOST_NOTES = 12
"""Notes that are listed."""

ALWAYS: tuple[MetricId, ...] = ("explained_variance", "mse_per_element")
"""Metrics shown unless others are asked for, and of those below each that has a value."""

SPARSITY: tuple[MetricId, ...] = ("l0", "l0_per_source_mean", "l0_any_source", "l1_norm", "l1_norm_per_source_mean")
ERRORS: tuple[MetricId, ...] = ("mse_per_row", "mse_per_element")


def shown(matrix: TransferMatrix, asked: Sequence[MetricId]) -> tuple[MetricId, ...]:
    """Return the metrics to show: those asked for, else the usual ones that this matrix has."""
    if asked:
        return tuple(dict.fromkeys(asked))
    return (*ALWAYS, *(name for name in SPARSITY if any(cell.value(name) is not None for cell in matrix.cells)))


def transfer_text(matrix: TransferMatrix, asked: Sequence[MetricId]) -> str:
    """Return one table per metric, the home cells marked, then what is lost away from home, then what has no value."""
    metrics = shown(matrix, asked)
    parts = []
    for metric in metrics:
        rows = _rows(matrix, metric, lambda cell, name: _value(cell, name) + ("*" if cell.at_home else " "))
        parts.append(_columns([metric, *(f"{corpus.name} " for corpus in matrix.corpora)], rows))
    lost = list(_lost(matrix, metrics))
    if lost:
        parts.append(_columns(["away / home", *map(_heading, _compared(metrics))], lost))
    marks = ["* at home: the corpus that the dictionary was trained on"] if lost or _any_home(matrix) else []
    notes = list(_notes(matrix, metrics))
    more = [f"… {len(notes) - MOST_NOTES} more"] if len(notes) > MOST_NOTES else []
    closing = "\n".join(visible(line) for line in [*marks, *notes[:MOST_NOTES], *more])
    return "\n\n".join([*parts, *([closing] if closing else [])])


def transfer_markdown(matrix: TransferMatrix, asked: Sequence[MetricId]) -> str:
    """Return the same as Markdown tables, to be pasted into a card."""
    metrics = shown(matrix, asked)
    parts = []
    for metric in metrics:
        rows = _rows(
            matrix, metric, lambda cell, name: f"**{_value(cell, name)}**" if cell.at_home else _value(cell, name)
        )
        rows = [[escaped(row[0]), *row[1:]] for row in rows]
        parts.append(_pipes([f"`{metric}`", *(escaped(corpus.name) for corpus in matrix.corpora)], rows))
    if lost := list(_lost(matrix, metrics)):
        rows = [[escaped(row[0]), *row[1:]] for row in lost]
        parts.append(_pipes(["away / home", *map(_heading, _compared(metrics))], rows))
    said = ", ".join(f"{escaped(corpus.name)}: {corpus.rows} rows" for corpus in matrix.corpora)
    bold = " Bold: the corpus that the dictionary was trained on." if _any_home(matrix) else ""
    notes = [f"- {escaped(note)}" for note in _notes(matrix, metrics)]
    return "\n\n".join(
        [*parts, f"Rows: dictionaries. Columns: corpora ({said}).{bold}", *(["\n".join(notes)] if notes else [])]
    )


def transfer_csv(matrix: TransferMatrix) -> str:
    """Return one line per cell with every metric, and every comparison with home; what has no value is empty."""
    metrics = list(dict.fromkeys(m.metric for cell in matrix.cells for m in cell.measurements if _is_plain(m)))
    compared = list(dict.fromkeys((d.metric, d.kind) for cell in matrix.cells for d in cell.degradation))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["dictionary", "corpus", "home", "at_home", "rows", "data_sha256"]
    writer.writerow([*head, *metrics, *(f"{metric}_{kind}" for metric, kind in compared)])
    homes = {dictionary.name: dictionary.home for dictionary in matrix.dictionaries}
    corpora = {corpus.name: corpus for corpus in matrix.corpora}
    for cell in matrix.cells:
        corpus, lost = corpora[cell.corpus], {(d.metric, d.kind): d.value for d in cell.degradation}
        first = [cell.dictionary, cell.corpus, homes[cell.dictionary], cell.at_home, corpus.rows, corpus.data_sha256]
        writer.writerow([*first, *map(cell.value, metrics), *map(lost.get, compared)])
    return text.getvalue()


def _is_plain(measurement: object) -> bool:
    return getattr(measurement, "units", None) == "raw" and getattr(measurement, "batch_rows", None) is None


def _rows(matrix: TransferMatrix, metric: MetricId, said: Callable[[TransferCell, MetricId], str]) -> list[list[str]]:
    found: dict[str, list[str]] = {dictionary.name: [dictionary.name] for dictionary in matrix.dictionaries}
    for cell in matrix.cells:
        found[cell.dictionary].append(said(cell, metric))
    return list(found.values())


def _value(cell: TransferCell, metric: MetricId) -> str:
    value = cell.value(metric)
    return "–" if value is None else f"{value:.5g}"


def _compared(metrics: Sequence[MetricId]) -> tuple[MetricId, ...]:
    """Return the metrics of which comparisons are shown; beside an error its share of the variance, which compares."""
    names = [name for name in metrics if name in COMPARED]
    if "fvu" not in names and set(names) & set(ERRORS):
        names.insert(1 + max(names.index(name) for name in ERRORS if name in names), "fvu")
    return tuple(names)


def _heading(metric: MetricId) -> str:
    return f"{metric} ×" if COMPARED[metric] == "ratio" else f"{metric} ±"


def _lost(matrix: TransferMatrix, metrics: Sequence[MetricId]) -> Iterator[list[str]]:
    names = _compared(metrics)
    homes = {dictionary.name: dictionary.home for dictionary in matrix.dictionaries}
    for cell in matrix.cells:
        if cell.degradation and names:
            lost = {d.metric: d for d in cell.degradation}
            label = f"{cell.dictionary}→{cell.corpus} / {cell.dictionary}→{homes[cell.dictionary]}"
            yield [label, *(_change(lost.get(name)) for name in names)]


def _change(lost: Degradation | None) -> str:
    if lost is None or lost.value is None:
        return "–"
    return f"{lost.value:.2f}x" if lost.kind == "ratio" else f"{lost.value:+.4g}"


def _any_home(matrix: TransferMatrix) -> bool:
    return any(dictionary.home for dictionary in matrix.dictionaries)


def _notes(matrix: TransferMatrix, metrics: Sequence[MetricId]) -> Iterator[str]:
    """Yield what a reader must know: missing homes, equal corpora, and why there is a dash, each reason once."""
    for dictionary in matrix.dictionaries:
        if dictionary.home is None:
            yield f"{dictionary.name} has no home here, so no ratio: {dictionary.home_because}"
    seen: dict[str, str] = {}
    for corpus in matrix.corpora:
        if (first := seen.setdefault(corpus.data_sha256, corpus.name)) != corpus.name:
            yield f"{first} and {corpus.name} are the same rows"
    yield from _dashes(matrix, metrics)


def _dashes(matrix: TransferMatrix, metrics: Sequence[MetricId]) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for cell in matrix.cells:
        there = f"{cell.dictionary}→{cell.corpus}"
        for measurement in cell.measurements:
            if measurement.metric in metrics and measurement.value is None:
                reasons.setdefault(f"{measurement.metric}: {measurement.reason}", []).append(there)
        for lost in cell.degradation:
            if lost.metric in _compared(metrics) and lost.value is None and cell.value(lost.metric) is not None:
                reasons.setdefault(f"{lost.metric} away / home: {lost.reason}", []).append(there)
    for reason, places in reasons.items():
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        yield f"– {', '.join(places[:3])}{more}: {reason}"


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column stands left and all others right."""
    lines = [[visible(cell) for cell in line] for line in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join(cell.rjust(w) if at else cell.ljust(w) for at, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    return "\n".join([click.style(texts[0].rstrip(), bold=True), *(text.rstrip() for text in texts[1:])])


def _pipes(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *rows])
