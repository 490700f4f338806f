"""The numbers that the trainer states: by its own forward, on the rows that the release names.

`saereg build` computes them again from the released files, so an export that changed the function is found out.
"""

import torch

from saereg.registry.kernels.active import active_of
from saereg.registry.metrics.definitions import DEFINITIONS, PER_SOURCE
from saereg.registry.metrics.moments import Moments, moments_of
from saereg.schemas.metrics import Claim, MetricId, Units
from saereg.trainers.crosscoder.model import Crosscoder
from saereg.trainers.crosscoder.sources import Stack

BATCH_VALUES = 1 << 27
"""Numbers of rows and latents at once."""

DECIMALS: dict[MetricId, int] = {"explained_variance": 4, "l0": 2, "l0_per_source_mean": 2, "l0_any_source": 2}
"""Metric → decimals that are stated."""

KNOWN = DEFINITIONS | PER_SOURCE


@torch.no_grad()
def claims_of(model: Crosscoder, stack: Stack) -> tuple[Claim, ...]:
    """Return the claims.

    Explained variance in units of the rows, and in those of the encoder where they are others; L0, or both kinds of it
    where each source has a gate of its own.
    """
    rows, own_units = stack.held_out, model.settings.preprocess != "none"
    raw: Moments | None = None
    normalized: Moments | None = None
    for first in range(rows.start, rows.stop, step := _batch_rows(model)):
        x = stack.read(first, min(rows.stop, first + step))
        x_in = model.normalized(x)
        f = model.codes(x_in)
        x_hat, active = model.reconstructed(f), active_of(model.group.joined(f, -1).cpu())
        moments = moments_of(x.to(model.dtype), model.numbers.undone(x_hat).cpu(), active, first)
        raw = moments if raw is None else raw.merge(moments)
        if own_units:
            moments = moments_of(x_in.cpu(), x_hat.cpu(), active, first)
            normalized = moments if normalized is None else normalized.merge(moments)
    name = stack.evaluation[0]
    found = [*_claims(raw, name, "raw", tuple(DECIMALS)), *_claims(normalized, name, "normalized", tuple(DECIMALS)[:1])]
    return tuple(found)


def _claims(moments: Moments | None, name: str, units: Units, metrics: tuple[MetricId, ...]) -> list[Claim]:
    claims = []
    for metric in metrics:
        value = KNOWN[metric](moments).value if moments is not None else None
        if value is None or (metric == "l0_any_source" and moments and not moments.per_source):
            continue
        decimals = DECIMALS[metric]
        claims.append(
            Claim(
                metric=metric,
                value=round(value, decimals),
                tolerance=0.5 * 10.0**-decimals,
                evaluation=name,
                units=units,
            )
        )
    return claims


def _batch_rows(model: Crosscoder) -> int:
    sources, width = model.shape
    latents = model.settings.d_sae * (sources if model.per_source else 1)
    return max(1, BATCH_VALUES // (sources * width + latents))
