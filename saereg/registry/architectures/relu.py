"""ReLU: f = relu(x_c·W_enc + b_enc); transcoders too (arXiv:2309.08600, arXiv:2406.11944)."""

from torch import Tensor

from saereg.registry.architectures.architecture import Weights
from saereg.registry.architectures.linear import value_and_gate
from saereg.schemas.artifact_config import ArtifactConfig


def latents(product: Tensor, vectors: Weights, cfg: ArtifactConfig) -> Tensor:
    """Return relu(product + b_enc), (..., F)."""
    value, _ = value_and_gate(product, vectors, cfg)
    return value.relu()
