"""One number, one definition: each metric is one function of the sums that `Moments` or `BatchSums` keep.

Here is the canon and the tables of all; the definitions of others are in `foreign.py`.

x_n is a row (for a crosscoder the K sources of width D side by side), x̂_n its reconstruction, N the rows, d the width
(K·D), SSE = Σ_n ‖x_n − x̂_n‖², SST = Σ_n ‖x_n − x̄‖² with x̄ (d,) the mean over all N rows, f_n (F,) the latents. SSE_k
and SST_k are the parts of source k.
"""

from collections.abc import Callable

from saereg.registry.metrics import foreign
from saereg.registry.metrics.batches import BatchSums
from saereg.registry.metrics.moments import Moments
from saereg.registry.metrics.values import REPEATED, Value, flipped, histogram_of, sources_of
from saereg.schemas.metrics import MetricId

__all__ = ["BATCH_MEANS", "DEFINITIONS", "FOREIGN", "FOREIGN_PER_SOURCE", "PER_SOURCE", "Value"]


def fvu(m: Moments) -> Value:
    """Fraction of variance unexplained: SSE / SST; per source SSE_k / SST_k.

    At least 0, and above 1 for a reconstruction that is worse than the mean. A source whose data are constant has none.

    Source: Gao et al. 2024, arXiv:2406.04093, §2 (normalized MSE against predicting the mean activation).
    """
    if m.is_constant:
        return Value(None, "the data are constant, so there is no variance to explain")
    value = m.total_error / m.total_variance
    parts = (m.by_source(m.squared_error) / m.by_source(m.variance)).masked_fill(m.constant_sources, float("nan"))
    return Value(value, tolerance=REPEATED * max(1.0, value), per_source=sources_of(parts))


def explained_variance(m: Moments) -> Value:
    """1 − SSE / SST, the variance-weighted R²; per source 1 − SSE_k / SST_k.

    Not a mean of ratios per row or batch: it does not depend on how the rows are split. The total of a crosscoder is
    the ratio of the sums over all sources, and so not the mean of its sources unless their variances are equal.

    Source: sklearn's `r2_score(multioutput="variance_weighted")`; 1 − `fvu`.
    """
    return fvu(m).complement()


def mse_per_row(m: Moments) -> Value:
    """SSE / N, the squared error summed over the width and averaged over rows; per source SSE_k / N.

    Source: SAELens 6.54 `evals.py`, `mse`.
    """
    return _mean_error(m, m.rows, m.rows)


