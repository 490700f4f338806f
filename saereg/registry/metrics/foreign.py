"""The definitions of others, each under its own id: what published numbers follow that the canon does not give.

They are computed from the sums of the same pass. Symbols as in `definitions.py`; within a batch b of B rows x̄_b is its
mean, SSE_b = Σ_n ‖x_n − x̂_n‖² and SST_b = Σ_n ‖x_n − x̄_b‖² (x̂ and x: (B, d)). Where a formula averages over batches, a
short last batch counts as much as the others, as it does in the code that the formula is from.

Versions read: SAELens 6.9.1 and 6.54.12, SAEBench 8042bb3, eai-sparsify 1.3.3, dictionary-learning 0.1.0,
science-of-finetuning/dictionary_learning 173f7fa, llamascopium 2.0.0b34, mlsae ba90c51, ckkissane's crosscoder e221e8d,
OpenAI's sparse_autoencoder 4965b94, olmo-sae-builder, learning-to-read-out 2604250.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from saereg.registry.metrics.batches import BatchSums
from saereg.registry.metrics.moments import Moments
from saereg.registry.metrics.values import REPEATED, Value, flipped, sources_of

if TYPE_CHECKING:
    from torch import Tensor

ALL_ZERO = "all rows are zero"
CONSTANT = "the data are constant, so there is no variance to explain"


def nmse_uncentred_row(m: Moments) -> Value:
    """(1/N) Σ_n ‖x_n − x̂_n‖² / ‖x_n‖²: relative to the row, not to the variance; None where a row is zero.

    Source: OpenAI's `sparse_autoencoder/loss.py`, `normalized_mean_squared_error`; the "normalized MSE" of SAEs that
    are trained with that loss, as by olmo-sae-builder.
    """
    if m.empty_rows:
        return Value(None, f"{m.empty_rows} of {m.rows} rows are zero, so there is no error relative to them")
    value = m.row_ratios / m.rows
    return Value(value, tolerance=REPEATED * max(1.0, value))


def ev_uncentred(m: Moments) -> Value:
    """1 − SSE / Σ_n ‖x_n‖²: the mean of the data counts as explained.

    Source: 1 − the relative reconstruction error; what uncentred formulas give where all rows have the same norm.
    """
    norms = _square_norms(m)
    if norms == 0:
        return Value(None, ALL_ZERO)
    return _explained(m.total_error, norms, m.total_variance)


def ev_scalar_mean(m: Moments) -> Value:
    """1 − SSE / Σ_n Σ_j (x_nj − c)², c the one mean of all N·d values.

    What differs between dimensions alone counts as explained.

    Source: 1 − mse / x.var() over all data at once; `fve_scalar_var` with one batch, up to (N·d − 1) / (N·d).
    """
    between = m.rows * float((m.mean - m.mean.mean()).square().sum())
    if m.total_variance + between <= float(m.rounding.sum()) < float("inf"):
        return Value(None, CONSTANT)
    return _explained(m.total_error, m.total_variance + between, m.total_variance)


def ev_saelens_uncentred(m: Moments) -> Value:
    """1 − (SSE/N) / (S − (S/d)²), S = Σ_n ‖x_n‖² / N: the squares are averaged where the mean should be squared.

    Neither centred nor independent of the scale of x: the denominator is negative for S > d², and then there is none.

    Source: `explained_variance` of SAELens from 6d1b42a (#443) up to its fix, and of SAEBench, where `x.pow(2).mean(0)`
    stands for the mean, and all its dimensions are averaged. These are its digits where all batches are of one size;
    with a short last batch see `ev_saelens_uncentred_batch_mean`.
    """
    return _saelens_uncentred(m.total_error / m.rows, _square_norms(m) / m.rows, m.total_variance / m.rows, m.width)


def r2_uniform_average(m: Moments) -> Value:
    """(1/d) Σ_j 1 − SSE_j / SST_j over dimensions j: small dimensions count as much as large ones.

    A dimension that is constant counts 1 where it is reconstructed exactly, and 0 otherwise.

    Source: scikit-learn 1.9 `r2_score(multioutput="uniform_average")`, its default.
    """
    if m.is_constant:
        return Value(None, CONSTANT)
    constant = m.variance <= m.rounding
    unexplained = (m.squared_error / m.variance).masked_fill(constant, 1.0)
    unexplained = unexplained.masked_fill(constant & (m.squared_error <= m.rounding), 0.0)
    tolerance = REPEATED * float(unexplained.clamp(min=1.0).mean())
    return Value(1.0 - float(unexplained.mean()), tolerance=tolerance)


def l0_positive(m: Moments) -> Value:
    """Mean over rows of #{i : f_ni > 0 (at any source)}: negative activations do not count.

    Source: llamascopium `metrics.py`, ckkissane's `crosscoder.py`; the densities of SAEBench.
    """
    value = m.positive / m.rows
    return Value(value, tolerance=flipped(m.rows, value))


def dead_rate_1e_6(m: Moments) -> Value:
    """#{i : rate_i ≤ 1e-6} / F, rate_i the share of all N·K rows and sources with f_nki ≠ 0.

    With one active set for all sources each row counts at every source. Below a million rows and sources this is
    `dead_fraction`.

    Source: `dead_rate` of learning-to-read-out, `scripts/eval/recompute_metrics.py`.
    """
    fired, of = (m.fired, m.rows) if m.fired_at_sources is None else (m.fired_at_sources, m.rows * m.sources)
    return Value(float((fired * 1_000_000 <= of).sum()) / fired.numel(), tolerance=flipped(fired.numel(), 1.0))


def l1_norm(m: Moments) -> Value:
    """Mean over rows of Σ_i |f_ni|, of f as the released `encode` returns it; a code that sources share counts once.

    In units of those activations: what scales f up and W_dec down by the same factor changes it, and nothing else. With
    gates per source it is undefined here, see `l1_norm_per_source_mean`.

    Source: SAELens 6.54 `evals.py`, `l1`; dictionary-learning 0.1.0 `evaluation.py`, `l1_loss`, up to its batches.
    """
    if m.per_source:
        return Value(None, "each source has its own code; see l1_norm_per_source_mean")
    return _sizes(m, m.rows, m.active_total)


def l1_norm_per_source_mean(m: Moments) -> Value:
    """Mean over rows and sources of Σ_i |f_nki|, f_n (K, F); per source the mean over rows (per-source gates).

    Source: `l1_norm` of the code at each source, as `l0_per_source_mean` is `l0` of it.
    """
    if m.at_sources is None:
        return Value(None, "all sources share one code; see l1_norm")
    found = _sizes(m, m.rows * m.sources, int(m.at_sources.sum()))
    return found if m.sizes is None else replace(found, per_source=sources_of(m.sizes / m.rows))


def _sizes(m: Moments, count: int, active: int) -> Value:
    """Return the mean of Σ|f| over so many codes, which hold so many active latents."""
    if m.sizes is None:
        return Value(None, "the sums hold no sizes of latents")
    total = float(m.sizes.sum())
    # a latent within rounding of its cut is as large as others
    others = flipped(count, active / count) * total / max(1, active)
    return Value(total / count, tolerance=REPEATED * total / count + others)


def explained_variance_legacy_rowmean(b: BatchSums) -> Value:
    """(1/N) Σ_b Σ_n 1 − ‖x_n − x̂_n‖² / ‖x_n − x̄_b‖², every row counting the same; per source on its part of the row.

    Source: `explained_variance_legacy` of SAELens and SAEBench (its `explained_variance` before 6d1b42a) and, averaged
    over batches, of llamascopium; `explained_variance`, `_A` and `_B` of ckkissane's crosscoder.
    """
    if b.mean_rows:
        return Value(None, f"{b.mean_rows} of {b.rows} rows are the mean of their batch, so nothing varies in them")
    return _unexplained(b.row_ratios / b.rows).complement()


def explained_variance_batch_mean(b: BatchSums) -> Value:
    """Mean over batches of 1 − SSE_b / SST_b; per source 1 − SSE_kb / SST_kb.

    Source: SAELens' trainer and llamascopium `metrics/explained_variance` (for a crosscoder the mean of the sources).
    """
    return fvu_batch_mean(b).complement()


def fvu_batch_mean(b: BatchSums) -> Value:
    """Mean over batches of SSE_b / SST_b; for rows in random order near B / (B − 1) of `fvu`.

    Source: eai-sparsify `SparseCoder.forward`, `fvu`, averaged by its trainer; `normalized_mse` of OpenAI's kernels.
    """
    return _none_of_constant(b) or _unexplained(b.ratios / b.batches)


def ev_saelens_uncentred_batch_mean(b: BatchSums) -> Value:
    """`ev_saelens_uncentred` with means of batches averaged: R = mean_b SSE_b/B, S = mean_b Σ_n ‖x_n‖²/B.

    Source: as there; the same number unless the last batch is short.
    """
    error, norm, variance = (float(t[0]) / b.batches for t in (b.errors, b.norms, b.variances))
    return _saelens_uncentred(error, norm, variance, b.width)


def fve_centred_residual(b: BatchSums) -> Value:
    """Mean over batches of 1 − Σ_j Var(x_j − x̂_j) / Σ_j Var(x_j): the mean of the residual costs nothing.

    Per source over its dimensions j; the total of a crosscoder sums numerators and denominators over the sources.

    Source: `frac_variance_explained` of dictionary-learning's `evaluation.py`, and with `cl{k}_` at each source of
    science-of-finetuning's `training.py`; of one batch sklearn's `explained_variance_score` weighted by variance.
    """
    return _none_of_constant(b) or _unexplained(b.centred / b.batches).complement()


def fve_scalar_var(b: BatchSums) -> Value:
    """1 − Σ_b mean((x̂ − x)²) / Σ_b var(x), both over all values of a batch, var about their one mean with ddof = 1.

    Per source over its own values, about its own mean.

    Source: mlsae `layerwise_fvu.py` at each layer (1 − FVU), averaged over layers there; over all sources at once
    learning-to-read-out, `scripts/eval/recompute_metrics.py`.
    """
    if not float(b.element_variances[0]) > 0 and bool(b.norms[0].isfinite()):
        return Value(None, "the values of the batches do not vary")
    return _unexplained(b.element_errors / b.element_variances).complement()


def mse_row_over_batch(b: BatchSums) -> Value:
    """(1/N) Σ_b SSE_b / B: divided by the rows of the batch once more, so it halves when the batch doubles.

    Source: `mse` of SAEBench's `evals/core/main.py`, and of SAELens 6.9.1.
    """
    value, scale = float(b.errors[0]) / b.rows, float(b.variances[0]) / b.rows
    return Value(value, tolerance=REPEATED * max(value, scale), per_source=sources_of(b.errors[1:] / b.rows))


def l0_batch_mean(b: BatchSums) -> Value:
    """Mean over batches of the mean over rows of #{i : f_ni ≠ 0 (at any source)}: `l0` but for a short last batch.

    Source: dictionary-learning's `evaluation.py`, `l0`.
    """
    value = b.active / b.batches
    return Value(value, tolerance=flipped(b.rows, value))


def _square_norms(m: Moments) -> float:
    """Return Σ_n ‖x_n‖² = SST + N·‖x̄‖²: of numbers that are not negative, so no digits are lost."""
    return m.total_variance + m.rows * float(m.mean.square().sum())


def _explained(error: float, of: float, variance: float) -> Value:
    return Value(1.0 - error / of, tolerance=REPEATED * max(error, variance) / of)


def _saelens_uncentred(error: float, norm: float, variance: float, width: int) -> Value:
    denominator = norm - (norm / width) ** 2
    if denominator <= 0:
        return Value(None, f"its denominator S − (S/d)² is not positive: S = {norm:.6g}, d = {width}")
    return _explained(error, denominator, variance)


def _unexplained(ratios: "Tensor") -> Value:
    """Return a total, and what it is per source, from (1,) or (1 + K,)."""
    value = float(ratios[0])
    return Value(value, tolerance=REPEATED * max(1.0, value), per_source=sources_of(ratios[1:]))


def _none_of_constant(b: BatchSums) -> Value | None:
    if not b.constant:
        return None
    return Value(
        None, f"the rows are all the same in {b.constant} of {b.batches} batches, so there is no variance there"
    )
