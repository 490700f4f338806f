"""SAELens 2.1 to 5: cfg.json with everything at its top level, and sae_weights.safetensors.

Source: SAELens 2.1.3 `training/config.py`, `training/sparse_autoencoder.py`; 3.0, 3.6, 4.4 and 5.11 `sae.py`,
`training_sae.py`, `toolkit/pretrained_sae_loaders.py`; 6.54 `handle_pre_6_0_config`, `read_sae_components_from_disk`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError
from saereg.registry.files.names import CONFIG_FILE
from saereg.registry.files.tensors import whole
from saereg.registry.formats.saelens import is_legacy
from saereg.registry.formats.saelens_scale import SCALED, SCALER_FILE, folded, scale_of, widened
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing
from saereg.registry.readings.reading import Reading, dictionary, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.recipe import EXP, SourceTensor, cast_to, moved
from saereg.schemas.semantics import Activation, Assumption, Normalization, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME = "saelens_legacy"

RENAMED = {
    "hook_point": "hook_name",
    "hook_point_layer": "hook_layer",
    "hook_point_head_index": "hook_head_index",
    "activation_fn": "activation_fn_str",
}
"""Key of 2.1 → key of 3 to 5."""

FUNCTION = (
    "architecture", "d_in", "d_sae", "activation_fn_str", "activation_fn_kwargs", "apply_b_dec_to_input",
    "finetuning_scaling_factor", "normalize_activations", "reshape_activations", "k", "metadata", "noise_scale",
)  # fmt: skip
"""Keys that decide the function, each of which is read."""

FACTS = (
    "model_name", "model_class_name", "hook_name", "hook_layer", "hook_head_index", "prepend_bos", "context_size",
    "dataset_path", "dataset_trust_remote_code", "neuronpedia_id", "model_from_pretrained_kwargs", "seqpos_slice",
    "sae_lens_training_version", "exclude_special_tokens", "hf_hook_name",
)  # fmt: skip
"""Keys that say where the dictionary belongs: they are kept."""

TRAINING = frozenset([
    "dtype", "device", "sae_lens_version", "hook_point_eval", "hook_eval", "streaming", "is_dataset_tokenized",
    "use_cached_activations", "cached_activations_path", "b_dec_init_method", "expansion_factor",
    "normalize_sae_decoder", "from_pretrained_path", "decoder_orthogonal_init", "decoder_heuristic_init",
    "decoder_heuristic_init_norm", "init_encoder_as_decoder_transpose", "n_batches_in_buffer", "training_tokens",
    "finetuning_tokens", "store_batch_size_prompts", "train_batch_size_tokens", "seed", "autocast", "autocast_lm",
    "compile_llm", "llm_compilation_mode", "compile_sae", "sae_compilation_mode", "adam_beta1", "adam_beta2",
    "mse_loss_normalization", "l1_coefficient", "lp_norm", "scale_sparsity_penalty_by_decoder_norm",
    "l1_warm_up_steps", "lr", "lr_scheduler_name", "lr_warm_up_steps", "lr_end", "lr_decay_steps",
    "n_restart_cycles", "finetuning_method", "use_ghost_grads", "feature_sampling_window", "dead_feature_window",
    "dead_feature_threshold", "n_eval_batches", "eval_batch_size_prompts", "log_to_wandb",
    "log_activations_store_to_wandb", "log_optimizer_state_to_wandb", "wandb_project", "wandb_id", "run_name",
    "wandb_entity", "wandb_log_frequency", "eval_every_n_wandb_logs", "resume", "n_checkpoints", "checkpoint_path",
    "verbose", "model_kwargs", "tokens_per_buffer", "jumprelu_init_threshold", "jumprelu_bandwidth",
    "act_store_device", "log_artifacts_to_wandb", "store_batch_size", "train_batch_size", "total_training_tokens",
])  # fmt: skip
"""Keys of training, storage and logging, which leave the function as it is."""

VECTORS = {
    "standard": ("b_enc",),
    "topk": ("b_enc",),
    "jumprelu": ("b_enc",),
    "gated": ("b_gate", "b_mag", "r_mag"),
}
"""Architecture → its vectors beside `W_enc`, `W_dec`, `b_dec`; JumpReLU has a threshold as well."""

DEFAULTS = {
    "architecture": "standard",
    "activation_fn_str": "relu",
    "apply_b_dec_to_input": True,
    "finetuning_scaling_factor": False,
}
"""What every version of SAELens that reads these files takes for a key that is missing."""

NORMALIZATIONS = ("none", "layer_norm", "constant_norm_rescale")
FINETUNED = ("scaling_factor", "finetuning_scaling_factor")


@dataclass
class _Cfg:
    """cfg.json in the keys of 3 to 5, with a note of each default taken."""

    path: object
    values: Mapping[str, Any]
    notes: list[Assumption] = field(default_factory=list)

    def switch(self, name: str) -> Any:  # noqa: ANN401
        """Return a switch, or its default, which is noted."""
        value = self.values.get(name)
        if value is not None:
            return value
        because = "absent from cfg.json; every version of SAELens that reads it takes this"
        self.notes.append(Assumption(field=name, value=str(DEFAULTS[name]), because=because))
        return DEFAULTS[name]

    def flag(self, name: str) -> bool:
        """Return a switch that is true or false."""
        value = self.switch(name)
        if not isinstance(value, bool):
            raise FormatError(self.path, f"{CONFIG_FILE} says {name} {value!r}; expected true or false")
        return value

    def width(self, name: str) -> int:
        """Return a width."""
        value = self.values.get(name)
        if type(value) is not int or value < 1:
            raise FormatError(self.path, f"{CONFIG_FILE} says {name} {value!r}; expected a positive whole number")
        return value


def detect(source: Source) -> str | None:
    """A cfg.json with keys of before version 6 at its top level, and SAELens' tensors."""
    cfg = source.document(CONFIG_FILE)
    if cfg is None or cfg.get("kind") is not None or not {"d_in", "d_sae"} <= cfg.keys() or not is_legacy(cfg):
        return None
    if source.weights is None or not {"W_enc", "W_dec", "b_dec"} <= source.keys or len(source.shape("W_enc")) != 2:
        return None
    if source.weights.path.suffix != ".safetensors":
        return None
    return f"{CONFIG_FILE} has keys of before version 6 at its top level, and the tensors SAELens' names"


