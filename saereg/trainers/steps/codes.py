"""A batch of latents, sparse or dense, and the products that a training step needs of it: the same either way.

With f (n, F) the latents, W (F, d) a matrix, g (n, d) a gradient and D (n, F) a gradient of f at the latents that are
kept: f·W, fᵀ·g together with D from g·Wᵀ at the kept latents, Dᵀ·u as (F, d) or uᵀ·D as (d, F), and the column sums of
D. A sparse batch computes each in time proportional to its active latents; its D is a vector, one number for each of
them, sorted by latent. A dense one makes D some latents at a time, which stay in cache until all is made of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

DENSE_FROM = 0.06
"""Share of active latents from which five dense products are faster than sums of rows; measured on a CPU."""

SLAB = {"cpu": 512, "cuda": 16_384}
"""Latents whose gradients are made at once, to be put in place while they are in cache."""

DENSE_SLAB = {"cpu": 2_048, "cuda": 65_536}
"""Latents whose D is made at once where the batch is dense."""


@dataclass(frozen=True)
class Pull:
    """What is made of the latents that are kept once the gradient of what they decode to is known.

    Attributes:
        g: that gradient, (n, d).
        W_dec: the decoder, (F, d).
        u: what was encoded, (n, d).
        penalty: what is added to D of every active latent, (F,); None for nothing.
        to_W_dec: takes fᵀ·g, (F, d).
        to_W_enc: takes uᵀ·D, (d, F); None where Dᵀ·u is added to `to_W_dec` instead.
    """

    g: Tensor
    W_dec: Tensor
    u: Tensor
    penalty: Tensor | None
    to_W_dec: Tensor
    to_W_enc: Tensor | None


class Code(Protocol):
    """A batch of latents f."""

    def times(self, W: Tensor) -> Tensor:
        """Return f·W, (n, d)."""

    def pull(self, wanted: Pull) -> Tensor:
        """Write fᵀ·g and what D makes of u to their places, and return Σ_n D, (F,). D is zero where f passes none."""

    def totals(self) -> Tensor:
        """Return Σ_n f, (F,)."""

    def matrix(self, factors: Tensor | None = None) -> Tensor:
        """Return f (n, F), each latent times its factor (F,); sparse where the code is."""


@dataclass(frozen=True)
class SparseCode:
    """Active latents, sorted by row.

    Attributes:
        offsets: where each row begins, and where the last one ends, (n + 1,), int64.
        latents: which latent, (m,), int64.
        values: what it is worth, (m,).
        d_sae: number of latents F.
        rectified: whether values come out of a ReLU, so that those of zero pass no gradient.
    """

    offsets: Tensor
    latents: Tensor
    values: Tensor
    d_sae: int
    rectified: bool = True

    @classmethod
    def of_rows(cls, latents: Tensor, values: Tensor, d_sae: int, *, rectified: bool = True) -> "SparseCode":
        """Return the code of rows with equally many latents each: `latents` and `values` are (n, k)."""
        n, k = latents.shape
        offsets = torch.arange(0, n * k + 1, k, device=latents.device)
        return cls(offsets, latents.flatten(), values.flatten(), d_sae, rectified)

    def times(self, W: Tensor) -> Tensor:
        """Return f·W."""
        return _bags(self.latents, W, self.offsets, self.values)

    def pull(self, wanted: Pull) -> Tensor:
        """Write what is wanted to its places, and return Σ_n D."""
        D = self._back(wanted.g, wanted.W_dec, wanted.to_W_dec)
        if wanted.penalty is not None:
            D += wanted.penalty[self._sorted[0]]
        if self.rectified:
            D *= self._weights > 0
        for slab, made in self._by_latent(D, wanted.u):
            if wanted.to_W_enc is None:
                wanted.to_W_dec[slab] += made
            else:
                wanted.to_W_enc[:, slab] = made.T
        return self._sums(D)

    def _back(self, g: Tensor, W: Tensor, out: Tensor) -> Tensor:
        """Write fᵀ·g into `out`, and return D.

        Latent by latent, D is the derivative of (fᵀ·g)·W by f: autograd has a kernel for it that gathers nothing. Rows
        of W are read once, in order, and g stays in cache, which the rows of W that one row of g needs would not.
        """
        D = torch.empty_like(self.values)
        for slab, places, rows, offsets in self._slabs():
            with torch.enable_grad():
                weights = self._weights[places].detach().requires_grad_()
                made = _bags(rows, g, offsets, weights)
            D[places] = torch.autograd.grad(made, weights, W[slab])[0]
            out[slab] = made.detach()
        return D

    def totals(self) -> Tensor:
        """Return Σ_n f."""
        return self._sums(self._weights)

    def _sums(self, D: Tensor) -> Tensor:
        """Return Σ_n D."""
        return D.new_zeros(self.d_sae).index_add_(0, self._sorted[0], D)

    def rows(self) -> Tensor:
        """Return the row of each, (m,)."""
        counts = self.offsets.diff()
        return torch.arange(len(counts), device=counts.device).repeat_interleave(counts, output_size=len(self.latents))

    def matrix(self, factors: Tensor | None = None) -> Tensor:
        """Return f as a sparse tensor, each latent times its factor."""
        indices = torch.stack([self.rows(), self.latents])
        values = self.values if factors is None else self.values * factors[self.latents]
        return torch.sparse_coo_tensor(indices, values, (len(self.offsets) - 1, self.d_sae), check_invariants=False)

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        """The latents (m,), sorted, rows in order within each; and where each was before. Sorted once per batch."""
        latents, order = self.latents.sort(stable=True)
        return latents, order

    @cached_property
    def _weights(self) -> Tensor:
        """The values, sorted by latent."""
        return self.values[self._sorted[1]]

    @cached_property
    def _rows(self) -> Tensor:
        """The rows, sorted by latent."""
        return self.rows()[self._sorted[1]]

    def _slabs(self) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
        """Yield (latents, places of their pairs, the rows of those, where each latent begins), some at a time."""
        starts = functional.pad(torch.bincount(self.latents, minlength=self.d_sae).cumsum(0), (1, 0))
        width = SLAB[self.values.device.type]
        ends = starts[::width].tolist() + ([len(self.values)] if self.d_sae % width else [])
        for number, (first, last) in enumerate(pairwise(ends)):
            latents = slice(number * width, min(self.d_sae, (number + 1) * width))
            yield latents, slice(first, last), self._rows[first:last], starts[latents.start : latents.stop + 1] - first

    def _by_latent(self, D: Tensor, g: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows of Dᵀ·g (F, d), some latents at a time."""
        for latents, places, rows, offsets in self._slabs():
            yield latents, _bags(rows, g, offsets, D[places])


