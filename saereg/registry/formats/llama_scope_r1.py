"""Llama Scope of 2025 (OpenMOSS, lm_saes), such as the R1 distill: config.json and sae_weights.safetensors.

The weights are those of training, on inputs of norm √D; the mean norms are tensors beside them. A threshold per latent
is stored as its logarithm and compared with pre·‖W_dec‖; a latent is worth pre.
Source: OpenMOSS/Language-Model-SAEs, February 2025 (`b5c5bb22`), `lm_saes/sae.py` and `config.py`; SAELens 6.54,
`llama_scope_r1_distill_sae_huggingface_loader`.
"""

import math
from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError
from saereg.registry.files.tensors import whole
from saereg.registry.formats.llama_scope import check_widths, with_defaults
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing, unknown_keys
from saereg.registry.readings.reading import Reading, dictionary, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.recipe import EXP, ZEROS, SourceTensor, Step, cast_to, moved, scaled, transposed
from saereg.schemas.semantics import Assumption, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, CONFIG_FILE = "llama_scope_r1", "config.json"

TENSORS = frozenset({"encoder.weight", "encoder.bias", "decoder.weight", "log_jumprelu_threshold"})

NORM = "dataset_average_activation_norm"

DEFAULTS: dict[str, str | bool | int | float] = {
    "use_decoder_bias": True,
    "apply_decoder_bias_to_pre_encoder": False,
    "act_fn": "relu",
    "norm_activation": "dataset-wise",
    "sparsity_include_decoder_norm": True,
    "use_glu_encoder": False,
}
"""What the publisher's loader takes where config.json has no such key."""

KNOWN = (
    *DEFAULTS,
    "sae_type",
    "hook_point_in",
    "hook_point_out",
    "d_model",
    "expansion_factor",
    "jump_relu_threshold",
    "force_unit_decoder_norm",
    "top_k",
    "sae_pretrained_name_or_path",
    "strict_loading",
    "use_triton_kernel",
    "sparsity_threshold_for_triton_spmm_kernel",
    "jumprelu_threshold_window",
    "device",
    "dtype",
)
"""Keys of the publisher's configuration; thresholds are tensors, and the rest that is not read is of training."""


def detect(source: Source) -> str | None:
    """Encoder and decoder as torch Linears, log thresholds, and a config.json with `d_model` and `expansion_factor`."""
    encoder, decoder = source.shape("encoder.weight"), source.shape("decoder.weight")
    if not source.keys >= TENSORS or encoder != decoder[::-1]:
        return None
    cfg = source.document(CONFIG_FILE)
    if cfg is None or not {"d_model", "expansion_factor"} <= cfg.keys():
        return None
    return f"torch Linears, `log_jumprelu_threshold`, and a {CONFIG_FILE} with `d_model` and `expansion_factor`"


def read(source: Source, given: Given) -> Reading:
    """Read the folder of one SAE or transcoder.

    Raises:
        FormatError: when config.json contradicts the tensors or says something that cannot be expressed, or the mean
            norm of the activations is in neither file.
        WeightsError: when a tensor is missing or of another shape.
    """
    cfg, file = source.document(CONFIG_FILE) or {}, source.only()
    d_model, factor = cfg.get("d_model"), cfg.get("expansion_factor")
    d_sae = d_model * factor if isinstance(d_model, int) and isinstance(factor, int | float) else None
    check_widths(cfg, source, CONFIG_FILE, d_sae)
    assumptions: list[Assumption] = []
    filled = with_defaults(cfg, DEFAULTS, source, CONFIG_FILE, assumptions)
    _refuse(filled, source)
    into, out = _scales(cfg, filled, source, given)
    subtracts = bool(filled["apply_decoder_bias_to_pre_encoder"] and filled["use_decoder_bias"])
    if subtracts and into != out:
        problem = "apply_decoder_bias_to_pre_encoder subtracts b_dec in the units of the output"
        raise FormatError(source.path, f"{CONFIG_FILE} says {problem}, and those of the input are others")
    transcodes = cfg.get("hook_point_out") not in (None, cfg.get("hook_point_in"))
    reading = dictionary(
        {"": file},
        _plan(filled, into, out),
        kind="transcoder" if transcodes else "sae",
        semantics=Semantics(
            pre_encoder_subtraction="b_dec" if subtracts else "none",
            activation="jumprelu",
            gate_quantity="pre_times_decoder_norm" if filled["sparsity_include_decoder_norm"] else "pre_activation",
            threshold="per_latent",
            threshold_units="gate_quantity",
        ),
        metadata={
            "hook_name": cfg.get("hook_point_in"),
            "hook_name_out": cfg.get("hook_point_out") if transcodes else None,
            "llama_scope_r1": {**filled, "input_scale": into, "output_scale": out},
        },
        assumptions=[*given.assumptions, *assumptions, *unknown_keys(cfg, KNOWN, CONFIG_FILE)],
    )
    return with_left_out(reading, [name for name in source.keys if name.startswith(f"{NORM}.")])