def read(source: Source, given: Given) -> Reading:
    """Read what the version meant that wrote the folder, which is not always what SAELens 6 makes of it.

    Raises:
        FormatError: when cfg.json says something that cannot be expressed, contradicts the tensors or itself, or leaves
            open what must not be guessed.
        WeightsError: when a tensor is missing, extra, or of another shape.
    """
    raw, file = source.document(CONFIG_FILE) or {}, source.only()
    cfg = _Cfg(source.path, _renamed(raw, source))
    _note_unknown(cfg)
    architecture, activation = _activation(cfg)
    _check_widths(cfg, source)
    left_out = _finetuning(cfg, source, given)
    kind = _normalization(cfg)
    scale = scale_of(kind, source, given, training=True)
    plan: dict[str, SourceTensor] = {name: moved(name) for name in ("W_enc", *VECTORS[architecture], "W_dec", "b_dec")}
    if architecture == "jumprelu":
        plan["threshold"] = _threshold(source)
    by = float(scale.factor or 1.0)
    reading = dictionary(
        {"": file},
        folded(widened(plan, file), by) if by != 1.0 else plan,
        kind="sae",
        semantics=_semantics(cfg, activation, "none" if kind == SCALED else kind, given),
        metadata=_facts(cfg),
        assumptions=(*cfg.notes, *_once(scale.notes, given)),
    )
    return with_left_out(reading, left_out)


