"""What a definition returns: a number with what a repetition may differ by, or the reason why there is none."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from saereg.schemas.metrics import Histogram

if TYPE_CHECKING:
    from torch import Tensor

REPEATED = 1e-5
"""By how much a sum of squares may differ when it is computed on another machine, relative to the data's variance.

Encode and decode run in float32 (or less), and another processor adds the same products in another order.
"""

FLIPPED, FLIPPED_SHARE = 8, 1e-3
"""How many of all counted things may count otherwise on another machine, and which share of the result at most.

A pre-activation within rounding of its cut (0, a threshold, the k-th largest) falls on the other side there: of the
tens of millions of an evaluation, one or a few.
"""

MOST_BINS = 32
"""Bins of a histogram, at most."""


@dataclass(frozen=True)
class Value:
    """A metric's value, or the reason why it has none.

    Attributes:
        value: the number, or None.
        reason: why there is none.
        minimum: smallest value of a row, for counts.
        maximum: largest value of a row, for counts.
        tolerance: largest difference of the value when another machine computes it from the same files.
        histogram: rows with each value, for counts.
        per_source: the value at each source of a crosscoder; empty elsewhere.
    """

    value: float | None
    reason: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    tolerance: float = REPEATED
    histogram: Histogram | None = None
    per_source: tuple[float | None, ...] = ()

    def complement(self) -> "Value":
        """Return 1 − value, total and per source: explained from unexplained."""
        if self.value is None:
            return self
        sources = tuple(None if value is None else 1.0 - value for value in self.per_source)
        return replace(self, value=1.0 - self.value, per_source=sources)


def sources_of(values: "Tensor") -> tuple[float | None, ...]:
    """Return a value per source (K,), None where it is no number; empty where there is but one source."""
    if len(values) < 2:
        return ()
    defined = values.isfinite().tolist()
    return tuple(value if known else None for value, known in zip(values.tolist(), defined, strict=True))


def flipped(count: int, scale: float) -> float:
    """Return by how much a mean over `count` things, near `scale`, may differ where some fall on the other side."""
    return min(FLIPPED / count, FLIPPED_SHARE * max(1.0, scale))


def histogram_of(rows: "Tensor") -> Histogram:
    """Return counts of whole numbers in at most 32 bins.

    Bins are 1, 2, 5, 10, 20, 50, … wide, as narrow as fits, and begin at multiples of their width, so that two
    histograms of similar data have the same edges.

    Args:
        rows: rows with the number i at position i, int64.
    """
    seen = rows.nonzero().flatten()
    low, high = int(seen[0]), int(seen[-1])
    width = next(w for w in _widths() if high // w - low // w < MOST_BINS)
    first, last = low // width, high // width
    bins = [int(rows[i * width : (i + 1) * width].sum()) for i in range(first, last + 1)]
    return Histogram(edges=tuple(i * width for i in range(first, last + 2)), counts=tuple(bins))


def _widths() -> tuple[int, ...]:
    return tuple(step * 10**power for power in range(19) for step in (1, 2, 5))
