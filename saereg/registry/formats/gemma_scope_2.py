"""Gemma Scope 2 (Google DeepMind): params.safetensors and config.json; crosscoders and CLTs have a file per layer.

Source: the publisher's tutorial, `JumpReLUSAE` and `JumpReLUMultiLayerSAE`; SAELens 6.54,
`gemma_3_sae_huggingface_loader`; circuit-tracer 0.5.0, `load_gemma_scope_2_transcoder` and `load_gemma_scope_2_clt`.
"""

import json
import re
from typing import TYPE_CHECKING, Any, Literal

from saereg.errors import FormatError, WeightsError
from saereg.registry.files.tensors import TensorFile, whole
from saereg.registry.formats.circuit_tracer_clt import numbered, widths_of, without_gap
from saereg.registry.formats.gemma_scope import refuse_all_but_jumprelu
from saereg.registry.readings.format import About, Format, Layout
from saereg.registry.readings.given import Given, unknown_keys
from saereg.registry.readings.reading import Reading, dictionary, several, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_native import CrossLayerConfig, DictionaryConfig
from saereg.schemas.recipe import SourceTensor, Step, moved, transposed
from saereg.schemas.semantics import Assumption, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, CONFIG_FILE, WEIGHTS_FILE = "gemma_scope_2", "config.json", "params.safetensors"

TENSORS = frozenset({"w_enc", "w_dec", "b_enc", "b_dec", "threshold"})
SKIP = "affine_skip_connection"

KNOWN = (
    "model_name",
    "architecture",
    "type",
    "width",
    "l0",
    "affine_connection",
    "hf_hook_point_in",
    "hf_hook_point_out",
)
"""Keys that the publisher's config.json has."""

LAYER = re.compile(r"params_layer_(\d+)\.safetensors$")

KINDS: dict[str, Literal["sae", "transcoder"]] = {"sae": "sae", "transcoder": "transcoder"}


def detect(source: Source) -> str | None:
    """Exactly the tensors that it writes, in lower case: one file with a matrix w_dec, or several with three axes."""
    layers = numbered(source.names, LAYER)
    if len(layers) == len(source.names) and layers:
        file = source.file(layers[min(layers)])
        shape = file.entries["w_dec"].shape if "w_dec" in file.entries else ()
        if file.entries.keys() - {SKIP} == TENSORS and len(shape) == 3:
            return "a file for each layer with w_enc (D, F), w_dec (F, L, O), b_enc, b_dec and threshold"
    if source.keys - {SKIP} != TENSORS:
        return None
    encoder, decoder = source.shape("w_enc"), source.shape("w_dec")
    if len(encoder) != 2 or len(decoder) != 2 or encoder[1] != decoder[0]:
        return None
    return "exactly w_enc (D, F), w_dec (F, O), b_enc, b_dec and threshold, in lower case"


def read(source: Source, given: Given) -> Reading:
    """Read the folder of one dictionary.

    Raises:
        FormatError: when config.json contradicts the tensors, or a layer is missing.
        WeightsError: when a tensor is missing or of another shape.
    """
    cfg = source.document(CONFIG_FILE) or {}
    if cfg.get("architecture", "jump_relu") != "jump_relu":
        problem = f"{CONFIG_FILE} says architecture {cfg['architecture']!r}"
        raise FormatError(source.path, f"{problem}; this layout has jump_relu")
    layers = numbered(source.names, LAYER)
    if layers and (len(layers) > 1 or len(source.shape("w_dec")) == 3):
        return _read_several(cfg, layers, source, given)
    return _read_one(cfg, source, given)


def _read_one(cfg: dict[str, Any], source: Source, given: Given) -> Reading:
    file, assumptions = source.only(), list[Assumption]()
    _check_affine(cfg, file, source)
    for name in sorted(TENSORS - source.keys):
        raise WeightsError(str(file.path), f"missing; expected {', '.join(sorted(TENSORS))}", name)
    kind = _kind(cfg, source, given, assumptions)
    plan = {
        "W_enc": moved("w_enc"),
        "b_enc": moved("b_enc"),
        "W_dec": moved("w_dec"),
        "b_dec": moved("b_dec"),
        "threshold": moved("threshold"),
    }
    if SKIP in source.keys:
        plan["W_skip"] = transposed(SKIP)
    _check_thresholds(source, file)
    reading = dictionary(
        {"": file},
        plan,
        kind=kind,
        semantics=_rules(skips=SKIP in source.keys),
        metadata=_metadata(cfg, transcodes=kind == "transcoder"),
        assumptions=[*given.assumptions, *assumptions, *unknown_keys(cfg, KNOWN, CONFIG_FILE)],
    )
    return with_left_out(reading, ())


