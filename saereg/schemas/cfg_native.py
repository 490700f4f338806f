"""cfg.json in saereg's own dialect: the function is spelt out switch by switch, so that no name has to imply any.

It says what SAELens' dialect cannot: TopK transcoders, groupmax, a scalar threshold, stored input statistics, codes
that are written to several layers. Crosscoders with one code are in `saereg.schemas.cfg_crosscoder`.
Shapes: D = d_in, F = d_sae, O = d_out, L = n_layers.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from saereg.schemas.cfg import SaelensMetadata, TensorSpec
from saereg.schemas.document import Document, canonical
from saereg.schemas.metrics import DType
from saereg.schemas.semantics import Assumption, Semantics

ROW_WISE = ("relu", "topk", "abstopk", "groupmax", "batchtopk", "jumprelu", "gated")
"""Activations that need nothing but x·W_enc and vectors."""

BY_K = ("topk", "abstopk", "groupmax")
"""Activations that cannot run without k."""

THRESHOLD_SHAPES = {"jumprelu": ("per_latent", "scalar"), "batchtopk": ("scalar",)}
"""Activation → the shapes that its threshold may have; all others have none."""


STATISTICS = {
    "none": "none",
    "layer_norm": "per_row",
    "constant_norm_rescale": "per_row",
    "center": "stored",
    "scale": "stored",
    "center_scale": "stored",
    "expected_average_only_in": "absent",
    "covariance_whitening": "absent",
}
"""Normalization → where its numbers come from, in this dialect."""


class _Native(Document):
    """What every configuration of this dialect has."""

    dtype: DType
    """Type of the weights."""
    dtypes: dict[str, DType] = Field(default_factory=dict)
    """Tensor → its type, for tensors that are stored in another than the rest."""
    metadata: SaelensMetadata = Field(default_factory=SaelensMetadata)
    """Where the dictionary belongs and how it was trained, as far as its source says."""
    assumptions: tuple[Assumption, ...] = ()
    """What the source does not say and a reader took for granted, or was told."""

    @property
    def torch_dtype(self) -> str:
        """Type of the weights."""
        return self.dtype

    def text(self) -> str:
        """Return canonical text with every switch spelt out."""
        value = self.model_dump(mode="json")
        value["metadata"] = self.metadata.model_dump(mode="json", exclude_none=True)
        return canonical(value)

    def _typed(self, tensors: dict[str, TensorSpec]) -> dict[str, TensorSpec]:
        """Return the table with the exceptions of `dtypes`."""
        return {
            name: spec.model_copy(update={"dtype": self.dtypes[name]}) if name in self.dtypes else spec
            for name, spec in tensors.items()
        }

    def _check_dtypes(self) -> None:
        unknown = set(self.dtypes) - set(self.tensors())
        if unknown:
            raise ValueError(f"`dtypes` names {', '.join(sorted(unknown))}, which this dictionary has not")

    def tensors(self) -> dict[str, TensorSpec]:
        """Return name → expected shape and type of every tensor in the weight file."""
        raise NotImplementedError


class DictionaryConfig(_Native):
    """An SAE or a transcoder."""

    kind: Literal["sae", "transcoder"]
    """Kind of dictionary; a transcoder predicts another site than it reads."""
    d_in: int = Field(gt=0)
    """Width of the input, D."""
    d_out: int = Field(gt=0)
    """Width of the output, O."""
    d_sae: int = Field(gt=0)
    """Number of latents, F."""
    semantics: Semantics
    """Every switch of the function."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        rules = self.semantics
        if rules.activation not in ROW_WISE:
            raise ValueError(f"activation {rules.activation!r} is said in SAELens' dialect; use architecture there")
        if self.kind == "sae" and self.d_out != self.d_in:
            raise ValueError(f"an SAE has d_out = d_in = {self.d_in}; found {self.d_out}: is it a transcoder?")
        if rules.pre_encoder_subtraction == "b_dec" and self.d_out != self.d_in:
            raise ValueError(
                f"b_dec has the width of the output, {self.d_out}, and cannot be subtracted from the input"
            )
        if self.kind == "transcoder" and rules.normalization.inverted_on_output:
            raise ValueError("a transcoder's output lives in another space: its normalization cannot be inverted there")
        _check_k(rules.activation, rules.k, self.d_sae)
        shapes = THRESHOLD_SHAPES.get(rules.activation, ("none",))
        if rules.threshold not in shapes:
            raise ValueError(f"activation {rules.activation!r} has a threshold {' or '.join(shapes)}")
        if (rules.gate_quantity == "gate_pre_activation") != (rules.activation == "gated"):
            raise ValueError("gate_quantity 'gate_pre_activation' and activation 'gated' go together")
        if rules.gate_quantity == "pre_times_code_norm" or rules.gate == "per_source":
            raise ValueError("code norms and gates per source are of crosscoders")
        _check_followed(rules)
        self._check_dtypes()
        return self

    @property
    def architecture(self) -> str:
        """Architecture, in SAELens' words and in the same manner."""
        plain = self.semantics.activation
        if self.kind == "sae":
            return "standard" if plain == "relu" else plain
        skip = "" if self.semantics.skip == "none" else "skip_"
        return ("" if plain == "relu" else f"{plain}_") + f"{skip}transcoder"

    def tensors(self) -> dict[str, TensorSpec]:
        """Return name → expected shape and type of every tensor in the weight file."""
        d, f, o, rules = self.d_in, self.d_sae, self.d_out, self.semantics
        tensors = {
            "W_enc": TensorSpec(shape=(d, f)),
            "W_dec": TensorSpec(shape=(f, o)),
            "b_dec": TensorSpec(shape=(o,)),
        }
        vectors = ("b_gate", "b_mag", "r_mag") if rules.activation == "gated" else ("b_enc",)
        tensors |= {name: TensorSpec(shape=(f,)) for name in vectors}
        if rules.threshold != "none":
            tensors["threshold"] = TensorSpec(shape=() if rules.threshold == "scalar" else (f,))
        if rules.skip != "none":
            tensors["W_skip"] = TensorSpec(shape=(o, d))
        if rules.normalization.kind in ("center", "center_scale"):
            tensors["input_mean"] = TensorSpec(shape=(d,), dtype="float32")
        if rules.normalization.kind in ("scale", "center_scale"):
            tensors["input_scale"] = TensorSpec(shape=(), dtype="float32")
        return self._typed(tensors)


