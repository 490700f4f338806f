"""Temporal: attention over earlier codes predicts part of each code; the remainder is coded sparsely.

With λ = 1/(4·D) and residual_0 = x_c, each attention layer does, at every position t,
    z = relu(λ·residual·W_enc);  p = relu(attention(queries: z, keys and values: z shifted by one position))
    s = ⟨p·W_dec, residual⟩ / (‖p·W_dec‖ + 1e-6)²;  predicted += s·p;  residual −= s·p·W_dec
and the novel codes f are the k largest of relu(λ·residual·W_enc). x_hat decodes f + predicted.
Source: arXiv:2511.01836; SAELens 6.54, `saes/temporal_sae.py`.
"""

from torch import Tensor
from torch.nn import functional

from saereg.errors import UsageError
from saereg.registry.architectures.architecture import Architecture, Weights
from saereg.registry.architectures.linear import centred, decode
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg import TemporalConfig

EPSILON = 1e-6
"""Added to the norm of a prediction, in units of the normalized input."""


def encode(weights: Weights, cfg: ArtifactConfig, x_in: Tensor) -> Tensor:
    """Return the novel codes f (..., position, F) of normalized rows x_in (..., position, D)."""
    cfg = _temporal(cfg)
    _, residual = _predicted(weights, cfg, x_in)
    f = _codes(weights, cfg, residual)
    if cfg.sae_diff_type == "relu" or cfg.kval_topk is None:
        return f
    values, indices = f.topk(cfg.kval_topk, dim=-1, sorted=False)
    return f.new_zeros(f.shape).scatter(-1, indices, values)


def context(weights: Weights, cfg: ArtifactConfig, x_in: Tensor) -> Tensor:
    """Return the codes (..., position, F) that earlier positions predict."""
    return _predicted(weights, _temporal(cfg), x_in)[0]


def _temporal(cfg: ArtifactConfig) -> TemporalConfig:
    if not isinstance(cfg, TemporalConfig):
        raise UsageError(f"temporal codes cannot be computed with a configuration of {cfg.architecture!r}")
    return cfg


def _predicted(weights: Weights, cfg: TemporalConfig, x_in: Tensor) -> tuple[Tensor, Tensor]:
    """Return (predicted codes (..., position, F), what they leave unexplained (..., position, D))."""
    residual = centred(x_in, weights, cfg)
    predicted = residual.new_zeros(*residual.shape[:-1], cfg.d_sae)
    for layer in range(cfg.n_attn_layers):
        codes = _attention(weights, cfg, layer, _codes(weights, cfg, residual)).relu()
        direction = codes @ weights["W_dec"]
        norm = direction.norm(dim=-1, keepdim=True) + EPSILON
        scale = (direction * residual).sum(dim=-1, keepdim=True) / norm**2
        predicted = predicted + scale * codes
        residual = residual - scale * direction
    return predicted, residual


def _codes(weights: Weights, cfg: TemporalConfig, residual: Tensor) -> Tensor:
    W_enc = weights["W_dec"].T if cfg.tied_weights else weights["W_enc"]
    return (residual / (4 * cfg.d_in) @ W_enc).relu()


def _attention(weights: Weights, cfg: TemporalConfig, layer: int, codes: Tensor) -> Tensor:
    """Return causal attention from codes (..., position, F) to those of earlier positions, same shape."""

    def projected(name: str, rows: Tensor) -> Tensor:
        prefix = f"attn_layers.{layer}.{name}"
        return functional.linear(rows, weights[f"{prefix}.weight"], weights[f"{prefix}.bias"])

    def heads(name: str, rows: Tensor) -> Tensor:
        split = projected(name, rows)
        return split.reshape(*split.shape[:-1], cfg.n_heads, -1).transpose(-2, -3)

    earlier = functional.pad(codes, (0, 0, 1, 0))[..., :-1, :]
    mixed = functional.scaled_dot_product_attention(
        heads("q_target", codes), heads("k_ctx", earlier), heads("v_ctx", earlier), is_causal=True
    )
    return projected("c_proj", mixed.transpose(-2, -3).flatten(-2))


TEMPORAL = Architecture("temporal", encode, decode, context=context)
