"""Crosscoders of the science-of-finetuning fork of dictionary_learning: ReLU and BatchTopK, five code norms.

Source: science-of-finetuning/dictionary_learning 173f7fa, `dictionary.py` (`NormalizableMixin`, `CrossCoder`,
`BatchTopKCrossCoder`) and `trainers/crosscoder.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError
from saereg.registry.files.tensors import TensorFile, whole
from saereg.registry.formats.crosscoder_sources import named_sources
from saereg.registry.formats.sof_settings import arguments_of, bare, trained
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing
from saereg.registry.readings.reading import Reading, several, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.cfg_crosscoder import ActivationInput, CrosscoderConfig, InputStatistics
from saereg.schemas.recipe import SWAP_AXES, SourceTensor, Step, cast_to, constant, moved, plus, scaled, times_by
from saereg.schemas.semantics import Assumption

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, CONFIG_FILE = "sof_crosscoder", "config.json"

COMPILED = "_orig_mod."
"""Before every name, where a compiled module was saved."""

MATRICES = ("encoder.weight", "decoder.weight")
BUFFERS = ("activation_mean", "activation_std", "activation_global_scale", "target_rms")
CODE_NORMS = {
    "CROSSCODER": "sum_of_norms",
    "SAE": "joint_norm",
    "MIXED": "mixed",
    "NONE": "none",
    "DECOUPLED": "per_source_norm",
}
"""Name of a code normalization, in the order of its numbers from 1 → ours."""

ALPHAS = {"code_normalization_alpha_sae": 1.0, "code_normalization_alpha_cc": 0.1}
"""Weights of MIXED, which no tensor holds, with the defaults of the class."""

EPSILON = 1e-8
"""What the class adds to a standard deviation, and on the way back to a scale, before it divides by it."""

ROUNDING = 1e-7
"""A relative difference that is lost in float32."""

HARMLESS = frozenset(
    {"activation_dim", "dict_size", "num_layers", "same_init_for_all_layers", "norm_init_scale", "init_with_transpose"}
    | {"code_normalization", "activation_mean", "activation_std", "target_rms", "k", "keep_relative_variance"}
    | {"encoder_layers", "num_decoder_layers", "latent_processor", *ALPHAS}
)
"""Keys of the class's configuration: of initialization, or looked at here."""


@dataclass(frozen=True)
class _Saved:
    """What was saved.

    Attributes:
        source: where.
        file: the weights.
        prefix: before the names of the weights.
        config: arguments of the class, where they were saved beside them, or settings of training.
        said: what either says, the settings of training included.
    """

    source: Source
    file: TensorFile
    prefix: str
    config: Mapping[str, Any]
    said: Mapping[str, Any]

    def has(self, name: str) -> bool:
        return self.prefix + name in self.file.entries

    def shape(self, name: str) -> tuple[int, ...]:
        return self.file.entries[self.prefix + name].shape if self.has(name) else ()

    def numbers(self, name: str) -> "Tensor":
        return whole(self.file, self.prefix + name).double()

    def is_half(self, name: str) -> bool:
        return self.file.entries[self.prefix + name].dtype in ("bfloat16", "float16")

    def number(self, name: str) -> float:
        if self.shape(name) != ():
            raise FormatError(self.source.path, f"{name} has shape {self.shape(name)}; expected one number")
        return float(self.numbers(name))


def detect(source: Source) -> str | None:
    """`encoder.weight` (K, D, F), `decoder.weight` (K, F, D), biases (F,) and (K, D), compiled or not."""
    saved = _saved(source)
    if saved is None or len(saved.shape("encoder.weight")) != 3:
        return None
    count, d_in, d_sae = saved.shape("encoder.weight")
    wanted = {"decoder.weight": (count, d_sae, d_in), "encoder.bias": (d_sae,), "decoder.bias": (count, d_in)}
    if any(saved.shape(name) != shape for name, shape in wanted.items()):
        return None
    return "`encoder.weight` is (K, D, F) and `decoder.weight` (K, F, D), with a bias (F,) and one (K, D)"


