"""Sums over rows, from which every metric follows; they merge exactly, so work can be split anywhere.

Mean and centred squares are merged by Chan, Golub & LeVeque (1979), in float64: the difference E‖x‖² − ‖E x‖² would
lose all digits where the mean dominates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from saereg.errors import WeightsError


@dataclass(frozen=True)
class Moments:
    """Sums over N rows.

    Attributes:
        rows: N.
        width: d, sources side by side.
        sources: number of sources, 1 unless a crosscoder.
        per_source: whether latents carry a source axis.
        mean: x̄, shape (d,), float64.
        total_variance: SST.
        squared_error: SSE.
        active_total: Σ_n #{latents active at any source}.
        active_per_source_total: Σ_n Σ_k #{latents active at source k}.
        active_minimum: least active latents in a row.
        active_maximum: most active latents in a row.
        fired: rows in which each latent was active, shape (F,), int64.
    """

    rows: int
    width: int
    sources: int
    per_source: bool
    mean: Tensor
    total_variance: float
    squared_error: float
    active_total: int
    active_per_source_total: int
    active_minimum: int
    active_maximum: int
    fired: Tensor

    @property
    def is_constant(self) -> bool:
        """Whether SST is nothing but the rounding of x̄: at most 16 units in the last place of float64 per value."""
        rounding = 16 * torch.finfo(torch.float64).eps
        largest = self.rows * float((self.mean * rounding).square().sum())
        return self.total_variance <= largest < float("inf")

    def merge(self, other: "Moments") -> "Moments":
        """Return the sums over both sets of rows. Associative and commutative up to float64 rounding."""
        rows = self.rows + other.rows
        shift = other.mean - self.mean
        between = float((shift * shift).sum()) * self.rows * other.rows / rows
        return Moments(
            rows=rows,
            width=self.width,
            sources=self.sources,
            per_source=self.per_source,
            mean=self.mean + shift * (other.rows / rows),
            total_variance=self.total_variance + other.total_variance + between,
            squared_error=self.squared_error + other.squared_error,
            active_total=self.active_total + other.active_total,
            active_per_source_total=self.active_per_source_total + other.active_per_source_total,
            active_minimum=min(self.active_minimum, other.active_minimum),
            active_maximum=max(self.active_maximum, other.active_maximum),
            fired=self.fired + other.fired,
        )


def moments_of(x: Tensor, x_hat: Tensor, f: Tensor, first_row: int = 0) -> Moments:
    """Return the sums over one batch.

    Args:
        x: targets, shape (n, d) or (n, K, d).
        x_hat: reconstructions, same shape.
        f: latents, shape (n, F), or (n, K, F) where sources have gates of their own.
        first_row: position of the batch in the data, for messages.

    Raises:
        WeightsError: when x or x̂ is not finite, naming the first such row, or their shapes differ.
    """
    if x.shape != x_hat.shape:
        problem = f"targets of shape {tuple(x.shape[1:])}, but reconstructions are {tuple(x_hat.shape[1:])}"
        raise WeightsError("evaluation", f"{problem}; a transcoder's evaluation needs `target`")
    sources = x.shape[1] if x.dim() == 3 else 1
    x64 = x.flatten(1).double()
    error = x_hat.flatten(1).double() - x64
    _require_finite(x64, "input", first_row)
    _require_finite(error, "reconstruction", first_row)
    mean = x64.mean(0)
    active = f != 0
    any_source = active.any(1) if active.dim() == 3 else active
    counts = any_source.sum(1)
    return Moments(
        rows=x.shape[0],
        width=x64.shape[1],
        sources=sources,
        per_source=f.dim() == 3,
        mean=mean,
        total_variance=float(((x64 - mean) ** 2).sum()),
        squared_error=float((error * error).sum()),
        active_total=int(counts.sum()),
        active_per_source_total=int(active.sum()) * (1 if active.dim() == 3 else sources),
        active_minimum=int(counts.min()),
        active_maximum=int(counts.max()),
        fired=any_source.sum(0),
    )


def _require_finite(values: Tensor, what: str, first_row: int) -> None:
    bad = ~torch.isfinite(values).all(1)
    if bad.any():
        row = first_row + int(bad.nonzero()[0])
        raise WeightsError("evaluation", f"the {what} of row {row} is not finite")
