"""llamascopium (OpenMOSS, before that lm_saes): config.json with `sae_type`; SAEs, transcoders, crosscoders, CLTs.

Source: llamascopium 2.0.0b34, `models/sparse_dictionary.py`, `sae.py`, `crosscoder.py`, `clt.py`,
`activation_functions.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saereg.errors import FormatError
from saereg.registry.files.tensors import TensorFile, whole
from saereg.registry.formats.crosscoder_sources import named_sources
from saereg.registry.formats.llamascopium_reference import (
    CONFIG_FILE,
    DEFAULTS,
    KNOWN,
    NORMS,
    PICKLED,
    THRESHOLD,
    reference,
)
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing, unknown_keys
from saereg.registry.readings.reading import Reading, dictionary, several, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.cfg_crosscoder import ActivationInput, CrosscoderConfig, InputStatistics
from saereg.schemas.cfg_native import CrossLayerConfig
from saereg.schemas.recipe import (
    EXP,
    SWAP_AXES,
    ZEROS,
    SourceTensor,
    Step,
    cast_to,
    constant,
    divided_by,
    moved,
    plus,
    scaled,
    times_by,
)
from saereg.schemas.semantics import Assumption, Normalization, Semantics

NAME, MODEL_FILE = "llamascopium", "lm_config.json"

TYPES = ("sae", "crosscoder", "clt")
OTHERS = {
    "lorsa": "low-rank sparse attention mixes positions; its codes are not of rows",
    "molt": "a mixture of linear transforms has matrices in the place of decoder rows",
}
"""`sae_type` that is never read → why."""

PLAUSIBLE = (1e-4, 1e8)
"""Mean norms of activations lie between these. Where none was ever set, whatever lay in memory was saved."""

SAY_NORMS = "say the mean norms: --set input_norm=27.1, and of a transcoder --set output_norm=3.4 too"
SAVE_NORMS = "save it again with the mean norm of every hook, after its own set_dataset_average_activation_norm"
"""What to do where a mean norm is missing: of an SAE, and of what reads several layers."""

SQUARE_ROOT, NORM = Step(do="sqrt"), Step(do="norm_last_axis")


@dataclass(frozen=True)
class _Saved:
    """What was saved.

    Attributes:
        source: where.
        file: the weights.
        prefix: before the names of the weights.
        config: config.json, with defaults.
        notes: the defaults that were taken.
    """

    source: Source
    file: TensorFile
    prefix: str
    config: Mapping[str, Any]
    notes: tuple[Assumption, ...]

    def has(self, name: str) -> bool:
        return self.prefix + name in self.file.entries

    def shape(self, name: str) -> tuple[int, ...]:
        return self.file.entries[self.prefix + name].shape if self.has(name) else ()

    def taken(self, name: str, *steps: Step) -> SourceTensor:
        """Return the recipe of a tensor; float32 first where something is computed of a half type."""
        computes = any(not step.is_movement for step in steps)
        half = self.has(name) and self.file.entries[self.prefix + name].dtype in ("bfloat16", "float16")
        return moved(self.prefix + name, *((cast_to("float32"),) if computes and half else ()), *steps)

    @property
    def by_norm(self) -> bool:
        """Whether a latent is ranked or cut by pre·‖W_D‖."""
        return bool(self.config["sparsity_include_decoder_norm"])


def detect(source: Source) -> str | None:
    """A config.json with `sae_type`, `d_model` and `expansion_factor`; and `W_E`, unless the type is one never read."""
    cfg = source.document(CONFIG_FILE)
    if cfg is None or not {"sae_type", "d_model", "expansion_factor"} <= cfg.keys():
        return None
    if str(cfg["sae_type"]) in OTHERS or {"W_E", f"{PICKLED}W_E"} & source.keys:
        return f"{CONFIG_FILE} has `sae_type`, `d_model` and `expansion_factor`"
    return None


def read(source: Source, given: Given) -> Reading:
    """Read a dictionary; inputs are those of the model, whatever they were scaled to in training.

    Raises:
        FormatError: when it is of a type or activation that cannot be said, or config.json contradicts the tensors.
        WeightsError: when a tensor is missing or of another shape.
    """
    saved = _saved(source)
    kind = saved.config.get("sae_type")
    reading = {"sae": _sae, "crosscoder": _crosscoder, "clt": _clt}[str(kind)](saved, given)
    known = [name for name in saved.file.entries if name.startswith(saved.prefix + NORMS)]
    return with_left_out(reading, known)


def _saved(source: Source) -> _Saved:
    cfg, kind = source.document(CONFIG_FILE) or {}, (source.document(CONFIG_FILE) or {}).get("sae_type")
    if str(kind) not in TYPES:
        why = OTHERS.get(str(kind), f"expected one of {', '.join(TYPES)}")
        raise FormatError(source.path, f"{CONFIG_FILE} says sae_type {kind!r}: {why}")
    file, filled, notes = source.only(), dict(cfg), []
    for key, default in DEFAULTS.items():
        if key not in cfg:
            because = f"absent from {CONFIG_FILE}; the default of the class"
            notes.append(Assumption(field=key, value=str(default), because=because))
        filled.setdefault(key, default)
        if type(filled[key]) is not type(default):
            raise FormatError(source.path, f"{CONFIG_FILE} says {key} = {filled[key]!r}; expected one like {default!r}")
    prefix = PICKLED if f"{PICKLED}W_E" in file.entries else ""
    saved = _Saved(source, file, prefix, filled, (*notes, *unknown_keys(cfg, KNOWN, CONFIG_FILE)))
    _check_widths(saved)
    if filled["use_glu_encoder"]:
        why = "a sigmoid of a second encoder multiplies each pre-activation, and no switch says that"
        raise FormatError(source.path, f"{CONFIG_FILE} says use_glu_encoder: {why}")
    if filled.get("apply_decoder_bias_to_pre_encoder"):
        why = "versions before subtracted b_D from the input, and the class of this layout does not"
        raise FormatError(source.path, f"{CONFIG_FILE} says apply_decoder_bias_to_pre_encoder: {why}")
    return saved


def _check_widths(saved: _Saved) -> None:
    shape, factor, width = saved.shape("W_E"), saved.config.get("expansion_factor"), saved.config.get("d_model")
    rank = 2 if saved.config["sae_type"] == "sae" else 3
    latents = None
    if type(width) is int and isinstance(factor, int | float) and math.isfinite(factor):
        latents = int(width * factor)
    if len(shape) != rank or shape[-2:] != (width, latents):
        said = f"d_model = {width!r}, expansion_factor = {factor!r}"
        raise FormatError(saved.source.path, f"{CONFIG_FILE} says {said}, but W_E is {shape}; correct {CONFIG_FILE}")


def _activation(saved: _Saved, given: Given) -> tuple[str, float | None]:
    """Return activation and k."""
    name, path = str(saved.config["act_fn"]).lower(), saved.source.path
    if name == "batchtopk" and given.text("activation", ("topk",)) is None:
        why = "batchtopk keeps the largest of a batch, so that a row's latents depend on the other rows"
        raise missing(path, "activation", f"{why}; only the k largest of each row can be read", "topk")
    if name not in ("relu", "jumprelu", "topk", "batchtopk"):
        raise FormatError(
            path, f"{CONFIG_FILE} says act_fn {name!r}, which cannot be said row by row and layer by layer"
        )
    if name in ("relu", "jumprelu"):
        return name, None
    k, d_sae = saved.config["top_k"], saved.shape("W_E")[-1]
    if not 0 < k <= d_sae:
        raise FormatError(path, f"{CONFIG_FILE} says top_k = {k}; expected a whole number from 1 to d_sae = {d_sae}")
    return "topk", float(k)


def _factor(saved: _Saved, hook: object, given: float | None = None) -> float:
    """Return √D over the mean norm of the activations at a hook, or 1 where weights read them as they are."""
    if saved.config["norm_activation"] == "inference":
        return 1.0
    if saved.config["norm_activation"] != "dataset-wise":
        name = saved.config["norm_activation"]
        why = "each batch has a factor of its own" if name == "batch-wise" else "it is read of plain SAEs only"
        raise FormatError(saved.source.path, f"{CONFIG_FILE} says norm_activation {name!r}: {why}")
    key = f"{NORMS}{hook}"
    norm = given if given is not None else _norm(saved, key)
    if not PLAUSIBLE[0] < norm < PLAUSIBLE[1]:
        found = f"{norm:g}, as if it was never set" if saved.has(key) else "missing"
        problem = f"norm_activation is dataset-wise, but {key!r} is {found}"
        asked = SAY_NORMS if saved.config["sae_type"] == "sae" else SAVE_NORMS
        raise FormatError(saved.source.path, f"{problem}; {asked}")
    return math.sqrt(saved.config["d_model"]) / norm


def _norm(saved: _Saved, key: str) -> float:
    """Return a mean norm, or NaN where there is none."""
    if not saved.has(key):
        return math.nan
    stored = whole(saved.file, saved.prefix + key)
    if stored.numel() != 1:
        raise FormatError(saved.source.path, f"{key!r} is of shape {tuple(stored.shape)}; expected one number")
    return float(stored)


def _factors(saved: _Saved, hooks: tuple[object, object], given: Given) -> tuple[float, float]:
    """Return the factors of input and output of an SAE, whose norms the caller may say."""
    if saved.config["norm_activation"] != "dataset-wise":
        return _factor(saved, hooks[0]), _factor(saved, hooks[1])
    norm_in = given.number("input_norm")
    norm_out = given.number("output_norm") if hooks[0] != hooks[1] else norm_in
    return _factor(saved, hooks[0], norm_in), _factor(saved, hooks[1], norm_out)


def _by(factor: float) -> tuple[Step, ...]:
    return () if factor == 1.0 else (scaled(factor),)


def _sae(saved: _Saved, given: Given) -> Reading:
    """Return an SAE or transcoder. Scales go into the weights, so that latents stay those of training.

    Dividing W_D divides the norms that latents are cut by, so the threshold is divided too.
    """
    hooks = saved.config.get("hook_point_in"), saved.config.get("hook_point_out")
    transcodes, tokens = hooks[0] != hooks[1], saved.config["norm_activation"] == "token-wise"
    if tokens and transcodes:
        why = "the output is in units of the norm of what it predicts, which a reader does not know"
        raise FormatError(saved.source.path, f"{CONFIG_FILE} says norm_activation 'token-wise' of a transcoder: {why}")
    into, out = (1.0, 1.0) if tokens else _factors(saved, hooks, given)
    name, k = _activation(saved, given)
    ranked = saved.by_norm and name != "relu"
    plan = {
        "W_enc": saved.taken("W_E", *_by(into)),
        "b_enc": saved.taken("b_E"),
        "W_dec": saved.taken("W_D", *_by(1 / out)),
        "b_dec": saved.taken("b_D", *_by(1 / out)) if saved.config["use_decoder_bias"] else ZEROS,
    }
    if name == "jumprelu":
        plan["threshold"] = saved.taken(THRESHOLD, EXP, *(_by(1 / out) if ranked else ()))
    scales = bool(ranked and name == "topk" and given.flag("latents_times_decoder_norm"))
    rules = Semantics(
        pre_encoder_subtraction="none",
        activation=name,  # type: ignore[arg-type]
        gate_quantity="pre_times_decoder_norm" if ranked else "pre_activation",
        threshold="per_latent" if name == "jumprelu" else "none",
        threshold_units="gate_quantity" if name == "jumprelu" else "none",
        k=k,
        latents_scaled_by_decoder_norm=scales,
        normalization=Normalization(kind="constant_norm_rescale", statistics="per_row", inverted_on_output=True)
        if tokens
        else Normalization(),
    )
    return dictionary(
        {"": saved.file},
        plan,
        kind="transcoder" if transcodes else "sae",
        semantics=rules,
        metadata=_metadata(saved) | {"hook_name": hooks[0], "hook_name_out": hooks[1] if transcodes else None},
        assumptions=[*given.assumptions, *saved.notes],
    )


def _metadata(saved: _Saved) -> dict[str, object]:
    facts = {key: saved.config[key] for key in DEFAULTS}
    return {"model_name": (saved.source.document(MODEL_FILE) or {}).get("model_name"), NAME: facts}


def _hooks(saved: _Saved, key: str) -> list[str]:
    hooks, count = saved.config.get(key), saved.shape("W_E")[0]
    if not isinstance(hooks, list) or len(hooks) != count or not all(isinstance(hook, str) for hook in hooks):
        problem = f"{CONFIG_FILE} says {key} = {str(hooks)[:80]}; expected {count} names, as many as W_E has"
        raise FormatError(saved.source.path, problem)
    return hooks


def _crosscoder(saved: _Saved, given: Given) -> Reading:
    """Return a crosscoder: each head cuts or ranks pre·‖W_D‖ of its own, which makes no difference to a ReLU."""
    hooks, (count, d_in, d_sae) = _hooks(saved, "hook_points"), saved.shape("W_E")
    name, k = _activation(saved, given)
    if not saved.by_norm or not saved.config["use_decoder_bias"]:
        raise FormatError(
            saved.source.path, "a crosscoder has sparsity_include_decoder_norm and use_decoder_bias there"
        )
    factors = tuple(_factor(saved, hook) for hook in hooks)
    plan = {
        "W_enc": saved.taken("W_E"),
        "b_enc": saved.taken("b_E"),
        "W_dec": saved.taken("W_D", SWAP_AXES),
        "b_dec": saved.taken("b_D"),
    }
    if name == "jumprelu":
        plan["threshold"] = saved.taken(THRESHOLD, EXP)
    if set(factors) != {1.0}:
        plan["input_scale"] = constant(factors).model_copy(update={"steps": (cast_to("float32"),)})
    decides, (sources, named) = name != "relu", named_sources(given, count, "layer", hooks)
    fields = {
        "kind": "crosscoder",
        "architecture": name if decides else "standard",
        "sources": sources,
        "input": ActivationInput(kind="activations"),
        "n_sources": count,
        "d_in": d_in,
        "d_sae": d_sae,
        "bias_reduction": "sum_over_sources",
        "gate": "per_source" if decides else "shared",
        "code_norm": "per_source_norm" if decides else "none",
        "k": k,
        "statistics": InputStatistics(preprocess="scale" if "input_scale" in plan else "none"),
    }
    notes = [*given.assumptions, *saved.notes, *named]
    metadata = _metadata(saved) | {"hook_points": hooks}
    return several(CrosscoderConfig, {"": saved.file}, plan, fields, metadata=metadata, assumptions=notes)


def _clt(saved: _Saved, given: Given) -> Reading:
    """Return a cross-layer transcoder. A cut at pre·n > θ is one at pre > θ/n, n the norm of a latent's decoders."""
    into, out = _hooks(saved, "hook_points_in"), _hooks(saved, "hook_points_out")
    (layers, width, d_sae), (name, k) = saved.shape("W_E"), _activation(saved, given)
    if name == "topk" and saved.by_norm:
        why = "it ranks by pre times the norm of all decoders of a latent, which cannot be said across layers"
        raise FormatError(saved.source.path, f"{CONFIG_FILE} says topk and sparsity_include_decoder_norm: {why}")
    plan: dict[str, SourceTensor] = {}
    for i in range(layers):
        layer, by = Step(do="take", axis=0, index=i), 1 / _factor(saved, out[i])
        plan[f"W_enc.{i}"] = saved.taken("W_E", layer, *_by(_factor(saved, into[i])))
        plan[f"b_enc.{i}"] = saved.taken("b_E", layer)
        plan[f"b_dec.{i}"] = saved.taken(f"b_D.{i}", *_by(by))
        for source in range(i + 1):
            plan[f"W_dec.{source}.{i}"] = saved.taken(f"W_D.{i}", Step(do="take", axis=0, index=source), *_by(by))
        if name == "jumprelu":
            divided = (divided_by(_norms(saved, i, layers), axis=0),) if saved.by_norm else ()
            plan[f"threshold.{i}"] = saved.taken(THRESHOLD, layer, EXP, *divided)
    fields = {
        "kind": "cross_layer",
        "d_in": width,
        "d_out": width,
        "d_sae": d_sae,
        "n_layers": layers,
        "writes": "same_and_later",
        "semantics": Semantics(
            pre_encoder_subtraction="none",
            activation=name,  # type: ignore[arg-type]
            gate_quantity="pre_activation",
            threshold="per_latent" if name == "jumprelu" else "none",
            threshold_units="gate_quantity" if name == "jumprelu" else "none",
            k=k,
        ),
    }
    notes = [*given.assumptions, *saved.notes]
    metadata = _metadata(saved) | {"hook_points_in": into, "hook_points_out": out}
    return several(CrossLayerConfig, {"": saved.file}, plan, fields, metadata=metadata, assumptions=notes)


