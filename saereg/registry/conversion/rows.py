"""Rows of activations from a file, for golden vectors and for choosing between candidates."""

from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.files.blocks import require_torch
from saereg.registry.files.opening import open_tensors
from saereg.schemas.metrics import FLOATS

if TYPE_CHECKING:
    from torch import Tensor

MOST_ROWS = 65_536
"""Most rows that are read."""


def read_rows(path: Path, name: str = "x", most: int = MOST_ROWS) -> "Tensor":
    """Return the first rows of a tensor of activations, in float32.

    Args:
        path: safetensors, npz or pickled file.
        name: tensor (rows, d_in), or (rows, n_sources, d_in); the only one of the file may have another name.
        most: rows that are read at most.

    Raises:
        WeightsError: when there is no such tensor, it has no rows, is no matrix of floats, or holds NaN or infinity.
        OSError: when the file cannot be read.
    """
    import torch

    require_torch("reading activations")
    file = open_tensors(path)
    if name not in file.entries and len(file.entries) == 1:
        name = next(iter(file.entries))
    if name not in file.entries:
        listed = ", ".join(sorted(file.entries)[:12]) or "none"
        raise WeightsError(path.name, f"missing; the file holds {listed}", name)
    entry = file.entries[name]
    if len(entry.shape) < 2 or entry.shape[0] == 0 or entry.dtype not in FLOATS:
        raise WeightsError(path.name, f"is {entry.dtype} {entry.shape}; expected rows of floating-point numbers", name)
    rows = min(most, entry.shape[0])
    x = file.box(name, ((0, rows), *((0, size) for size in entry.shape[1:]))).float()
    if not torch.isfinite(x).all():
        raise WeightsError(path.name, "holds NaN or infinity", name)
    return x