def _renamed(raw: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Return cfg.json with the keys of 3 to 5."""
    for old, new in RENAMED.items():
        if old in raw and new in raw and raw[old] != raw[new]:
            problem = f"{old} {raw[old]!r} and {new} {raw[new]!r}, which are two names of one thing"
            raise FormatError(source.path, f"{CONFIG_FILE} says {problem}; remove one of them")
    return {RENAMED.get(key, key): value for key, value in raw.items()}


def _once(notes: tuple[Assumption, ...], given: Given) -> tuple[Assumption, ...]:
    """Return the notes and what was given, each once."""
    return tuple(dict.fromkeys((*notes, *given.assumptions)))


def _note_unknown(cfg: _Cfg) -> None:
    if cfg.values.get("is_transcoder"):
        raise FormatError(cfg.path, f"{CONFIG_FILE} says is_transcoder, which no SAELens of this time could load")
    if cfg.values.get("noise_scale"):
        because = "noise was added to pre-activations in training, and is not wanted after it"
        cfg.notes.append(Assumption(field="noise_scale", value="0", because=because))
    for name in sorted(cfg.values.keys() - {*FUNCTION, *FACTS, *TRAINING, "is_transcoder"}):
        because = "a key of cfg.json that no version of SAELens reads, so nothing is made of it"
        cfg.notes.append(Assumption(field=name, value=str(cfg.values[name])[:200], because=because))


def _activation(cfg: _Cfg) -> tuple[str, Activation]:
    """Return (architecture, activation). The function's name decides; the architecture says which tensors there are."""
    architecture, function = cfg.switch("architecture"), cfg.switch("activation_fn_str")
    if not isinstance(architecture, str) or architecture not in VECTORS:
        raise FormatError(cfg.path, f"{CONFIG_FILE} says architecture {architecture!r}; expected {', '.join(VECTORS)}")
    if function == "tanh-relu":
        problem = "activation tanh-relu, tanh(max(pre, 0)), which is in no layout that saereg writes"
        raise FormatError(cfg.path, f"{CONFIG_FILE} says {problem}; SAELens 6 reads it as ReLU, which is wrong")
    if function not in ("relu", "topk"):
        raise FormatError(cfg.path, f"{CONFIG_FILE} says activation {function!r}; expected relu, tanh-relu or topk")
    if (function == "topk" and architecture in ("gated", "jumprelu")) or (function, architecture) == ("relu", "topk"):
        problem = f"architecture {architecture} with activation {function}"
        raise FormatError(cfg.path, f"{CONFIG_FILE} says {problem}, which contradict each other; correct one of them")
    if function == "topk":
        return architecture, "topk"
    return architecture, {"standard": "relu", "gated": "gated", "jumprelu": "jumprelu"}[architecture]  # type: ignore[return-value]


def _k(cfg: _Cfg, given: Given) -> float:
    """Return k. SAELens 6 makes a dense ReLU of a file without it."""
    kwargs = cfg.values.get("activation_fn_kwargs") or {}
    if not isinstance(kwargs, dict) or set(kwargs) - {"k"}:
        raise FormatError(cfg.path, f"{CONFIG_FILE} says activation_fn_kwargs {kwargs!r}; expected k alone")
    k = kwargs.get("k", cfg.values.get("k"))
    if k is None:
        k = given.whole("k")
    if k is None:
        raise missing(cfg.path, "k", f"{CONFIG_FILE} says activation topk, and no activation_fn_kwargs.k", "64")
    if type(k) is not int or not 0 < k <= cfg.width("d_sae"):
        expected = f"a whole number from 1 to d_sae = {cfg.width('d_sae')}"
        raise FormatError(cfg.path, f"{CONFIG_FILE} says k = {k!r}; expected {expected}")
    return float(k)


def _check_widths(cfg: _Cfg, source: Source) -> None:
    said, found = (cfg.width("d_in"), cfg.width("d_sae")), source.shape("W_enc")
    if said != found or source.shape("W_dec") != said[::-1]:
        problem = f"{CONFIG_FILE} says d_in = {said[0]} and d_sae = {said[1]}"
        shapes = f"W_enc is {found} and W_dec {source.shape('W_dec')}"
        raise FormatError(source.path, f"{problem}, but {shapes}; correct {CONFIG_FILE}")


def _finetuning(cfg: _Cfg, source: Source, given: Given) -> tuple[str, ...]:
    """Return the scaling factor of finetuning where it is 1, i.e. left out; f·factor was decoded where it is not."""
    import torch

    stored = [name for name in FINETUNED if name in source.keys]
    for name in stored:
        factor = whole(source.only(), name)
        if not bool(torch.equal(factor, torch.ones_like(factor))):
            problem = f"{name} multiplies each latent before decoding, and is not 1 everywhere"
            raise FormatError(source.path, f"{problem}; put it into W_dec, row by row, and leave it out")
    if cfg.flag("finetuning_scaling_factor") and not stored and given.flag("finetuning_scaling_factor") is not False:
        problem = f"{CONFIG_FILE} says finetuning_scaling_factor, and the weights hold no such tensor"
        raise FormatError(source.path, f"{problem}; say that there is none: --set finetuning_scaling_factor=false")
    return tuple(stored)


def _normalization(cfg: _Cfg) -> str:
    """Return the normalization in words; a bool of before 3.3 meant the scaled inputs of training."""
    kind = cfg.values.get("normalize_activations")
    if isinstance(kind, bool):
        return SCALED if kind else "none"
    if kind is None:
        kind = "none"
        because = "absent from cfg.json; every version of SAELens that reads it takes this"
        cfg.notes.append(Assumption(field="normalize_activations", value=kind, because=because))
    if kind not in (*NORMALIZATIONS, SCALED):
        choices = ", ".join((*NORMALIZATIONS, SCALED))
        raise FormatError(cfg.path, f"{CONFIG_FILE} says normalize_activations {kind!r}; expected {choices}")
    return str(kind)


def _threshold(source: Source) -> SourceTensor:
    """Return the recipe of the threshold; a training object saved past its own `save_model` has the logarithm."""
    if "log_threshold" not in source.keys or "threshold" in source.keys:
        return moved("threshold")
    half = source.only().entries["log_threshold"].dtype in ("bfloat16", "float16")
    return moved("log_threshold", *((cast_to("float32"), EXP) if half else (EXP,)))


def _semantics(cfg: _Cfg, activation: Activation, kind: str, given: Given) -> Semantics:
    return Semantics(
        pre_encoder_subtraction="b_dec" if cfg.flag("apply_b_dec_to_input") else "none",
        activation=activation,
        gate_quantity="gate_pre_activation" if activation == "gated" else "pre_activation",
        threshold="per_latent" if activation == "jumprelu" else "none",
        threshold_units="gate_quantity" if activation == "jumprelu" else "none",
        k=_k(cfg, given) if activation == "topk" else None,
        normalization=Normalization(
            kind=kind,  # type: ignore[arg-type]
            statistics="none" if kind == "none" else "per_row",
            inverted_on_output=kind != "none",
        ),
        reshape=_reshape(cfg),  # type: ignore[arg-type]
    )


def _reshape(cfg: _Cfg) -> str:
    """Return how heads are treated: they are flattened at hook_z, unless one head alone was read."""
    said = cfg.values.get("reshape_activations")
    if said is not None:
        if said not in ("none", "hook_z"):
            raise FormatError(cfg.path, f"{CONFIG_FILE} says reshape_activations {said!r}; expected none or hook_z")
        return str(said)
    hook = cfg.values.get("hook_name")
    if not isinstance(hook, str) or not hook.endswith("_z"):
        return "none"
    if cfg.values.get("hook_head_index") is not None:
        because = "hook_head_index names one head, whose activations have no axis of heads"
        cfg.notes.append(Assumption(field="reshape_activations", value="none", because=because))
        return "none"
    return "hook_z"


def _facts(cfg: _Cfg) -> dict[str, object]:
    """Return what the files say of model and site. The version goes by another name: SAELens 6 reads by it."""
    nested = cfg.values.get("metadata")
    facts: dict[str, object] = dict(nested) if isinstance(nested, dict) else {}
    facts |= {name: cfg.values[name] for name in FACTS if cfg.values.get(name) is not None}
    version = cfg.values.get("sae_lens_version", facts.pop("sae_lens_version", None))
    return facts | ({"source_sae_lens_version": version} if version is not None else {})


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The forward of SAELens 5: normalize, subtract, encode, activate, decode, map back; scaled inputs beside it."""
    from saereg.registry.readings import reference as do

    cfg = {RENAMED.get(key, key): value for key, value in raw.document(CONFIG_FILE).items()}
    given = told(reading)
    factor = _scale_in(raw, given)
    kind, mean, sigma, x_in = cfg.get("normalize_activations"), None, None, x.double() * factor
    if kind == "layer_norm":
        x_in, mean, sigma = do.layer_norm(x_in)
    elif kind == "constant_norm_rescale":
        sigma = x_in.norm(dim=-1, keepdim=True) / x_in.shape[-1] ** 0.5
        x_in = x_in / sigma
    b_dec = raw.vector("b_dec")
    product = raw.times(x_in if cfg.get("apply_b_dec_to_input") is False else x_in - b_dec, "W_enc")
    if cfg.get("architecture") == "gated":
        magnitude = product * raw.vector("r_mag").exp() + raw.vector("b_mag")
        f, margin = do.gated(product + raw.vector("b_gate"), magnitude)
    elif cfg.get("activation_fn_str") == "topk":
        k = (cfg.get("activation_fn_kwargs") or {}).get("k", cfg.get("k")) or given.whole("k") or 0
        f, margin = do.topk(product + raw.vector("b_enc"), k)
    elif cfg.get("architecture") == "jumprelu":
        logarithm = "log_threshold" in raw.files[""].entries and "threshold" not in raw.files[""].entries
        cut = raw.vector("log_threshold").exp() if logarithm else raw.vector("threshold")
        f, margin = do.threshold(product + raw.vector("b_enc"), cut)
    else:
        f, margin = do.relu(product + raw.vector("b_enc"))
    x_hat = raw.times(f, "W_dec") + b_dec
    if sigma is not None:
        x_hat = x_hat * sigma + (0 if mean is None else mean)
    return do.Codes(f, x_hat / factor, margin)


def _scale_in(raw: "Raw", given: Given) -> float:
    """Return what inputs were multiplied by: as the caller says, or the file that training saves beside."""
    if given.flag("already_folded"):
        return 1.0
    return given.number("scaling_factor") or float(raw.document(SCALER_FILE).get("scaling_factor") or 1.0)


ABOUT = About(
    title="SAELens 2.1 to 5",
    used_by="`jbloom/GPT2-Small-*`, `jbloom/Gemma-2b-*`, `ctigges/pythia-70m-deduped__*`, uploads of 2024 and early "
    "2025; pickled files of 2.0 and before are refused, because they hold an object of SAELens' own",
    files="`cfg.json` with `hook_name` or `hook_point` at its top level, `sae_weights.safetensors`; the tensors are "
    "those of SAELens 6, sometimes with `scaling_factor`.",
    silent="the factor of `expected_average_only_in`; and whether the version that folded it into the weights did that "
    "right, which those of mid and late 2024 did not.",
    assumed="`apply_b_dec_to_input` true, `architecture` standard, `activation_fn_str` relu and no normalization in "
    "files that have no such key. Heads are flattened where the hook ends in `_z`, unless one head is named.",
    saelens="takes a TopK file without `k` for a dense ReLU, tanh-relu for ReLU, drops a nested `metadata`, and scales "
    "nothing where inputs were scaled; otherwise the same.",
    source="SAELens 2.1.3, 3.0, 4.4, 5.11 and 6.54",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
