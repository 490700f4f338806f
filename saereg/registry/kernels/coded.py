"""What a dictionary made of a block of rows."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from saereg.registry.kernels.active import Active


@dataclass(frozen=True)
class Coded:
    """What a dictionary made of a block of n rows; to a temporal one each position of a text is a row.

    Attributes:
        x_hat: reconstruction in raw units, shape (n, O), (n, K, D) for a crosscoder.
        active: which latents were active.
        x_in: rows as the encoder reads them, (n, D) or (n, K, D); `b_dec` is not taken off them.
        x_hat_in: reconstruction in those units; the same tensor as `x_hat` where nothing is normalized.
    """

    x_hat: Tensor
    active: Active
    x_in: Tensor
    x_hat_in: Tensor


class Runner(Protocol):
    """A dictionary, ready to be run over blocks of rows."""

    @property
    def block_rows(self) -> int:
        """Rows that `run` is given at once, at most: memory is proportional to it."""

    @property
    def dtype(self) -> str:
        """Type in which encode and decode run, as torch names it."""

    def run(self, x: Tensor) -> Coded:
        """Encode and decode some rows (n, D), or (n, K, D) for a crosscoder, in raw units, on any device.

        The result is on the device of the weights.

        Raises:
            UsageError: when x has another shape than the dictionary reads.
        """
