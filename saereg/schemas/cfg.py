"""cfg.json in the SAELens dialect: one class per architecture, each with the tensors it implies.

Inference classes are what a release ships; training classes are what SAELens' trainer saves on the way
(`saereg.schemas.cfg_training`). Shapes use D = d_in, F = d_sae, O = d_out. Source: SAELens 6.54, `saes/*.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from saereg.schemas.document import Document, Record, canonical

SaelensDType = Annotated[str, StringConstraints(pattern=r"^(torch\.)?(float64|float32|float16|bfloat16)$")]
"""A floating-point type, with or without `torch.` in front."""

NormalizeActivations = Literal[
    "none", "layer_norm", "constant_norm_rescale", "expected_average_only_in", "covariance_whitening"
]


TemporalNormalization = Literal[
    "none", "layer_norm", "constant_norm_rescale", "expected_average_only_in", "constant_scalar_rescale"
]


class TensorSpec(Record):
    """A tensor that a configuration implies."""

    shape: tuple[int, ...]
    """Its shape."""
    dtype: str | None = None
    """Its type; null: that of the configuration."""


class SaelensMetadata(BaseModel):
    """`metadata` of a SAELens cfg.json.

    SAELens itself allows any key here, so unknown keys are kept; a misspelt known key is still found (SR103).
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, use_attribute_docstrings=True)

    sae_lens_version: str | None = None
    """Version that wrote the file. Without it, SAELens drops the whole metadata on loading."""
    sae_lens_training_version: str | None = None
    """Version that trained it."""
    model_name: str | None = None
    """Base model."""
    model_class_name: str | None = None
    """Class that loads the base model."""
    model_revision: str | None = None
    """Commit of the base model."""
    hook_name: str | None = None
    """TransformerLens hook."""
    hook_name_out: str | None = None
    """TransformerLens hook of a transcoder's output."""
    hook_head_index: int | None = None
    """Head, for a single-head dictionary."""
    hook_head_index_out: int | None = None
    """Head of the output."""
    hf_hook_name: str | None = None
    """Module path (or `hidden_states.N`) in transformers."""
    hf_hook_name_out: str | None = None
    """Module path of a transcoder's output."""
    model_from_pretrained_kwargs: dict[str, Any] | None = None
    """Arguments for loading the base model."""
    prepend_bos: bool | None = None
    """Whether a BOS token stands first in each context."""
    exclude_special_tokens: bool | list[int] | None = None
    """Tokens whose activations were dropped."""
    sequence_separator_token: str | int | None = None
    """Token between documents."""
    disable_concat_sequences: bool | None = None
    """Whether documents were kept apart."""
    context_size: int | None = None
    """Tokens per context."""
    seqpos_slice: list[int | None] | None = None
    """Positions used."""
    dataset_path: str | None = None
    """Training data."""
    dataset_trust_remote_code: bool | None = None
    """Whether the data set's own code was run."""
    neuronpedia_id: str | None = None
    """Id on Neuronpedia."""
    l0: float | None = None
    """L0 in the last window of training."""
    num_dead_features: int | float | None = None
    """Latents that had not fired for a window of training steps."""
    training_architecture: str | None = None
    """Architecture during training."""
    training_architecture_details: dict[str, Any] | None = None
    """Training settings that the inference architecture does not have."""

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "SaelensMetadata":
        """Return metadata of values that somebody else wrote; one that does not fit its field is kept as `source_…`."""
        known = {key: value for key, value in values.items() if value is not None}
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            odd = {str(problem["loc"][0]) for problem in error.errors()}
            renamed = {f"source_{key}" if key in odd else key: value for key, value in known.items()}
            return cls.model_validate(renamed)


