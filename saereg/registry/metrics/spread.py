"""Mean and centred squares of rows, in float64, piece by piece.

A piece is so small that its float64 copy stays in the processor's cache: over a whole block of 2048 × 768 the same sums
take two to five times as long. Pieces are joined by Chan, Golub & LeVeque (1979).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 16 * torch.finfo(torch.float64).eps
"""How far rows that are all the same may be from their computed mean, relative to it: 16 units in the last place."""

PIECE, PIECE_ON_DEVICE = (1 << 15) - 1, 1 << 24
"""Values of a piece: on a processor with a cache, and where each operation is a kernel that must be launched.

The first is one below what torch divides among threads: waiting for each other a hundred times per block costs more
than the sums, most of all beside other programs. It is fixed, so that digits do not depend on the number of threads.
"""

LEAST_ROWS = 8
"""Rows of a piece, at least: joining pieces costs about as much as one more row."""


def piece_values(x: Tensor) -> int:
    """Return how many values a piece of x holds."""
    return PIECE if x.device.type == "cpu" else PIECE_ON_DEVICE


def pieces(x: Tensor) -> Iterator[slice]:
    """Cut the rows of x (n, …) into pieces."""
    rows = max(LEAST_ROWS, piece_values(x) // max(1, x[:1].numel()))
    return (slice(at, at + rows) for at in range(0, len(x), rows))


def float64(x: Tensor) -> Tensor:
    """Return a new float64 copy of x; on the processor where the device has no float64."""
    return x.to(device="cpu" if x.device.type == "mps" else x.device, dtype=torch.float64, copy=True)


@dataclass(frozen=True)
class Spread:
    """Mean and centred squares of some rows, for one or many sets of them at once.

    Attributes:
        rows: n, rows of each set.
        mean: mean over the rows, shape (…), float64.
        squares: Σ_n (x_n − mean)², same shape.
    """

    rows: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, x: Tensor, dim: int) -> "Spread":
        """Return the spread of x along its axis of rows; x (float64) is overwritten with its centred squares."""
        mean = x.mean(dim, keepdim=True)
        return cls(x.shape[dim], mean.squeeze(dim), x.sub_(mean).square_().sum(dim))

    def merge(self, other: "Spread") -> "Spread":
        """Return the spread of both sets of rows."""
        rows = self.rows + other.rows
        shift = other.mean - self.mean
        between = shift * shift * (self.rows * other.rows / rows)
        return Spread(rows, self.mean + shift * (other.rows / rows), self.squares + other.squares + between)
