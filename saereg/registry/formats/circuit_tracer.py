"""circuit-tracer transcoder sets: layer_<i>.safetensors, one transcoder each, and a config.yaml for all of them.

Source: circuit-tracer 0.5.0, `transcoder/single_layer_transcoder.py`, `transcoder/activation_functions.py` and
`utils/hf_utils.py`; the decoder by columns of its first release (safety-research/circuit-tracer, June 2025).
Its loader takes JumpReLU where there is a threshold and ReLU elsewhere, and reads neither `activation` nor `k`: its
class `TopK` is set in code alone. So TopK is read here, where config.yaml or the caller says it, and never written.
"""

import json
import re
from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError, WeightsError
from saereg.registry.files.tensors import whole
from saereg.registry.readings.format import About, Format, Layout, refuse
from saereg.registry.readings.given import Given, missing, unknown_keys
from saereg.registry.readings.reading import Reading, dictionary, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_native import DictionaryConfig
from saereg.schemas.recipe import SourceTensor, moved, transposed
from saereg.schemas.semantics import Assumption, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, CONFIG_FILE, SET = "circuit_tracer", "config.yaml", "transcoder_set"

TENSORS = frozenset({"W_enc", "W_dec", "b_enc", "b_dec"})
THRESHOLD, SKIP = "activation_function.threshold", "W_skip"
HOOKS = ("feature_input_hook", "feature_output_hook")

KNOWN = (
    "model_name",
    "model_kind",
    *HOOKS,
    "transcoders",
    "scan",
    "repo_id",
    "revision",
    "subfolder",
    "activation",
    "k",
)
"""Keys of config.yaml that its loader reads or adds, and the two of TopK."""

LAYER = re.compile(r"layer_(\d+)$")
HOOK = re.compile(r"blocks\.(\d+)\.(.+)$")


def detect(source: Source) -> str | None:
    """W_enc by latents, (F, D), and a key that only circuit-tracer writes, or a config.yaml with its hooks."""
    if not source.keys >= TENSORS:
        return None
    (d_sae, d_out), encoder = (_length(source, name) for name in ("b_enc", "b_dec")), source.shape("W_enc")
    decoder = source.shape("W_dec")
    if len(encoder) != 2 or encoder[0] != d_sae or decoder not in ((d_sae, d_out), (d_out, d_sae)):
        return None
    cfg = source.document(CONFIG_FILE) or {}
    if HOOKS[0] in cfg and cfg.get("model_kind", SET) == SET:
        return f"W_enc is (d_sae, d_in), and {CONFIG_FILE} has {HOOKS[0]!r}"
    return f"W_enc is (d_sae, d_in), and there is {THRESHOLD!r}" if THRESHOLD in source.keys else None


def read(source: Source, given: Given) -> Reading:
    """Read one file of a set.

    Raises:
        FormatError: when config.yaml says what its loader does not know, or orientation or k is not said.
        WeightsError: when a tensor is missing or of another shape.
    """
    cfg, file = source.document(CONFIG_FILE) or {}, source.only()
    for name in sorted(TENSORS - source.keys):
        raise WeightsError(str(file.path), "missing; expected W_enc, W_dec, b_enc and b_dec", name)
    assumptions: list[Assumption] = []
    activation = _activation(cfg, source, given, assumptions)
    jumps = activation == "jumprelu"
    plan = {
        "W_enc": transposed("W_enc"),
        "b_enc": moved("b_enc"),
        "W_dec": moved("W_dec") if _by_latents(source, given) else transposed("W_dec"),
        "b_dec": moved("b_dec"),
    }
    if jumps:
        plan["threshold"] = moved(THRESHOLD)
    if SKIP in source.keys:
        plan["W_skip"] = moved(SKIP)
    reading = dictionary(
        {"": file},
        plan,
        kind="transcoder",
        semantics=Semantics(
            pre_encoder_subtraction="none",
            activation="jumprelu" if jumps else "topk" if activation == "topk" else "relu",
            gate_quantity="pre_activation",
            # neither its JumpReLU nor its TopK has a ReLU: negative latents go only where no threshold lets them pass
            rectified=activation == "relu" or (jumps and not bool((whole(file, THRESHOLD).double() < 0).any())),
            threshold="per_latent" if jumps else "none",
            threshold_units="gate_quantity" if jumps else "none",
            k=_k(cfg, source, given) if activation == "topk" else None,
            skip="x_times_W_skip_transposed" if SKIP in source.keys else "none",
        ),
        metadata=_metadata(cfg, source),
        assumptions=[*given.assumptions, *assumptions, *unknown_keys(cfg, KNOWN, CONFIG_FILE)],
    )
    return with_left_out(reading, ())


