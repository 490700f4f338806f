"""One number, one definition: each metric is one function of the sums that `Moments` keeps.

x_n is a row (for a crosscoder the sources side by side), x̂_n its reconstruction, N the rows, d the width,
SSE = Σ_n ‖x_n − x̂_n‖², SST = Σ_n ‖x_n − x̄‖² with x̄ the mean over all N rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

from saereg.registry.metrics.moments import Moments


@dataclass(frozen=True)
class Value:
    """A metric's value, or the reason why it has none."""

    value: float | None
    reason: str | None = None
    minimum: float | None = None
    maximum: float | None = None


def fvu(m: Moments) -> Value:
    """Fraction of variance unexplained: SSE / SST.

    Source: Gao et al. 2024, arXiv:2406.04093, §2 (normalized MSE against predicting the mean activation).
    """
    if m.is_constant:
        return Value(None, "the data are constant, so there is no variance to explain")
    return Value(m.squared_error / m.total_variance)


def explained_variance(m: Moments) -> Value:
    """1 − SSE / SST, the variance-weighted R²: sklearn's `r2_score(multioutput="variance_weighted")`.

    Not a mean of ratios per row or batch: it does not depend on how the rows are split.
    """
    unexplained = fvu(m)
    return unexplained if unexplained.value is None else Value(1.0 - unexplained.value)


def mse_per_row(m: Moments) -> Value:
    """SSE / N: the squared error summed over the width, averaged over rows (SAELens' `mse`)."""
    return Value(m.squared_error / m.rows)


def mse_per_element(m: Moments) -> Value:
    """SSE / (N·d)."""
    return Value(m.squared_error / (m.rows * m.width))


def l0(m: Moments) -> Value:
    """Mean over rows of the number of latents with f ≠ 0; exact integer counts, with their smallest and largest.

    For a crosscoder with a shared gate this is the one active set; with gates per source it is undefined here, see
    `l0_per_source_mean` and `l0_any_source`.
    """
    if m.per_source:
        return Value(None, "each source has its own active set; see l0_per_source_mean and l0_any_source")
    return Value(m.active_total / m.rows, None, float(m.active_minimum), float(m.active_maximum))


def l0_per_source_mean(m: Moments) -> Value:
    """Mean over rows and sources of the number of latents with f ≠ 0 (per-source gates)."""
    return Value(m.active_per_source_total / (m.rows * m.sources))


def l0_any_source(m: Moments) -> Value:
    """Mean over rows of the number of latents with f ≠ 0 at any source (per-source gates)."""
    return Value(m.active_total / m.rows, None, float(m.active_minimum), float(m.active_maximum))


def dead_fraction(m: Moments) -> Value:
    """Share of latents with f = 0 in every one of the N rows. Depends on N, which is why N is always recorded."""
    return Value(float((m.fired == 0).sum()) / m.fired.numel())


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