class SaelensConfig(Document):
    """What every SAELens configuration has. Defaults are those of SAELens; one taken becomes an assumption."""

    architecture: str
    """Name of the architecture."""
    d_in: int = Field(gt=0)
    """Width of the input, D."""
    d_sae: int = Field(gt=0)
    """Number of latents, F."""
    dtype: SaelensDType
    """Type of the weights."""
    device: str = "cpu"
    """Device that SAELens loads to unless told otherwise; `cpu` in a release."""
    apply_b_dec_to_input: bool = True
    """Whether `b_dec` is subtracted from the input before the encoder."""
    normalize_activations: NormalizeActivations = "none"
    """Input normalization at run time."""
    reshape_activations: Literal["none", "hook_z"] = "none"
    """Whether attention heads are flattened on input."""
    metadata: SaelensMetadata = Field(default_factory=SaelensMetadata)
    """Where the dictionary belongs and how it was trained."""

    SWITCHES: ClassVar[tuple[str, ...]] = (
        "apply_b_dec_to_input",
        "normalize_activations",
        "reshape_activations",
    )
    """Fields that change the function; one that a file leaves out is an assumption."""

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return self.d_in

    @property
    def torch_dtype(self) -> str:
        """Type of the weights, without `torch.`."""
        return self.dtype.removeprefix("torch.")

    def tensors(self) -> dict[str, TensorSpec]:
        """Return name → expected shape and type of every tensor in the weight file."""
        return {
            "W_enc": TensorSpec(shape=(self.d_in, self.d_sae)),
            "b_enc": TensorSpec(shape=(self.d_sae,)),
            "W_dec": TensorSpec(shape=(self.d_sae, self.d_out)),
            "b_dec": TensorSpec(shape=(self.d_out,)),
        }

    def text(self) -> str:
        """Return canonical text with every key spelt out: SAELens' defaults must not decide for the reader."""
        value = self.model_dump(mode="json", by_alias=True)
        value["metadata"] = self.metadata.model_dump(mode="json", exclude_none=True)
        return canonical(value)


def _without_encoder(tensors: dict[str, TensorSpec]) -> dict[str, TensorSpec]:
    return {name: tensors[name] for name in ("W_dec", "b_dec")}


class StandardConfig(SaelensConfig):
    """ReLU: f = relu((x − b_dec)·W_enc + b_enc)."""

    architecture: Literal["standard"]
    """Name of the architecture."""


class TopKConfig(SaelensConfig):
    """TopK: the k largest pre-activations of each row, then ReLU."""

    architecture: Literal["topk"]
    """Name of the architecture."""
    k: int = Field(gt=0)
    """Active latents per row. SAELens takes 100 when it is missing; here it must be said."""
    rescale_acts_by_decoder_norm: bool = False
    """Whether pre-activations are ranked (and stored) times ‖W_dec‖, and divided back before decoding."""

    SWITCHES: ClassVar[tuple[str, ...]] = (*SaelensConfig.SWITCHES, "rescale_acts_by_decoder_norm")


class AbsTopKConfig(TopKConfig):
    """AbsTopK: the k pre-activations of largest magnitude, signs kept (arXiv:2510.00404)."""

    architecture: Literal["abstopk"]  # type: ignore[assignment]
    """Name of the architecture."""


class JumpReluConfig(SaelensConfig):
    """JumpReLU: relu(pre) where pre > threshold, strictly (arXiv:2407.14435)."""

    architecture: Literal["jumprelu"]
    """Name of the architecture."""

    def tensors(self) -> dict[str, TensorSpec]:
        """Return the standard tensors and `threshold` (F,)."""
        return super().tensors() | {"threshold": TensorSpec(shape=(self.d_sae,))}


class GatedConfig(SaelensConfig):
    """Gated: (pre_gate > 0) · relu(pre_magnitude) (arXiv:2404.16014)."""

    architecture: Literal["gated"]
    """Name of the architecture."""

    def tensors(self) -> dict[str, TensorSpec]:
        """Return `W_enc`, `W_dec`, `b_dec`, and `b_gate`, `b_mag`, `r_mag` (F,) in place of `b_enc`."""
        tensors = super().tensors()
        del tensors["b_enc"]
        return tensors | {name: TensorSpec(shape=(self.d_sae,)) for name in ("b_gate", "b_mag", "r_mag")}


class MatchingPursuitConfig(SaelensConfig):
    """Matching pursuit: greedy selection with a tied encoder."""

    architecture: Literal["matching_pursuit"]
    """Name of the architecture."""
    residual_threshold: float = Field(default=1e-2, ge=0)
    """Residual norm at which selection stops, in units of the input."""
    max_iterations: int | None = Field(default=None, gt=0)
    """Most selections per row; null: d_in."""
    stop_on_duplicate_support: bool = True
    """Whether selection stops when the active set did not change."""

    SWITCHES: ClassVar[tuple[str, ...]] = (
        *SaelensConfig.SWITCHES,
        "residual_threshold",
        "max_iterations",
        "stop_on_duplicate_support",
    )

    def tensors(self) -> dict[str, TensorSpec]:
        """Return `W_dec` and `b_dec`: the encoder is the decoder transposed."""
        return _without_encoder(super().tensors())