def _saved(source: Source) -> _Saved | None:
    if source.weights is None:
        return None
    prefix = COMPILED if f"{COMPILED}encoder.weight" in source.keys else ""
    config = source.document(CONFIG_FILE) or {}
    return _Saved(source, source.weights, prefix, config, {**trained(config), **config})


def read(source: Source, given: Given) -> Reading:
    """Read a crosscoder of the fork. NaN in its input statistics means that it has none.

    Raises:
        FormatError: when files contradict each other, or a threshold was never set.
        WeightsError: when a tensor is missing or of another shape.
    """
    file = source.only()
    saved = _saved(source) or _Saved(source, file, "", {}, {})
    if len(saved.shape("encoder.weight")) != 3:
        raise FormatError(source.path, "has no `encoder.weight` of shape (K, D, F)")
    count, d_in, d_sae = saved.shape("encoder.weight")
    assumed = _check_config(saved, count)
    norm, notes = _code_norm(saved)
    fields, more = _decision(saved, norm, given)
    statistics, plan = _statistics(saved)
    sources, named = named_sources(given, count, "model")
    per_source = fields.get("gate") == "per_source"
    normalizes = statistics.preprocess != "none"
    twice = norm == "DECOUPLED" and saved.has("threshold") and normalizes
    plan |= _weights(saved, scaled_rows=normalizes and statistics.scale_per != "element", twice=twice)
    if fields["architecture"] == "batchtopk":
        plan["threshold"] = moved(f"{saved.prefix}threshold")
    if not saved.has("activation_mean"):
        because = "absent, as in files from before the layout had it"
        notes.append(Assumption(field="activation_mean", value="none", because=because))
    trainer = saved.config.get("trainer")
    facts = trainer if isinstance(trainer, dict) else {}
    reading = several(
        CrosscoderConfig,
        {"": file},
        plan,
        fields
        | {
            "kind": "crosscoder",
            "sources": sources,
            "input": ActivationInput(kind="activations"),
            "n_sources": count,
            "d_in": d_in,
            "d_sae": d_sae,
            "bias_reduction": "shared",
            "gate": "per_source" if per_source else "shared",
            "statistics": statistics,
        },
        metadata={"model_name": facts.get("lm_name")},
        assumptions=[*given.assumptions, *assumed, *notes, *more, *named],
    )
    known = (*BUFFERS, "code_normalization_id", "k", "threshold")
    return with_left_out(reading, [saved.prefix + name for name in known])


def _check_config(saved: _Saved, count: int) -> list[Assumption]:
    """Refuse arguments that change the function in ways that no tensor shows; note unknown ones."""
    arguments = arguments_of(saved.config)
    if "activation_dim" in saved.config:  # the class's own
        arguments |= saved.config
    path, layers, decoders = saved.source.path, arguments.get("encoder_layers"), arguments.get("num_decoder_layers")
    wrong = {
        f"encoder_layers is {layers!r}, a choice among the sources": layers not in (None, list(range(count))),
        f"num_decoder_layers is {decoders!r}, not the number of sources": decoders not in (None, count),
        f"latent_processor is {arguments.get('latent_processor')!r}": arguments.get("latent_processor") is not None,
    }
    for why, is_wrong in wrong.items():
        if is_wrong:
            raise FormatError(path, f"config.json says that {why}; such crosscoders are not read")
    because = "a key of config.json that is not known; taken to change nothing"
    return [
        Assumption(field=key, value=str(arguments[key])[:80], because=because)
        for key in sorted(set(arguments) - HARMLESS)
    ]


