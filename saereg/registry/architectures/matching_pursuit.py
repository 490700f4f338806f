"""Matching pursuit: greedily take the direction that explains most of the residual; the encoder is W_decᵀ.

From residual = x_c, repeat: j = argmax W_dec·residual; v = relu(W_dec[j]·residual); f_j += v;
residual −= v·W_dec[j].
A row stops when its active set did not change, or its residual norm is below `residual_threshold`.
Source: SAELens 6.54, `saes/matching_pursuit_sae.py`; arXiv:2506.03093.
"""

import torch
from torch import Tensor

from saereg.errors import UsageError
from saereg.registry.architectures.architecture import Architecture, Weights
from saereg.registry.architectures.linear import centred, decode
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg import MatchingPursuitConfig


def encode(weights: Weights, cfg: ArtifactConfig, x_in: Tensor) -> Tensor:
    """Return f (..., F) of normalized rows x_in (..., D).

    Raises:
        UsageError: when `cfg` is of another architecture.
    """
    if not isinstance(cfg, MatchingPursuitConfig):
        raise UsageError(f"matching pursuit cannot be run with a configuration of {cfg.architecture!r}")
    W_dec = weights["W_dec"]
    residual = centred(x_in, weights, cfg).reshape(-1, cfg.d_in)
    f = residual.new_zeros(len(residual), cfg.d_sae)
    done = torch.zeros(len(residual), 1, dtype=torch.bool, device=residual.device)
    for _ in range(cfg.max_iterations or cfg.d_in):
        chosen = (residual.detach() @ W_dec.T).argmax(dim=-1)
        direction = W_dec[chosen]
        value = (residual * direction).sum(dim=-1, keepdim=True).relu() * ~done
        before = f != 0
        f = f.scatter_add(-1, chosen.unsqueeze(-1), value)
        residual = residual - value * direction
        done = done | _settled(f, before, residual, cfg)
        if bool(done.all()):
            break
    return f.reshape(*x_in.shape[:-1], cfg.d_sae)


def _settled(f: Tensor, before: Tensor, residual: Tensor, cfg: MatchingPursuitConfig) -> Tensor:
    """Return for each row whether it may stop, (rows, 1)."""
    settled = torch.zeros(len(f), 1, dtype=torch.bool, device=f.device)
    if cfg.stop_on_duplicate_support:
        settled = settled | ((f != 0) == before).all(dim=-1, keepdim=True)
    if cfg.residual_threshold > 0:
        settled = settled | (residual.norm(dim=-1, keepdim=True) < cfg.residual_threshold)
    return settled


MATCHING_PURSUIT = Architecture("matching_pursuit", encode, decode)
