"""dictionary_learning (Marks, Karvonen, Mueller): ae.pt and config.json; seven classes, each with its own rules.

Source: dictionary_learning 0.1.0, `dictionary.py`, `trainers/{top_k,batch_top_k,matryoshka_batch_top_k}.py`;
`training.py` at commit 60ec6bf for backups; the fork of science-of-finetuning, commit 173f7fa, for stored statistics.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError, WeightsError
from saereg.registry.files.tensors import TensorFile, whole
from saereg.registry.formats.dictionary_learning_export import CLASSES, CONFIG_FILE, DIRECT, NAME, layout
from saereg.registry.formats.dictionary_learning_settings import unknown_settings
from saereg.registry.formats.dictionary_learning_statistics import EPSILON, STATISTICS, with_statistics
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing
from saereg.registry.readings.reading import Reading, dictionary, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.recipe import SourceTensor, Step, cast_to, moved, scaled, transposed
from saereg.schemas.semantics import Activation, Assumption, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Decided, Raw

BACKUP = "ae/"
"""Where a backup from the middle of training has the tensors."""

ACTIVATIONS: dict[str, Activation] = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk",
    "MatryoshkaBatchTopKSAE": "batchtopk",
    "GatedAutoEncoder": "gated",
    "JumpReluAutoEncoder": "jumprelu",
}

NOT_CENTRED = ("AutoEncoderNew", "JumpReluAutoEncoder")
"""Classes that do not subtract the output bias from the input."""

NOT_SCALED = ("W_enc", "W_dec", "r_mag")
"""Tensors that `scale_biases` leaves alone."""

RANKED = frozenset({*CLASSES["BatchTopKSAE"].values(), "k", "threshold"})
"""Tensors of AutoEncoderTopK and of BatchTopKSAE."""

TOLD_BY_TENSORS: dict[frozenset[str], str | None] = {
    frozenset(CLASSES["AutoEncoder"].values()): "AutoEncoder",
    frozenset(CLASSES["GatedAutoEncoder"].values()): "GatedAutoEncoder",
    frozenset({*DIRECT.values(), "k", "threshold", "group_sizes"}): "MatryoshkaBatchTopKSAE",
    RANKED | STATISTICS: "BatchTopKSAE",
    RANKED: None,
}
"""All tensors of a file → the class that has these and no others; None: of two classes."""


ONLY = {
    "gate_bias": "GatedAutoEncoder",
    "group_sizes": "MatryoshkaBatchTopKSAE",
    "bias": "AutoEncoder",
    "target_rms": "BatchTopKSAE",
}
"""Tensor → the one class that has it."""


@dataclass(frozen=True)
class _Saved:
    """A file with what is said about it.

    Attributes:
        source: where it lies.
        file: its tensors.
        prefix: of their names.
        trainer: settings of the training run; empty where nothing says them.
        buffer: settings of the activations.
    """

    source: Source
    file: TensorFile
    prefix: str
    trainer: Mapping[str, Any]
    buffer: Mapping[str, Any]

    @property
    def names(self) -> frozenset[str]:
        """The tensors of the dictionary, without the prefix."""
        own = (key for key in self.file.entries if key.startswith(self.prefix))
        return frozenset(key.removeprefix(self.prefix) for key in own)

    def number(self, name: str) -> float | None:
        """Return the only number of a tensor, or None when there is none."""
        key = self.prefix + name
        if key not in self.file.entries:
            return None
        if math.prod(self.file.entries[key].shape) != 1:
            raise WeightsError(self.file.path, f"shape {self.file.entries[key].shape}, expected one number", key)
        return float(whole(self.file, key).reshape(()))


def _saved(source: Source, file: TensorFile) -> _Saved:
    prefix = BACKUP if f"{BACKUP}encoder.weight" in file.entries or f"{BACKUP}W_enc" in file.entries else ""
    config = source.document(CONFIG_FILE) or {}
    trainer, buffer = config.get("trainer"), config.get("buffer")
    if not isinstance(trainer, dict):
        # a backup repeats the settings; the fork's uploads have the class's arguments at the top of config.json
        inside = {key.removeprefix("config/"): v for key, v in file.facts.items() if key.startswith("config/")}
        trainer = inside or (config if {"activation_dim", "dict_size"} <= config.keys() else {})
    return _Saved(source, file, prefix, trainer, buffer if isinstance(buffer, dict) else {})


def detect(source: Source) -> str | None:
    """A dict_class of this library in config.json, or tensors that only its classes have."""
    if source.weights is None or any(len(entry.shape) > 2 for entry in source.weights.entries.values()):
        return None  # three axes are a fork's crosscoders
    saved = _saved(source, source.weights)
    said = saved.trainer.get("dict_class")
    if said == "IdentityDict" or (isinstance(said, str) and said in CLASSES):
        return f"config.json says dict_class {said!r}"
    if said is not None:
        return None
    if saved.names in TOLD_BY_TENSORS:
        return f"the tensors are those of {TOLD_BY_TENSORS[saved.names] or 'AutoEncoderTopK and BatchTopKSAE'}"
    fits = any(frozenset(tensors.values()) <= saved.names for tensors in CLASSES.values())
    if fits and saved.trainer:
        return "the settings have activation_dim and dict_size, and the tensors fit"
    return "the tensors lie under `ae`, as in a backup from the middle of training" if fits and saved.prefix else None


def read(source: Source, given: Given) -> Reading:
    """Read a saved dictionary. Units are those of raw inputs; a backup's are scaled to them.

    Raises:
        FormatError: when the class, a threshold or a scale is not said, or when config.json and tensors contradict.
        WeightsError: when a tensor is missing or of another shape.
    """
    saved = _saved(source, source.only())
    name = _class_of(saved, given)
    factor = _norm_factor(saved, given)
    plan = {canonical: _recipe(saved, key, canonical, factor) for canonical, key in CLASSES[name].items()}
    for key in CLASSES[name].values():
        if saved.prefix + key not in saved.file.entries:
            listed = ", ".join(sorted(saved.names)[:12]) or "no tensors"
            raise WeightsError(saved.file.path, f"missing; {name} has it, the file holds {listed}", saved.prefix + key)
    normalization, plan = with_statistics(saved.file, saved.prefix, plan, centred=name not in NOT_CENTRED)
    if normalization.kind != "none" and factor not in (None, 1.0):
        raise FormatError(saved.source.path, "has stored statistics as well as a norm_factor; no library saves both")
    activation = _activation(saved, name, given)
    if activation == "batchtopk":
        plan["threshold"] = _recipe(saved, "threshold", "threshold", factor)
    _check_widths(saved, name)
    k = _k(saved, name, activation, given)
    reading = dictionary(
        {"": saved.file},
        plan,
        kind="transcoder" if saved.buffer.get("io") == "in_and_out" else "sae",
        semantics=Semantics(
            pre_encoder_subtraction="none" if name in NOT_CENTRED else "b_dec",
            activation=activation,
            gate_quantity="gate_pre_activation" if activation == "gated" else "pre_activation",
            threshold={"jumprelu": "per_latent", "batchtopk": "scalar"}.get(activation, "none"),  # type: ignore[arg-type]
            threshold_units="gate_quantity" if activation in ("jumprelu", "batchtopk") else "none",
            k=k,
            normalization=normalization,
        ),
        metadata=_metadata(saved, name, factor),
        assumptions=(*given.assumptions, *_assumed(saved, name)),
    )
    return with_left_out(reading, _known(saved))


def _class_of(saved: _Saved, given: Given) -> str:
    said = saved.trainer.get("dict_class")
    if said == "IdentityDict":
        raise FormatError(saved.source.path, "dict_class 'IdentityDict' is the identity: it has no latents to convert")
    if said is not None and said not in tuple(CLASSES):
        raise FormatError(saved.source.path, f"dict_class {said!r} is none of this layout", CLASSES)
    if said is not None:
        return str(said)
    told = TOLD_BY_TENSORS.get(saved.names)
    if told is not None:
        return told
    chosen = given.text("dict_class", CLASSES)
    if chosen is None:
        fitting = [name for name, tensors in CLASSES.items() if frozenset(tensors.values()) <= saved.names]
        why = f"config.json does not say dict_class, and the tensors are those of {' and of '.join(fitting) or 'none'}"
        raise missing(saved.source.path, "dict_class", why, fitting[-1] if fitting else "AutoEncoder")
    return chosen


def _norm_factor(saved: _Saved, given: Given) -> float | None:
    """Return what training divided the inputs by, where the tensors are still in those units."""
    said = given.number("norm_factor")
    if not saved.prefix:
        return said  # everything but a backup is saved in units of raw inputs
    stored = saved.file.facts.get("norm_factor")
    if isinstance(stored, bool) or not isinstance(stored, int | float) or stored <= 0:
        if said is None:
            why = (
                "is a backup from the middle of training: its biases are in units of inputs that were divided by a "
                f"norm_factor, which it does not say (found {stored!r}); 1 where they were not divided"
            )
            raise missing(saved.source.path, "norm_factor", why, "12.5")
        return said
    if said is not None and said != stored:
        raise FormatError(saved.source.path, f"norm_factor={said:g} was given, but the file says {stored!r}")
    return float(stored)


def _recipe(saved: _Saved, key: str, canonical: str, factor: float | None) -> SourceTensor:
    name, steps = saved.prefix + key, tuple[Step, ...]()
    if factor not in (None, 1.0):
        # products of half-precision numbers need more digits, and all tensors of a dictionary have one type
        entry = saved.file.entries.get(name)
        steps = (cast_to("float32"),) if entry is not None and entry.dtype in ("bfloat16", "float16") else ()
        steps += () if canonical in NOT_SCALED else (scaled(float(factor or 1.0)),)
    return transposed(name, *steps) if key.endswith(".weight") else moved(name, *steps)


def _activation(saved: _Saved, name: str, given: Given) -> Activation:
    if ACTIVATIONS[name] != "batchtopk":
        return ACTIVATIONS[name]
    threshold = saved.number("threshold")
    if threshold is not None and not math.isfinite(threshold):
        raise WeightsError(saved.file.path, f"is {threshold}, expected a finite number", f"{saved.prefix}threshold")
    if threshold is not None and threshold >= 0:
        return "batchtopk"
    chosen = given.text("unset_threshold", ("relu", "topk"))
    if chosen is None:
        state = "has no threshold" if threshold is None else f"has threshold {threshold:g}, which means never set"
        why = f"{state}; relu: as the library then runs it, every positive latent passes; topk: k of each row"
        raise missing(saved.source.path, "unset_threshold", why, "relu")
    return "relu" if chosen == "relu" else "topk"


def _check_widths(saved: _Saved, name: str) -> None:
    key = saved.prefix + CLASSES[name]["W_enc"]
    shape = saved.file.entries[key].shape
    found = shape[::-1] if key.endswith(".weight") else shape
    for position, setting in enumerate(("activation_dim", "dict_size")):
        said = saved.trainer.get(setting)
        if said is not None and len(found) == 2 and said != found[position]:
            problem = f"config.json says {setting} = {said!r}, but {key} is {shape}; correct config.json"
            raise FormatError(saved.source.path, problem)


def _k(saved: _Saved, name: str, activation: Activation, given: Given) -> float | None:
    if ACTIVATIONS[name] not in ("topk", "batchtopk"):
        return None
    said, stored = saved.trainer.get("k"), saved.number("k")
    if said is not None and stored is not None and said != stored:
        problem = f"config.json says k = {said!r}, but the tensor k is {stored:g}; correct the one that is wrong"
        raise FormatError(saved.source.path, problem)
    k = said if stored is None else stored
    if k is None and activation == "topk":
        k = given.whole("k")
        if k is None:
            raise missing(saved.source.path, "k", "neither config.json nor the weights say k", "32")
    if k is None:
        return None
    if isinstance(k, bool) or not isinstance(k, int | float) or not math.isfinite(k) or k != int(k) or k < 1:
        raise FormatError(saved.source.path, f"k is {k!r}; expected a positive whole number")
    return float(k)


def _assumed(saved: _Saved, name: str) -> list[Assumption]:
    unknown = unknown_settings(saved.source.document(CONFIG_FILE) or {}, saved.trainer, saved.buffer)
    if name != "JumpReluAutoEncoder":
        return unknown
    because = "the library sets it to false whenever it loads this class; no file stores it"
    return [Assumption(field="apply_b_dec_to_input", value="False", because=because), *unknown]


def _metadata(saved: _Saved, name: str, factor: float | None) -> dict[str, object]:
    """Return what the settings say; where a site is named only by a label of the run, it stays a label."""
    facts: dict[str, object] = {"dictionary_learning_dict_class": name}
    for key, settings in (("submodule_name", saved.trainer), ("layer", saved.trainer), ("io", saved.buffer)):
        facts[f"dictionary_learning_{key}"] = settings.get(key)
    facts["model_name"], facts["context_size"] = saved.trainer.get("lm_name"), saved.buffer.get("ctx_len")
    facts["dictionary_learning_trainer_class"] = saved.trainer.get("trainer_class")
    if "group_sizes" in saved.names:
        facts["dictionary_learning_group_sizes"] = _groups(saved)
    if factor is not None:
        facts["dictionary_learning_norm_factor"] = factor
    return facts


def _groups(saved: _Saved) -> list[int]:
    """Return the sizes of a Matryoshka's groups, which shape its training alone."""
    key, width = f"{saved.prefix}group_sizes", f"{saved.prefix}W_enc"
    shape, d_sae = saved.file.entries[key].shape, saved.file.entries[width].shape[-1]
    sizes = whole(saved.file, key).tolist() if len(shape) == 1 and shape[0] <= d_sae else []
    if sum(sizes) != d_sae:
        raise WeightsError(saved.file.path, f"its sizes do not add up to the {d_sae} latents", key)
    return list(sizes)