def _code_norm(saved: _Saved) -> tuple[str, list[Assumption]]:
    """Return the name of the code normalization: by its number in a tensor, and by name in config.json."""
    names, said = list(CODE_NORMS), saved.said.get("code_normalization")
    found = None if said is None else bare(said)
    if found is not None and found not in names:
        raise FormatError(saved.source.path, f"code_normalization is {said!r}; expected one of {', '.join(names)}")
    if saved.has("code_normalization_id"):
        said_by_tensor = saved.number("code_normalization_id")
        number = int(said_by_tensor) if said_by_tensor in range(1, len(names) + 1) else 0
        if not number:
            problem = f"code_normalization_id is {said_by_tensor:g}; expected 1 to {len(names)}"
            raise FormatError(saved.source.path, problem)
        if found is not None and names[number - 1] != found:
            problem = f"config.json says code_normalization {found}, but the tensor says {names[number - 1]}"
            raise FormatError(saved.source.path, f"{problem}; correct config.json")
        return names[number - 1], []
    if found is not None and "code_normalization" in saved.config:
        return found, []
    if found is not None:
        because = "settings of training; the fork's own loader of local files takes CROSSCODER where no tensor says it"
        return found, [Assumption(field="code_normalization", value=found, because=because)]
    because = "`code_normalization_id` is absent, as in old files; the rule of the fork's own loader"
    return "CROSSCODER", [Assumption(field="code_normalization", value="CROSSCODER", because=because)]


def _decision(saved: _Saved, norm: str, given: Given) -> tuple[dict[str, Any], list[Assumption]]:
    """Return architecture, gate, code norm and k. A ReLU crosscoder has no use for a code norm when it encodes."""
    if not saved.has("threshold"):
        return {"architecture": "standard"}, []
    k = saved.number("k") if saved.has("k") else None
    cut = saved.numbers("threshold")
    if bool((cut < 0).any()):
        if given.text("unset_threshold", ("relu",)) is None:
            why = f"threshold is {float(cut.min()):g}, which says that none was ever set, so that nothing is cut off"
            raise missing(saved.source.path, "unset_threshold", why, "relu")
        if bool((cut < 0).all()):
            return {"architecture": "standard"}, []
    if saved.shape("threshold") != ((saved.shape("encoder.weight")[0],) if norm == "DECOUPLED" else ()):
        problem = f"threshold has shape {saved.shape('threshold')}, which does not fit code normalization {norm}"
        raise FormatError(saved.source.path, problem)
    fields: dict[str, Any] = {"architecture": "batchtopk", "code_norm": CODE_NORMS[norm], "k": k}
    if norm == "DECOUPLED":
        fields["gate"] = "per_source"
    if norm != "MIXED":
        return fields, []
    weights, notes = _alphas(saved)
    return fields | {"code_norm_weights": weights}, notes


def _alphas(saved: _Saved) -> tuple[tuple[float, ...], list[Assumption]]:
    weights, notes = [], []
    for key, default in ALPHAS.items():
        value = saved.said.get(key, default)
        if type(value) not in (int, float):
            raise FormatError(saved.source.path, f"config.json says {key} = {value!r}; expected a number")
        weights.append(float(value))
        if key not in saved.said:
            because = "in no tensor, and not in config.json; the default of the class, as in the fork's own loader"
            notes.append(Assumption(field=key, value=str(default), because=because))
        elif key not in saved.config and value != default:
            because = f"settings of training; the fork's own loader of local files takes {default} regardless"
            notes.append(Assumption(field=key, value=str(value), because=because))
    return tuple(weights), notes


def _statistics(saved: _Saved) -> tuple[InputStatistics, dict[str, SourceTensor]]:
    """Return how rows are normalized: by one factor per source or element; or not, where numbers are NaN."""
    there = [name for name in BUFFERS if saved.has(name)]
    if there and len(there) != len(BUFFERS):
        lacking = ", ".join(name for name in BUFFERS if name not in there)
        raise FormatError(saved.source.path, f"holds {', '.join(there)} but not {lacking}: input statistics are whole")
    if not there or any(bool(saved.numbers(name).isnan().any()) for name in ("activation_mean", "activation_std")):
        return InputStatistics(preprocess="none"), {}
    mean, prefix = moved(f"{saved.prefix}activation_mean"), saved.prefix
    if saved.said.get("keep_relative_variance", True):
        scale = moved(f"{prefix}activation_global_scale")
        if _ratios(saved):
            factors = tuple(float(factor) + EPSILON for factor in saved.numbers("activation_global_scale"))
            scale = constant(factors, cast_to("float32"))
        return InputStatistics(preprocess="center_scale"), {"input_mean": mean, "input_scale": scale}
    half, inverse = saved.is_half("activation_std"), Step(do="reciprocal", by=EPSILON)
    scale = moved(f"{prefix}activation_std", *((cast_to("float32"),) if half else ()), inverse)
    per_element = InputStatistics(preprocess="center_scale", scale_per="element")
    return per_element, {"input_mean": mean, "input_scale": scale}


