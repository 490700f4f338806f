"""What a publisher's forward is written with: products with matrices as they lie in the file, and activation functions.

A reference takes nothing from the recipes of a reading, so that a wrong transpose, a forgotten norm or a wrong bias
shows as a difference. Everything is float64. Each activation also tells its margin: how far the row is from another set
of active latents, relative to the largest number that decides.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saereg.registry.files.tensors import Box, TensorFile, full_box
from saereg.registry.readings.source import Source

BLOCK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Codes:
    """What a forward gives.

    Attributes:
        f: latents (n, F), or (n, K, F) where sources or layers have their own.
        x_hat: reconstruction, in the units of the output.
        margin: (n,), see above.
    """

    f: Tensor
    x_hat: Tensor
    margin: Tensor


@dataclass(frozen=True)
class Raw:
    """The tensors of a source, in float64 and in the orientation of the file; matrices are read in blocks.

    Attributes:
        files: source files by name; "" is the only one.
        source: what lies beside them, for the numbers that the publisher's own loader takes from documents; None of
            tensors in memory.
    """

    files: Mapping[str, TensorFile]
    source: Source | None = None

    def document(self, name: str) -> dict[str, Any]:
        """Return a document beside the weights as it stands; empty when there is none."""
        return (self.source.document(name) if self.source is not None else None) or {}

    def vector(self, key: str, file: str = "") -> Tensor:
        """Return a small tensor whole."""
        return self.files[file].box(key, full_box(self.files[file].entries[key].shape)).double()

    def shape(self, key: str, file: str = "") -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self.files[file].entries[key].shape

    def times(self, x: Tensor, key: str, file: str = "", at: Mapping[int, int] | None = None) -> Tensor:
        """Return x·A for the matrix A (a, b) in the file: (n, a) → (n, b).

        Args:
            x: rows.
            key: tensor.
            file: file it is in.
            at: axis → index, for a matrix that is a slice of a tensor with more axes.
        """
        result: Tensor | None = None
        for first, block in self._blocks(key, file, at):
            result = x.new_zeros(len(x), block.shape[1]) if result is None else result
            result.addmm_(x[:, first : first + len(block)], block)
        return x.new_zeros(0) if result is None else result

    def times_transposed(self, x: Tensor, key: str, file: str = "", at: Mapping[int, int] | None = None) -> Tensor:
        """Return x·Aᵀ for the matrix A (b, a) in the file: (n, a) → (n, b); as torch's Linear does."""
        # one tensor from the start: parts kept between blocks would pin the freed blocks before them in the heap
        result = x.new_empty(len(x), self._rows(key, file, at))
        for first, block in self._blocks(key, file, at):
            torch.mm(x, block.T, out=result[:, first : first + len(block)])
        return result

    def row_norms(self, key: str, file: str = "", at: Mapping[int, int] | None = None) -> Tensor:
        """Return ‖A[i]‖ for each row of a matrix."""
        result = torch.empty(self._rows(key, file, at), dtype=torch.float64)
        for first, block in self._blocks(key, file, at):
            result[first : first + len(block)] = block.norm(dim=1)
        return result

    def column_norms(self, key: str, file: str = "", at: Mapping[int, int] | None = None) -> Tensor:
        """Return ‖A[:, j]‖ for each column of a matrix."""
        return torch.stack([block.square().sum(dim=0) for _, block in self._blocks(key, file, at)]).sum(dim=0).sqrt()

    def _rows(self, key: str, file: str, at: Mapping[int, int] | None) -> int:
        return next(size for axis, size in enumerate(self.shape(key, file)) if axis not in (at or {}))

    def _blocks(self, key: str, file: str, at: Mapping[int, int] | None) -> Iterator[tuple[int, Tensor]]:
        shape, fixed = self.shape(key, file), dict(at or {})
        free = [axis for axis in range(len(shape)) if axis not in fixed]
        rows, columns = (shape[axis] for axis in free)
        step = max(1, BLOCK_BYTES // (8 * max(1, columns)))
        for first in range(0, rows, step):
            spans = {free[0]: (first, min(rows, first + step)), free[1]: (0, columns)}
            box: Box = tuple(
                spans.get(axis, (fixed.get(axis, 0), fixed.get(axis, 0) + 1)) for axis in range(len(shape))
            )
            part = self.files[file].box(key, box).double()
            yield first, part.reshape(box[free[0]][1] - first, columns)


Decided = tuple[Tensor, Tensor]
"""(latents (n, F), margin (n,))."""


def relu(pre: Tensor) -> Decided:
    """Return max(pre, 0)."""
    return pre.clamp_min(0), _relative(pre.abs(), pre)


def topk(pre: Tensor, k: int, ranked: Tensor | None = None, *, keep_negative: bool = False) -> Decided:
    """Return pre where `ranked` (pre itself, by default) is among the k largest of its row, else 0; then ReLU."""
    ranked = pre if ranked is None else ranked
    order = ranked.sort(dim=-1, descending=True)
    f = torch.zeros_like(pre)
    f.scatter_(-1, order.indices[..., :k], pre.gather(-1, order.indices[..., :k]))
    f = f if keep_negative else f.clamp_min(0)
    gap = (order.values[..., k - 1 : k] - order.values[..., k : k + 1]) if k < pre.shape[-1] else order.values.abs()
    decisive = torch.cat([gap, order.values[..., :k].abs()], dim=-1)
    return f, _relative(decisive, ranked)


def threshold(pre: Tensor, cut: Tensor, gate: Tensor | None = None, *, keep_negative: bool = False) -> Decided:
    """Return pre where `gate` (pre itself, by default) is above the cut, strictly, else 0; then ReLU."""
    gate = pre if gate is None else gate
    f = torch.where(gate > cut, pre, torch.zeros_like(pre))
    f = f if keep_negative else f.clamp_min(0)
    return f, _relative(torch.minimum((gate - cut).abs(), torch.where(gate > cut, pre.abs(), torch.inf)), gate)


def groupmax(pre: Tensor, k: int) -> Decided:
    """Return pre where it is the largest of its group, else 0; then ReLU. Groups are k runs of neighbours."""
    groups = pre.reshape(*pre.shape[:-1], k, -1)
    best = groups.sort(dim=-1, descending=True)
    kept = torch.zeros_like(groups).scatter(-1, best.indices[..., :1], best.values[..., :1])
    two = best.values[..., :2]
    gap = (two[..., 0] - two[..., -1]) if groups.shape[-1] > 1 else two[..., 0].abs()
    return kept.flatten(-2).clamp_min(0), _relative(torch.minimum(gap, two[..., 0].abs()), pre)


def gated(gate: Tensor, magnitude: Tensor) -> Decided:
    """Return max(magnitude, 0) where the gate is positive, else 0."""
    f = magnitude.clamp_min(0) * (gate > 0)
    return f, _relative(torch.minimum(gate.abs(), torch.where(gate > 0, magnitude.abs(), torch.inf)), gate)


def layer_norm(x: Tensor, epsilon: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """Return ((x − mean) / (σ + ε), mean, σ), σ unbiased."""
    mean = x.mean(dim=-1, keepdim=True)
    sigma = (x - mean).std(dim=-1, keepdim=True)
    return (x - mean) / (sigma + epsilon), mean, sigma


def _relative(distance: Tensor, decisive: Tensor) -> Tensor:
    """Return the smallest distance of each row, relative to the largest magnitude that decides."""
    return distance.flatten(1).min(dim=1).values / decisive.flatten(1).abs().max(dim=1).values.clamp_min(1e-30)