class TemporalConfig(SaelensConfig):
    """Temporal: attention over earlier codes predicts part of the code, the rest is sparse (arXiv:2511.01836)."""

    architecture: Literal["temporal"]
    """Name of the architecture."""
    normalize_activations: TemporalNormalization = "none"  # type: ignore[assignment]
    """Input normalization at run time."""
    n_heads: int = Field(default=8, gt=0)
    """Attention heads."""
    n_attn_layers: int = Field(default=1, gt=0, le=1000)
    """Attention layers."""
    bottleneck_factor: int = Field(default=64, gt=0)
    """F / width of keys and queries."""
    sae_diff_type: Literal["relu", "topk"] = "topk"
    """Nonlinearity of the novel part."""
    kval_topk: int | None = Field(default=None, gt=0)
    """k of the novel part; null: ReLU alone."""
    tied_weights: bool = True
    """Whether the encoder is the decoder transposed."""
    activation_normalization_factor: float = Field(default=1.0, gt=0)
    """Factor of `constant_scalar_rescale`."""

    SWITCHES: ClassVar[tuple[str, ...]] = (
        *SaelensConfig.SWITCHES,
        "n_heads",
        "n_attn_layers",
        "bottleneck_factor",
        "sae_diff_type",
        "kval_topk",
        "tied_weights",
        "activation_normalization_factor",
    )

    def tensors(self) -> dict[str, TensorSpec]:
        """Return `W_dec`, `b_dec`, `W_enc` unless tied, and four projections per attention layer."""
        tensors = super().tensors()
        tensors = _without_encoder(tensors) | ({} if self.tied_weights else {"W_enc": tensors["W_enc"]})
        narrow = self.d_sae // self.bottleneck_factor
        for layer in range(self.n_attn_layers):
            for name, rows in (
                ("k_ctx", narrow),
                ("q_target", narrow),
                ("v_ctx", self.d_sae),
                ("c_proj", self.d_sae),
            ):
                prefix = f"attn_layers.{layer}.{name}"
                tensors[f"{prefix}.weight"] = TensorSpec(shape=(rows, self.d_sae))
                tensors[f"{prefix}.bias"] = TensorSpec(shape=(rows,))
        return tensors


class TranscoderConfig(SaelensConfig):
    """Transcoder: reads one site, predicts another; never subtracts b_dec, never denormalizes."""

    # Only `d_out` is a key: SAELens would ignore `out_width` and take its default of 768.
    model_config = ConfigDict(populate_by_name=False)

    architecture: Literal["transcoder"]
    """Name of the architecture."""
    apply_b_dec_to_input: Literal[False]
    """Always false: b_dec lives in the output space."""
    out_width: int = Field(alias="d_out", gt=0)
    """Width of the output, O. SAELens takes 768 when it is missing; here it must be said."""

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return self.out_width


class SkipTranscoderConfig(TranscoderConfig):
    """Transcoder with a skip connection x·W_skipᵀ on the raw input."""

    architecture: Literal["skip_transcoder"]  # type: ignore[assignment]
    """Name of the architecture."""

    def tensors(self) -> dict[str, TensorSpec]:
        """Return the transcoder's tensors and `W_skip` (O, D)."""
        return super().tensors() | {"W_skip": TensorSpec(shape=(self.d_out, self.d_in))}


class JumpReluTranscoderConfig(TranscoderConfig):
    """JumpReLU transcoder."""

    architecture: Literal["jumprelu_transcoder"]  # type: ignore[assignment]
    """Name of the architecture."""

    def tensors(self) -> dict[str, TensorSpec]:
        """Return the transcoder's tensors and `threshold` (F,)."""
        return super().tensors() | {"threshold": TensorSpec(shape=(self.d_sae,))}


class JumpReluSkipTranscoderConfig(JumpReluTranscoderConfig):
    """JumpReLU transcoder with a skip connection."""

    architecture: Literal["jumprelu_skip_transcoder"]  # type: ignore[assignment]
    """Name of the architecture."""

    def tensors(self) -> dict[str, TensorSpec]:
        """Return the JumpReLU transcoder's tensors and `W_skip` (O, D)."""
        return super().tensors() | {"W_skip": TensorSpec(shape=(self.d_out, self.d_in))}


INFERENCE: dict[str, type[SaelensConfig]] = {
    "standard": StandardConfig,
    "topk": TopKConfig,
    "abstopk": AbsTopKConfig,
    "jumprelu": JumpReluConfig,
    "gated": GatedConfig,
    "matching_pursuit": MatchingPursuitConfig,
    "temporal": TemporalConfig,
    "transcoder": TranscoderConfig,
    "skip_transcoder": SkipTranscoderConfig,
    "jumprelu_transcoder": JumpReluTranscoderConfig,
    "jumprelu_skip_transcoder": JumpReluSkipTranscoderConfig,
}
"""Every inference architecture of SAELens 6.54."""
