"""What almost all architectures share: product = x_c·W_enc, latents of the product, x_hat = f'·W_dec + b_dec.

Here x_c = x_in − b_dec if the configuration says so, and f' = f / ‖W_dec‖ if latents are stored times that
norm. Shapes: D = d_in, F = d_sae, O = d_out. Source: SAELens 6.54, `saes/sae.py`.
"""

from functools import partial

import torch
from torch import Tensor

from saereg.registry.architectures.architecture import Architecture, Latents, Weights
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_crosscoder import CrosscoderConfig

MATRICES = ("W_enc", "W_dec", "W_skip")
"""Tensors too big to count as vectors."""


def linear(name: str, latents: Latents) -> Architecture:
    """Return the architecture that differs from the others only in its `latents`."""
    return Architecture(name, partial(encode, latents), decode, latents)


def encode(latents: Latents, weights: Weights, cfg: ArtifactConfig, x_in: Tensor) -> Tensor:
    """Return f (..., F) of normalized rows x_in (..., D)."""
    product = centred(x_in, weights, cfg) @ weights["W_enc"]
    return latents(product, vectors_of(weights, cfg), cfg)


def decode(weights: Weights, cfg: ArtifactConfig, f: Tensor) -> Tensor:
    """Return x_hat (..., O) of latents f (..., F)."""
    x_hat = unscaled(f, vectors_of(weights, cfg), cfg) @ weights["W_dec"]
    return with_output_bias(x_hat, weights, cfg)


def centred(x_in: Tensor, weights: Weights, cfg: ArtifactConfig) -> Tensor:
    """Return x_in − b_dec (..., D) if the configuration subtracts it, else x_in."""
    return x_in - weights["b_dec"] if semantics_of(cfg).pre_encoder_subtraction == "b_dec" else x_in


def unscaled(f: Tensor, vectors: Weights, cfg: ArtifactConfig) -> Tensor:
    """Return f / ‖W_dec‖ (..., F) if latents are stored times the decoder norm, else f."""
    scaled = semantics_of(cfg).latents_scaled_by_decoder_norm
    return f * vectors["decoder_norm"].reciprocal() if scaled else f


def with_output_bias(x_hat: Tensor, weights: Weights, cfg: ArtifactConfig) -> Tensor:
    """Return x_hat + b_dec (..., O) if the configuration adds it, else x_hat."""
    return x_hat + weights["b_dec"] if semantics_of(cfg).output_bias == "b_dec" else x_hat


def needs_decoder_norm(cfg: ArtifactConfig) -> bool:
    """Whether `latents` or `unscaled` read the vector `decoder_norm`."""
    return semantics_of(cfg).gate_quantity in ("pre_times_decoder_norm", "pre_times_code_norm")


def decoder_norm(W_dec: Tensor, cfg: ArtifactConfig) -> Tensor:
    """Return what pre-activations are multiplied by before they are ranked or compared, per latent.

    Each latent's number depends on its own row alone, so blocks of rows can be treated one after another.

    Args:
        W_dec: (F, O), or (F, K, D) of a crosscoder with K sources.
        cfg: its configuration.

    Returns:
        (F,), or (K, F) for code norm `per_source_norm`.
    """
    norms: Tensor = torch.linalg.vector_norm(W_dec, dim=-1)
    if not isinstance(cfg, CrosscoderConfig):
        return norms
    if cfg.code_norm == "per_source_norm":
        return norms.transpose(0, 1)
    if cfg.code_norm == "sum_of_norms":
        return norms.sum(dim=-1)
    joint: Tensor = torch.linalg.vector_norm(W_dec, dim=(-2, -1))
    if cfg.code_norm == "mixed" and cfg.code_norm_weights is not None:
        of_joint, of_sum = cfg.code_norm_weights
        return of_joint * joint + of_sum * norms.sum(dim=-1)
    return joint


def vectors_of(weights: Weights, cfg: ArtifactConfig) -> Weights:
    """Return the tensors that `latents` reads: all but the matrices, and `decoder_norm` where needed."""
    vectors = {name: tensor for name, tensor in weights.items() if name not in MATRICES}
    if needs_decoder_norm(cfg) and "decoder_norm" not in vectors:
        vectors["decoder_norm"] = decoder_norm(weights["W_dec"], cfg)
    return vectors


def value_and_gate(product: Tensor, vectors: Weights, cfg: ArtifactConfig) -> tuple[Tensor, Tensor]:
    """Return what a latent is worth when active, and the quantity that decides whether it is.

    Args:
        product: x_c·W_enc, (..., F).
        vectors: `b_enc` (F,), or (K, F) summed over sources; `decoder_norm` where needed.
        cfg: configuration.

    Returns:
        (value, gate), each (..., F); for a gate per source, value (..., 1, F) and gate (..., K, F).
    """
    rules = semantics_of(cfg)
    b_enc = vectors["b_enc"]
    pre = product + (b_enc.sum(dim=0) if rules.bias_reduction == "sum_over_sources" else b_enc)
    if rules.gate == "per_source":
        pre = pre.unsqueeze(-2)
    gate = pre * vectors["decoder_norm"] if needs_decoder_norm(cfg) else pre
    return (gate if rules.latents_scaled_by_decoder_norm else pre), gate


def rectified(value: Tensor, cfg: ArtifactConfig) -> Tensor:
    """Return relu(value), or value itself where the configuration keeps negative latents."""
    return value.relu() if semantics_of(cfg).rectified else value