def _known(saved: _Saved) -> tuple[str, ...]:
    own = ("k", "threshold", "group_sizes", *STATISTICS)
    return ("optimizer/", "config/", *(saved.prefix + name for name in own))


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The class's own forward on x / norm_factor, and its output times that; the fork's statistics around it."""
    from saereg.registry.readings import reference as do

    file, given = raw.files[""], told(reading)
    prefix = BACKUP if any(key.startswith(BACKUP) for key in file.entries) else ""
    name = given.text("dict_class") or _said(raw, "dict_class")
    name = str(name or next(owner for tensor, owner in ONLY.items() if prefix + tensor in file.entries))
    # all but a backup is in units of raw inputs
    factor = given.number("norm_factor") or float((file.facts.get("norm_factor") if prefix else None) or 1.0)  # type: ignore[arg-type]
    mean, scale, epsilon = x.new_zeros(()), x.new_ones(()), 0.0
    statistics = [prefix + key for key in ("activation_mean", "activation_std") if prefix + key in file.entries]
    if statistics and not any(raw.vector(key).isnan().any() for key in statistics):
        mean, scale = raw.vector(f"{prefix}activation_mean"), raw.vector(f"{prefix}activation_global_scale")
        epsilon = EPSILON
    z = (x / factor - mean) * scale
    b_dec = raw.vector(prefix + CLASSES[name]["b_dec"])
    centred = z if name in NOT_CENTRED else z - b_dec
    if "W_enc" in CLASSES[name].values():
        product = raw.times(centred, f"{prefix}W_enc")
    else:
        product = raw.times_transposed(centred, f"{prefix}encoder.weight")
    f, margin = _decided(raw, name, prefix, product, given)
    if "W_dec" in CLASSES[name].values():
        x_hat = raw.times(f, f"{prefix}W_dec") + b_dec
    else:
        x_hat = raw.times_transposed(f, f"{prefix}decoder.weight") + b_dec
    return do.Codes(f * factor, (x_hat / (scale + epsilon) + mean) * factor, margin)


def _said(raw: "Raw", setting: str) -> Any:  # noqa: ANN401
    """Return a setting of training: of config.json, where the fork has them at its top, or of a backup."""
    config, facts = raw.document(CONFIG_FILE), raw.files[""].facts
    trainer = config.get("trainer")
    if isinstance(trainer, dict):
        return trainer.get(setting)
    return facts.get(f"config/{setting}", config.get(setting))


def _decided(raw: "Raw", name: str, prefix: str, product: "Tensor", given: Given) -> "Decided":
    from saereg.registry.readings import reference as do

    entries = raw.files[""].entries
    if name == "GatedAutoEncoder":
        magnitude = raw.vector(f"{prefix}r_mag").exp() * product + raw.vector(f"{prefix}mag_bias")
        return do.gated(product + raw.vector(f"{prefix}gate_bias"), magnitude)
    pre = product + raw.vector(prefix + CLASSES[name]["b_enc"])
    if name == "AutoEncoderTopK" or given.text("unset_threshold") == "topk":
        k = raw.vector(f"{prefix}k") if f"{prefix}k" in entries else given.whole("k") or _said(raw, "k")
        return do.topk(pre, int(k))
    if name in ("AutoEncoder", "AutoEncoderNew") or f"{prefix}threshold" not in entries:
        return do.relu(pre)
    # one that was never set is −1, and lets every positive latent pass
    return do.threshold(pre, raw.vector(f"{prefix}threshold"))


ABOUT = About(
    title="dictionary_learning",
    used_by="`saprmarks/pythia-70m-deduped-saes`, `canrager/*`, `adamkarvonen/saebench_*`, `andyrdt/saes-*`, SAEBench",
    files="`…/trainer_<i>/ae.pt` (or `checkpoints/ae_<step>.pt`) and `config.json` with `trainer.dict_class`. "
    "AutoEncoder: `encoder.weight` (F, D), `encoder.bias`, `decoder.weight` (D, F), `bias`; AutoEncoderNew: "
    "`decoder.bias` for `bias`; AutoEncoderTopK and BatchTopKSAE: `b_dec` for `bias`, `k`, `threshold`; "
    "MatryoshkaBatchTopKSAE: `W_enc` (D, F), `b_enc`, `W_dec` (F, D), `b_dec`, `k`, `threshold`, `group_sizes`; "
    "GatedAutoEncoder: `decoder_bias`, `r_mag`, `gate_bias`, `mag_bias`; JumpReluAutoEncoder: `W_enc`, `b_enc`, "
    "`W_dec`, `b_dec`, `threshold` (F,). A backup from the middle of training has them under `ae`.",
    silent="the class, without config.json (tensors tell it of AutoEncoder, Gated and Matryoshka alone); the site, but "
    "for labels; what to do where a threshold was never set (−1): `--set unset_threshold=relu` or `topk`.",
    assumed="JumpReluAutoEncoder does not subtract `b_dec`. AutoEncoderTopK takes k of each row and leaves its "
    "threshold out. Biases are in units of raw inputs, except in a backup, where they are multiplied by its "
    "`norm_factor`. The unit norms that the library makes when it loads an AutoEncoder change no output and are not "
    "made. The fork of science-of-finetuning returns the latents of Gated and JumpReLU times ‖W_dec‖; latents here are "
    "those of the main library.",
    saelens="reads six classes, AutoEncoderNew not; lets a threshold of −1 pass as one; calls every site "
    "`hook_resid_post`; needs `buffer` in config.json.",
    source="dictionary_learning 0.1.0, dictionary.py and trainers",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference, layout=layout)