def _length(source: Source, name: str) -> int:
    shape = source.shape(name)
    return shape[0] if len(shape) == 1 else 0


def _by_latents(source: Source, given: Given) -> bool:
    """Return whether the rows of W_dec are latents, as in all releases but the first."""
    d_sae, decoder = _length(source, "b_enc"), source.shape("W_dec")
    if len(decoder) == 2 and decoder[0] == decoder[1]:
        said = given.text("decoder_rows", ("latents", "outputs"))
        if said is None:
            why = f"W_dec is {decoder}, so its shape does not say whether its rows are latents"
            raise missing(source.path, "decoder_rows", why, "latents")
        return said == "latents"
    return decoder[:1] == (d_sae,)


def _activation(cfg: dict[str, Any], source: Source, given: Given, assumptions: list[Assumption]) -> str:
    if THRESHOLD in source.keys:
        if cfg.get("activation") in ("relu", "topk"):
            because = f"there is {THRESHOLD}, and the loader takes JumpReLU then, whatever {CONFIG_FILE} says"
            assumptions.append(Assumption(field="activation", value="jumprelu", because=because))
        return "jumprelu"
    told_so = given.text("activation", ("relu", "topk"))
    said = told_so or cfg.get("activation")
    if said is None:
        because = f"there is no {THRESHOLD}, and the loader takes ReLU then; of TopK say --set activation=topk"
        assumptions.append(Assumption(field="activation", value="relu", because=because))
        return "relu"
    if said not in ("relu", "topk"):
        problem = f"{CONFIG_FILE} says activation {said!r}, and there is no {THRESHOLD}"
        raise FormatError(source.path, f"{problem}; expected relu or topk")
    if said == "topk" and told_so is None:
        because = f"{CONFIG_FILE} says it; its own library reads neither activation nor k there, and runs ReLU"
        assumptions.append(Assumption(field="activation", value="topk", because=because))
    return str(said)


def _k(cfg: dict[str, Any], source: Source, given: Given) -> float:
    k, d_sae = given.whole("k") or cfg.get("k"), _length(source, "b_enc")
    if k is None:
        raise missing(source.path, "k", f"the activation is topk, and {CONFIG_FILE} has no k", "128")
    if type(k) is not int or not 0 < k <= d_sae:
        raise FormatError(source.path, f"k = {k!r}; expected a whole number from 1 to d_sae = {d_sae}")
    return float(k)


def _metadata(cfg: dict[str, Any], source: Source) -> dict[str, object]:
    """Return model and hooks; the loader takes the layer from the file's name, unless config.yaml lists files."""
    facts = {key: cfg[key] for key in ("model_name", *HOOKS) if isinstance(cfg.get(key), str)}
    layer = LAYER.search(source.stem)
    if layer and "transcoders" not in cfg:
        for key, name in zip(HOOKS, ("hook_name", "hook_name_out"), strict=True):
            if key in facts:
                facts[name] = f"blocks.{layer[1]}.{facts[key]}"
    return dict(facts)


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """circuit-tracer's own forward: Linear, x·(x > θ), TopK without ReLU, or ReLU; W_dec, b_dec, x·W_skipᵀ.

    TopK is that of its class, where config.yaml or the caller says so; its loader never takes it.
    """
    from saereg.registry.readings import reference as do

    cfg, given, there = raw.document(CONFIG_FILE), told(reading), raw.files[""].entries
    pre = raw.times_transposed(x, "W_enc") + raw.vector("b_enc")
    if THRESHOLD in there:
        f, margin = do.threshold(pre, raw.vector(THRESHOLD), keep_negative=True)
    elif (given.text("activation") or cfg.get("activation")) == "topk":
        f, margin = do.topk(pre, given.whole("k") or int(cfg["k"]), keep_negative=True)
    else:
        f, margin = do.relu(pre)
    rows, columns = raw.shape("W_dec")
    by_columns = given.text("decoder_rows") == "outputs" if rows == columns else rows != pre.shape[1]
    x_hat = raw.times_transposed(f, "W_dec") if by_columns else raw.times(f, "W_dec")
    x_hat = x_hat + raw.vector("b_dec")
    if SKIP in there:
        x_hat = x_hat + raw.times_transposed(x, SKIP)
    return do.Codes(f, x_hat, margin)


