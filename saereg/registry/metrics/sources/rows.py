"""What every source of rows can do."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Rows(Protocol):
    """Rows to measure dictionaries on. Frozen and picklable: a task on another machine takes one along."""

    @property
    def name(self) -> str:
        """What messages call it: a file name, for example."""

    @property
    def rows(self) -> int:
        """How many there are."""

    @property
    def excluded(self) -> tuple[str, ...]:
        """Tokens whose rows were left out."""

    @property
    def has_target(self) -> bool:
        """Whether targets differ from inputs, as for a transcoder."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files that they are read from: one that changes after the digest was taken gives other rows."""

    def digest(self) -> str:
        """Return the SHA-256 by which the data are named, as 64 hexadecimal digits.

        Raises:
            OSError: when they cannot be read.
        """

    def read(self, first: int, count: int) -> "tuple[Tensor, Tensor]":
        """Return (inputs, targets) of `count` rows from row `first`; the same tensor twice where they are the same.

        Inputs are (count, d_in), or (count, n_sources, d_in) for a crosscoder, on the CPU, in the stored type.

        Raises:
            WeightsError: when they are not what is said of them.
            OSError: when they cannot be read.
        """
