"""Chosen latents looked at closely: sizes of their activations, the rows in which they are largest, and what is around.

Rows with the same activation, as it is written down, are ordered by their number: which of two rows comes first does
not hang on the last digit of a product, and so not on how rows were cut into blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from saereg.registry.features.counting import Encoded
from saereg.registry.features.latents import Latents

if TYPE_CHECKING:
    from torch import Tensor


BINS = 20
"""Bins of a histogram."""

DIGITS = 5
"""Significant decimal digits of activations that are written down."""


def rounded(values: "Tensor") -> "Tensor":
    """Return numbers of DIGITS significant decimal digits, float64."""
    import torch

    wide = values.double()
    size = wide.abs().clamp_min(1e-300)
    power = torch.pow(10.0, (DIGITS - 1) - size.log10().floor())
    return torch.where(wide == 0, wide, (wide * power).round() / power)


@dataclass(frozen=True, eq=False)
class Close:
    """What was seen of N latents. Of the activations at a row, one at each source of a crosscoder, the largest counts.

    Attributes:
        chosen: their numbers, (N,).
        rows: rows that were encoded.
        fired: rows in which each is active at any source, (N,).
        total: sum of its activations over those, (N,), float64.
        edges: bounds of the bins of its activations, (N, BINS + 1), float64; all 0 where it is never active.
        counts: rows in each bin, (N, BINS).
        top: rows with the largest activations, (N, K); -1 where there are no more.
        values: activations there, (N, K), of DIGITS digits.
    """

    chosen: "Tensor"
    rows: int
    fired: "Tensor"
    total: "Tensor"
    edges: "Tensor"
    counts: "Tensor"
    top: "Tensor"
    values: "Tensor"


def look(encoded: Encoded, latents: Latents, chosen: Sequence[int], most: int) -> Close:
    """Look at chosen latents.

    Args:
        encoded: the active latents.
        latents: their statistics.
        chosen: numbers of latents, N of them.
        most: K, rows of each that are wanted.

    Raises:
        WeightsError: when rows do not fit the dictionary, or a number is not finite.
        OSError: when they cannot be read.
    """
    import torch

    numbers = torch.tensor(list(chosen), dtype=torch.int64)
    looking = _Looking(numbers, latents, most)
    for first, dense in _dense_blocks(encoded, _places(numbers, latents.fired.shape[1])):
        looking.add(first, dense)
    return looking.close(latents.rows)


def _places(chosen: "Tensor", width: int) -> "Tensor":
    """Return the place of each latent among those that are chosen, (F,); -1 for all others."""
    import torch

    places = torch.full((width,), -1, dtype=torch.int64)
    places[chosen] = torch.arange(len(chosen))
    return places


def _dense_blocks(encoded: Encoded, places: "Tensor") -> "Iterator[tuple[int, Tensor]]":
    """Yield (first row, the largest activation over the sources (n, N)) of every block; of a negative one its size."""
    import torch

    for first, blocks in groupby(encoded, key=lambda block: block.first):
        dense: Tensor | None = None
        for block in blocks:
            codes = block.codes
            if dense is None:
                dense = torch.zeros(block.count, int((places >= 0).sum()))
            at = places[codes.latents]
            keep = at >= 0
            rows, at, values = codes.rows[keep], at[keep], codes.values[keep].float()
            held = dense[rows, at]
            dense[rows, at] = torch.where(values.abs() > held.abs(), values, held)
        if dense is not None:
            yield first, dense


class _Looking:
    """What was seen so far."""

    def __init__(self, chosen: "Tensor", latents: Latents, most: int) -> None:
        import torch

        size = len(chosen)
        self.chosen, self.most = chosen, most
        self.fired = torch.zeros(size, dtype=torch.int64)
        self.total = torch.zeros(size, dtype=torch.float64)
        self.edges = _edges(latents.maximum[:, chosen].amax(0))
        self.counts = torch.zeros(size, BINS, dtype=torch.int64)
        self.top = torch.full((size, 0), -1, dtype=torch.int64)
        self.values = torch.zeros(size, 0, dtype=torch.float64)

    def add(self, first: int, dense: "Tensor") -> None:
        """Take the activations (n, N) of a block of rows."""
        active = dense != 0
        self.fired += active.sum(0)
        self.total += dense.abs().double().sum(0)
        self._count(dense.abs().double().T.contiguous(), active.T)
        self._rank(first, rounded(dense.T))

    def _count(self, sizes: "Tensor", active: "Tensor") -> None:
        import torch

        bins = (torch.searchsorted(self.edges, sizes, right=True) - 1).clamp(0, BINS - 1)
        self.counts.scatter_add_(1, bins, active.long())

    def _rank(self, first: int, values: "Tensor") -> None:
        """Keep the largest of those so far and a block's; in a stable order the earlier row stays before."""
        import torch

        order = values.abs().argsort(dim=1, descending=True, stable=True)[:, : self.most]
        rows = order + first
        joined = torch.cat([self.values, values.gather(1, order)], 1)
        places = torch.cat([self.top, rows], 1)
        best = joined.abs().argsort(dim=1, descending=True, stable=True)[:, : self.most]
        self.values, self.top = joined.gather(1, best), places.gather(1, best)

    def close(self, rows: int) -> Close:
        """Return what was seen."""
        top = self.top.masked_fill(self.values == 0, -1)
        return Close(self.chosen, rows, self.fired, self.total, self.edges, self.counts, top, self.values)


def _edges(maximum: "Tensor") -> "Tensor":
    """Return bounds of equal bins from 0 to the largest activation, (N, BINS + 1), as they are written down."""
    import torch

    return rounded(maximum.double().unsqueeze(1) * torch.linspace(0, 1, BINS + 1, dtype=torch.float64))


def activations_at(encoded: Encoded, chosen: "Tensor", keys: "Tensor", rows: int, shape: tuple[int, int]) -> "Tensor":
    """Return activations of chosen latents at some rows.

    Args:
        encoded: the active latents.
        chosen: numbers of latents, (N,).
        keys: which latent and row, `place × rows + row`, rising and each once, (m,).
        rows: rows that were encoded.
        shape: (S, F).

    Returns:
        The activation at each source, (S, m), float32; 0 where the latent is not active.

    Raises:
        WeightsError: when rows do not fit the dictionary, or a number is not finite.
        OSError: when they cannot be read.
    """
    import torch

    found = torch.zeros(shape[0], len(keys))
    if not len(keys):
        return found
    places = _places(chosen, shape[1])
    for block in encoded:
        codes = block.codes
        at = places[codes.latents]
        keep = at >= 0
        key = at[keep] * rows + codes.rows[keep] + block.first
        where = torch.searchsorted(keys, key).clamp_max(len(keys) - 1)
        hit = keys[where] == key
        found[codes.source, where[hit]] = codes.values[keep][hit].float()
    return found