class CrossLayerConfig(_Native):
    """A cross-layer transcoder or a weakly causal crosscoder: each layer has its own code, which several layers decode.

    f_i = activation(x_i·W_enc.i + b_enc.i), and x̂_t = Σ_{i → t} f_i·W_dec.i.t + b_dec.t (+ x_t·W_skip.tᵀ).
    """

    kind: Literal["cross_layer"]
    """Kind of dictionary."""
    d_in: int = Field(gt=0)
    """Width that each layer reads, D."""
    d_out: int = Field(gt=0)
    """Width that each layer predicts, O."""
    d_sae: int = Field(gt=0)
    """Latents of each layer, F."""
    n_layers: int = Field(gt=0, le=1000)
    """Number of layers, L."""
    writes: Literal["same_and_later", "all"]
    """Which layers decode the code of layer i: i and all behind it (L − i of them), or every one."""
    semantics: Semantics
    """Every switch of the function, the same at each layer."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        rules = self.semantics
        if rules.activation not in ("relu", "topk", "jumprelu"):
            raise ValueError(f"activation {rules.activation!r} is not defined across layers")
        if rules.threshold != ("per_latent" if rules.activation == "jumprelu" else "none"):
            raise ValueError("activation 'jumprelu', and no other, has a threshold per latent")
        if rules.normalization.kind != "none" or rules.pre_encoder_subtraction != "none":
            raise ValueError("normalization and pre-encoder subtraction are not defined across layers")
        if rules.gate_quantity != "pre_activation":
            raise ValueError("the gate quantity across layers is 'pre_activation'")
        if rules.output_bias != "b_dec" or rules.reshape != "none" or rules.gate != "shared":
            problem = "b_dec is always added, heads are not flattened, and there is no gate per source"
            raise ValueError(f"across layers {problem}")
        _check_followed(rules)
        _check_k(rules.activation, rules.k, self.d_sae)
        self._check_dtypes()
        return self

    @property
    def architecture(self) -> str:
        """Activation, in SAELens' words."""
        return "standard" if self.semantics.activation == "relu" else self.semantics.activation

    def targets(self, layer: int) -> range:
        """Return the layers that decode the code of `layer`."""
        return range(layer if self.writes == "same_and_later" else 0, self.n_layers)

    def tensors(self) -> dict[str, TensorSpec]:
        """Return name → expected shape and type: `W_enc.i` (D, F), `W_dec.i.t` (F, O) and the vectors of each layer."""
        d, f, o = self.d_in, self.d_sae, self.d_out
        tensors: dict[str, TensorSpec] = {}
        for layer in range(self.n_layers):
            tensors[f"W_enc.{layer}"] = TensorSpec(shape=(d, f))
            tensors[f"b_enc.{layer}"] = TensorSpec(shape=(f,))
            tensors[f"b_dec.{layer}"] = TensorSpec(shape=(o,))
            tensors |= {f"W_dec.{layer}.{target}": TensorSpec(shape=(f, o)) for target in self.targets(layer)}
            if self.semantics.threshold != "none":
                tensors[f"threshold.{layer}"] = TensorSpec(shape=(f,))
            if self.semantics.skip != "none":
                tensors[f"W_skip.{layer}"] = TensorSpec(shape=(o, d))
        return self._typed(tensors)


