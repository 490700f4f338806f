"""What an architecture is: a few pure functions of (weights, configuration, rows)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from saereg.schemas.artifact_config import ArtifactConfig

Weights = Mapping[str, Tensor]
"""Name → tensor, in canonical names and orientation."""

Map = Callable[[Weights, ArtifactConfig, Tensor], Tensor]
"""(weights, cfg, rows) → rows."""

Latents = Callable[[Tensor, Weights, ArtifactConfig], Tensor]
"""(product, vectors, cfg) → latents, without any of the big matrices."""


@dataclass(frozen=True)
class Architecture:
    """One way from rows to latents and back. Shapes: D = d_in, F = d_sae, O = d_out.

    Attributes:
        name: as in cfg.json.
        encode: x_in (..., D), normalized, not yet centred by `b_dec` → f (..., F).
        decode: f (..., F) → x_hat (..., O), not yet denormalized, without skip connection.
        latents: x_in·W_enc (..., F) → f (..., F), from vectors alone; None where encoding needs the whole
            matrices. With it, W_enc can be streamed in blocks of rows while the product accumulates, and then
            W_dec likewise, so that the two are never in memory together.
        context: x_in (..., position, D) → codes (..., position, F) that earlier positions predict, which are
            added to f before decoding; None where rows are independent.
    """

    name: str
    encode: Map
    decode: Map
    latents: Latents | None = None
    context: Map | None = None
