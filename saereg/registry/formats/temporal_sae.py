"""Temporal SAEs as their authors save them: conf.yaml, and latest_ckpt.safetensors or .pt.

Source: eslubana/temporalSAEs, `sae/saeTemporal.py`, `train_temporal_saes.py`, `config/sae_train`; arXiv:2511.01836;
SAELens 6.54, `temporal_sae_huggingface_loader`.
"""

import math
from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError, WeightsError
from saereg.registry.files.tensors import TensorFile
from saereg.registry.formats.saelens_export import SAELENS_VERSION
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing
from saereg.registry.readings.reading import Reading, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.cfg import SaelensMetadata, TemporalConfig
from saereg.schemas.metrics import FLOATS
from saereg.schemas.recipe import SourceTensor, Step, cast_to, moved

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, CONFIG_FILE = "temporal_sae", "conf.yaml"

NESTED = "sae/"
"""Where a checkpoint with its optimizer has the tensors."""

EPSILON = 1e-6
"""Added to the norm of a prediction."""

COUNTS = ("n_heads", "n_attn_layers", "bottleneck_factor")
"""Settings that are positive whole numbers."""


def detect(source: Source) -> str | None:
    """A dictionary `D`, a bias `b` and attention layers with a projection of the context."""
    prefix = NESTED if f"{NESTED}D" in source.keys else ""
    names = (f"{prefix}D", f"{prefix}b", f"{prefix}attn_layers.0.k_ctx.weight")
    return f"`{names[0]}`, `{names[1]}` and attention layers with `k_ctx`" if source.keys.issuperset(names) else None


def read(source: Source, given: Given) -> Reading:
    """Read a temporal SAE in SAELens' words. The layer is named in no file here.

    Raises:
        FormatError: when conf.yaml is missing, does not say what decides the function, or contradicts the tensors.
        WeightsError: when a tensor is missing or of another shape.
    """
    file = source.only()
    prefix = NESTED if f"{NESTED}D" in file.entries else ""
    conf = source.document(CONFIG_FILE)
    if conf is None or not isinstance(conf.get("sae"), dict):
        problem = (
            f"{CONFIG_FILE} is missing or has no `sae`; it says heads, k and the scale of the inputs: put it beside"
        )
        raise FormatError(source.path, f"{problem} {file.path.name}")
    settings: dict[str, Any] = conf["sae"]
    for name in ("D", "b"):
        if prefix + name not in file.entries:
            raise WeightsError(str(file.path), "missing; expected D (F, D), b (D,) and attention layers", prefix + name)
    dictionary = file.entries[f"{prefix}D"].shape
    _check(source, conf, dictionary)
    types = {entry.dtype for key, entry in file.entries.items() if key.startswith(prefix) and entry.dtype in FLOATS}
    dtype = next(iter(types)) if len(types) == 1 else "float32"
    factor = _factor(source, settings, given)
    cfg = TemporalConfig.made(
        CONFIG_FILE,
        architecture="temporal",
        d_in=dictionary[1],
        d_sae=dictionary[0],
        dtype=dtype,
        device="cpu",
        apply_b_dec_to_input=True,
        normalize_activations="constant_scalar_rescale",
        reshape_activations="none",
        activation_normalization_factor=factor,
        sae_diff_type=settings["sae_diff_type"],
        kval_topk=settings["kval_topk"] if settings["sae_diff_type"] == "topk" else None,
        tied_weights=settings["tied_weights"],
        **{name: settings[name] for name in COUNTS},
        metadata=_metadata(conf, given),
    )
    step = (cast_to("float32"),) if len(types) > 1 else ()
    reading = Reading(cfg, _plan(file, prefix, cfg, step), {"": file}).checked()
    others = (key for key in file.entries if prefix and not key.startswith(prefix))
    return with_left_out(reading, others)


def _plan(file: TensorFile, prefix: str, cfg: TemporalConfig, step: tuple[Step, ...]) -> dict[str, SourceTensor]:
    names = {name: name for name in cfg.tensors()} | {"W_dec": "D", "b_dec": "b"}
    if not cfg.tied_weights:
        names["W_enc"] = "E"
    # what is missing is left to the comparison with the configuration, which names it
    there = {name: prefix + key for name, key in names.items() if prefix + key in file.entries}
    row = Step(do="squeeze", axis=0)
    flat = {"b_dec"} if len(file.entries[f"{prefix}b"].shape) > 1 else set()
    return {name: moved(key, *((row,) if name in flat else ()), *step) for name, key in there.items()}


