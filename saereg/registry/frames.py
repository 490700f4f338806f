"""Rows of artifacts as tables of pyarrow, pandas and polars; the same columns, typed alike, in all three."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from saereg.errors import MissingExtraError
from saereg.registry.conditions.fields import KINDS, Kind

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

ArrowTable: TypeAlias = "pyarrow.Table"
PandasFrame: TypeAlias = "pandas.DataFrame"
PolarsFrame: TypeAlias = "polars.DataFrame"

PANDAS: dict[Kind, str] = {
    "text": "string",
    "whole": "Int64",
    "number": "Float64",
    "truth": "boolean",
    "steps": "object",
}
"""Type of a field → nullable type of pandas."""


def _columns(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in KINDS}
    lists = list(columns.values())
    for row in rows:
        for values, value in zip(lists, row, strict=True):
            values.append(list(value) if isinstance(value, tuple) else value)
    return columns


def arrow(rows: Iterable[tuple[Any, ...]]) -> "pyarrow.Table":
    """Return rows with every field, in the order of `FIELDS`, as a table of pyarrow.

    Raises:
        MissingExtraError: without the `tables` extra.
    """
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise MissingExtraError("a table of pyarrow", "tables", "pyarrow") from None
    whole = pyarrow.int64()
    types = {"text": pyarrow.string(), "whole": whole, "number": pyarrow.float64(), "truth": pyarrow.bool_()}
    types["steps"] = pyarrow.list_(whole)
    columns = _columns(rows)
    return pyarrow.table({name: pyarrow.array(values, types[KINDS[name]]) for name, values in columns.items()})


def pandas_frame(rows: Iterable[tuple[Any, ...]]) -> "pandas.DataFrame":
    """Return them as a data frame of pandas, with nullable types.

    Raises:
        MissingExtraError: without the `tables` extra.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise MissingExtraError("a data frame of pandas", "tables", "pandas") from None
    columns = _columns(rows)
    return pandas.DataFrame({name: pandas.Series(v, dtype=PANDAS[KINDS[name]]) for name, v in columns.items()})


def polars_frame(rows: Iterable[tuple[Any, ...]]) -> "polars.DataFrame":
    """Return them as a data frame of polars.

    Raises:
        MissingExtraError: without the `tables` extra.
    """
    try:
        import polars
    except ModuleNotFoundError:
        raise MissingExtraError("a data frame of polars", "tables", "polars") from None
    types: dict[Kind, Any] = {"text": polars.String, "whole": polars.Int64, "number": polars.Float64}
    types |= {"truth": polars.Boolean, "steps": polars.List(polars.Int64)}
    return polars.DataFrame(_columns(rows), schema={name: types[kind] for name, kind in KINDS.items()})