def _check_followed(rules: Semantics) -> None:
    """Refuse switches that no maths of this dialect follows."""
    kind, where = rules.normalization.kind, rules.normalization.statistics
    if STATISTICS.get(kind) != where:
        known = STATISTICS.get(kind)
        fits = f"has statistics {known!r}; found {where!r}" if known else "is said in SAELens' dialect alone"
        raise ValueError(f"normalization {kind!r} {fits}")
    if rules.latents_scaled_by_decoder_norm and rules.gate_quantity != "pre_times_decoder_norm":
        raise ValueError("latents_scaled_by_decoder_norm needs gate_quantity 'pre_times_decoder_norm'")
    if rules.bias_reduction != "shared":
        raise ValueError("bias_reduction 'sum_over_sources' is of crosscoders")
    if rules.activation in ("relu", "gated") and not rules.rectified:
        raise ValueError(f"activation {rules.activation!r} keeps no negative latent: `rectified` is true")
    if rules.activation == "abstopk" and rules.rectified:
        raise ValueError("activation 'abstopk' keeps negative latents: `rectified` is false")
    if rules.activation == "groupmax" and rules.gate_quantity != "pre_activation":
        raise ValueError("activation 'groupmax' takes the largest pre-activation of a group")
    if not rules.normalization.applied_by_reader and where != "absent":
        raise ValueError("a normalization that is stated here is applied: applied_by_reader is true")
    if (rules.threshold == "none") != (rules.threshold_units == "none"):
        raise ValueError("a threshold is in units of the gate quantity: threshold and threshold_units go together")


def _check_k(activation: str, k: float | None, d_sae: int) -> None:
    if activation in BY_K and k is None:
        raise ValueError(f"activation {activation!r} needs `k`")
    if k is not None and k > d_sae:
        raise ValueError(f"k = {k:g} exceeds d_sae = {d_sae}")
    if activation in BY_K and k is not None and k != int(k):
        raise ValueError(f"activation {activation!r} needs a whole number `k`; found {k}")
    if activation == "groupmax" and k is not None and d_sae % int(k):
        raise ValueError(f"groupmax splits d_sae = {d_sae} latents into k = {k:g} equal groups, which leaves a rest")