def _kind(
    cfg: dict[str, Any], source: Source, given: Given, assumptions: list[Assumption]
) -> Literal["sae", "transcoder"]:
    said, into, out = cfg.get("type"), cfg.get("hf_hook_point_in"), cfg.get("hf_hook_point_out")
    if said is not None:
        if not isinstance(said, str) or said not in KINDS:
            raise FormatError(source.path, f"{CONFIG_FILE} says type {said!r}; expected sae or transcoder")
        return KINDS[said]
    if into is not None:
        return "sae" if out in (None, into) else "transcoder"
    if SKIP in source.keys or source.shape("w_enc")[:1] != source.shape("w_dec")[-1:]:
        return "transcoder"
    kind = given.text("kind", tuple(KINDS))
    if kind is not None:
        return KINDS[kind]
    because = "no file says it; it is the same function, and only what it should approximate differs: --set kind=…"
    assumptions.append(Assumption(field="kind", value="sae", because=because))
    return "sae"


def _rules(*, skips: bool) -> Semantics:
    return Semantics(
        pre_encoder_subtraction="none",
        activation="jumprelu",
        gate_quantity="pre_activation",
        threshold="per_latent",
        threshold_units="gate_quantity",
        skip="x_times_W_skip_transposed" if skips else "none",
    )


def _check_thresholds(source: Source, file: TensorFile) -> None:
    if bool((whole(file, "threshold").double() < 0).any()):
        raise FormatError(source.path, f"threshold of {file.path.name} is negative somewhere, which none of these has")


def _check_affine(cfg: dict[str, Any], file: TensorFile, source: Source) -> None:
    said, there = cfg.get("affine_connection"), SKIP in file.entries
    if isinstance(said, bool) and said != there:
        found = "has one" if there else "has none"
        problem = f"{CONFIG_FILE} says affine_connection {str(said).lower()}, but {file.path.name} {found}"
        raise FormatError(source.path, f"{problem}; correct {CONFIG_FILE}")


def _metadata(cfg: dict[str, Any], *, transcodes: bool) -> dict[str, object]:
    rest = {key: cfg[key] for key in ("width", "l0", "type") if key in cfg}
    return {
        "model_name": cfg.get("model_name"),
        "hf_hook_name": cfg.get("hf_hook_point_in"),
        "hf_hook_name_out": cfg.get("hf_hook_point_out") if transcodes else None,
        "gemma_scope_2": rest or None,
    }


def _read_several(cfg: dict[str, Any], layers: dict[int, str], source: Source, given: Given) -> Reading:
    n_layers = without_gap(layers, "params_layer_{}.safetensors", source)
    files = {name: source.file(name) for name in layers.values()}
    skips = SKIP in files[layers[0]].entries
    writes = given.text("writes", ("all", "same_and_later"))
    assumptions = [] if writes else [_writes_to_all()]
    plan: dict[str, SourceTensor] = {}
    for layer in range(n_layers):
        name = layers[layer]
        _check_file(files[name], n_layers, source, skips=skips)
        plan[f"W_enc.{layer}"] = moved("w_enc", file=name)
        plan[f"b_enc.{layer}"] = moved("b_enc", file=name)
        plan[f"b_dec.{layer}"] = moved("b_dec", file=name)
        plan[f"threshold.{layer}"] = moved("threshold", file=name)
        if skips:
            plan[f"W_skip.{layer}"] = transposed(SKIP, file=name)
        for target in range(layer if writes == "same_and_later" else 0, n_layers):
            plan[f"W_dec.{layer}.{target}"] = moved("w_dec", Step(do="take", axis=1, index=target), file=name)
    _check_affine(cfg, files[layers[0]], source)
    fields = {
        "kind": "cross_layer",
        **widths_of(files[layers[0]], "w_enc", "b_dec", by_latents=False),
        "n_layers": n_layers,
        "writes": writes or "all",
        "semantics": _rules(skips=skips),
    }
    return several(
        CrossLayerConfig,
        files,
        plan,
        fields,
        metadata=_metadata(cfg, transcodes=True),
        assumptions=[*given.assumptions, *assumptions, *unknown_keys(cfg, KNOWN, CONFIG_FILE)],
    )


def _writes_to_all() -> Assumption:
    because = (
        "each w_dec holds all layers, and the publisher's own forward decodes every code to every one; circuit-tracer "
        "drops those before a code's own: --set writes=same_and_later"
    )
    return Assumption(field="writes", value="all", because=because)


