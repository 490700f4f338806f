"""Small dictionaries with nothing square, no unit norms and no zero biases: a transposed or forgotten tensor shows."""

import json
from pathlib import Path

import torch

from saereg.registry.checkpoint import Checkpoint
from saereg.registry.conversion.write import write_checkpoint
from saereg.schemas.artifact_config import ArtifactConfig, parse_config
from saereg.schemas.cfg import INFERENCE, SaelensConfig
from saereg.schemas.cfg_training import TRAINING

torch.set_num_threads(1)  # several threads on matrices this small only wait for each other

D_IN, D_SAE, D_OUT, SOURCES, ROWS = 6, 20, 5, 3, 7

SETTINGS = {
    "topk": {"k": 4},
    "abstopk": {"k": 4},
    "temporal": {
        "n_heads": 2,
        "n_attn_layers": 2,
        "bottleneck_factor": 2,
        "kval_topk": 4,
        "activation_normalization_factor": 1.7,
    },
} | {name: {"d_out": D_OUT, "apply_b_dec_to_input": False} for name in INFERENCE if "transcoder" in name}
"""What an architecture needs beyond the widths."""

TRAINING_SETTINGS = {
    "topk": {"k": 4},
    "abstopk": {"k": 4},
    "batchtopk": {"k": 2.5},
    "matryoshka_batchtopk": {"k": 2.5, "matryoshka_widths": [8, 20]},
    "matching_pursuit": {"decoder_init_norm": 1.0},
}
"""What a training architecture needs beyond the widths."""

CROSSCODERS = {
    "standard": {"architecture": "standard"},
    "standard_summed_bias": {"architecture": "standard", "bias_reduction": "sum_over_sources"},
    "topk": {"architecture": "topk", "k": 4},
    "topk_sum_of_norms": {"architecture": "topk", "k": 4, "code_norm": "sum_of_norms"},
    "batchtopk": {"architecture": "batchtopk", "k": 2.5, "code_norm": "sum_of_norms"},
    "jumprelu": {"architecture": "jumprelu", "bias_reduction": "sum_over_sources"},
    "jumprelu_joint_norm": {"architecture": "jumprelu", "code_norm": "joint_norm"},
    "jumprelu_mixed_norm": {"architecture": "jumprelu", "code_norm": "mixed", "code_norm_weights": [0.25, 0.75]},
    "jumprelu_per_source": {"architecture": "jumprelu", "gate": "per_source", "code_norm": "per_source_norm"},
    "topk_per_source": {"architecture": "topk", "k": 4, "gate": "per_source", "code_norm": "per_source_norm"},
    "batchtopk_per_source": {
        "architecture": "batchtopk",
        "k": 2.5,
        "gate": "per_source",
        "code_norm": "per_source_norm",
        "bias_reduction": "sum_over_sources",
    },
    "gated": {"architecture": "gated"},
}
"""Every crosscoder architecture, gate, code norm and bias reduction."""

BY_THRESHOLD = {"threshold": "per_latent", "threshold_units": "gate_quantity"}

NATIVE = {
    "relu": {},
    "topk": {"activation": "topk", "k": 4, "pre_encoder_subtraction": "b_dec"},
    "topk_negative": {"activation": "topk", "k": 4, "rectified": False},
    "topk_ranked_by_norm": {"activation": "topk", "k": 4, "gate_quantity": "pre_times_decoder_norm"},
    "topk_stored_times_norm": {
        "activation": "topk",
        "k": 4,
        "gate_quantity": "pre_times_decoder_norm",
        "latents_scaled_by_decoder_norm": True,
    },
    "abstopk": {"activation": "abstopk", "k": 4, "rectified": False},
    "groupmax": {"activation": "groupmax", "k": 5},
    "groupmax_negative": {"activation": "groupmax", "k": 5, "rectified": False},
    "batchtopk": {"activation": "batchtopk", "k": 2.5} | BY_THRESHOLD | {"threshold": "scalar"},
    "jumprelu": {"activation": "jumprelu"} | BY_THRESHOLD,
    "jumprelu_scalar": {"activation": "jumprelu"} | BY_THRESHOLD | {"threshold": "scalar"},
    "jumprelu_negative": {"activation": "jumprelu", "rectified": False} | BY_THRESHOLD,
    "jumprelu_times_norm": {"activation": "jumprelu", "gate_quantity": "pre_times_decoder_norm"} | BY_THRESHOLD,
    "gated": {"activation": "gated", "gate_quantity": "gate_pre_activation"},
    "no_output_bias": {"output_bias": "none"},
}
"""Every activation of saereg's own dialect, with every switch that changes what it keeps."""

CROSS_LAYERS = {
    "relu": {},
    "topk": {"activation": "topk", "k": 4},
    "topk_negative": {"activation": "topk", "k": 4, "rectified": False},
    "jumprelu": {"activation": "jumprelu"} | BY_THRESHOLD,
}
"""Every activation across layers."""

PREPROCESS = ("none", "center", "scale", "center_scale")


