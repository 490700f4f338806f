"""Active latents as (row, latent, value), and their sum over decoder rows: f·W_dec without the zeros."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

PIECE = 1024
"""Columns of decoder rows that are summed at once: a slab of 2048 latents of them stays in cache."""

GATHERED = 1 << 22
"""Numbers gathered at once on devices that have no fused sum."""

FUSED = ("cpu", "cuda")
"""Devices on which torch sums weighted rows in one go."""

DENSE_FROM = {"cpu": 0.2, "cuda": 0.03}
"""Share of active latents from which a product is faster than sums of rows; other devices: that of CUDA."""


@dataclass(frozen=True)
class Pairs:
    """Some latents of some rows, sorted by row.

    Attributes:
        offsets: where each row begins, (n + 1,), int64.
        latents: which latent, (m,), int64.
        values: what it is worth, (m,).
    """

    offsets: Tensor
    latents: Tensor
    values: Tensor

    def only(self, keep: Tensor) -> "Pairs":
        """Return those that a mask (m,) keeps."""
        chosen = keep.nonzero().squeeze(1)
        if len(chosen) == len(keep):
            return self
        kept = functional.pad(keep.cumsum(0), (1, 0))
        return Pairs(kept[self.offsets], self.latents[chosen], self.values[chosen])

    def counts(self) -> Tensor:
        """Return how many each row has, (n,)."""
        return self.offsets.diff()

    def rows(self) -> Tensor:
        """Return the row of each, (m,)."""
        counts = self.counts()
        return torch.arange(len(counts), device=counts.device).repeat_interleave(counts, output_size=len(self.latents))


def is_dense(active: int, cells: int, device: torch.device) -> bool:
    """Whether so many active latents among so many are decoded faster by a product."""
    return active > cells * DENSE_FROM.get(device.type, DENSE_FROM["cuda"])


def add_decoded(total: Tensor, pairs: Pairs, W_dec: Tensor) -> None:
    """Add f·W_dec, whichever way is faster.

    Args:
        total: (n, O), perhaps of a wider type; changed.
        pairs: f.
        W_dec: (s, O).
    """
    if not len(pairs.latents):
        return
    shape = len(total), len(W_dec)
    if is_dense(len(pairs.latents), shape[0] * shape[1], total.device):
        f = W_dec.new_zeros(shape)
        f[pairs.rows(), pairs.latents] = pairs.values
        add_product(total, f, W_dec)
    else:
        add_sums(total, pairs, W_dec)


def add_product(total: Tensor, f: Tensor, W_dec: Tensor) -> None:
    """Add f·W_dec to `total` by a product."""
    if total.dtype == W_dec.dtype:
        total.addmm_(f, W_dec)
    else:
        total += f @ W_dec


def add_sums(total: Tensor, pairs: Pairs, W_dec: Tensor) -> None:
    """Add f·W_dec to `total` by sums of weighted rows."""
    if total.device.type not in FUSED:
        _add_gathered(total, pairs, W_dec)
        return
    width = W_dec.shape[1]
    step = width if width <= 2 * PIECE else PIECE
    for first in range(0, width, step):
        columns = slice(first, min(width, first + step))
        total[:, columns] += functional.embedding_bag(
            pairs.latents,
            W_dec[:, columns].contiguous(),
            pairs.offsets,
            mode="sum",
            per_sample_weights=pairs.values,
            include_last_offset=True,
        )


def _add_gathered(total: Tensor, pairs: Pairs, W_dec: Tensor) -> None:
    rows, step = pairs.rows(), max(1, GATHERED // W_dec.shape[1])
    for first in range(0, len(rows), step):
        part = slice(first, first + step)
        weighted = W_dec[pairs.latents[part]] * pairs.values[part].unsqueeze(1)
        total.index_add_(0, rows[part], weighted.to(total.dtype))
