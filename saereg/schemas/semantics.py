"""The switches that decide which function a set of tensors means. Every artifact carries all of them."""

from typing import Literal

from pydantic import Field

from saereg.schemas.document import Record

Preprocessing = Literal[
    "none",
    "layer_norm",
    "constant_norm_rescale",
    "constant_scalar_rescale",
    "expected_average_only_in",
    "covariance_whitening",
    "center",
    "scale",
    "center_scale",
]
"""A map of the input; the formulas stand in `docs/semantics.md`."""

Activation = Literal[
    "relu", "topk", "abstopk", "groupmax", "batchtopk", "jumprelu", "gated", "matching_pursuit", "temporal"
]
"""A nonlinearity, by the name that decides its formula."""

Threshold = Literal["none", "per_latent", "scalar", "per_source"]
"""Shape of a stored threshold: (d_sae,), (), or (n_sources,) of a crosscoder with a gate per source."""

GateQuantity = Literal["pre_activation", "pre_times_decoder_norm", "pre_times_code_norm", "gate_pre_activation"]
"""What is ranked or compared."""


class Normalization(Record):
    """What happens to the input before the encoder, and to the output after the decoder."""

    kind: Preprocessing = "none"
    """Name of the map; the formulas stand in `docs/semantics.md`."""
    statistics: Literal["none", "per_row", "stored", "absent"] = "none"
    """Where its numbers come from: each row, a stored tensor or field, or nowhere in the files."""
    applied_by_reader: bool = True
    """False where readers of the layout ignore the declaration, so that weights must already be folded."""
    inverted_on_output: bool = False
    """Whether the inverse map is applied after decoding."""


class DecoderNorm(Record):
    """L2 norms of the decoder directions, as measured."""

    unit: bool
    """Whether every norm is 1 to 1e-3."""
    minimum: float
    """Smallest norm."""
    maximum: float
    """Largest norm."""


class Semantics(Record):
    """One function, spelled out."""

    pre_encoder_subtraction: Literal["none", "b_dec"]
    """What is subtracted from the (normalized) input before the encoder."""
    activation: Activation
    """The nonlinearity."""
    gate_quantity: GateQuantity
    """The quantity that is ranked or compared to decide which latents are active."""
    rectified: bool = True
    """Whether a latent that is kept with a negative value becomes 0."""
    threshold: Threshold = "none"
    """Shape of the JumpReLU threshold."""
    threshold_units: Literal["none", "gate_quantity"] = "none"
    """Unit of the threshold: that of the gate quantity on raw (unnormalized, unless declared) inputs."""
    k: float | None = Field(default=None, gt=0)
    """Active latents per row for TopK; average per row for BatchTopK."""
    normalization: Normalization = Normalization()
    """Input normalization."""
    latents_scaled_by_decoder_norm: bool = False
    """Whether stored activations are pre × ‖W_dec‖ and divided back before decoding."""
    output_bias: Literal["b_dec", "none"] = "b_dec"
    """What is added after the decoder."""
    skip: Literal["none", "x_times_W_skip_transposed"] = "none"
    """Skip connection of a transcoder."""
    reshape: Literal["none", "hook_z"] = "none"
    """Whether attention heads are flattened on input."""
    bias_reduction: Literal["shared", "sum_over_sources"] = "shared"
    """How a crosscoder's encoder bias enters the shared pre-activation."""
    gate: Literal["shared", "per_source"] = "shared"
    """Whether a crosscoder's sources share one active set."""


class Assumption(Record):
    """Something that the files do not say and a reader had to take for granted."""

    field: str
    """The switch or key concerned."""
    value: str
    """What was assumed."""
    because: str
    """From what it was inferred."""
