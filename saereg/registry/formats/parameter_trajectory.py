"""Crosscoders of a parameter over training: a row of W_U or W_E at every snapshot, with a gate per snapshot.

Source: hematteo/learning-to-read-out 8e49b96 (`crosscoder/inference.py`, `checkpoints.py`, `wu_adapter.py`,
`crosscoder_arch_sweep.py`, the script that recomputes the released figures); llamascopium 2.0, `models/crosscoder.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError
from saereg.registry.files.tensors import TensorFile
from saereg.registry.formats.parameter_facts import (
    STATISTICS,
    WRAPPED,
    Facts,
    facts_of,
    metadata_of,
    parameter_of,
    statistics_of,
    steps_of,
)
from saereg.registry.readings.format import About, Format, Layout, refuse
from saereg.registry.readings.given import Given, missing
from saereg.registry.readings.reading import Reading, dictionary, several, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_crosscoder import CrosscoderConfig, InputStatistics, ParameterInput
from saereg.schemas.manifest import Sources
from saereg.schemas.recipe import (
    EXP,
    LOG,
    SWAP_AXES,
    SourceTensor,
    Step,
    cast_to,
    moved,
    plus,
    times_by,
)
from saereg.schemas.semantics import Assumption, Normalization, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, WEIGHTS_FILE = "parameter_trajectory", "crosscoder.safetensors"

TENSORS = ("W_E", "b_E", "W_D", "b_D")
THRESHOLD = "activation_function.log_jumprelu_threshold"
GATED = tuple(f"activation_function.{name}" for name in ("b_gate", "r_mag", "b_mag"))

TRAINING_STATE = ("optimizer/", "preprocess_stats/", "quality/", "gen_state", "last_fired_step")
"""What the originals hold beside the weights."""


def detect(source: Source) -> str | None:
    """`W_E`, `b_E`, `W_D`, `b_D`, and the steps of the snapshots: in `<name>.config.json`, or in an original itself."""
    prefix = WRAPPED if f"{WRAPPED}W_E" in source.keys else ""
    if not {prefix + name for name in TENSORS} <= source.keys:
        return None
    facts = facts_of(source)
    if not isinstance(facts.outer.get("steps"), list):
        return None
    where = "the file" if prefix else f"{source.stem}.config.json"
    return f"the tensors are W_E, b_E, W_D, b_D, and {where} names the steps of the snapshots"


def read(source: Source, given: Given) -> Reading:
    """Read one crosscoder, or one SAE of a single snapshot. The input is a parameter: no hook and no tokens are needed.

    Raises:
        FormatError: when something that decides the function is not in the files, or contradicts the tensors.
        WeightsError: when a tensor is missing or of another shape.
    """
    file, facts = source.only(), facts_of(source)
    rank, prefix = len(source.shape(f"{facts.prefix}W_E")), facts.prefix
    if rank not in (2, 3):
        raise FormatError(source.path, f"W_E has shape {source.shape(f'{prefix}W_E')}; expected (K, D, F) or (D, F)")
    files: dict[str, TensorFile] = {"": file}
    rules = _activation(source, facts, given)
    half = file.entries[f"{prefix}b_E"].dtype in ("bfloat16", "float16") if f"{prefix}b_E" in source.keys else False
    wide = (cast_to("float32"),) if half else ()
    plan = _weights(prefix, rank) | _gates(prefix, rank, rules["architecture"], wide)
    mode, statistics = statistics_of(source, facts, given, files)
    plan |= statistics
    parameter, assumed = parameter_of(source, facts, given)
    steps = steps_of(facts, given, source.shape(f"{prefix}W_E")[0] if rank == 3 else 1, source)
    metadata = metadata_of(facts) | {"trajectory_parameter": parameter, "trajectory_steps": list(steps)}
    notes = [*given.assumptions, *rules.pop("assumed"), *assumed]
    if rank == 2:
        reading = dictionary(files, plan, kind="sae", semantics=_one(rules, mode), metadata=metadata, assumptions=notes)
    else:
        fields = rules | {
            "kind": "crosscoder",
            "sources": Sources(axis="snapshot", site=parameter, steps=steps),
            "input": ParameterInput(kind="parameters", parameter=parameter),
            "n_sources": len(steps),
            "d_in": source.shape(f"{prefix}W_E")[1],
            "d_sae": source.shape(f"{prefix}W_E")[2],
            "statistics": InputStatistics(preprocess=mode),  # type: ignore[arg-type]
        }
        fields["bias_reduction"] = "shared" if rules["architecture"] == "gated" else "sum_over_sources"
        reading = several(CrosscoderConfig, files, plan, fields, metadata=metadata, assumptions=notes)
    checked = with_left_out(replace(reading, files={"": file}), TRAINING_STATE)
    return replace(checked, files=files)


def _weights(prefix: str, rank: int) -> dict[str, SourceTensor]:
    swapped = (SWAP_AXES,) if rank == 3 else ()
    return {
        "W_enc": moved(f"{prefix}W_E"),
        "W_dec": moved(f"{prefix}W_D", *swapped),
        "b_dec": moved(f"{prefix}b_D"),
    }


def _gates(prefix: str, rank: int, architecture: str, wide: tuple[Step, ...]) -> dict[str, SourceTensor]:
    """Return the vectors that decide, in float32 where something is computed.

    In a gated one both paths start from the sum with `b_E`, so it goes into both.
    """
    b_enc = f"{prefix}b_E"
    if architecture != "gated":
        threshold = {"threshold": moved(prefix + THRESHOLD, *wide, EXP)} if architecture == "jumprelu" else {}
        return {"b_enc": moved(b_enc)} | threshold
    b_gate, r_mag, b_mag = (prefix + name for name in GATED)
    total = (*wide, Step(do="sum_first_axis")) if rank == 3 else wide
    stretched = times_by(moved(r_mag, *wide, EXP), axis=0)
    return {
        "b_gate": moved(b_enc, *total, plus(moved(b_gate, *wide))),
        "r_mag": moved(r_mag),
        "b_mag": moved(b_enc, *total, stretched, plus(moved(b_mag, *wide))),
    }


def _activation(source: Source, facts: Facts, given: Given) -> dict[str, Any]:
    """Return architecture, gate, code norm and k, with what had to be assumed."""
    said = facts.inner.get("act_fn") or facts.inner.get("arch") or facts.outer.get("arch") or facts.outer.get("act_fn")
    found = "jumprelu" if facts.prefix + THRESHOLD in source.keys else None
    found = "gated" if {facts.prefix + name for name in GATED} & source.keys else found
    if said is not None and said != (found or "batchtopk"):
        what = f"the tensors are of {found}" if found else "there is no tensor of it"
        raise FormatError(source.path, f"the configuration says {said!r}, but {what}; correct it")
    if said is None and found is None:
        why = "neither a tensor nor the configuration names the activation function"
        raise missing(source.path, "activation", f"{why}, so it cannot be told from BatchTopK", "topk")
    if facts.inner.get("norm_activation", "inference") != "inference":
        problem = f"norm_activation is {facts.inner['norm_activation']!r}; only 'inference' is known in this layout"
        raise FormatError(source.path, problem)
    if found == "gated":
        return {"architecture": "gated", "assumed": []}
    return _jumprelu(source, facts, given) if found else _topk(source, facts, given)


def _jumprelu(source: Source, facts: Facts, given: Given) -> dict[str, Any]:
    chosen = given.text("gate", ("per_source", "shared"))
    included = facts.inner.get("sparsity_include_decoder_norm")
    assumed = []
    if chosen is None and included is None and "arch" in facts.inner:
        why = "the class behind `arch` compares the bare pre-activation with its threshold, and the publisher's figures"
        raise missing(source.path, "gate", f"{why} compare it times ‖W_D‖ of each snapshot", "per_source")
    if chosen is None:
        chosen = "shared" if included is False else "per_source"
        if included is None:
            because = "the rule of the publisher's own reader"
            assumed.append(Assumption(field="gate", value=chosen, because=because))
    norm = "per_source_norm" if chosen == "per_source" else "none"
    return {"architecture": "jumprelu", "gate": chosen, "code_norm": norm, "assumed": assumed}


def _topk(source: Source, facts: Facts, given: Given) -> dict[str, Any]:
    """Return TopK in the place of BatchTopK: no threshold was stored, and rows must not depend on other rows."""
    if given.text("activation", ("topk",)) is None:
        why = "BatchTopK without a stored threshold: which latents are active depends on the other rows of the batch"
        raise missing(source.path, "activation", f"{why}, and only the k largest of each row can be read", "topk")
    training = facts.outer.get("training")
    places = (facts.inner, facts.outer, training if isinstance(training, dict) else {})
    k = given.whole("k") or next((place["batchtopk_k"] for place in places if "batchtopk_k" in place), None)
    if k is None:
        raise missing(source.path, "k", "the configuration has no `batchtopk_k`", "64")
    d_sae = source.shape(f"{facts.prefix}W_E")[-1]
    if type(k) is not int or not 0 < k <= d_sae:
        raise FormatError(source.path, f"batchtopk_k is {k!r}; expected a whole number from 1 to d_sae = {d_sae}")
    return {"architecture": "topk", "k": float(k), "assumed": []}


def _one(rules: Mapping[str, Any], mode: str) -> Semantics:
    """Return the switches of an SAE of one snapshot that is stored without a source axis."""
    name = rules["architecture"]
    gated = "pre_times_decoder_norm" if rules.get("gate") == "per_source" else "pre_activation"
    return Semantics(
        pre_encoder_subtraction="none",
        activation=name,
        gate_quantity="gate_pre_activation" if name == "gated" else gated,  # type: ignore[arg-type]
        threshold="per_latent" if name == "jumprelu" else "none",
        threshold_units="gate_quantity" if name == "jumprelu" else "none",
        k=rules.get("k"),
        normalization=Normalization(
            kind=mode,  # type: ignore[arg-type]
            statistics="none" if mode == "none" else "stored",
            inverted_on_output=mode != "none",
        ),
    )


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The publisher's own forward: sum over snapshots, one code, kept at each snapshot where it passes there."""
    import torch

    from saereg.registry.readings import reference as do

    prefix = WRAPPED if f"{WRAPPED}W_E" in raw.files[""].entries else ""
    flat = len(raw.shape(f"{prefix}W_E")) == 2
    x = x[:, None] if flat else x
    given, facts = told(reading), facts_of(raw.source) if raw.source is not None else Facts({}, {}, prefix)
    mean, scale = _prepared(raw, facts, given)
    x_in, heads = (x - mean) / scale, range(x.shape[1])
    at = [None if flat else {0: head} for head in heads]
    bias = raw.vector(f"{prefix}b_E")
    pre = sum(raw.times(x_in[:, head], f"{prefix}W_E", at=at[head]) for head in heads) + bias.reshape(
        -1, bias.shape[-1]
    ).sum(dim=0)
    f, margin = _codes(raw, facts, given, pre, at)
    spread = f if f.ndim == 3 else f[:, None].expand(-1, len(heads), -1)
    decoded = [raw.times(spread[:, head], f"{prefix}W_D", at=at[head]) for head in heads]
    x_hat = (torch.stack(decoded, dim=1) + raw.vector(f"{prefix}b_D")) * scale + mean
    return do.Codes(f[:, 0] if flat and f.ndim == 3 else f, x_hat[:, 0] if flat else x_hat, margin)