def _norms(saved: _Saved, layer: int, layers: int) -> SourceTensor:
    """Return √Σ_t ‖W_D.t[layer]‖² (F,), over all layers that decode a latent of `layer`."""
    total: SourceTensor | None = None
    for target in range(layer, layers):
        norm = saved.taken(f"W_D.{target}", Step(do="take", axis=0, index=layer), NORM)
        squared = norm.model_copy(update={"steps": (*norm.steps, times_by(norm, axis=0))})
        more = () if total is None else (plus(total),)
        total = squared.model_copy(update={"steps": (*squared.steps, *more)})
    assert total is not None  # noqa: S101  # a layer decodes its own latents
    return total.model_copy(update={"steps": (*total.steps, SQUARE_ROOT)})


ABOUT = About(
    title="llamascopium",
    used_by="OpenMOSS (`OpenMOSS-Team/Llama-Scope-2-*`), and others who train with it",
    files="`config.json` with `sae_type`, and `sae_weights.safetensors` or `.pt` (under `sae`): SAEs and transcoders "
    "`W_E` (D, F), `b_E`, `W_D` (F, D), `b_D`; crosscoders `W_E` (K, D, F), `b_E` (K, F), `W_D` (K, F, D), `b_D` "
    "(K, D); CLTs `W_E` (L, D, F), `b_E` (L, F), `W_D.t` (t + 1, F, D), `b_D.t`; "
    "`activation_function.log_jumprelu_threshold`, and for each hook a scalar "
    "`dataset_average_activation_norm.<hook>`.",
    silent="whether a mean norm was ever set: where it was not, whatever lay in memory was saved. `--set input_norm=` "
    "and `output_norm=` say them.",
    assumed="keys that config.json lacks have the defaults of the class. With `norm_activation` dataset-wise the scale "
    "of inputs is folded, and the threshold with it; the publisher's own folding leaves the threshold of an SAE as it "
    "was. TopK ranks by pre·‖W_D‖ and stores pre; `--set latents_times_decoder_norm=true` stores what it ranks by. "
    "BatchTopK depends on the batch and is read only as TopK of each row, when asked for (`activation=topk`).",
    saelens="has no TopK that ranks by norms and does not store them, no gate at each source, no CLT.",
    source="llamascopium 2.0.0b34",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
