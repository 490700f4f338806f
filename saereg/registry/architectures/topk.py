"""TopK and AbsTopK: the k latents of each row with the largest gate quantity, or its largest magnitude.

The gate quantity is pre, or pre·‖W_dec‖ where the configuration rescales. Which of several equal ones at the cut are
kept is not defined: torch leaves it open, and devices differ. A latent that is kept with a value of at most 0 is not
active after the ReLU, so a row of TopK can have fewer than k.
Sources: arXiv:2406.04093, arXiv:2510.00404.
"""

from torch import Tensor

from saereg.errors import UsageError
from saereg.registry.architectures.architecture import Weights
from saereg.registry.architectures.linear import value_and_gate
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig


def latents(product: Tensor, vectors: Weights, cfg: ArtifactConfig) -> Tensor:
    """Return relu(value) of the k largest gate quantities of each row, zero elsewhere, (..., F).

    Raises:
        UsageError: when k exceeds the number of latents.
    """
    value, gate = value_and_gate(product, vectors, cfg)
    return _kept(value.relu(), gate, cfg)


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
    indices = ranked.topk(k, dim=-1, sorted=False).indices
    return value.new_zeros(value.shape).scatter(-1, indices, value.gather(-1, indices))