def _ratios(saved: _Saved) -> tuple[float, ...]:
    """Return scale / (scale + ε) of each source where one is not 1: the way back divides by scale + ε, not by scale.

    There `input_scale` is scale + ε, and the encoder is multiplied by the ratio. The decoder stays as it is, because
    its norms decide what a BatchTopK crosscoder keeps.
    """
    scale = saved.numbers("activation_global_scale")
    if scale.shape != saved.shape("encoder.weight")[:1]:
        return ()  # an error elsewhere
    if not bool(scale.isfinite().all()) or bool((scale < 0).any()):
        raise FormatError(saved.source.path, f"activation_global_scale is {scale.tolist()}; expected positive numbers")
    ratios = scale / (scale + EPSILON)
    return tuple(ratios.tolist()) if bool(((ratios - 1).abs() > ROUNDING).any()) else ()


def _weights(saved: _Saved, *, scaled_rows: bool, twice: bool) -> dict[str, SourceTensor]:
    """Return the recipes of weights and biases.

    BatchTopK with DECOUPLED code norm normalizes its rows a second time, in training too; the second time is
    folded into the encoder: (x − mean)·scale·W + b = x·(scale·W) + b − (mean·scale)·W.
    """
    prefix = saved.prefix
    ratios = _ratios(saved) if scaled_rows else ()
    wide = (cast_to("float32"),) if saved.is_half("encoder.weight") and (ratios or twice) else ()
    back = (times_by(constant(ratios, cast_to("float32")), axis=0),) if ratios else ()
    plan = {
        "W_enc": moved(f"{prefix}encoder.weight", *wide, *back),
        "b_enc": moved(f"{prefix}encoder.bias", *wide),
        "W_dec": moved(f"{prefix}decoder.weight", SWAP_AXES, *wide),
        "b_dec": moved(f"{prefix}decoder.bias", *wide),
    }
    if not twice:
        return plan
    if not scaled_rows:
        raise FormatError(saved.source.path, "DECOUPLED with statistics of every element is not read")
    side_by_side = Step(do="merge_first_axes")
    stretched = moved(f"{prefix}encoder.weight", *wide, times_by(moved(f"{prefix}activation_global_scale"), axis=0))
    centre = moved(f"{prefix}activation_mean", side_by_side)
    steps = (*stretched.steps, side_by_side, times_by(centre, axis=0), Step(do="sum_first_axis"), scaled(-1.0))
    shift = moved(f"{prefix}encoder.weight", *steps)
    stretched = stretched.model_copy(update={"steps": (*stretched.steps, *back)})
    return plan | {"W_enc": stretched, "b_enc": moved(f"{prefix}encoder.bias", *wide, plus(shift))}


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The fork's own forward: normalize, sum over sources, ReLU, cut by pre times code norm, decode, map back."""
    import torch

    from saereg.registry.readings import reference as do

    del reading  # the files say everything
    prefix = COMPILED if f"{COMPILED}encoder.weight" in raw.files[""].entries else ""
    heads, x_in = range(x.shape[1]), x
    back: Any = (1.0, 0.0)
    document, there = raw.document(CONFIG_FILE), raw.files[""].entries
    config = {**trained(document), **document}
    norm = _norm_name(raw, config, prefix)
    statistics = [prefix + name for name in BUFFERS[:2] if prefix + name in there]
    if statistics and not any(raw.vector(name).isnan().any() for name in statistics):
        mean, std = (raw.vector(name) for name in statistics)
        per_source = config.get("keep_relative_variance", True)
        factor = raw.vector(f"{prefix}activation_global_scale")[:, None] if per_source else 1 / (std + EPSILON)
        x_in, back = (x - mean) * factor, (1 / (factor + EPSILON) if per_source else std + EPSILON, mean)
        x_in = (x_in - mean) * factor if norm == "DECOUPLED" and f"{prefix}threshold" in there else x_in
    pre = sum(raw.times(x_in[:, k], f"{prefix}encoder.weight", at={0: k}) for k in heads)
    pre = pre + raw.vector(f"{prefix}encoder.bias")
    f, margin = do.relu(pre)
    cut = raw.vector(f"{prefix}threshold") if f"{prefix}threshold" in there else pre.new_tensor(-1.0)
    if bool((cut >= 0).any()):  # one that was never set is −1, and cuts nothing off
        norms = torch.stack([raw.row_norms(f"{prefix}decoder.weight", at={0: k}) for k in heads])
        wide = pre[:, None].expand(-1, len(heads), -1) if cut.ndim else pre
        f, margin = do.threshold(wide, cut[:, None] if cut.ndim else cut, wide * _norm(norm, config, norms))
    spread = f if f.ndim == 3 else f[:, None].expand(-1, len(heads), -1)
    x_hat = torch.stack([raw.times(spread[:, k], f"{prefix}decoder.weight", at={0: k}) for k in heads], dim=1)
    return do.Codes(f, (x_hat + raw.vector(f"{prefix}decoder.bias")) * back[0] + back[1], margin)