def _said(facts: Facts, *names: str) -> Any:  # noqa: ANN401
    """Return the first of these settings that stands anywhere in the files."""
    training = facts.outer.get("training")
    places = (training if isinstance(training, dict) else {}, facts.outer, facts.inner)
    return next((place[name] for place in places for name in names if place.get(name) is not None), None)


def _prepared(raw: "Raw", facts: Facts, given: Given) -> "tuple[Tensor | float, Tensor | float]":
    """Return mean (K, D) and divisor (K, 1)."""
    mode = given.text("preprocess") or _said(facts, "input_preprocess", "preprocess_mode")
    if mode == "none":
        return 0.0, 1.0
    name = STATISTICS if STATISTICS in raw.files else ""
    prefix = "" if name else "preprocess_stats/"
    ours = f"{prefix}input_mean" in raw.files[name].entries
    mean = raw.vector(f"{prefix}input_mean" if ours else f"{prefix}mean", name)
    mean = mean.reshape(-1, mean.shape[-1])
    if mode == "center":
        return mean, 1.0
    scale = raw.vector(f"{prefix}input_scale" if ours else f"{prefix}scale", name).reshape(-1, 1)
    return mean, 1 / scale if ours else scale


def _codes(raw: "Raw", facts: Facts, given: Given, pre: "Tensor", at: list[Any]) -> "tuple[Tensor, Tensor]":
    import torch

    from saereg.registry.readings import reference as do

    prefix, there = facts.prefix, raw.files[""].entries
    if prefix + GATED[0] in there:
        b_gate, r_mag, b_mag = (raw.vector(prefix + name) for name in GATED)
        return do.gated(pre + b_gate, pre * r_mag.exp() + b_mag)
    if prefix + THRESHOLD not in there:
        return do.topk(pre.clamp_min(0), given.whole("k") or int(_said(facts, "batchtopk_k")))
    cut, gate = raw.vector(prefix + THRESHOLD).exp(), given.text("gate")
    if gate == "shared" or (gate is None and facts.inner.get("sparsity_include_decoder_norm") is False):
        return do.threshold(pre, cut)
    norms = torch.stack([raw.row_norms(f"{prefix}W_D", at=head) for head in at])
    return do.threshold(pre[:, None].expand(-1, len(at), -1), cut, pre[:, None] * norms)


