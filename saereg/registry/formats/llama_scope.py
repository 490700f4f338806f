"""Llama Scope of 2024 (OpenMOSS, lm_saes): hyperparams.json and checkpoints/final.safetensors; SAEs and transcoders.

The weights are those of training, on inputs of norm √D. The publisher's loader first takes the two scales into biases
and decoder, and then gives every latent a decoder row of norm 1: what it compares and returns is pre·‖W_dec‖.
Source: OpenMOSS/Language-Model-SAEs, November 2024 (`05887d39`), `lm_saes/sae.py` and `config.py`.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing, unknown_keys
from saereg.registry.readings.reading import Reading, dictionary, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.recipe import (
    ZEROS,
    SourceTensor,
    Step,
    cast_to,
    constant,
    divided_by_decoder_norm,
    moved,
    scaled,
    times_decoder_norm,
    transposed,
)
from saereg.schemas.semantics import Assumption, Normalization, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, CONFIG_FILE, MODEL_FILE = "llama_scope", "hyperparams.json", "lm_config.json"

TENSORS = frozenset({"encoder.weight", "encoder.bias", "decoder.weight"})

DEFAULTS: dict[str, str | bool | int | float] = {
    "use_decoder_bias": True,
    "apply_decoder_bias_to_pre_encoder": True,
    "act_fn": "relu",
    "jump_relu_threshold": 0.0,
    "norm_activation": "token-wise",
    "sparsity_include_decoder_norm": True,
    "top_k": 50,
    "use_glu_encoder": False,
}
"""What the publisher's loader takes where hyperparams.json has no such key."""

KNOWN = (
    *DEFAULTS,
    "dataset_average_activation_norm",
    "hook_point_in",
    "hook_point_out",
    "d_model",
    "d_sae",
    "expansion_factor",
    "sae_pretrained_name_or_path",
    "strict_loading",
    "bias_init_method",
    "decoder_bias_init_method",
    "decoder_exactly_fixed_norm",
    "init_decoder_norm",
    "init_encoder_norm",
    "init_encoder_with_decoder_transpose",
    "lp",
    "l1_coefficient",
    "l1_coefficient_warmup_steps",
    "initial_k",
    "k_warmup_steps",
    "use_batch_norm_mse",
    "use_ghost_grads",
    "tp_size",
    "ddp_size",
    "device",
    "seed",
    "dtype",
)
"""Keys of the publisher's configuration; those that are not read say how it was trained, or where it runs."""

FOLDED, FREE = ("dataset-wise",), ("inference", "none")
"""Values of `norm_activation` that are taken into the weights, and that mean no scale."""


@dataclass(frozen=True)
class Settings:
    """What hyperparams.json says that decides the function.

    Attributes:
        act_fn: relu, topk or jumprelu.
        threshold: of jumprelu.
        k: of topk.
        into: √D / mean norm of the input; 1 where the weights are for raw inputs.
        out: the same of the output.
        norm_activation: as it stands there.
        by_norm: whether decoder rows are given norm 1.
        subtracts: whether b_dec is subtracted before the encoder.
        has_bias: whether there is a decoder bias.
    """

    act_fn: str
    threshold: float
    k: int
    into: float
    out: float
    norm_activation: str
    by_norm: bool
    subtracts: bool
    has_bias: bool


def detect(source: Source) -> str | None:
    """Encoder (F, D) and decoder (D, F) as torch Linears, and a hyperparams.json with `d_model` and `act_fn`."""
    encoder, decoder = source.shape("encoder.weight"), source.shape("decoder.weight")
    if not source.keys >= TENSORS or encoder != decoder[::-1]:
        return None
    cfg = source.document(CONFIG_FILE)
    if cfg is None or not {"d_model", "act_fn"} <= cfg.keys():
        return None
    return f"encoder and decoder are torch Linears, and {CONFIG_FILE} has `d_model` and `act_fn`"


def read(source: Source, given: Given) -> Reading:
    """Read the folder of one dictionary, or its final.safetensors.

    Raises:
        FormatError: when hyperparams.json contradicts the tensors, or says something that cannot be expressed.
        WeightsError: when a tensor is missing or of another shape.
    """
    cfg, file = source.document(CONFIG_FILE) or {}, source.only()
    check_widths(cfg, source, CONFIG_FILE, cfg.get("d_sae"))
    assumptions: list[Assumption] = []
    filled = with_defaults(cfg, DEFAULTS, source, CONFIG_FILE, assumptions)
    transcodes = cfg.get("hook_point_out") not in (None, cfg.get("hook_point_in"))
    settings = _settings(filled, source, given, transcodes)
    reading = dictionary(
        {"": file},
        _plan(settings),
        kind="transcoder" if transcodes else "sae",
        semantics=_semantics(settings),
        metadata={
            "model_name": _model_name(source),
            "hook_name": cfg.get("hook_point_in"),
            "hook_name_out": cfg.get("hook_point_out") if transcodes else None,
            "llama_scope": {key: value for key, value in cfg.items() if key in (*DEFAULTS, NORMS)},
        },
        assumptions=[*given.assumptions, *assumptions, *unknown_keys(cfg, KNOWN, CONFIG_FILE)],
    )
    return with_left_out(reading, ())