@dataclass(frozen=True)
class DenseCode:
    """Latents as a matrix.

    Attributes:
        values: f, (n, F).
        kept: where f passes a gradient, (n, F); None: where it is above zero.
    """

    values: Tensor
    kept: Tensor | None = None

    def times(self, W: Tensor) -> Tensor:
        """Return f·W."""
        return self.values @ W

    def pull(self, wanted: Pull) -> Tensor:
        """Write what is wanted to its places, and return Σ_n D."""
        n, d_sae = self.values.shape
        width = DENSE_SLAB[self.values.device.type]
        sums, memory = wanted.g.new_empty(d_sae), wanted.g.new_empty(n * min(width, d_sae))
        for first in range(0, d_sae, width):
            slab = slice(first, min(d_sae, first + width))
            f = self.values[:, slab]
            torch.mm(f.T, wanted.g, out=wanted.to_W_dec[slab])
            D = torch.mm(wanted.g, wanted.W_dec[slab].T, out=memory[: n * f.shape[1]].view(n, -1))
            if wanted.penalty is not None:
                D += wanted.penalty[slab]
            self._gate(D, slab)
            torch.sum(D, dim=0, out=sums[slab])
            if wanted.to_W_enc is None:
                wanted.to_W_dec[slab].addmm_(D.T, wanted.u)
            else:
                torch.mm(wanted.u.T, D, out=wanted.to_W_enc[:, slab])
        return sums

    def _gate(self, D: Tensor, slab: slice) -> None:
        """Put zeros into D (n, some) where f passes no gradient."""
        if self.kept is not None:
            D *= self.kept[:, slab]
        else:  # the derivative of ReLU, in one pass and in place
            torch.ops.aten.threshold_backward.grad_input(D, self.values[:, slab], 0, grad_input=D)

    def totals(self) -> Tensor:
        """Return Σ_n f."""
        return self.values.sum(0)

    def matrix(self, factors: Tensor | None = None) -> Tensor:
        """Return f, each latent times its factor."""
        return self.values if factors is None else self.values * factors


def ranked(latents: Tensor, values: Tensor, d_sae: int, *, rectified: bool) -> Code:
    """Return the code of the k best latents of each row, `latents` and `values` (n, k): dense where k is large."""
    n, k = latents.shape
    if k <= d_sae * DENSE_FROM:
        return SparseCode.of_rows(latents, values, d_sae, rectified=rectified)
    f = values.new_zeros(n, d_sae).scatter_(1, latents, values)
    kept = None if rectified else torch.zeros_like(f, dtype=torch.bool).scatter_(1, latents, True)
    return DenseCode(f, kept)


def _bags(indices: Tensor, table: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the rows of a table in each bag."""
    return functional.embedding_bag(
        indices, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )
