"""Crosscoders: product = Σ_k x_k·W_enc[k], one code for all sources, x̂_k = f·W_dec[:, k] + b_dec[k].

Concatenating the sources turns this into an ordinary SAE of width K·D, and in canonical axis order that is
only a view of the same memory. A gate per source keeps a latent at source k only where it passes there, so f
has a source axis, x̂_k = f_k·W_dec[:, k] + b_dec[k], and no such view exists.
Shapes: K = n_sources, D = d_in, F = d_sae.
"""

from functools import partial

import torch
from torch import Tensor

from saereg.registry.architectures.architecture import Architecture, Latents, Weights
from saereg.registry.architectures.linear import vectors_of
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig


def crosscoder(name: str, latents: Latents) -> Architecture:
    """Return the crosscoder architecture with these `latents`."""
    return Architecture(name, partial(encode, latents), decode, latents)


def encode(latents: Latents, weights: Weights, cfg: ArtifactConfig, x_in: Tensor) -> Tensor:
    """Return f (..., F), or (..., K, F) for a gate per source, of normalized rows x_in (..., K, D)."""
    product = x_in.flatten(-2) @ weights["W_enc"].flatten(0, 1)
    return latents(product, vectors_of(weights, cfg), cfg)


def decode(weights: Weights, cfg: ArtifactConfig, f: Tensor) -> Tensor:
    """Return x_hat (..., K, D) of f (..., F), or (..., K, F) for a gate per source."""
    W_dec, b_dec = weights["W_dec"], weights["b_dec"]
    if semantics_of(cfg).gate == "per_source":
        return torch.einsum("...kf,fkd->...kd", f, W_dec) + b_dec
    return (f @ W_dec.flatten(1)).reshape(*f.shape[:-1], *b_dec.shape) + b_dec
