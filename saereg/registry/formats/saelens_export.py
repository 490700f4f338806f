"""Any configuration in SAELens' words, with what is done to the tensors on the way; or why there are none."""

from collections.abc import Mapping
from typing import Any

from saereg.errors import FormatError
from saereg.registry.files.names import CONFIG_FILE
from saereg.registry.formats.saelens_training import of_training
from saereg.schemas.artifact_config import TOLD, ArtifactConfig, is_training
from saereg.schemas.cfg import INFERENCE, SaelensConfig, SaelensMetadata
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig, DictionaryConfig
from saereg.schemas.recipe import (
    SourceTensor,
    Step,
    cast_to,
    divided_by_decoder_norm,
    times_decoder_norm,
)
from saereg.schemas.semantics import Semantics

SAELENS_VERSION = "6.54.12"
"""Version whose cfg.json is written. SAELens drops all metadata of a file that names none."""

Plan = dict[str, SourceTensor]

ARCHITECTURES = {
    ("sae", "relu"): "standard",
    ("sae", "topk"): "topk",
    ("sae", "abstopk"): "abstopk",
    ("sae", "jumprelu"): "jumprelu",
    ("sae", "batchtopk"): "jumprelu",
    ("sae", "gated"): "gated",
    ("transcoder", "relu"): "transcoder",
    ("transcoder", "jumprelu"): "jumprelu_transcoder",
    ("transcoder", "batchtopk"): "jumprelu_transcoder",
}
"""(kind, activation) → SAELens' architecture; a skip connection puts `skip_` before `transcoder`."""

NORMALIZATIONS = ("none", "layer_norm", "constant_norm_rescale")
"""Normalizations that SAELens applies when it runs a dictionary."""

WIDTHS = ("float64", "float32", "bfloat16", "float16")
"""Types, a later one never wider: SAELens has one for all tensors."""

BY_THRESHOLD = ("jumprelu", "batchtopk")
"""Activations that compare with a threshold."""


def is_before_6(version: str) -> bool:
    """Whether a version of SAELens is one whose cfg.json had another form; a word that is no number is none."""
    major = version.partition(".")[0]
    return major.isdecimal() and int(major) < 6


def to_saelens(cfg: ArtifactConfig) -> tuple[SaelensConfig, Plan]:
    """Return (SAELens' configuration, tensor → recipe from canonical names).

    Raises:
        FormatError: with the reason, when SAELens has no words for it.
    """
    if isinstance(cfg, SaelensConfig):
        return of_training(cfg) if is_training(cfg) else (cfg, {name: SourceTensor(key=name) for name in cfg.tensors()})
    if isinstance(cfg, CrossLayerConfig):
        raise _refused("a code for each layer, decoded by several, has no class there; use --to saereg")
    if isinstance(cfg, CrosscoderConfig):
        from saereg.registry.formats.saelens_flatten import flattened

        return flattened(cfg)
    return _of_dictionary(cfg)


def _of_dictionary(cfg: DictionaryConfig) -> tuple[SaelensConfig, Plan]:
    rules = cfg.semantics
    _refuse(cfg)
    architecture = ARCHITECTURES[cfg.kind, rules.activation]
    if rules.skip != "none":
        architecture = architecture.replace("transcoder", "skip_transcoder")
    types = {cfg.dtype, *cfg.dtypes.values()}
    dtype = min(types, key=WIDTHS.index)
    if types == {"bfloat16", "float16"} or (dtype in WIDTHS[2:] and _folds(rules)):
        dtype = "float32"  # neither of the half types holds the other, nor what a fold computes
    fields: dict[str, Any] = {
        "architecture": architecture,
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        "dtype": dtype,
        "device": "cpu",
        "apply_b_dec_to_input": rules.pre_encoder_subtraction == "b_dec",
        "normalize_activations": rules.normalization.kind,
        "reshape_activations": rules.reshape,
        "metadata": _metadata(cfg),
    }
    if rules.activation in ("topk", "abstopk"):
        ranked = rules.gate_quantity == "pre_times_decoder_norm"
        fields |= {"k": int(rules.k or 0), "rescale_acts_by_decoder_norm": ranked}
    if cfg.kind == "transcoder":
        fields["d_out"] = cfg.d_out
    return INFERENCE[architecture].made(CONFIG_FILE, **fields), _plan(cfg, dtype)


