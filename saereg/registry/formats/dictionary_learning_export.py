"""The classes of dictionary_learning, and what is written for them."""

import json

from saereg.errors import FormatError
from saereg.registry.formats.native import to_native
from saereg.registry.readings.format import Layout, refuse
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_native import DictionaryConfig
from saereg.schemas.recipe import SourceTensor, moved, scalar, transposed

NAME, CONFIG_FILE, WEIGHTS_FILE = "dictionary_learning", "config.json", "ae.pt"

LINEAR = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight"}
DIRECT = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}

CLASSES: dict[str, dict[str, str]] = {
    "AutoEncoder": {**LINEAR, "b_dec": "bias"},
    "AutoEncoderNew": {**LINEAR, "b_dec": "decoder.bias"},
    "AutoEncoderTopK": {**LINEAR, "b_dec": "b_dec"},
    "BatchTopKSAE": {**LINEAR, "b_dec": "b_dec"},
    "MatryoshkaBatchTopKSAE": DIRECT,
    "GatedAutoEncoder": {
        "W_enc": "encoder.weight",
        "W_dec": "decoder.weight",
        "b_dec": "decoder_bias",
        "b_gate": "gate_bias",
        "b_mag": "mag_bias",
        "r_mag": "r_mag",
    },
    "JumpReluAutoEncoder": {**DIRECT, "threshold": "threshold"},
}
"""dict_class → canonical tensor → its name; a `.weight` is that of a torch Linear, so transposed."""

WRITTEN = {
    ("relu", "b_dec"): "AutoEncoder",
    ("relu", "none"): "AutoEncoderNew",
    ("topk", "b_dec"): "AutoEncoderTopK",
    ("batchtopk", "b_dec"): "BatchTopKSAE",
    ("gated", "b_dec"): "GatedAutoEncoder",
    ("jumprelu", "none"): "JumpReluAutoEncoder",
}
"""(activation, what is subtracted) → class."""


def layout(cfg: ArtifactConfig) -> Layout:
    """Say what to write for `load_dictionary`.

    Raises:
        FormatError: with the reason, when no class of the library computes it.
    """
    own = to_native(cfg)
    if not isinstance(own, DictionaryConfig):
        raise FormatError(NAME, "cannot say a crosscoder, or codes across layers; use --to saereg")
    rules = own.semantics
    name = _written_class(own)
    plan = {
        key: transposed(canonical) if key.endswith(".weight") else moved(canonical)
        for canonical, key in CLASSES[name].items()
    }
    settings: dict[str, object] = {"dict_class": name, "activation_dim": own.d_in, "dict_size": own.d_sae}
    if rules.activation in ("topk", "batchtopk"):
        plan["k"], settings["k"] = scalar(float(rules.k or 0), "int32"), int(rules.k or 0)
        plan["threshold"] = moved("threshold") if rules.activation == "batchtopk" else scalar(-1.0, "float32")
    settings |= _settings(own)
    buffer = {"ctx_len": own.metadata.context_size, "io": "in_and_out" if own.kind == "transcoder" else None}
    said = {key: value for key, value in buffer.items() if value is not None}
    written = {"trainer": settings} | ({"buffer": said} if said else {})
    files: dict[str, dict[str, SourceTensor]] = {WEIGHTS_FILE: plan}
    return Layout(own, files, {CONFIG_FILE: json.dumps(written, indent=4) + "\n"})


def _settings(cfg: DictionaryConfig) -> dict[str, object]:
    facts = cfg.metadata.model_extra or {}
    keys = {key: f"dictionary_learning_{key}" for key in ("layer", "submodule_name", "trainer_class")}
    known = {key: facts[name] for key, name in keys.items() if name in facts}
    return known | ({"lm_name": cfg.metadata.model_name} if cfg.metadata.model_name is not None else {})


def _written_class(cfg: DictionaryConfig) -> str:
    rules = cfg.semantics
    name = WRITTEN.get((rules.activation, rules.pre_encoder_subtraction))
    subtracted = "subtracts b_dec first" if rules.pre_encoder_subtraction == "b_dec" else "subtracts nothing first"
    k_is_whole = rules.k is not None and rules.k == int(rules.k)
    wrong = {
        f"it has no class with activation {rules.activation!r} that {subtracted}": name is None,
        "its gates are the pre-activation alone": "decoder_norm" in rules.gate_quantity,
        "it sets negative latents to 0": not rules.rectified,
        f"it has no input normalization {rules.normalization.kind!r}": rules.normalization.kind != "none",
        "it has one threshold for each latent of a JumpReLU": rules.activation == "jumprelu"
        and rules.threshold != "per_latent",
        "it stores a whole k": rules.activation == "batchtopk" and not k_is_whole,
        "it has no skip connection": rules.skip != "none",
        "it always adds b_dec to the output": rules.output_bias != "b_dec",
        "it does not reshape heads": rules.reshape != "none",
        "input and output have the same width there": cfg.d_in != cfg.d_out,
    }
    refuse(NAME, wrong)
    return str(name)