def config(architecture: str, **overrides: object) -> ArtifactConfig:
    """Return an inference configuration."""
    value = {"architecture": architecture, "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu"}
    value |= {"metadata": {"sae_lens_version": "6.54.12"}} | SETTINGS.get(architecture, {}) | overrides
    return parse_config(json.dumps(value))


def training_config(architecture: str, **overrides: object) -> ArtifactConfig:
    """Return a training configuration."""
    value = {"architecture": architecture, "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu"}
    value |= {"metadata": {"sae_lens_version": "6.54.12"}, "decoder_init_norm": 0.1}
    return parse_config(json.dumps(value | TRAINING_SETTINGS.get(architecture, {}) | overrides))


def crosscoder_config(name: str, preprocess: str = "none", **overrides: object) -> ArtifactConfig:
    """Return a crosscoder's configuration, `name` being a key of CROSSCODERS."""
    value = {
        "kind": "crosscoder",
        "sources": {"axis": "snapshot", "site": "W_U", "steps": list(range(1, SOURCES + 1))},
        "input": {"kind": "parameters", "parameter": "W_U"},
        "n_sources": SOURCES,
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "statistics": {"preprocess": preprocess},
    }
    return parse_config(json.dumps(value | CROSSCODERS[name] | overrides))


def native_config(name: str, kind: str = "sae", preprocess: str = "none", **overrides: object) -> ArtifactConfig:
    """Return a configuration in saereg's own dialect, `name` being a key of NATIVE; a transcoder has a skip."""
    rules = {"pre_encoder_subtraction": "none", "activation": "relu", "gate_quantity": "pre_activation"}
    rules |= NATIVE[name] | ({"skip": "x_times_W_skip_transposed"} if kind == "transcoder" else {})
    if kind == "transcoder":
        rules["pre_encoder_subtraction"] = "none"
    statistics = "per_row" if preprocess in ("layer_norm", "constant_norm_rescale") else "stored"
    if preprocess != "none":
        inverted = kind == "sae"
        rules["normalization"] = {"kind": preprocess, "statistics": statistics, "inverted_on_output": inverted}
    value = {"kind": kind, "d_in": D_IN, "d_sae": D_SAE, "d_out": D_IN if kind == "sae" else D_OUT, "dtype": "float32"}
    return parse_config(json.dumps(value | {"semantics": rules} | overrides))


def cross_layer_config(name: str, writes: str = "same_and_later", **overrides: object) -> ArtifactConfig:
    """Return a configuration across layers, `name` being a key of CROSS_LAYERS."""
    rules = {"pre_encoder_subtraction": "none", "activation": "relu", "gate_quantity": "pre_activation"}
    rules |= CROSS_LAYERS[name] | ({"skip": "x_times_W_skip_transposed"} if overrides.pop("skip", False) else {})
    value = {"kind": "cross_layer", "n_layers": SOURCES, "d_in": D_IN, "d_out": D_OUT, "d_sae": D_SAE}
    return parse_config(json.dumps(value | {"dtype": "float32", "writes": writes, "semantics": rules} | overrides))


def checkpoint(cfg: ArtifactConfig, seed: int = 0) -> Checkpoint:
    """Return random weights: thresholds and scales positive, everything else of either sign."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, spec in cfg.tensors().items():
        tensor = torch.randn(spec.shape, generator=generator, dtype=torch.float64) * 0.5
        if name.split(".")[0] in ("threshold", "topk_threshold", "input_scale"):
            tensor = tensor.abs() + 0.1
        weights[name] = tensor.to(getattr(torch, spec.dtype or cfg.torch_dtype))
    return Checkpoint(cfg, weights)


def write(source: Checkpoint, folder: Path) -> None:
    """Write a checkpoint in the layout of releases whose words its configuration uses."""
    write_checkpoint(source, folder, "saelens" if isinstance(source.cfg, SaelensConfig) else "saereg")


def rows(*shape: int, seed: int = 1) -> torch.Tensor:
    """Return random rows with an offset, float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * 2 + 1


def rows_for(cfg: ArtifactConfig) -> torch.Tensor:
    """Return rows of the shape that a dictionary reads, float32."""
    if getattr(cfg, "kind", None) in ("crosscoder", "cross_layer"):
        return rows(ROWS, SOURCES, D_IN)
    return rows(3, ROWS, D_IN)


EVERY_CONFIG = (
    {name: config(name) for name in INFERENCE}
    | {f"training_{name}": training_config(name) for name in TRAINING}
    | {f"crosscoder_{name}": crosscoder_config(name, "center_scale") for name in CROSSCODERS}
    | {f"native_{name}": native_config(name, preprocess="center_scale") for name in NATIVE}
    | {f"native_{name}_transcoder": native_config(name, "transcoder") for name in NATIVE}
    | {f"across_layers_{name}": cross_layer_config(name) for name in CROSS_LAYERS}
    | {"across_all_layers": cross_layer_config("relu", "all", skip=True)}
)
"""One configuration of each kind, by name."""


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return ‖found − expected‖ / ‖expected‖, in float64."""
    difference = (found.double() - expected.double()).norm()
    return float(difference / expected.double().norm())