def _refuse(cfg: DictionaryConfig) -> None:
    """Refuse every switch that SAELens would read as another function."""
    rules = cfg.semantics
    if (cfg.kind, rules.activation) not in ARCHITECTURES:
        kind = "an SAE" if cfg.kind == "sae" else "a transcoder"
        raise _refused(f"{kind} with activation {rules.activation!r} has no class there; use --to saereg")
    if not rules.rectified and rules.activation != "abstopk":
        raise _refused("it keeps active latents that are negative, and SAELens sets them to 0; use --to saereg")
    if rules.normalization.kind not in NORMALIZATIONS:
        raise _refused(f"it has no input normalization {rules.normalization.kind!r}; use --to saereg")
    if rules.normalization.kind != "none" and rules.normalization.inverted_on_output == (cfg.kind == "transcoder"):
        raise _refused("it maps the output of an SAE back, and of a transcoder never; use --to saereg")
    by_norm, scales = rules.gate_quantity == "pre_times_decoder_norm", rules.latents_scaled_by_decoder_norm
    if rules.activation in ("topk", "abstopk") and by_norm != scales:
        raise _refused("where it ranks by pre·‖W_dec‖ it also stores that as the activation, and here it is not stored")
    if scales and not by_norm:
        raise _refused("it divides activations by ‖W_dec‖ only where they were multiplied by it; use --to saereg")
    if rules.output_bias != "b_dec":
        raise _refused("it always adds b_dec to the output")
    if rules.skip != "none" and cfg.kind == "sae":
        raise _refused("only its transcoders have skip connections")
    _refuse_input(cfg)


def _refuse_input(cfg: DictionaryConfig) -> None:
    """Refuse what its classes do not do with the input."""
    rules, hook = cfg.semantics, cfg.metadata.hook_name
    if cfg.kind == "transcoder" and rules.pre_encoder_subtraction != "none":
        raise _refused("its transcoders never subtract b_dec from the input; use --to saereg")
    if cfg.kind == "transcoder" and rules.reshape != "none":
        raise _refused("its transcoders do not flatten heads; use --to saereg")
    if rules.reshape == "hook_z" and hook is not None and not hook.endswith("_z"):
        raise _refused(f"it flattens heads only at hooks whose name ends in _z, and hook_name is {hook!r}")


def _folds(rules: Semantics) -> bool:
    """Whether the norms of the decoder must go into the encoder, or out of the threshold."""
    return rules.gate_quantity == "pre_times_decoder_norm" and (
        rules.activation in BY_THRESHOLD or (rules.activation == "relu" and rules.latents_scaled_by_decoder_norm)
    )


def _plan(cfg: DictionaryConfig, dtype: str) -> Plan:
    """Return the recipes: casts to a wider type change no value, folds are the last steps."""
    rules = cfg.semantics
    specs = cfg.tensors()
    steps: dict[str, tuple[Step, ...]] = {
        name: (cast_to(dtype),) if (spec.dtype or cfg.dtype) != dtype else ()  # type: ignore[arg-type]
        for name, spec in specs.items()
    }
    if rules.threshold == "scalar":
        steps["threshold"] = (*steps["threshold"], Step(do="broadcast", shape=(cfg.d_sae,)))
    if _folds(rules) and rules.latents_scaled_by_decoder_norm:
        steps["W_enc"] = (*steps["W_enc"], times_decoder_norm(axis=1))
        steps["b_enc"] = (*steps["b_enc"], times_decoder_norm(axis=0))
        steps["W_dec"] = (*steps["W_dec"], divided_by_decoder_norm(axis=0))
    elif _folds(rules):
        steps["threshold"] = (*steps["threshold"], divided_by_decoder_norm(axis=0))
    return {name: SourceTensor(key=name, steps=done) for name, done in steps.items()}


def _metadata(cfg: DictionaryConfig) -> SaelensMetadata:
    """Return the metadata with a version and with what was assumed, under a key of our own."""
    facts: dict[str, Any] = cfg.metadata.model_dump(exclude_none=True)
    if is_before_6(facts.setdefault("sae_lens_version", SAELENS_VERSION)):
        facts["source_sae_lens_version"] = facts["sae_lens_version"]  # SAELens reads such files in another way
        facts["sae_lens_version"] = SAELENS_VERSION
    notes = [note.model_dump() for note in cfg.assumptions]
    if rule := _original(cfg.semantics):
        facts.setdefault("training_architecture_details", rule)
    return SaelensMetadata.of(facts | ({TOLD: notes} if notes else {}))


def _original(rules: Semantics) -> Mapping[str, object] | None:
    """Return what the written architecture no longer says: the k of BatchTopK."""
    return {"k": rules.k} if rules.activation == "batchtopk" and rules.k is not None else None


def _refused(why: str) -> FormatError:
    return FormatError("SAELens", f"cannot say this dictionary: {why}")
