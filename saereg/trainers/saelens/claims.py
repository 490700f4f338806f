"""The numbers that a trainer states: computed by its own forward on held-out rows, before anything is exported.

`saereg build` computes them again from the released files, so an export that changed the function is found out.
"""

from typing import TYPE_CHECKING, Any

from saereg.schemas.metrics import Claim, MetricId
from saereg.trainers.saelens.golden import forward

if TYPE_CHECKING:
    from torch import Tensor

BATCH_ROWS = 2048

STATED: dict[MetricId, int] = {"explained_variance": 4, "l0": 2}
"""Metric → decimals that are printed."""


def claims_of(
    sae: Any,  # noqa: ANN401
    held_out: "Tensor",
    evaluation: str,
    target: "Tensor | None" = None,
) -> tuple[Claim, ...]:
    """Return the claims on one artifact.

    Args:
        sae: SAELens' training SAE, input scale folded.
        held_out: rows (n, d_in) that were not trained on.
        evaluation: name of the evaluation that ships those rows.
        target: rows (n, d_out) that a transcoder is to predict; None: the held-out rows themselves.
    """
    import torch

    from saereg.registry.kernels.active import active_of
    from saereg.registry.metrics.definitions import DEFINITIONS
    from saereg.registry.metrics.moments import Moments, moments_of

    total: Moments | None = None
    with torch.no_grad():
        for first in range(0, len(held_out), BATCH_ROWS):
            x = held_out[first : first + BATCH_ROWS].to(sae.dtype)
            f, x_hat = forward(sae, x)
            wanted = x if target is None else target[first : first + BATCH_ROWS].to(sae.dtype)
            batch = moments_of(wanted, x_hat, active_of(f), first)
            total = batch if total is None else total.merge(batch)
    claims = []
    for metric, decimals in STATED.items():
        value = DEFINITIONS[metric](total).value if total is not None else None
        if value is not None:
            claim = {"metric": metric, "value": round(value, decimals), "tolerance": 0.5 * 10.0**-decimals}
            claims.append(Claim.model_validate(claim | {"evaluation": evaluation}))
    return tuple(claims)
