"""JumpReLU and BatchTopK at inference: f = relu(value) where gate quantity > threshold, strictly.

Both are compared in the type of the gate quantity. Within rounding of the threshold the answer depends on the order in
which a machine adds; f jumps there from 0 to the threshold.
Sources: arXiv:2407.14435; arXiv:2412.06410 for the threshold in place of BatchTopK's cut through a batch.
"""

from torch import Tensor

from saereg.registry.architectures.architecture import Weights
from saereg.registry.architectures.linear import rectified, value_and_gate
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig


def latents(product: Tensor, vectors: Weights, cfg: ArtifactConfig) -> Tensor:
    """Return relu(value)·(gate > threshold), (..., F), or (..., K, F) for a gate per source.

    The threshold is `threshold`, (F,), a scalar, or (K,) for a scalar at each source; or a training checkpoint's scalar
    `topk_threshold`.
    """
    value, gate = value_and_gate(product, vectors, cfg)
    cut = vectors["topk_threshold"] if "topk_threshold" in vectors else vectors["threshold"]
    if semantics_of(cfg).threshold == "per_source":
        cut = cut.unsqueeze(-1)
    return rectified(value, cfg) * (gate > cut.to(gate.dtype)).to(value.dtype)
