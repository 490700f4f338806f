"""Sums over rows, from which every metric follows; they merge, so work can be split anywhere.

Mean and centred squares are merged by Chan, Golub & LeVeque (1979), in float64: the difference E‖x‖² − ‖E x‖² would
lose all digits where the mean dominates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from saereg.errors import WeightsError
from saereg.registry.kernels.active import Active
from saereg.registry.metrics.spread import ROUNDING, Spread, float64, pieces

DATA = "evaluation"
"""What messages call data whose name nobody told."""


@dataclass(frozen=True)
class Moments:
    """Sums over N rows of width d (sources side by side).

    Attributes:
        rows: N.
        sources: number of sources, K; 1 unless a crosscoder.
        per_source: whether latents carry a source axis.
        mean: x̄, shape (d,), float64.
        variance: Σ_n (x_n − x̄)², shape (d,), float64.
        squared_error: Σ_n (x_n − x̂_n)², shape (d,), float64.
        row_ratios: Σ_n ‖x_n − x̂_n‖² / ‖x_n‖².
        empty_rows: rows with ‖x_n‖ = 0, which have no such ratio.
        histogram: rows with i active latents (at any source) at position i, int64.
        positive: Σ_n #{latents with f > 0 at any source}.
        at_sources: Σ_n #{latents active at source k}, shape (K,), int64, for gates per source; else None.
        fired: rows in which each latent was active (at any source), shape (F,), int64.
        fired_at_sources: Σ_k rows in which each was active at source k, shape (F,), int64, for gates per source.
        sizes: Σ_n Σ_i |f_ni|, shape (1,), float64; for gates per source at each of them, (K,). None: not known.
    """

    rows: int
    sources: int
    per_source: bool
    mean: Tensor
    variance: Tensor
    squared_error: Tensor
    row_ratios: float
    empty_rows: int
    histogram: Tensor
    positive: int
    at_sources: Tensor | None
    fired: Tensor
    fired_at_sources: Tensor | None
    sizes: Tensor | None = None

    @property
    def width(self) -> int:
        """d, sources side by side."""
        return len(self.mean)

    @property
    def total_variance(self) -> float:
        """SST."""
        return float(self.variance.sum())

    @property
    def total_error(self) -> float:
        """SSE."""
        return float(self.squared_error.sum())

    @property
    def active_total(self) -> int:
        """Σ_n #{latents active at any source}."""
        return int((self.histogram * torch.arange(len(self.histogram))).sum())

    @property
    def is_constant(self) -> bool:
        """Whether SST is nothing but the rounding of x̄: at most 16 units in the last place of float64 per value."""
        largest = float(self.rounding.sum())
        return self.total_variance <= largest < float("inf")

    @property
    def rounding(self) -> Tensor:
        """Largest Σ_n (x_n − x̄)² that is nothing but the rounding of x̄, shape (d,)."""
        return self.rows * (self.mean * ROUNDING).square()

    @property
    def constant_sources(self) -> Tensor:
        """Which sources have constant data, shape (K,)."""
        return self.by_source(self.variance) <= self.by_source(self.rounding)

    def by_source(self, values: Tensor) -> Tensor:
        """Return the sums (d,) added up at each source, shape (K,)."""
        return values.view(self.sources, -1).sum(1)

    def merge(self, other: "Moments") -> "Moments":
        """Return the sums over both sets of rows. Associative and commutative up to float64 rounding."""
        rows = self.rows + other.rows
        shift = other.mean - self.mean
        between = shift * shift * (self.rows * other.rows / rows)
        return Moments(
            rows=rows,
            sources=self.sources,
            per_source=self.per_source,
            mean=self.mean + shift * (other.rows / rows),
            variance=self.variance + other.variance + between,
            squared_error=self.squared_error + other.squared_error,
            row_ratios=self.row_ratios + other.row_ratios,
            empty_rows=self.empty_rows + other.empty_rows,
            histogram=_added(self.histogram, other.histogram),
            positive=self.positive + other.positive,
            at_sources=None if self.at_sources is None else self.at_sources + _some(other.at_sources),
            fired=self.fired + other.fired,
            fired_at_sources=(
                None if self.fired_at_sources is None else self.fired_at_sources + _some(other.fired_at_sources)
            ),
            # what one of them does not know is not zero there
            sizes=None if self.sizes is None or other.sizes is None else self.sizes + other.sizes,
        )


