"""TopK, AbsTopK and groupmax: the latents of each row with the largest gate quantity, or its largest magnitude.

The gate quantity is pre, or pre·‖W_dec‖ where the configuration rescales. Which of several equal ones at the cut are
kept is not defined: torch leaves it open, and devices differ. A latent that is kept with a value of at most 0 is not
active after the ReLU, so a row of TopK can have fewer than k.
Groupmax splits the latents into k groups of neighbours and keeps the largest of each.
Sources: arXiv:2406.04093, arXiv:2510.00404; sparsify 1.3, `fused_encoder.py`, for groupmax.
"""

import torch
from torch import Tensor

from saereg.errors import UsageError
from saereg.registry.architectures.architecture import Weights
from saereg.registry.architectures.linear import rectified, value_and_gate
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig


def latents(product: Tensor, vectors: Weights, cfg: ArtifactConfig) -> Tensor:
    """Return relu(value) of the k largest gate quantities of each row, zero elsewhere, (..., F).

    A gate per source ranks at each source, and the result is (..., K, F).

    Raises:
        UsageError: when k exceeds the number of latents.
    """
    value, gate = value_and_gate(product, vectors, cfg)
    return _kept(rectified(value, cfg).expand(gate.shape), gate, cfg)


def largest_of_groups(product: Tensor, vectors: Weights, cfg: ArtifactConfig) -> Tensor:
    """Return relu(value) of the largest gate quantity in each of k groups of neighbours, zero elsewhere, (..., F)."""
    value, gate = value_and_gate(product, vectors, cfg)
    groups = int(semantics_of(cfg).k or 1)
    best = gate.reshape(*gate.shape[:-1], groups, -1).argmax(dim=-1)
    first = torch.arange(0, gate.shape[-1], gate.shape[-1] // groups, device=gate.device)
    return _only(rectified(value, cfg), best + first)


def signed_latents(product: Tensor, vectors: Weights, cfg: ArtifactConfig) -> Tensor:
    """Return the signed values of the k largest |gate quantities| of each row, zero elsewhere, (..., F).

    Raises:
        UsageError: when k exceeds the number of latents.
    """
    value, gate = value_and_gate(product, vectors, cfg)
    return _kept(value, gate.abs(), cfg)


def _kept(value: Tensor, ranked: Tensor, cfg: ArtifactConfig) -> Tensor:
    k = int(semantics_of(cfg).k or 0)
    if k > ranked.shape[-1]:
        only = f"there are only d_sae = {ranked.shape[-1]} latents"
        raise UsageError(f"k = {k}, but {only}; correct `k` in cfg.json")
    return _only(value, ranked.topk(k, dim=-1, sorted=False).indices)


def _only(value: Tensor, indices: Tensor) -> Tensor:
    """Return the values at these latents, zero elsewhere."""
    return value.new_zeros(value.shape).scatter(-1, indices, value.gather(-1, indices))
