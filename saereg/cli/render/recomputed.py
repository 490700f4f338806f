"""Recomputed metrics as a table, as JSON and as CSV."""

import csv
import io
import json
from collections.abc import Sequence

from saereg.cli.render.text import number, table, visible
from saereg.schemas.metrics import Measurement
from saereg.schemas.recomputed import Recomputed

SHORT = {"explained_variance": "ev", "dead_fraction": "dead"}
"""Headings of wide columns."""

MOST_COLUMNS = 9
"""Metrics that stand side by side; more stand one below the other."""

DIGITS = 12
"""Digits of a digest that are shown."""

CSV = (
    "target", "artifact", "evaluation", "metric", "value", "reason", "tolerance", "minimum", "maximum", "batch_rows",
    "units", "rows", "data_sha256", "weights_sha256", "dtype", "device",
)  # fmt: skip
"""Columns of the CSV: one line per number."""

_Column = tuple[str, int | None]


def recomputed_text(found: Sequence[Recomputed]) -> str:
    """Return dictionaries below each other and metrics side by side, or below each other where there are many."""
    columns = _shown(found)
    if len(columns) > MOST_COLUMNS:
        return _long(found)
    several = len({record.target for record in found}) > 1
    units = any(m.units != "raw" for record in found for m in record.measurements)
    head = ["dictionary", "evaluation", "rows", "data", *(["units"] if units else []), *map(_heading, columns)]
    rows = [row for record in found for row in _rows(record, columns, several=several, units=units)]
    return "\n".join([table(head, rows), *_reasons(found, columns)])


def _rows(record: Recomputed, columns: Sequence[_Column], *, several: bool, units: bool) -> list[list[str]]:
    lines = []
    for kind in dict.fromkeys(m.units for m in record.measurements):
        values = {_column(m): m.value for m in record.measurements if m.units == kind}
        start = [_name(record, several=several), visible(record.evaluation), str(record.rows)]
        start += [record.data_sha256[:DIGITS], *([kind] if units else [])]
        lines.append([*start, *(number(values.get(column)) for column in columns)])
    return lines


def _long(found: Sequence[Recomputed]) -> str:
    several = len({record.target for record in found}) > 1
    rows = [
        [
            _name(record, several=several), visible(record.evaluation), str(record.rows), record.data_sha256[:DIGITS],
            m.metric, number(m.batch_rows), m.units, number(m.value), visible(m.reason or ""),
        ]
        for record in found
        for m in record.measurements
    ]  # fmt: skip
    head = ("dictionary", "evaluation", "rows", "data", "metric", "batch rows", "units", "value", "")
    return table(head, rows)


def _shown(found: Sequence[Recomputed]) -> tuple[_Column, ...]:
    """Return the metrics of which some dictionary has a value; a column of dashes says nothing."""
    measured = [m for record in found for m in record.measurements]
    return tuple(dict.fromkeys(_column(m) for m in measured if m.value is not None or m.metric == "explained_variance"))


def _reasons(found: Sequence[Recomputed], columns: Sequence[_Column]) -> list[str]:
    """Return why some have no value, each reason once."""
    without = (m for record in found for m in record.measurements if m.value is None and _column(m) in columns)
    return [
        f"no {metric}: {visible(reason)}"
        for metric, reason in dict.fromkeys((m.metric, m.reason or "") for m in without)
    ]


def _column(m: Measurement) -> _Column:
    return m.metric, m.batch_rows


def _heading(column: _Column) -> str:
    metric, batch_rows = column
    return SHORT.get(metric, metric) + (f"@{batch_rows}" if batch_rows is not None else "")


def _name(record: Recomputed, *, several: bool) -> str:
    if record.artifact is None:
        return visible(record.target)
    same = record.target.endswith(f":{record.artifact}")
    return visible(record.target if same else f"{record.target}:{record.artifact}" if several else record.artifact)


def recomputed_json(found: Sequence[Recomputed]) -> str:
    """Return everything."""
    return json.dumps([record.model_dump(mode="json") for record in found], indent=2, ensure_ascii=False)


def recomputed_csv(found: Sequence[Recomputed]) -> str:
    """Return one line per number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV)
    for record in found:
        for m in record.measurements:
            values = record.model_dump() | m.model_dump()
            writer.writerow(["" if values[name] is None else values[name] for name in CSV])
    return text.getvalue()
