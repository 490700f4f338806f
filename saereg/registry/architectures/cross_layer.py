"""Across layers: f_i = latents(x_i·W_enc.i), x̂_t = Σ_{i → t} f_i·W_dec.i.t + b_dec.t.

Each layer has its own encoder and its own code; the configuration says which layers decode it.
Sources: transformer-circuits.pub/2025/attribution-graphs (cross-layer transcoders); circuit-tracer 0.5,
`transcoder/cross_layer_transcoder.py`. Shapes: L = n_layers, D = d_in, F = d_sae, O = d_out.
"""

from functools import partial

import torch
from torch import Tensor

from saereg.errors import UsageError
from saereg.registry.architectures.architecture import Architecture, Latents, Weights
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_native import CrossLayerConfig


def cross_layer(name: str, latents: Latents) -> Architecture:
    """Return the cross-layer architecture with these `latents`."""
    return Architecture(name, partial(encode, latents), decode)


def encode(latents: Latents, weights: Weights, cfg: ArtifactConfig, x_in: Tensor) -> Tensor:
    """Return f (..., L, F) of rows x_in (..., L, D)."""
    layers = range(_checked(cfg).n_layers)
    return torch.stack(
        [latents(x_in[..., i, :] @ weights[f"W_enc.{i}"], vectors_of_layer(weights, i), cfg) for i in layers], dim=-2
    )


def decode(weights: Weights, cfg: ArtifactConfig, f: Tensor) -> Tensor:
    """Return x_hat (..., L, O) of f (..., L, F), without skip connection."""
    cfg = _checked(cfg)
    outputs = [weights[f"b_dec.{t}"].expand(*f.shape[:-2], cfg.d_out) for t in range(cfg.n_layers)]
    for i in range(cfg.n_layers):
        for t in cfg.targets(i):
            outputs[t] = outputs[t] + f[..., i, :] @ weights[f"W_dec.{i}.{t}"]
    return torch.stack(outputs, dim=-2)


def skip(weights: Weights, cfg: ArtifactConfig, x: Tensor) -> Tensor:
    """Return x_t·W_skip.tᵀ (..., L, O) of raw rows x (..., L, D)."""
    layers = range(_checked(cfg).n_layers)
    return torch.stack([x[..., t, :] @ weights[f"W_skip.{t}"].T for t in layers], dim=-2)


def vectors_of_layer(weights: Weights, layer: int) -> Weights:
    """Return what `latents` reads at one layer, under the names that it knows."""
    names = {name: f"{name}.{layer}" for name in ("b_enc", "threshold")}
    return {name: weights[key] for name, key in names.items() if key in weights}


def _checked(cfg: ArtifactConfig) -> CrossLayerConfig:
    if not isinstance(cfg, CrossLayerConfig):
        raise UsageError(f"a configuration of {cfg.architecture!r} has no layers")
    return cfg
