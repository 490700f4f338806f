"""cfg.json of a crosscoder in saereg's own layout: axes, bias, gate, code norm and input statistics are all explicit.

Shapes use K = n_sources, D = d_in, F = d_sae. SAELens 6.54 has no crosscoder, so this dialect is ours.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from saereg.schemas.cfg import SaelensMetadata, TensorSpec
from saereg.schemas.document import Document, Record, canonical
from saereg.schemas.manifest import Sources
from saereg.schemas.metrics import DType
from saereg.schemas.semantics import Assumption

Axis = Literal["source", "d_in", "d_sae"]

CANONICAL_AXES: dict[str, tuple[Axis, ...]] = {
    "W_enc": ("source", "d_in", "d_sae"),
    "W_dec": ("d_sae", "source", "d_in"),
    "b_dec": ("source", "d_in"),
}
"""Tensor → meaning of each of its axes, in the one order that is written."""


class ActivationInput(Record):
    """Rows are activations: one token, seen by every source."""

    kind: Literal["activations"]
    """What a row is."""


class ParameterInput(Record):
    """Rows are rows of a parameter tensor: one vocabulary entry, at every snapshot."""

    kind: Literal["parameters"]
    """What a row is."""
    parameter: str
    """Name of the parameter, e.g. `W_U` or `W_E`."""


class InputStatistics(Record):
    """How each source's input is centred and scaled: x' = (x − mean) · scale, undone after decoding."""

    preprocess: Literal["none", "center", "scale", "center_scale"]
    """Which of the two is applied."""
    inverted_on_output: bool = True
    """Whether the reconstruction is mapped back to raw units."""
    scale_per: Literal["source", "element"] = "source"
    """Whether `input_scale` is one number per source, or one for every element of every source."""


class CrosscoderConfig(Document):
    """A crosscoder: pre = Σ_k x_k·W_enc[k] + b_enc, f = activation(pre), x̂_k = f·W_dec[:, k] + b_dec[k]."""

    kind: Literal["crosscoder"]
    """Kind of dictionary."""
    architecture: Literal["standard", "topk", "batchtopk", "jumprelu", "gated"]
    """Activation, in SAELens' words. `batchtopk` is the inference form: a stored scalar threshold."""
    sources: Sources
    """What the source axis runs over."""
    input: Annotated[ActivationInput | ParameterInput, Field(discriminator="kind")]
    """What a row is."""
    n_sources: int = Field(gt=0)
    """Number of sources, K."""
    d_in: int = Field(gt=0)
    """Width of each source, D."""
    d_sae: int = Field(gt=0)
    """Number of latents, F."""
    dtype: DType
    """Type of the weights."""
    axes: dict[str, tuple[Axis, ...]] = Field(default_factory=lambda: dict(CANONICAL_AXES))
    """Meaning of each axis. Only the canonical order is written; it stands here so that no reader has to guess."""
    bias_reduction: Literal["shared", "sum_over_sources"] = "shared"
    """`shared`: b_enc is (F,). `sum_over_sources`: b_enc is (K, F) and summed."""
    gate: Literal["shared", "per_source"] = "shared"
    """Whether all sources share one active set, or each has its own cut."""
    code_norm: Literal["none", "sum_of_norms", "joint_norm", "mixed", "per_source_norm"] = "none"
    """What the pre-activation is multiplied by before it is ranked or compared: nothing, Σ_k ‖W_dec[j, k]‖,
    ‖W_dec[j]‖ over all sources jointly, a weighted sum of the two, or each source's own norm (which needs gate
    `per_source`)."""
    code_norm_weights: tuple[float, float] | None = None
    """Weights of the joint norm and of the sum of norms, for code norm `mixed`."""
    k: float | None = Field(default=None, gt=0)
    """Active latents per row, for TopK; average, for BatchTopK."""
    statistics: InputStatistics = InputStatistics(preprocess="none")
    """Input statistics; their numbers are the tensors `input_mean` (K, D) and `input_scale`, (K,) or (K, D)."""
    dtypes: dict[str, DType] = Field(default_factory=dict)
    """Tensor → its type, for tensors that are stored in another than the rest."""
    metadata: SaelensMetadata = Field(default_factory=SaelensMetadata)
    """Where the crosscoder belongs and how it was trained, as far as its source says."""
    assumptions: tuple[Assumption, ...] = ()
    """What the source does not say and a reader took for granted, or was told."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sources.count != self.n_sources:
            raise ValueError(f"n_sources is {self.n_sources}, but `sources` names {self.sources.count}")
        if self.architecture == "topk" and (self.k is None or self.k != int(self.k)):
            raise ValueError("architecture 'topk' needs a whole number `k`")
        if (self.code_norm == "per_source_norm") != (self.gate == "per_source"):
            raise ValueError("gate 'per_source' and code_norm 'per_source_norm' go together")
        if self.gate == "per_source" and self.architecture not in ("jumprelu", "batchtopk", "topk"):
            raise ValueError("gate 'per_source' is defined for architectures 'jumprelu', 'batchtopk' and 'topk'")
        if (self.code_norm == "mixed") != (self.code_norm_weights is not None):
            raise ValueError("code_norm 'mixed' and `code_norm_weights` go together")
        if self.k is not None and self.k > self.d_sae:
            raise ValueError(f"k = {self.k:g} exceeds d_sae = {self.d_sae}")
        if self.axes != CANONICAL_AXES:
            raise ValueError("`axes` must be in canonical order; convert the file first")
        if unknown := set(self.dtypes) - set(self.tensors()):
            raise ValueError(f"`dtypes` names {', '.join(sorted(unknown))}, which this crosscoder has not")
        return self

    @property
    def d_out(self) -> int:
        """Width of each source's output."""
        return self.d_in

    @property
    def torch_dtype(self) -> str:
        """Type of the weights."""
        return self.dtype

    def tensors(self) -> dict[str, TensorSpec]:
        """Return name → expected shape and type of every tensor in the weight file."""
        n, d, f = self.n_sources, self.d_in, self.d_sae
        bias = (f,) if self.bias_reduction == "shared" else (n, f)
        tensors = {
            "W_enc": TensorSpec(shape=(n, d, f)),
            "b_enc": TensorSpec(shape=bias),
            "W_dec": TensorSpec(shape=(f, n, d)),
            "b_dec": TensorSpec(shape=(n, d)),
        }
        if self.architecture == "gated":
            del tensors["b_enc"]
            tensors |= {name: TensorSpec(shape=(f,)) for name in ("b_gate", "b_mag", "r_mag")}
        if self.architecture == "jumprelu":
            tensors["threshold"] = TensorSpec(shape=(f,))
        if self.architecture == "batchtopk":
            tensors["threshold"] = TensorSpec(shape=(n,) if self.gate == "per_source" else ())
        if self.statistics.preprocess in ("center", "center_scale"):
            tensors["input_mean"] = TensorSpec(shape=(n, d), dtype="float32")
        if self.statistics.preprocess in ("scale", "center_scale"):
            shape = (n,) if self.statistics.scale_per == "source" else (n, d)
            tensors["input_scale"] = TensorSpec(shape=shape, dtype="float32")
        return {
            name: spec.model_copy(update={"dtype": self.dtypes[name]}) if name in self.dtypes else spec
            for name, spec in tensors.items()
        }

    def text(self) -> str:
        """Return canonical text with every switch spelt out."""
        value = self.model_dump(mode="json", exclude_none=True)
        value["metadata"] = self.metadata.model_dump(mode="json", exclude_none=True)
        return canonical(value)