def _norm_name(raw: "Raw", config: Mapping[str, Any], prefix: str) -> str:
    """Return the name of the code normalization, as in the fork's own enumeration."""
    key = f"{prefix}code_normalization_id"
    if key in raw.files[""].entries:
        return ("CROSSCODER", "SAE", "MIXED", "NONE", "DECOUPLED")[int(raw.vector(key)) - 1]
    return bare(config.get("code_normalization") or "CROSSCODER")


def _norm(name: str, config: Mapping[str, Any], norms: "Tensor") -> "Tensor":
    """Return the code norm from the norms of every source (K, F)."""
    joint, total = norms.square().sum(dim=0).sqrt(), norms.sum(dim=0)
    of_joint, of_total = (config.get(key, default) for key, default in ALPHAS.items())
    table = {"CROSSCODER": total, "SAE": joint, "MIXED": of_joint * joint + of_total * total, "DECOUPLED": norms}
    return table[name] if name in table else norms.new_ones(())


ABOUT = About(
    title="crosscoders of science-of-finetuning",
    used_by="`Butanium/*`, `science-of-finetuning/*`",
    files="`model.safetensors` with `config.json` (arguments of the class), or `model_final.pt`: `encoder.weight` "
    "(K, D, F), `encoder.bias` (F,), `decoder.weight` (K, F, D), `decoder.bias` (K, D); `code_normalization_id`, "
    "`activation_mean`, `activation_std` (K, D), `activation_global_scale` (K,), `target_rms`; BatchTopK also `k` and "
    "`threshold`, () or (K,). Names may begin with `_orig_mod.`.",
    silent="what the sources are; the weights of MIXED, where there is no `config.json`; what to do with a threshold "
    "that was never set (−1), `--set unset_threshold=relu`.",
    assumed="where `config.json` says neither, in the settings of training either: code normalization CROSSCODER if "
    "`code_normalization_id` is absent, and weights 1 and 0.1 of MIXED; the fork's own loader of local files takes "
    "these weights whatever the settings say. NaN in the input statistics means none. A DECOUPLED BatchTopK normalizes "
    "its rows twice, in training too; so does the reading.",
    saelens="has no crosscoder; those with one code are written as SAEs of width K·D.",
    source="science-of-finetuning/dictionary_learning 173f7fa",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