NORMS = "dataset_average_activation_norm"


def check_widths(cfg: dict[str, Any], source: Source, document: str, d_sae: object) -> None:
    """Compare widths in a document with the encoder.

    Raises:
        FormatError: when they differ.
    """
    found = source.shape("encoder.weight")
    if (d_sae, cfg.get("d_model")) != found:
        said = f"{document} says d_model = {cfg.get('d_model')!r} and {d_sae!r} latents"
        raise FormatError(source.path, f"{said}, but encoder.weight is {found}; correct {document}")


def with_defaults(
    cfg: dict[str, Any],
    defaults: dict[str, str | bool | int | float],
    source: Source,
    document: str,
    assumptions: list[Assumption],
) -> dict[str, Any]:
    """Return the keys that have a default, each of the type of it; note every default that is taken.

    Raises:
        FormatError: when a value has another type.
    """
    result: dict[str, Any] = {}
    for key, default in defaults.items():
        value = cfg.get(key, default)
        kinds: tuple[type, ...] = (int, float) if isinstance(default, float) else (type(default),)
        if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
            expected = "a number" if isinstance(default, float) else f"a value like {default!r}"
            raise FormatError(source.path, f"{document} says {key} = {value!r}; expected {expected}")
        if key not in cfg:
            because = f"absent from {document}; the publisher's loader takes this"
            assumptions.append(Assumption(field=key, value=str(default), because=because))
        result[key] = value
    return result


def _settings(filled: dict[str, Any], source: Source, given: Given, transcodes: bool) -> Settings:
    act_fn, norm = str(filled["act_fn"]).lower(), str(filled["norm_activation"])
    if act_fn not in ("relu", "topk", "jumprelu"):
        raise FormatError(source.path, f"{CONFIG_FILE} says act_fn {act_fn!r}; expected relu, topk or jumprelu")
    if filled["use_glu_encoder"]:
        raise FormatError(source.path, f"{CONFIG_FILE} says use_glu_encoder: a gated linear unit cannot be expressed")
    if act_fn == "topk" and filled["jump_relu_threshold"] > 0:
        said = given.text("activation", ("topk", "jumprelu"))
        why = f"{CONFIG_FILE} says act_fn topk and a jump_relu_threshold above 0, and the publisher's loader announces "
        if said is None:
            raise missing(source.path, "activation", why + "jumprelu but runs topk", "topk")
        act_fn = said
    if norm not in (*FOLDED, *FREE, "token-wise") or (norm == "token-wise" and transcodes):
        problem = f"{CONFIG_FILE} says norm_activation {norm!r}, which depends on the batch or on the output"
        raise FormatError(source.path, f"{problem}; only dataset-wise, inference and, of an SAE, token-wise are read")
    norms = _norms(source) if norm in FOLDED else None
    d_model = source.shape("encoder.weight")[1]
    return Settings(
        act_fn=act_fn,
        threshold=float(filled["jump_relu_threshold"]),
        k=_k(filled, source) if act_fn == "topk" else 0,
        into=math.sqrt(d_model) / norms[0] if norms else 1.0,
        out=math.sqrt(d_model) / norms[1] if norms else 1.0,
        norm_activation=norm,
        by_norm=bool(filled["sparsity_include_decoder_norm"]),
        subtracts=bool(filled["apply_decoder_bias_to_pre_encoder"] and filled["use_decoder_bias"]),
        has_bias=bool(filled["use_decoder_bias"]),
    )


def _norms(source: Source) -> tuple[float, float]:
    cfg = source.document(CONFIG_FILE) or {}
    norms = cfg.get(NORMS)
    sides = norms if isinstance(norms, dict) else {}
    found = [float(sides[side]) for side in ("in", "out") if type(sides.get(side)) in (int, float)]
    if len(found) != 2 or not all(0 < norm < math.inf for norm in found):
        problem = f"{CONFIG_FILE} says norm_activation dataset-wise, but {NORMS} is {norms!r}"
        raise FormatError(source.path, f"{problem}; expected an object with positive numbers `in` and `out`")
    return found[0], found[1]


def _k(filled: dict[str, Any], source: Source) -> int:
    k, d_sae = int(filled["top_k"]), source.shape("encoder.weight")[0]
    if not 0 < k <= d_sae:
        raise FormatError(source.path, f"{CONFIG_FILE} says top_k = {k}; expected 1 to d_sae = {d_sae}")
    return k


def _model_name(source: Source) -> object:
    return (source.document(MODEL_FILE) or {}).get("model_name")