def _refuse(filled: dict[str, Any], source: Source) -> None:
    if str(filled["act_fn"]).lower() != "jumprelu":
        problem = f"{CONFIG_FILE} says act_fn {filled['act_fn']!r}, but there is a log_jumprelu_threshold"
        raise FormatError(source.path, f"{problem}; correct {CONFIG_FILE} to jumprelu, or remove the tensor")
    if filled["use_glu_encoder"]:
        raise FormatError(source.path, f"{CONFIG_FILE} says use_glu_encoder: a gated linear unit cannot be expressed")
    if filled["norm_activation"] not in ("dataset-wise", "inference"):
        problem = f"{CONFIG_FILE} says norm_activation {filled['norm_activation']!r}"
        raise FormatError(source.path, f"{problem}; only dataset-wise and inference are read")


def _scales(cfg: dict[str, Any], filled: dict[str, Any], source: Source, given: Given) -> tuple[float, float]:
    """Return √D over the mean norm of input and output, as training had them; 1 where weights are for raw inputs."""
    if filled["norm_activation"] == "inference":
        return 1.0, 1.0
    site = cfg.get("hook_point_in")
    norms = [_norm(hook, source, given) for hook in (site, cfg.get("hook_point_out") or site)]
    root = math.sqrt(source.shape("encoder.weight")[1])
    return root / norms[0], root / norms[1]


def _norm(hook: object, source: Source, given: Given) -> float:
    key = f"{NORM}.{hook}"
    if key not in source.keys:
        value = given.number("activation_norm")
        if value is None:
            raise missing(source.path, "activation_norm", f"the inputs were scaled, and there is no {key}", "4.65")
        return value
    stored = whole(source.only(), key)
    value = float(stored) if stored.numel() == 1 else math.nan
    if not 0 < value < math.inf:
        raise FormatError(source.path, f"{key} is {stored.tolist()}; expected one positive number")
    return value


def _plan(filled: dict[str, Any], into: float, out: float) -> dict[str, SourceTensor]:
    """Return the recipes. ‖W_dec‖ is that of training over the scale of the output, so the threshold is, too."""
    wide = cast_to("float32")
    return {
        "W_enc": transposed("encoder.weight", wide, *_by(into)),
        "b_enc": moved("encoder.bias", wide),
        "W_dec": transposed("decoder.weight", wide, *_by(1 / out)),
        "b_dec": moved("decoder.bias", wide, *_by(1 / out)) if filled["use_decoder_bias"] else ZEROS,
        "threshold": moved(
            "log_jumprelu_threshold", wide, EXP, *(_by(1 / out) if filled["sparsity_include_decoder_norm"] else ())
        ),
    }


def _by(factor: float) -> tuple[Step, ...]:
    return () if factor == 1.0 else (scaled(factor),)


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """lm_saes' own forward, in the units of training: x·√D/norm in, pre where pre·‖W_D‖ > exp(log θ), and back out."""
    from saereg.registry.readings import reference as do

    said: dict[str, Any] = {**DEFAULTS, **raw.document(CONFIG_FILE)}
    site, into, out = said.get("hook_point_in"), 1.0, 1.0
    if said["norm_activation"] == "dataset-wise":
        into, out = (_factor(raw, hook, reading, x.shape[1]) for hook in (site, said.get("hook_point_out") or site))
    scaled_x = x * into
    b_dec = raw.vector("decoder.bias") if said["use_decoder_bias"] else x.new_zeros(1)
    centred = scaled_x - b_dec if said["apply_decoder_bias_to_pre_encoder"] else scaled_x
    pre = raw.times_transposed(centred, "encoder.weight") + raw.vector("encoder.bias")
    norms = raw.column_norms("decoder.weight") if said["sparsity_include_decoder_norm"] else pre.new_ones(1)
    f, margin = do.threshold(pre, raw.vector("log_jumprelu_threshold").exp(), pre * norms)
    return do.Codes(f, (raw.times_transposed(f, "decoder.weight") + b_dec) / out, margin)


def _factor(raw: "Raw", hook: object, reading: Reading, width: int) -> float:
    """Return √D over the mean norm at a hook, as stored or as the caller says."""
    key = f"{NORM}.{hook}"
    norm = raw.vector(key) if key in raw.files[""].entries else told(reading).number("activation_norm")
    return float(width**0.5 / norm)


ABOUT = About(
    title="Llama Scope R1 Distill (2025, lm_saes)",
    used_by="OpenMOSS (`fnlp/Llama-Scope-R1-Distill`)",
    files="`config.json` and `sae_weights.safetensors` with `encoder.weight` (F, D), `encoder.bias` (F,), "
    "`decoder.weight` (D, F), `decoder.bias` (D,), `log_jumprelu_threshold` (F,) and the mean norms "
    "`dataset_average_activation_norm.<hook>` ().",
    silent="the model.",
    assumed="where `config.json` lacks a key, what the publisher's loader takes. Where the mean norm is not stored, it "
    "must be given: `--set activation_norm=…`. The function is that of training in raw units; the publisher's later "
    "folding leaves the threshold in the units of training.",
    saelens="takes the mean norm from its own list, and compares pre without the norms of the decoder even where "
    "`sparsity_include_decoder_norm` is true.",
    source="OpenMOSS/Language-Model-SAEs b5c5bb22, lm_saes/sae.py",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
