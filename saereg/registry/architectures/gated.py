"""Gated: f = (x_c·W_enc + b_gate > 0)·relu(x_c·W_enc·exp(r_mag) + b_mag) (arXiv:2404.16014, eq. 6)."""

from torch import Tensor

from saereg.registry.architectures.architecture import Weights
from saereg.schemas.artifact_config import ArtifactConfig


def latents(product: Tensor, vectors: Weights, cfg: ArtifactConfig) -> Tensor:
    """Return gate·magnitude, (..., F), from `b_gate`, `b_mag`, `r_mag` (F,)."""
    del cfg  # the two paths have no switches
    gate = product + vectors["b_gate"] > 0
    magnitude = (product * vectors["r_mag"].exp() + vectors["b_mag"]).relu()
    return magnitude * gate.to(magnitude.dtype)