def _plan(settings: Settings) -> dict[str, SourceTensor]:
    """Return the recipes; in float32 first, since a factor on bfloat16 would round every weight again."""
    wide = cast_to("float32")
    plan = {
        "W_enc": transposed("encoder.weight", wide),
        "b_enc": moved("encoder.bias", wide, *_by(1 / settings.into)),
        "W_dec": transposed("decoder.weight", wide, *_by(settings.into / settings.out)),
        "b_dec": moved("decoder.bias", wide, *_by(1 / settings.out)) if settings.has_bias else ZEROS,
    }
    if settings.act_fn == "jumprelu":
        plan["threshold"] = constant(settings.threshold)
    if settings.act_fn == "relu" and settings.by_norm:
        # with nothing to compare, the norms are only a matter of what a latent is worth
        plan["W_enc"] = _then(plan["W_enc"], times_decoder_norm(axis=1))
        plan["b_enc"] = _then(plan["b_enc"], times_decoder_norm(axis=0))
        plan["W_dec"] = _then(plan["W_dec"], divided_by_decoder_norm(axis=0))
    return plan


def _by(factor: float) -> tuple[Step, ...]:
    return () if factor == 1.0 else (scaled(factor),)


def _then(recipe: SourceTensor, step: Step) -> SourceTensor:
    return recipe.model_copy(update={"steps": (*recipe.steps, step)})


def _semantics(settings: Settings) -> Semantics:
    by_norm = settings.by_norm and settings.act_fn != "relu"
    jumps = settings.act_fn == "jumprelu"
    per_row = settings.norm_activation == "token-wise"
    return Semantics(
        pre_encoder_subtraction="b_dec" if settings.subtracts else "none",
        activation="jumprelu" if jumps else "topk" if settings.act_fn == "topk" else "relu",
        gate_quantity="pre_times_decoder_norm" if by_norm else "pre_activation",
        rectified=not jumps or settings.threshold >= 0,
        threshold="scalar" if jumps else "none",
        threshold_units="gate_quantity" if jumps else "none",
        k=float(settings.k) if settings.k else None,
        latents_scaled_by_decoder_norm=by_norm,
        normalization=Normalization(kind="constant_norm_rescale", statistics="per_row", inverted_on_output=True)
        if per_row
        else Normalization(),
    )


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """lm_saes' own forward: standardized for raw inputs, decoder rows of norm 1, then encode, activate and decode."""
    from saereg.registry.readings import reference as do

    said: dict[str, Any] = {**DEFAULTS, **raw.document(CONFIG_FILE)}
    act_fn = told(reading).text("activation") or said["act_fn"].lower()
    root, into, out = x.shape[1] ** 0.5, 1.0, 1.0
    if said["norm_activation"] == "dataset-wise":
        into, out = root / said[NORMS]["in"], root / said[NORMS]["out"]
    per_row = root / x.norm(dim=1, keepdim=True) if said["norm_activation"] == "token-wise" else x.new_ones(1)
    b_dec = raw.vector("decoder.bias") / out if said["use_decoder_bias"] else x.new_zeros(1)
    norms = raw.column_norms("decoder.weight") * into / out
    norms = norms if said["sparsity_include_decoder_norm"] else norms.new_ones(1)
    inner = x * per_row - b_dec if said["apply_decoder_bias_to_pre_encoder"] else x * per_row
    pre = (raw.times_transposed(inner, "encoder.weight") + raw.vector("encoder.bias") / into) * norms
    if act_fn == "jumprelu":
        cut = pre.new_tensor(float(said["jump_relu_threshold"]))
        f, margin = do.threshold(pre, cut, keep_negative=True)
    else:
        f, margin = do.topk(pre, int(said["top_k"])) if act_fn == "topk" else do.relu(pre)
    x_hat = raw.times_transposed(f / norms, "decoder.weight") * into / out + b_dec
    return do.Codes(f, x_hat / per_row, margin)


ABOUT = About(
    title="Llama Scope (2024, lm_saes)",
    used_by="OpenMOSS (`fnlp/Llama3_1-8B-Base-LX*`)",
    files="`hyperparams.json`, `lm_config.json`, `checkpoints/final.safetensors` with `encoder.weight` (F, D), "
    "`encoder.bias` (F,), `decoder.weight` (D, F), `decoder.bias` (D,). One threshold for all latents stands in "
    "`hyperparams.json`.",
    silent="nothing that decides the function.",
    assumed="where `hyperparams.json` lacks a key, what the publisher's loader takes. Scales of `dataset-wise` are "
    "taken into biases and decoder; with `sparsity_include_decoder_norm`, pre-activations times the norms of the "
    "decoder are compared and returned, as by the publisher's loader.",
    saelens="multiplies the threshold and the weights by √D over the norm of the input, which is the same; does not "
    "read `sparsity_include_decoder_norm` and compares without the norms, which activates other latents; has no "
    "transcoders.",
    source="OpenMOSS/Language-Model-SAEs 05887d39, lm_saes/sae.py",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
