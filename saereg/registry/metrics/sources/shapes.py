"""Whether stored tensors can be rows at all, and those that a dictionary reads."""

import math
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import WeightsError

if TYPE_CHECKING:
    from saereg.registry.files.tensors import Entry

FLOATS = ("float64", "float32", "float16", "bfloat16")
"""Types that rows may have."""


def check_regular(path: Path) -> None:
    """Refuse what is no ordinary file: a pipe in a release would be waited for without end.

    Raises:
        WeightsError: saying so.
        OSError: when there is nothing.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise WeightsError(path.name, "is no ordinary file")


def check_rows(file: str, tensor: str, entry: "Entry") -> None:
    """Refuse a tensor that holds no rows of numbers.

    Raises:
        WeightsError: for another type, fewer than two axes, or no rows.
    """
    if entry.dtype not in FLOATS:
        raise WeightsError(file, f"is of type {entry.dtype}; rows are one of {', '.join(FLOATS)}", tensor)
    if len(entry.shape) < 2:
        raise WeightsError(file, f"has shape {entry.shape}; rows are at least (rows, d_in)", tensor)
    if 0 in entry.shape:
        raise WeightsError(file, f"holds no rows: its shape is {entry.shape}", tensor)


def check_shape(file: str, tensor: str | None, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Refuse rows that a dictionary does not read.

    Args:
        file: what messages call the data.
        tensor: name of the tensor, where it has one.
        found: shape of one row.
        wanted: (d_in,) or (n_sources, d_in). Where it is (d_in,), a row may also be (positions, d_in), for a temporal
            dictionary, or (heads, width) with heads × width = d_in, for `hook_z`: the dictionary itself looks closer.

    Raises:
        WeightsError: saying what the width is, and what it should be.
    """
    if found == wanted:
        return
    if len(wanted) == 1 and len(found) == 2 and (found[-1] == wanted[0] or math.prod(found) == wanted[0]):
        return
    if len(wanted) == 1:
        said = f"has width {found[-1]}, the dictionary reads d_in = {wanted[0]}"
    elif len(found) == 2:
        said = f"has rows (sources, d_in) = {found}, the dictionary reads {wanted}"
    else:
        said = f"has rows of shape {found}, the dictionary reads (sources, d_in) = {wanted}"
    raise WeightsError(file, said, tensor)
