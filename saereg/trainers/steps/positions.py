"""Where a dense matrix is above a bound, as a sparse batch of latents."""

import numpy as np
import torch
from torch import Tensor

from saereg.trainers.steps.codes import SparseCode

TILE = 1 << 22
"""Numbers looked through at once on a CPU, while they are in cache."""

SAMPLED = 16
"""One row of so many is looked at where an estimate is enough."""


def above(matrix: Tensor, bound: float) -> Tensor:
    """Return the flat positions, rising, at which a contiguous matrix is above a bound or no number, int64."""
    if matrix.device.type != "cpu":
        return (~(matrix <= bound)).flatten().nonzero().squeeze(1)
    flat = matrix.view(-1).numpy()
    parts = [np.flatnonzero(~(flat[first : first + TILE] <= bound)) + first for first in range(0, len(flat), TILE)]
    return torch.from_numpy(np.concatenate(parts))


def code_at(flat: Tensor, values: Tensor, shape: tuple[int, int], norms: Tensor | None = None) -> SparseCode:
    """Return the code of flat positions in rising order (m,), with the value of each (m,), over its norm (F,)."""
    n, d_sae = shape
    rows = flat.div(d_sae, rounding_mode="floor")
    latents = flat - rows * d_sae
    offsets = torch.searchsorted(rows, torch.arange(n + 1, device=rows.device))
    return SparseCode(offsets, latents, values if norms is None else values / norms[latents], d_sae)


def share_above_zero(matrix: Tensor) -> float:
    """Return the share of numbers above zero, from a sample of rows."""
    sample = matrix[::SAMPLED]
    return float((sample > 0).sum()) / max(1, sample.numel())


def best_of_all(ranks: Tensor, count: int) -> Tensor:
    """Return the flat positions, rising, of the `count` largest numbers above zero (fewer where there are fewer).

    A sample of rows says above which bound there must be enough of them, so that most are never ranked.

    Args:
        ranks: contiguous matrix (n, F).
        count: how many.
    """
    found = above(ranks, _low_bound(ranks, count))
    if len(found) < count:
        found = above(ranks, 0.0)
    if len(found) > count:
        chosen = ranks.view(-1)[found].topk(count, sorted=False).indices
        found = found[chosen].sort().values
    return found


def _low_bound(ranks: Tensor, count: int) -> float:
    """Return a number that about twice as many as are wanted should be above; never below zero."""
    sample = ranks[::SAMPLED].flatten()
    wanted = 2 * count * len(sample) // ranks.numel()
    if wanted >= len(sample):
        return 0.0
    return max(0.0, float(sample.topk(max(1, wanted), sorted=False).values.min()))