def layout(cfg: ArtifactConfig) -> Layout:
    """Say what to write: a JumpReLU crosscoder of snapshots of a parameter.

    Raises:
        FormatError: with the reason, when this layout cannot say it.
    """
    if not isinstance(cfg, CrosscoderConfig) or not isinstance(cfg.input, ParameterInput):
        raise FormatError(NAME, "says crosscoders of a parameter at several snapshots, and nothing else")
    wrong = {
        f"architecture {cfg.architecture!r}: only JumpReLU has all its numbers in the files": cfg.architecture
        != "jumprelu",
        "its sources are no snapshots": cfg.sources.axis != "snapshot",
        "its encoder bias is not one per snapshot": cfg.bias_reduction != "sum_over_sources",
        f"a {cfg.gate} gate with code norm {cfg.code_norm!r}": cfg.code_norm
        != ("per_source_norm" if cfg.gate == "per_source" else "none"),
        "the files have no place for input statistics": cfg.statistics.preprocess != "none",
    }
    refuse(NAME, wrong, "crosscoder")
    plan = {
        "W_E": moved("W_enc"),
        "b_E": moved("b_enc"),
        "W_D": moved("W_dec", SWAP_AXES),
        "b_D": moved("b_dec"),
        THRESHOLD: moved("threshold", LOG),
    }
    return Layout(cfg, {WEIGHTS_FILE: plan}, {WEIGHTS_FILE.replace(".safetensors", ".config.json"): _document(cfg)})


