"""Which latents this process holds, and what it must ask the others: the only place that knows of several processes.

Each process of a group holds some latents whole, with their parts of W_enc, W_dec and all vectors over latents;
`b_dec`, the rows and their statistics are the same on all of them. Everything else in this room is written for the
latents at hand, and adds up through a group what is a sum over all latents: reconstructions, penalties, counts, squared
norms of gradients. Gradients need no exchange: that of a sum by one of its parts is the gradient of the sum.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from saereg.trainers.runs.together import OneProcess, Together


class Group(Together, Protocol):
    """Processes that hold the latents of one dictionary together. All call the same methods in the same order."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0; the one of rank 0 writes files."""

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over all processes, bit by bit the same on each of them, and return it."""

    def top_values(self, values: Tensor, count: int) -> Tensor:
        """Return the largest values of all processes along the last axis, falling, the same on each of them.

        Args:
            values: (..., m); of each process other latents' values, and not the same m.
            count: how many are wanted.

        Returns:
            (..., min(count, sum of all m)).
        """

    def joined(self, tensor: Tensor, dim: int) -> Tensor:
        """Return the parts of all processes one behind the other along an axis, in the order of their ranks."""


class Alone(OneProcess):
    """One process, which holds all latents."""

    rank = 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Return the tensor."""
        return tensor

    def top_values(self, values: Tensor, count: int) -> Tensor:
        """Return the largest values along the last axis, falling."""
        return values.topk(min(count, values.shape[-1]), dim=-1).values

    def joined(self, tensor: Tensor, dim: int) -> Tensor:
        """Return the tensor."""
        del dim
        return tensor


ALONE = Alone()


def share(total: int, group: Group) -> range:
    """Return which of `total` latents this process holds: neighbours, as many as any other process or one more."""
    return share_of(total, group.rank, group.size)


def share_of(total: int, rank: int, size: int) -> range:
    """Return which of `total` latents one of `size` processes holds."""
    return range(total * rank // size, total * (rank + 1) // size)


def summed(partial: Tensor, group: Group) -> Tensor:
    """Return the sum of partial tensors over all processes; its gradient by each of them is the gradient of the sum."""
    if group.size == 1:
        return partial
    total: Tensor = _Summed.apply(partial, group)  # type: ignore[no-untyped-call]
    return total


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, partial: Tensor, group: Group) -> Tensor:  # noqa: ANN401
        del ctx
        return group.sum_(partial.detach().clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        del ctx
        return gradient, None
