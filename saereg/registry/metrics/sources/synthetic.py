"""Rows from a generator with a seed: the same wherever they are made, and however they are read."""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.metrics.sources.shapes import check_shape
from saereg.schemas.evaluation import SyntheticRows, too_many

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor

GENERATOR = "saereg-synthetic-1"
"""Name and version of what follows: another generator gets another name, and so other digests."""

BLOCK_VALUES = 1 << 18
"""Most numbers of one block of rows; each block has a generator of its own."""

ACTIVE, DIRECTIONS_PER_WIDTH = 16, 2
"""`sparse_directions`: how many directions a row is the sum of, and how many there are for each of d_in."""


MOST_READ_VALUES = 1 << 31
"""Most numbers that are generated at once, 8 GiB."""

MOST_DIRECTION_VALUES = 1 << 29
"""Most numbers of all directions, 2 GiB: they are held in memory."""


@dataclass(frozen=True)
class GeneratedRows:
    """Rows of a distribution, float32.

    Row i stands in block i // b, b being the largest power of two with at most BLOCK_VALUES numbers in b rows. Each
    block is drawn by numpy's `Generator(Philox(key))`, counter-based (Salmon et al. 2011, "Parallel random numbers: as
    easy as 1, 2, 3"); the key is the first 16 bytes, little-endian, of the SHA-256 of `GENERATOR seed block`. Normal
    numbers are drawn in float64 and rounded to float32. Rows 0 to n are the same whatever the number of rows in all.

    Attributes:
        evaluation: what is said of them.
        shape: shape of one row.
    """

    evaluation: SyntheticRows
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """Distribution and seed."""
        return f"synthetic {self.evaluation.distribution}, seed {self.evaluation.seed}"

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.evaluation.rows

    @property
    def excluded(self) -> tuple[str, ...]:
        """Nothing but what the record says."""
        return self.evaluation.excluded

    @property
    def has_target(self) -> bool:
        """Never: a transcoder has nothing to predict here."""
        return False

    @property
    def paths(self) -> "tuple[Path, ...]":
        """None."""
        return ()

    def digest(self) -> str:
        """Return the SHA-256 of what the rows follow from: generator, seed, distribution, rows, shape."""
        spec = {
            "generator": GENERATOR,
            "seed": self.evaluation.seed,
            "distribution": self.evaluation.distribution,
            "rows": self.rows,
            "shape": list(self.shape),
        }
        return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def _block_rows(self) -> int:
        return 1 << max(0, (BLOCK_VALUES // math.prod(self.shape)).bit_length() - 1)

    def read(self, first: int, count: int) -> "tuple[Tensor, Tensor]":
        """Return rows, twice.

        Raises:
            WeightsError: when they are more than fit into memory.
        """
        import torch

        size, stop = self._block_rows, min(first + count, self.rows)
        if (stop - first) * math.prod(self.shape) > MOST_READ_VALUES:
            raise WeightsError(self.name, f"{stop - first} rows of shape {self.shape} are too many to read at once")
        x = torch.empty(max(0, stop - first), *self.shape)
        for number in range(first // size, -(-stop // size)):
            begin, end = max(first, number * size), min(stop, (number + 1) * size)
            block = torch.from_numpy(self._block(number))
            x[begin - first : end - first] = block[begin - number * size : end - number * size]
        return x, x

    def _block(self, number: int) -> "np.ndarray":
        import numpy as np

        generator, rows = _generator(self.evaluation.seed, str(number)), self._block_rows
        if self.evaluation.distribution == "normal":
            return generator.standard_normal((rows, *self.shape)).astype(np.float32)
        directions = _directions(self.evaluation.seed, self.shape)
        which = generator.integers(0, len(directions), (rows, ACTIVE))
        # coefficients are exponential, E c² = 2: this scale makes the mean of ‖x‖² d for each source
        scale = math.sqrt(1 / (2 * ACTIVE))
        coefficients = (generator.standard_exponential((rows, ACTIVE)) * scale).astype(np.float32)
        x = np.zeros((rows, *self.shape), np.float32)
        for place in range(ACTIVE):  # a fixed order of additions, as a matrix product has not
            x += coefficients[:, place].reshape(-1, *(1 for _ in self.shape)) * directions[which[:, place]]
        return x


def generated(evaluation: SyntheticRows, wanted: tuple[int, ...]) -> GeneratedRows:
    """Return the rows of an evaluation for a dictionary.

    Args:
        evaluation: what is said of them.
        wanted: shape of one row that the dictionary reads.

    Raises:
        WeightsError: when it does not read rows of the shape that is said, or there are more than can be generated.
    """
    found = GeneratedRows(evaluation, evaluation.shape or wanted)
    check_shape(found.name, None, found.shape, wanted)
    if problem := too_many(found.rows, found.shape):
        raise WeightsError(found.name, problem)
    held = DIRECTIONS_PER_WIDTH * found.shape[-1] * math.prod(found.shape)
    if evaluation.distribution == "sparse_directions" and held > MOST_DIRECTION_VALUES:
        size = f"{held} numbers, at most {MOST_DIRECTION_VALUES} are held"
        raise WeightsError(found.name, f"directions of shape {found.shape} are {size}; use `normal`")
    return found


@lru_cache(maxsize=1)
def _directions(seed: int, shape: tuple[int, ...]) -> "np.ndarray":
    """Return all directions, (DIRECTIONS_PER_WIDTH · d_in, *shape), independent and normal."""
    import numpy as np

    count = DIRECTIONS_PER_WIDTH * shape[-1]
    found = np.empty((count, *shape), np.float32)
    for number in range(count):
        found[number] = _generator(seed, f"direction {number}").standard_normal(shape)
    return found


def _generator(seed: int, what: str) -> "np.random.Generator":
    import numpy as np

    key = hashlib.sha256(f"{GENERATOR} {seed} {what}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