def moments_of(x: Tensor, x_hat: Tensor, active: Active, first_row: int = 0, name: str = DATA) -> Moments:
    """Return the sums over one block of rows.

    Args:
        x: targets, shape (n, d) or (n, K, d).
        x_hat: reconstructions, same shape.
        active: what was active.
        first_row: position of the block in the data, for messages.
        name: what messages call the data.

    Raises:
        WeightsError: when x or x̂ is not finite, naming the first such row, or their shapes differ.
    """
    if x.shape != x_hat.shape:
        problem = f"targets of shape {tuple(x.shape[1:])}, but reconstructions are {tuple(x_hat.shape[1:])}"
        raise WeightsError(name, problem)
    kept = _Rows()
    for piece in pieces(x):
        kept.add(x[piece], x_hat[piece])
    spread, error, errors, norms = kept.sums()
    if not all(bool(total.isfinite().all()) for total in (spread.mean, spread.squares, error)):
        require_finite(x, "input", first_row, name)
        require_finite(x_hat, "reconstruction", first_row, name)
    empty = norms == 0
    return Moments(
        rows=x.shape[0],
        sources=x.shape[1] if x.dim() == 3 else 1,
        per_source=active.per_source,
        mean=spread.mean.cpu(),
        variance=spread.squares.cpu(),
        squared_error=error.cpu(),
        row_ratios=float((errors / norms)[~empty].sum()),
        empty_rows=int(empty.sum()),
        histogram=torch.bincount(active.counts.cpu()),
        positive=active.positive,
        at_sources=None if active.at_sources is None else active.at_sources.cpu(),
        fired=active.fired.cpu(),
        fired_at_sources=None if active.fired_at_sources is None else active.fired_at_sources.cpu(),
        sizes=None if active.sizes is None else active.sizes.cpu().double(),
    )


class _Rows:
    """Sums over the pieces of one block."""

    def __init__(self) -> None:
        self.spread: Spread | None = None
        self.error: Tensor | None = None
        self.errors: list[Tensor] = []
        self.norms: list[Tensor] = []

    def add(self, x: Tensor, x_hat: Tensor) -> None:
        x64, squares = float64(x).flatten(1), float64(x_hat).flatten(1)
        squares = squares.sub_(x64).square_()
        error = squares.sum(0)
        self.error = error if self.error is None else self.error + error
        self.errors.append(squares.sum(1))
        self.norms.append(torch.square(x64, out=squares).sum(1))
        spread = Spread.of(x64, 0)
        self.spread = spread if self.spread is None else self.spread.merge(spread)

    def sums(self) -> "tuple[Spread, Tensor, Tensor, Tensor]":
        """Return the spread of the rows, Σ_n (x_n − x̂_n)² (d,), ‖x_n − x̂_n‖² (n,), ‖x_n‖² (n,)."""
        if self.spread is None or self.error is None:
            raise WeightsError("evaluation", "holds no rows")
        return self.spread, self.error, torch.cat(self.errors), torch.cat(self.norms)


def _added(left: Tensor, right: Tensor) -> Tensor:
    """Return the sum of two histograms of perhaps different lengths."""
    longer, shorter = (left, right) if len(left) >= len(right) else (right, left)
    total = longer.clone()
    total[: len(shorter)] += shorter
    return total


def _some(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise WeightsError("evaluation", "sums with and without gates per source cannot be merged")
    return tensor


def require_finite(values: Tensor, what: str, first_row: int, name: str = DATA) -> None:
    """Refuse rows (n, …) of which one is not finite, in messages about data of that name.

    Raises:
        WeightsError: naming the first such row.
    """
    bad = ~torch.isfinite(values).flatten(1).all(1)
    if bad.any():
        row = first_row + int(bad.nonzero()[0])
        raise WeightsError(name, f"the {what} of row {row} is not finite")
