"""What happens to rows before the encoder, and its inverse after the decoder.

layer_norm                x_in = (x − mean) / (σ + 1e-5), σ unbiased over the row;  out: x_hat·σ + mean
constant_norm_rescale     x_in = x·√D / ‖x‖;                                        out: x_hat·‖x‖ / √D
constant_scalar_rescale   x_in = x·factor, a field of cfg.json;                     out: x_hat / factor
center, scale             x_in = (x − input_mean)·input_scale, stored tensors;      out: x_hat / scale + mean
expected_average_only_in, covariance_whitening: no reader applies them; the weights must be folded.
Source: SAELens 6.54, `SAE._setup_activation_normalization`, `TemporalSAE`; the stored ones are saereg's own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from saereg.registry.architectures.architecture import Weights
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg import TemporalConfig

LAYER_NORM_EPSILON = 1e-5
"""Added to σ on the way in, not on the way out."""


@dataclass(frozen=True)
class Undo:
    """The way back: x_hat ↦ x_hat·scale + shift.

    Attributes:
        scale: broadcasts against x_hat; None: 1.
        shift: broadcasts against x_hat; None: 0.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None

    @property
    def is_identity(self) -> bool:
        """Whether there is nothing to undo."""
        return self.scale is None and self.shift is None

    def __call__(self, x_hat: Tensor) -> Tensor:
        """Return x_hat in the units of x, in its own dtype."""
        dtype = x_hat.dtype
        if self.scale is not None:
            x_hat = x_hat * self.scale
        if self.shift is not None:
            x_hat = x_hat + self.shift
        return x_hat.to(dtype)


def normalize(x: Tensor, weights: Weights, cfg: ArtifactConfig) -> tuple[Tensor, Undo]:
    """Return the encoder's input and the way back.

    Args:
        x: rows (..., D), or (..., K, D) for a crosscoder, in raw units and any floating-point type.
        weights: `input_mean` (K, D) and `input_scale` (K,) or (K, D) where the configuration names them;
            without sources `input_mean` (D,) and `input_scale` ().
        cfg: configuration.

    Returns:
        (x_in, undo): x_in of the shape of x, in the type of the weights.
    """
    rules = semantics_of(cfg).normalization
    dtype = weights["W_dec" if "W_dec" in weights else "W_dec.0.0"].dtype
    if rules.statistics == "per_row":
        x_in, undo = PER_ROW[rules.kind](x.to(dtype))
        return x_in, undo if rules.inverted_on_output else Undo()
    mean, scale = _stored(weights, cfg)
    # statistics are float32 whatever the weights are: rounding x before it is centred would lose digits
    for number in (mean, scale):
        x = x if number is None else x.to(torch.promote_types(dtype, number.dtype))
    x = x if mean is None else x - mean
    x = x if scale is None else x * scale
    return x.to(dtype), stored_undo(weights, cfg)


def stored_undo(weights: Weights, cfg: ArtifactConfig) -> Undo:
    """Return the way back where it does not depend on the rows: every normalization but those per row."""
    if not semantics_of(cfg).normalization.inverted_on_output:
        return Undo()
    mean, scale = _stored(weights, cfg)
    return Undo(None if scale is None else 1 / scale, mean)


def _stored(weights: Weights, cfg: ArtifactConfig) -> tuple[Tensor | None, Tensor | None]:
    """Return (mean, scale) of x_in = (x − mean)·scale; None where absent."""
    if isinstance(cfg, TemporalConfig) and cfg.normalize_activations == "constant_scalar_rescale":
        return None, weights["W_dec"].new_tensor(cfg.activation_normalization_factor)
    scale = weights.get("input_scale")
    per_source = scale is not None and scale.ndim == 1  # (K,) against rows (..., K, D); (K, D) and () broadcast as is
    return weights.get("input_mean"), scale.unsqueeze(-1) if scale is not None and per_source else scale


def _layer_norm(x: Tensor) -> tuple[Tensor, Undo]:
    mean = x.mean(dim=-1, keepdim=True)
    deviation = x - mean
    sigma = deviation.std(dim=-1, keepdim=True)
    return deviation / (sigma + LAYER_NORM_EPSILON), Undo(sigma, mean)


def _constant_norm(x: Tensor) -> tuple[Tensor, Undo]:
    factor = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
    return x * factor, Undo(1 / factor)


PER_ROW = {"layer_norm": _layer_norm, "constant_norm_rescale": _constant_norm}
"""The normalizations that take their numbers from each row."""