def _check(source: Source, conf: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Refuse settings that are not there, of another type, or of another dictionary."""
    settings, llm = conf["sae"], conf.get("llm")
    kind = settings.get("sae_diff_type")
    if kind not in ("relu", "topk"):
        raise FormatError(source.path, f"conf.yaml says sae_diff_type {kind!r}; expected relu or topk")
    for name in (*COUNTS, *(("kval_topk",) if kind == "topk" else ())):
        value = settings.get(name)
        if type(value) is not int or value < 1:
            raise FormatError(source.path, f"conf.yaml says {name} = {value!r}; expected a positive whole number")
    tied = settings.get("tied_weights")
    if not isinstance(tied, bool):
        raise FormatError(source.path, f"conf.yaml says tied_weights = {tied!r}; expected true or false")
    if len(shape) != 2:
        raise FormatError(source.path, f"D is {shape}; expected (d_sae, d_in)")
    d_in, factor = llm.get("dimin") if isinstance(llm, dict) else None, settings.get("exp_factor")
    if d_in is not None and d_in != shape[1]:
        raise FormatError(source.path, f"conf.yaml says dimin = {d_in!r}, but D is {shape}; correct conf.yaml")
    if isinstance(factor, int | float) and not (math.isfinite(factor) and int(shape[1] * factor) == shape[0]):
        raise FormatError(source.path, f"conf.yaml says exp_factor = {factor!r}, but D is {shape}; correct conf.yaml")
    group = settings["bottleneck_factor"] * settings["n_heads"]
    if shape[0] % group:
        problem = f"bottleneck_factor times n_heads is {group}, which does not divide the {shape[0]} latents"
        raise FormatError(source.path, f"conf.yaml: {problem}")
    if kind == "topk" and settings["kval_topk"] > shape[0]:
        raise FormatError(source.path, f"conf.yaml says kval_topk = {settings['kval_topk']}, of {shape[0]} latents")


def _factor(source: Source, settings: dict[str, Any], given: Given) -> float:
    """Return what inputs are multiplied by."""
    said = settings.get("scaling_factor")
    if said is None:
        said = given.number("scaling_factor")
    if said is None:
        why = "conf.yaml does not say scaling_factor, which inputs are multiplied by"
        raise missing(source.path, "scaling_factor", why, "0.00667")
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 < said < math.inf:
        raise FormatError(source.path, f"conf.yaml says scaling_factor = {said!r}; expected a positive number")
    return float(said)


def _metadata(conf: dict[str, Any], given: Given) -> SaelensMetadata:
    """Return what conf.yaml says, and a version, without which SAELens drops all of it."""
    parts: dict[str, dict[str, Any]] = {name: part for name, part in conf.items() if isinstance(part, dict)}
    llm, data = parts.get("llm", {}), parts.get("data", {})
    facts = {
        "sae_lens_version": SAELENS_VERSION,
        "model_name": llm.get("model_hf_name"),
        "context_size": data.get("context_length"),
        "dataset_path": data.get("hf_name"),
        "saereg_assumptions": [note.model_dump() for note in given.assumptions] or None,
    }
    return SaelensMetadata.of(facts)


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The authors' own forward on scaled inputs; the rows are one text, in order, so the first are the clearest."""
    import torch

    from saereg.registry.readings import reference as do

    settings: dict[str, Any] = raw.document(CONFIG_FILE)["sae"]
    prefix = NESTED if f"{NESTED}D" in raw.files[""].entries else ""
    bias = raw.vector(f"{prefix}b").flatten()
    factor = float(settings.get("scaling_factor") or told(reading).number("scaling_factor") or 1.0)
    left = x * factor - bias

    def codes(rest: "Tensor") -> "Tensor":
        rest = rest / (4 * x.shape[1])
        tied = settings["tied_weights"]
        return (raw.times_transposed(rest, f"{prefix}D") if tied else raw.times(rest, f"{prefix}E")).clamp_min(0)

    predicted = x.new_zeros(len(x), raw.shape(f"{prefix}D")[0])
    for layer in range(settings["n_attn_layers"]):
        guess = _attended(raw, f"{prefix}attn_layers.{layer}.", settings["n_heads"], codes(left)).clamp_min(0)
        direction = raw.times(guess, f"{prefix}D")
        length = direction.norm(dim=-1, keepdim=True) + EPSILON
        share = (direction * left).sum(dim=-1, keepdim=True) / length**2
        predicted, left = predicted + share * guess, left - share * direction
    f = codes(left)
    if settings["sae_diff_type"] == "topk":
        f, _ = do.topk(f, settings["kval_topk"])
    x_hat = (raw.times(f + predicted, f"{prefix}D") + bias) / factor
    return do.Codes(f, x_hat, torch.arange(len(x), 0, -1).double())


def _attended(raw: "Raw", prefix: str, heads: int, codes: "Tensor") -> "Tensor":
    """Return causal attention of each position's codes to those of the positions before, shifted by one."""
    import torch

    earlier = torch.cat([torch.zeros_like(codes[:1]), codes[:-1]])

    def of_heads(name: str, rows: "Tensor") -> "Tensor":
        split = raw.times_transposed(rows, f"{prefix}{name}.weight") + raw.vector(f"{prefix}{name}.bias")
        return split.reshape(len(rows), heads, -1).transpose(0, 1)

    keys, queries, values = of_heads("k_ctx", earlier), of_heads("q_target", codes), of_heads("v_ctx", earlier)
    scores = queries @ keys.transpose(-1, -2) / keys.shape[-1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(diagonal=1)
    mixed = scores.masked_fill(future, -torch.inf).softmax(dim=-1) @ values
    together = mixed.transpose(0, 1).flatten(-2)
    return raw.times_transposed(together, f"{prefix}c_proj.weight") + raw.vector(f"{prefix}c_proj.bias")


ABOUT = About(
    title="temporal SAEs",
    used_by="`canrager/temporalSAEs`",
    files="`conf.yaml` (`sae`, `llm`, `data`) and `latest_ckpt.safetensors`, or `.pt` with the tensors under `sae`: "
    "`D` (F, D), `b` (D,) or (1, D), `E` (D, F) unless `tied_weights`, and `attn_layers.<i>` with `k_ctx`, `q_target`, "
    "`v_ctx`, `c_proj`, weight and bias.",
    silent="the layer.",
    assumed="inputs are multiplied by `scaling_factor`, and outputs divided by it, as in training and in SAELens.",
    saelens="its loader casts the weights to `data.dtype`, the type that training computed in; takes the layer from "
    "the folder's name; and runs an unknown `sae_diff_type` as ReLU.",
    source="eslubana/temporalSAEs, sae/saeTemporal.py",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