def _check_file(file: TensorFile, n_layers: int, source: Source, *, skips: bool) -> None:
    expected = TENSORS | {SKIP} if skips else TENSORS
    for name in sorted(expected ^ file.entries.keys()):
        problem = "missing" if name in expected else "is no tensor of this layout, or not of its other layers"
        raise WeightsError(str(file.path), problem, name)
    shape = file.entries["w_dec"].shape
    if len(shape) != 3 or shape[1] != n_layers:
        problem = f"shape {shape}; with {n_layers} files expected (d_sae, {n_layers}, d_out)"
        raise WeightsError(str(file.path), f"{problem}: is a file of the last layers missing?", "w_dec")
    _check_thresholds(source, file)


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The tutorial's own forward: relu(pre) where pre > threshold; each code decoded to each layer; x·A of a layer."""
    import torch

    from saereg.registry.readings import reference as do

    if "" in raw.files:
        pre = raw.times(x, "w_enc") + raw.vector("b_enc")
        f, margin = do.threshold(pre, raw.vector("threshold"))
        x_hat = raw.times(f, "w_dec") + raw.vector("b_dec")
        skip = raw.times(x, SKIP) if SKIP in raw.files[""].entries else torch.zeros_like(x_hat)
        return do.Codes(f, x_hat + skip, margin)
    names = [f"params_layer_{layer}.safetensors" for layer in range(x.shape[1])]
    pre = torch.stack(
        [raw.times(x[:, i], "w_enc", name) + raw.vector("b_enc", name) for i, name in enumerate(names)], 1
    )
    f, margin = do.threshold(pre, torch.stack([raw.vector("threshold", name) for name in names]))
    x_hat = torch.stack([raw.vector("b_dec", name) for name in names]).repeat(len(x), 1, 1)
    later_only = told(reading).text("writes") == "same_and_later"
    for i, name in enumerate(names):
        for target in range(i if later_only else 0, len(names)):
            x_hat[:, target] += raw.times(f[:, i], "w_dec", name, at={1: target})
        if SKIP in raw.files[name].entries:
            x_hat[:, i] += raw.times(x[:, i], SKIP, name)
    return do.Codes(f, x_hat, margin)


def layout(cfg: ArtifactConfig) -> Layout:
    """Say what to write: params.safetensors and config.json of one SAE or transcoder.

    Raises:
        FormatError: with the reason, when Gemma Scope 2 cannot say it.
    """
    if not isinstance(cfg, DictionaryConfig):
        raise FormatError(NAME, "cannot say a crosscoder; and codes across layers are read and never written")
    refuse_all_but_jumprelu(cfg, NAME)
    transcodes, skips = cfg.kind == "transcoder", cfg.semantics.skip != "none"
    plan = {
        "w_enc": moved("W_enc"),
        "w_dec": moved("W_dec"),
        "b_enc": moved("b_enc"),
        "b_dec": moved("b_dec"),
        "threshold": moved("threshold"),
    }
    if skips:
        plan[SKIP] = transposed("W_skip")
    facts = cfg.metadata
    written = {
        "hf_hook_point_in": facts.hf_hook_name,
        "hf_hook_point_out": facts.hf_hook_name_out if transcodes else facts.hf_hook_name,
        "width": cfg.d_sae,
        "model_name": facts.model_name,
        "architecture": "jump_relu",
        "l0": ((facts.model_extra or {}).get("gemma_scope_2") or {}).get("l0"),
        "affine_connection": skips,
        "type": cfg.kind,
    }
    document = json.dumps({key: value for key, value in written.items() if value is not None}, indent=2) + "\n"
    files: dict[str, dict[str, SourceTensor]] = {WEIGHTS_FILE: plan}
    return Layout(cfg, files, {CONFIG_FILE: document})


ABOUT = About(
    title="Gemma Scope 2",
    used_by="Google DeepMind (`google/gemma-scope-2-*`)",
    files="`params.safetensors` with `w_enc` (D, F), `w_dec` (F, O), `b_enc` (F,), `b_dec` (O,), `threshold` (F,) and, "
    "of affine transcoders, `affine_skip_connection` (D, O), used as x·A; `config.json`. Crosscoders and cross-layer "
    "transcoders have `params_layer_<i>.safetensors` with `w_dec` (F, L, O): each layer has its own code.",
    silent="nothing that decides the function; without `config.json`, whether it is a transcoder, and the site.",
    assumed="where several layers have files, that every code is decoded to every layer, as the publisher's forward "
    "does; `--set writes=same_and_later` drops the layers before a code's own, as circuit-tracer does.",
    saelens="reads SAEs and transcoders; adds the decoders of a cross-layer transcoder over their targets, which "
    "reconstructs no layer; has no crosscoders.",
    source="SAELens 6.54, pretrained_sae_loaders.py; the publisher's tutorial",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference, layout=layout)
