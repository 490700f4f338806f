"""What a dictionary costs the language model: its next-token loss with the reconstruction in place of the activations.

Three forward passes over the same contexts: clean; spliced, with x̂ at the site; ablated, with zeros or the mean row
there. Positions that the evaluation leaves out (BOS, say) keep their clean activation in all three.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from importlib import metadata

import torch
from torch import Tensor

from saereg import __version__
from saereg.errors import WeightsError
from saereg.registry.kernels.coded import Runner
from saereg.registry.metrics.engine import Occasion
from saereg.registry.metrics.sources.tokens import ModelRows
from saereg.registry.metrics.splice import Splice
from saereg.registry.metrics.values import Value
from saereg.schemas.metrics import Ablation, Measurement, MetricId

SPAN_CONTEXTS = 64
"""Contexts whose losses are computed together, and summed by themselves: a span does not depend on who works on it."""

ROUNDING: Mapping[str, float] = {"float64": 1e-9, "float32": 1e-5, "float16": 1e-3, "bfloat16": 1e-2}
"""Type the model runs in → by how much a mean loss may differ on another machine, relative to itself.

Differences of whole losses below it are nothing but rounding.
"""


@dataclass(frozen=True)
class RatioSums:
    """Sums over batches of contexts, of the share of the loss that comes back in each.

    Attributes:
        batches: how many batches.
        ratios: Σ_b r_b with r_b = (ablated_b − spliced_b) / (ablated_b − clean_b); nan where some batch has none.
        slack: Σ_b 2 · max(clean_b, spliced_b, ablated_b) · (1 + |r_b|) / |ablated_b − clean_b|: times the relative
            error of a loss, what Σ r_b may be wrong by.
    """

    batches: int = 0
    ratios: float = 0.0
    slack: float = 0.0

    def merge(self, other: "RatioSums") -> "RatioSums":
        """Return the sums over the batches of both."""
        return RatioSums(self.batches + other.batches, self.ratios + other.ratios, self.slack + other.slack)


@dataclass(frozen=True)
class LossSums:
    """Sums over contexts.

    Attributes:
        tokens: predicted tokens: of each context all but the first.
        clean: Σ −log P(token) of the model itself.
        spliced: the same with x̂ in the place of x.
        ablated: the same with zeros, or the mean row, there.
        batches: contexts of a batch → sums over batches of so many consecutive contexts.
    """

    tokens: int
    clean: float
    spliced: float
    ablated: float
    batches: Mapping[int, RatioSums]

    def merge(self, other: "LossSums") -> "LossSums":
        """Return the sums over both; both must end at the end of a batch, or at the end of the data."""
        return LossSums(
            self.tokens + other.tokens,
            self.clean + other.clean,
            self.spliced + other.spliced,
            self.ablated + other.ablated,
            {size: sums.merge(other.batches[size]) for size, sums in self.batches.items()},
        )

    def mean(self, total: float) -> float:
        """Return a sum of losses per predicted token, in nats."""
        return total / self.tokens


@dataclass(frozen=True)
class LossSettings:
    """How losses are taken.

    Attributes:
        ablation: what stands in the place of activations.
        batch_contexts: sizes, in contexts, of the batches whose ratios are averaged.
        mean: the mean row, for the ablation of that name.
    """

    ablation: Ablation = "zero"
    batch_contexts: tuple[int, ...] = ()
    mean: Tensor | None = None


def spans(contexts: int, settings: LossSettings) -> tuple[tuple[int, int], ...]:
    """Return (first context, contexts) of every span; each but the last holds whole batches of every size."""
    step = math.lcm(*settings.batch_contexts, 1)
    size = step * math.ceil(SPAN_CONTEXTS / step)
    return tuple((first, min(size, contexts - first)) for first in range(0, contexts, size))


def losses_of_span(runner: Runner, rows: ModelRows, first: int, count: int, settings: LossSettings) -> LossSums:
    """Return the sums over some contexts.

    Args:
        runner: the dictionary.
        rows: the contexts, their model and site.
        first: first context.
        count: contexts.
        settings: how.

    Raises:
        UsageError: when the model has no next-token loss.
        DataUnavailableError: when it is not on this machine.
        WeightsError: when the dictionary does not fit the site, or a loss is not finite.
    """
    contexts, kept = rows.file.read(first, first + count)
    losses = Splice.of(runner, rows, settings.mean).losses(contexts, kept)
    bad = ~losses.isfinite().all(1)
    if bad.any():
        raise WeightsError(rows.name, f"the loss of context {first + int(bad.nonzero()[0])} is not finite")
    clean, spliced, ablated = losses.sum(0).tolist()
    sizes = {size: _ratios(losses, size) for size in settings.batch_contexts}
    return LossSums(sum(len(context) - 1 for context in contexts), clean, spliced, ablated, sizes)


def _ratios(losses: Tensor, size: int) -> RatioSums:
    """Return the sums over batches of `size` contexts; the last may be smaller and counts in full."""
    return reduce(RatioSums.merge, (_ratio(*part.sum(0).tolist()) for part in torch.split(losses, size)))


def _ratio(clean: float, spliced: float, ablated: float) -> RatioSums:
    lost = ablated - clean
    if lost == 0:
        return RatioSums(1, math.nan, math.nan)
    ratio = (ablated - spliced) / lost
    return RatioSums(1, ratio, 2 * max(clean, spliced, ablated) * (1 + abs(ratio)) / abs(lost))


def total_losses(runner: Runner, rows: ModelRows, settings: LossSettings) -> LossSums:
    """Return the sums over all contexts, here and now.

    Raises:
        UsageError: when the model has no next-token loss.
        DataUnavailableError: when it is not on this machine.
        WeightsError: when the dictionary does not fit the site, or a loss is not finite.
    """
    found = (
        losses_of_span(runner, rows, first, count, settings) for first, count in spans(rows.file.contexts, settings)
    )
    return reduce(LossSums.merge, found)


def mean_row(rows: ModelRows, block_rows: int = 4096) -> Tensor:
    """Return the mean of all rows that are reconstructed, (width,), float64."""
    total = torch.zeros((), dtype=torch.float64)
    for first in range(0, rows.rows, block_rows):
        total = total + rows.read(first, min(block_rows, rows.rows - first))[1].double().flatten(1).sum(0)
    return total / rows.rows


def why_no_loss(rows: ModelRows) -> str | None:
    """Return why a loss is not defined for some rows; None when it is.

    Raises:
        DataUnavailableError: when the model is not on this machine.
        WeightsError: when it is another one than the manifest names.
    """
    if rows.evaluation.sites:
        return "a crosscoder reconstructs several sites, so there is no one place to put its reconstruction"
    if rows.target is not None and rows.target.model != rows.places[0].model:
        return "it reads one model and predicts another, so there is no one loss"
    if not rows.model(rows.places[0].model).causal:
        return "the model has no causal language-model head, so it has no next-token loss"
    if int(rows.file.lengths.max()) < 2:
        return "every context is a single token, so none is predicted"
    return None


LOSSES: tuple[MetricId, ...] = ("ce_recovered", "ce_clean", "ce_spliced", "ce_ablated")
"""What is recorded of losses: the share that comes back, and the three that it is made of."""

BATCH_MEAN: MetricId = "ce_recovered_batch_mean"
"""Recorded where a claim names it; its `batch_rows` counts contexts."""

ABLATED: tuple[MetricId, ...] = ("ce_recovered", "ce_ablated", BATCH_MEAN)
"""Those that depend on what stands in the place of activations."""


def values_of(sums: LossSums, rounding: float) -> dict[MetricId, Value]:
    """Return the metrics of some sums.

    ce_recovered = (CE_ablated − CE_spliced) / (CE_ablated − CE_clean), a ratio of means over all predicted tokens.

    Source: SAELens 6.54, `evals.py`, `ce_loss_score`; Bricken et al. 2023, "Towards Monosemanticity".

    Args:
        sums: the sums.
        rounding: by how much a loss may differ on another machine, relative to itself.
    """
    clean, spliced, ablated = (sums.mean(total) for total in (sums.clean, sums.spliced, sums.ablated))
    error = rounding * max(clean, spliced, ablated)
    found: dict[MetricId, Value] = {
        "ce_recovered": _recovered(clean, spliced, ablated, error),
        "ce_clean": Value(clean, tolerance=error),
        "ce_spliced": Value(spliced, tolerance=error),
        "ce_ablated": Value(ablated, tolerance=error),
    }
    return found


def _recovered(clean: float, spliced: float, ablated: float, error: float) -> Value:
    lost = ablated - clean
    if abs(lost) <= error:
        return Value(None, f"ablation leaves the loss as it is ({clean:.6g}), so there is none to recover")
    ratio = (ablated - spliced) / lost
    return Value(ratio, tolerance=2 * error * (1 + abs(ratio)) / abs(lost))


def batch_mean(sums: LossSums, size: int, rounding: float) -> Value:
    """Mean over batches of the share recovered in each: dictionary_learning's `frac_recovered`.

    A batch is `size` consecutive contexts; the last may be smaller and counts in full.

    Source: dictionary_learning 0.1.0, `evaluation.py`, `evaluate`.
    """
    of = sums.batches[size]
    if not math.isfinite(of.ratios) or rounding * of.slack >= of.batches:
        return Value(None, "ablation leaves the loss of some batch as it is, so there is none to recover")
    return Value(of.ratios / of.batches, tolerance=rounding * of.slack / of.batches)


def measure_losses(
    runner: Runner,
    rows: ModelRows,
    occasion: Occasion,
    *,
    batch_contexts: Iterable[int] = (),
    ablation: Ablation = "zero",
) -> tuple[Measurement, ...]:
    """Return `ce_recovered` and the three losses, and its mean over batches of the wanted sizes.

    Where a loss is not defined (no language-model head, a crosscoder), each is null and says why.

    Args:
        runner: the dictionary.
        rows: the contexts, their model and site.
        occasion: what the measurements have in common.
        batch_contexts: sizes of batches, in contexts.
        ablation: what stands in the place of activations in the ablated pass.

    Raises:
        DataUnavailableError: when the model is not on this machine.
        WeightsError: when the dictionary does not fit the site, or a loss is not finite.
    """
    sizes = tuple(sorted(set(batch_contexts)))
    values, tokens = _values(runner, rows, LossSettings(ablation, sizes))
    return tuple(
        Measurement(
            metric=metric,
            value=value.value,
            reason=value.reason,
            tolerance=value.tolerance,
            tokens=tokens,
            batch_rows=size,
            ablation=ablation if metric in ABLATED else None,
            evaluation=occasion.evaluation,
            data_sha256=occasion.data_sha256,
            rows=rows.rows,
            excluded=occasion.excluded,
            dtype=occasion.dtype,
            tool=_tool(),
        )
        for metric, size, value in values
    )


def _values(
    runner: Runner, rows: ModelRows, settings: LossSettings
) -> tuple[list[tuple[MetricId, int | None, Value]], int]:
    """Return (metric, batch size, value) of everything, and the predicted tokens."""
    found: list[tuple[MetricId, int | None, Value]] = []
    why = why_no_loss(rows)
    if why is not None:
        found += [(metric, None, Value(None, why)) for metric in LOSSES]
        return found + [(BATCH_MEAN, size, Value(None, why)) for size in settings.batch_contexts], 0
    if settings.ablation == "mean":
        settings = replace(settings, mean=mean_row(rows))
    sums, rounding = total_losses(runner, rows, settings), ROUNDING[rows.evaluation.model_dtype]
    found += [(metric, None, value) for metric, value in values_of(sums, rounding).items()]
    found += [(BATCH_MEAN, size, batch_mean(sums, size, rounding)) for size in settings.batch_contexts]
    return found, sums.tokens


def _tool() -> dict[str, str]:
    return {
        "saereg": __version__,
        "torch": str(torch.__version__),
        "transformers": metadata.version("transformers"),
    }