def layout(cfg: ArtifactConfig) -> Layout:
    """Say what to write: one file of a set, and the config.yaml of a set.

    Raises:
        FormatError: with the reason, when circuit-tracer cannot say it.
    """
    if not isinstance(cfg, DictionaryConfig):
        raise FormatError(NAME, "cannot say a crosscoder, or codes across layers")
    _refuse(cfg)
    rules, hooks = cfg.semantics, _hooks(cfg)
    plan = {
        "W_enc": transposed("W_enc"),
        "W_dec": moved("W_dec"),
        "b_enc": moved("b_enc"),
        "b_dec": moved("b_dec"),
    }
    if rules.activation == "jumprelu":
        plan[THRESHOLD] = moved("threshold")
    if rules.skip != "none":
        plan[SKIP] = moved("W_skip")
    written = {"model_name": cfg.metadata.model_name, "model_kind": SET, **hooks}
    # a number or a string in JSON is one in YAML
    document = "".join(f"{key}: {json.dumps(value)}\n" for key, value in written.items() if value is not None)
    layer = HOOK.match(cfg.metadata.hook_name or "")
    name = f"layer_{layer[1]}.safetensors" if layer else "transcoder.safetensors"
    files: dict[str, dict[str, SourceTensor]] = {name: plan}
    return Layout(cfg, files, {CONFIG_FILE: document})


def _hooks(cfg: DictionaryConfig) -> dict[str, object]:
    """Return the hooks within a block, which circuit-tracer requires."""
    extra, result = cfg.metadata.model_extra or {}, {}
    for key, hook in zip(HOOKS, (cfg.metadata.hook_name, cfg.metadata.hook_name_out), strict=True):
        found = HOOK.match(hook or "")
        result[key] = found[2] if found else extra.get(key)
    problem = "its config.yaml needs both hooks, and metadata has no hook_name and hook_name_out in blocks.<layer>."
    refuse(NAME, {problem: None in result.values()})
    return result


def _refuse(cfg: DictionaryConfig) -> None:
    rules = cfg.semantics
    wrong = {
        "it has transcoders, and this is an SAE": cfg.kind != "transcoder",
        "its loader takes ReLU where there is no threshold, and reads no k": rules.activation == "topk",
        f"it has relu and jumprelu, no {rules.activation}": rules.activation not in ("relu", "jumprelu"),
        "it has a threshold per latent": rules.threshold == "scalar",
        "it decides by the pre-activation alone": rules.gate_quantity != "pre_activation",
        "it subtracts nothing from the input": rules.pre_encoder_subtraction != "none",
        f"it has no input normalization {rules.normalization.kind!r}": rules.normalization.kind != "none",
        "it always adds b_dec": rules.output_bias != "b_dec",
        "input and output have the same width there": cfg.d_in != cfg.d_out,
        "with as many latents as outputs its decoder reads either way": cfg.d_sae == cfg.d_out,
        "it does not reshape heads": rules.reshape != "none",
    }
    refuse(NAME, wrong)


ABOUT = About(
    title="circuit-tracer transcoder sets",
    used_by="circuit-tracer and Neuronpedia (`mwhanna/qwen3-*-transcoders*`, `mntss/transcoder-Llama-3.2-1B`)",
    files="`config.yaml` and one `layer_<i>.safetensors` per layer with `W_enc` (F, D), `W_dec` (F, D), `b_enc` (F,), "
    "`b_dec` (D,), where they apply `activation_function.threshold` (F,) and `W_skip` (D, D), used as x·W_skipᵀ.",
    silent="TopK and its k, which some publishers set in code: its loader reads neither from config.yaml, so that a "
    "TopK that stands there is read with a note, and none is written; whether rows of a square `W_dec` are latents.",
    assumed="ReLU where there is no threshold and config.yaml names no activation, as its loader does. `W_dec` (D, F) "
    "is that of the first release. JumpReLU and TopK have no ReLU there: a latent that passes may be negative.",
    saelens="reads the sets of one publisher as ReLU transcoders, without `W_skip` or thresholds.",
    source="circuit-tracer 0.5.0, transcoder/single_layer_transcoder.py",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference, layout=layout)