def mse_per_element(m: Moments) -> Value:
    """SSE / (N·d); per source SSE_k / (N·D).

    Source: `torch.nn.functional.mse_loss`.
    """
    return _mean_error(m, m.rows * m.width, m.rows * m.width // m.sources)


def _mean_error(m: Moments, count: int, count_at_source: int) -> Value:
    return Value(
        m.total_error / count,
        tolerance=REPEATED * max(m.total_error, m.total_variance) / count,
        per_source=sources_of(m.by_source(m.squared_error) / count_at_source),
    )


def l0(m: Moments) -> Value:
    """Mean over rows of #{i : f_ni ≠ 0}; exact integer counts, with their smallest, largest and histogram.

    For a crosscoder with a shared gate this is the one active set; with gates per source it is undefined here, see
    `l0_per_source_mean` and `l0_any_source`.

    Source: SAELens 6.54 `evals.py`, `l0`, which counts ≠ 0 so that negative activations count.
    """
    if m.per_source:
        return Value(None, "each source has its own active set; see l0_per_source_mean and l0_any_source")
    return l0_any_source(m)


def l0_per_source_mean(m: Moments) -> Value:
    """Mean over rows and sources of #{i : f_nki ≠ 0}, f_n (K, F); per source the mean over rows (per-source gates).

    Source: the L0 of crosscoders with a threshold per source, whose latents are active at some sources and not at
    others.
    """
    if m.at_sources is None:
        return Value(None, "all sources share one active set; see l0")
    value = float(m.at_sources.sum()) / (m.rows * m.sources)
    return Value(value, tolerance=flipped(m.rows * m.sources, value), per_source=sources_of(m.at_sources / m.rows))


def l0_any_source(m: Moments) -> Value:
    """Mean over rows of #{i : f_nki ≠ 0 at some source k} (per-source gates), with smallest, largest and histogram."""
    value, seen = m.active_total / m.rows, m.histogram.nonzero()
    return Value(
        value,
        minimum=float(seen[0]),
        maximum=float(seen[-1]),
        tolerance=flipped(m.rows, value),
        histogram=histogram_of(m.histogram),
    )


def dead_fraction(m: Moments) -> Value:
    """#{i : f_ni = 0 in all N rows, at every source} / F. Falls with N, which is why N is always recorded."""
    return Value(float((m.fired == 0).sum()) / m.fired.numel(), tolerance=flipped(m.fired.numel(), 1.0))


def density_below_1e_5(m: Moments) -> Value:
    """#{i : rows with f_ni ≠ 0 (at any source) < 1e-5·N} / F, from exact counts; None for N < 100,000.

    Source: the share of rare features of Bricken et al. 2023, "Towards Monosemanticity", by its feature density.
    """
    return _density_below(m, 100_000)


def density_below_1e_6(m: Moments) -> Value:
    """#{i : rows with f_ni ≠ 0 (at any source) < 1e-6·N} / F, from exact counts; None for N < 1,000,000."""
    return _density_below(m, 1_000_000)


def _density_below(m: Moments, one_in: int) -> Value:
    if m.rows < one_in:
        return Value(None, f"{m.rows} rows cannot show a density below 1 in {one_in}: see dead_fraction")
    return Value(float((m.fired * one_in < m.rows).sum()) / m.fired.numel(), tolerance=flipped(m.fired.numel(), 1.0))


DEFINITIONS: dict[MetricId, Callable[[Moments], Value]] = {
    "explained_variance": explained_variance,
    "fvu": fvu,
    "mse_per_row": mse_per_row,
    "mse_per_element": mse_per_element,
    "l0": l0,
    "dead_fraction": dead_fraction,
    "density_below_1e_5": density_below_1e_5,
    "density_below_1e_6": density_below_1e_6,
}
"""The canon: definitions that are computed and recorded for every dictionary."""

PER_SOURCE: dict[MetricId, Callable[[Moments], Value]] = {
    "l0_per_source_mean": l0_per_source_mean,
    "l0_any_source": l0_any_source,
}
"""Definitions that are computed and recorded beside them where sources have gates of their own."""

FOREIGN: dict[MetricId, Callable[[Moments], Value]] = {
    "nmse_uncentred_row": foreign.nmse_uncentred_row,
    "ev_uncentred": foreign.ev_uncentred,
    "ev_scalar_mean": foreign.ev_scalar_mean,
    "ev_saelens_uncentred": foreign.ev_saelens_uncentred,
    "r2_uniform_average": foreign.r2_uniform_average,
    "l0_positive": foreign.l0_positive,
    "dead_rate_1e_6": foreign.dead_rate_1e_6,
    "l1_norm": foreign.l1_norm,
}
"""Definitions of others: computed to find out which one a published number follows, recorded where a claim does."""

FOREIGN_PER_SOURCE: dict[MetricId, Callable[[Moments], Value]] = {
    "l1_norm_per_source_mean": foreign.l1_norm_per_source_mean,
}
"""Those that are computed beside them where sources have gates of their own."""

BATCH_MEANS: dict[MetricId, Callable[[BatchSums], Value]] = {
    "explained_variance_legacy_rowmean": foreign.explained_variance_legacy_rowmean,
    "explained_variance_batch_mean": foreign.explained_variance_batch_mean,
    "fvu_batch_mean": foreign.fvu_batch_mean,
    "ev_saelens_uncentred_batch_mean": foreign.ev_saelens_uncentred_batch_mean,
    "fve_centred_residual": foreign.fve_centred_residual,
    "fve_scalar_var": foreign.fve_scalar_var,
    "mse_row_over_batch": foreign.mse_row_over_batch,
    "l0_batch_mean": foreign.l0_batch_mean,
}
"""Those of them that average over batches."""