def _document(cfg: CrosscoderConfig) -> str:
    extra, parameter = cfg.metadata.model_extra or {}, getattr(cfg.input, "parameter", "W_U")
    value = {
        "kind": extra.get("trajectory_kind", "cross-snapshot"),
        "model_name": cfg.metadata.model_name,
        "parameter": parameter,
        "steps": list(cfg.sources.steps),
        "seed": extra.get("trajectory_seed"),
        "git_commit": extra.get("trajectory_git_commit"),
        "training": {"input_preprocess": "none", "d_sae": cfg.d_sae},
        "config": {
            "sae_type": "crosscoder",
            "act_fn": "jumprelu",
            "d_model": cfg.d_in,
            "d_sae": cfg.d_sae,
            "norm_activation": "inference",
            "sparsity_include_decoder_norm": cfg.gate == "per_source",
        },
    }
    return json.dumps({key: item for key, item in value.items() if item is not None}, indent=2) + "\n"


ABOUT = About(
    title="crosscoders of a parameter over training",
    used_by="`matteohe/parameter-trajectory-crosscoders`",
    files="`<name>.safetensors` and `<name>.config.json`: `W_E` (K, D, F), `b_E` (K, F), `W_D` (K, F, D), "
    "`b_D` (K, D), and `activation_function.log_jumprelu_threshold` (F,) or `b_gate`, `r_mag`, `b_mag` there (F,). The "
    "originals are `.pt` with the same tensors under `state_dict` and what the document says beside them; newer ones "
    "have that one level deeper, under `config`.",
    silent="the parameter, W_U or W_E; mostly the input statistics of `center_scale`, which can be taken from the "
    "public checkpoints; a threshold of BatchTopK.",
    assumed="the parameter by the folder, as the publisher's own scripts do; a gate at each snapshot, pre·‖W_D‖ "
    "above the threshold, where `sparsity_include_decoder_norm` is not said. `b_E` is summed over snapshots. "
    "BatchTopK is read only as TopK of each row, and only when asked for (`activation=topk`); statistics come from a "
    "file (`input_statistics=PATH`) or rows are prepared by the caller (`preprocess=none`).",
    saelens="has no crosscoder. A gate at each snapshot has no equivalent there; TopK and gated ones are SAEs of "
    "width K·D.",
    source="hematteo/learning-to-read-out 8e49b96",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference, layout=layout)
