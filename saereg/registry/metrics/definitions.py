"""One number, one definition: each metric is one function of the sums that `Moments` keeps.

x_n is a row (for a crosscoder the sources side by side), x̂_n its reconstruction, N the rows, d the width,
SSE = Σ_n ‖x_n − x̂_n‖², SST = Σ_n ‖x_n − x̄‖² with x̄ the mean over all N rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

from saereg.registry.metrics.moments import Moments

REPEATED = 1e-5
"""By how much a sum of squares may differ when it is computed on another machine, relative to the data's variance.

Encode and decode run in float32 (or less), and another processor adds the same products in another order.
"""

FLIPPED, FLIPPED_SHARE = 8, 1e-3
"""How many of all counted things may count otherwise on another machine, and which share of the result at most.

A pre-activation within rounding of its cut (0, a threshold, the k-th largest) falls on the other side there: of the
tens of millions of an evaluation, one or a few.
"""


@dataclass(frozen=True)
class Value:
    """A metric's value, or the reason why it has none.

    Attributes:
        value: the number, or None.
        reason: why there is none.
        minimum: smallest value of a row, for counts.
        maximum: largest value of a row, for counts.
        tolerance: largest difference of the value when another machine computes it from the same files.
    """

    value: float | None
    reason: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    tolerance: float = REPEATED


def fvu(m: Moments) -> Value:
    """Fraction of variance unexplained: SSE / SST.

    Source: Gao et al. 2024, arXiv:2406.04093, §2 (normalized MSE against predicting the mean activation).
    """
    if m.is_constant:
        return Value(None, "the data are constant, so there is no variance to explain")
    value = m.squared_error / m.total_variance
    return Value(value, tolerance=REPEATED * max(1.0, value))


def explained_variance(m: Moments) -> Value:
    """1 − SSE / SST, the variance-weighted R²: sklearn's `r2_score(multioutput="variance_weighted")`.

    Not a mean of ratios per row or batch: it does not depend on how the rows are split.
    """
    unexplained = fvu(m)
    if unexplained.value is None:
        return unexplained
    return Value(1.0 - unexplained.value, tolerance=unexplained.tolerance)


def mse_per_row(m: Moments) -> Value:
    """SSE / N: the squared error summed over the width, averaged over rows (SAELens' `mse`)."""
    return _mean_error(m, m.rows)


def mse_per_element(m: Moments) -> Value:
    """SSE / (N·d)."""
    return _mean_error(m, m.rows * m.width)


def _mean_error(m: Moments, count: int) -> Value:
    return Value(m.squared_error / count, tolerance=REPEATED * max(m.squared_error, m.total_variance) / count)


def l0(m: Moments) -> Value:
    """Mean over rows of the number of latents with f ≠ 0; exact integer counts, with their smallest and largest.

    For a crosscoder with a shared gate this is the one active set; with gates per source it is undefined here, see
    `l0_per_source_mean` and `l0_any_source`.
    """
    if m.per_source:
        return Value(None, "each source has its own active set; see l0_per_source_mean and l0_any_source")
    return l0_any_source(m)


def l0_per_source_mean(m: Moments) -> Value:
    """Mean over rows and sources of the number of latents with f ≠ 0 (per-source gates)."""
    value = m.active_per_source_total / (m.rows * m.sources)
    return Value(value, tolerance=_flipped(m.rows * m.sources, value))


def l0_any_source(m: Moments) -> Value:
    """Mean over rows of the number of latents with f ≠ 0 at any source (per-source gates)."""
    value = m.active_total / m.rows
    return Value(value, None, float(m.active_minimum), float(m.active_maximum), _flipped(m.rows, value))


def dead_fraction(m: Moments) -> Value:
    """Share of latents with f = 0 in every one of the N rows. Depends on N, which is why N is always recorded."""
    return Value(float((m.fired == 0).sum()) / m.fired.numel(), tolerance=_flipped(m.fired.numel(), 1.0))


def _flipped(count: int, scale: float) -> float:
    return min(FLIPPED / count, FLIPPED_SHARE * max(1.0, scale))


DEFINITIONS: dict[str, Callable[[Moments], Value]] = {
    "explained_variance": explained_variance,
    "fvu": fvu,
    "mse_per_row": mse_per_row,
    "mse_per_element": mse_per_element,
    "l0": l0,
    "dead_fraction": dead_fraction,
}
"""Definitions that are computed for every dictionary."""

PER_SOURCE: dict[str, Callable[[Moments], Value]] = {
    "l0_per_source_mean": l0_per_source_mean,
    "l0_any_source": l0_any_source,
}
"""Definitions that are computed where sources have gates of their own."""
