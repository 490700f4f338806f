"""sparsify (EleutherAI): cfg.json and sae.safetensors, a folder for each hookpoint; TopK, groupmax, transcoders, skips.

Source: sparsify 1.3, `sparse_coder.py`, `fused_encoder.py`, `config.py`; `signed` of versions before 1.0.
"""

import json
from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError, WeightsError
from saereg.registry.readings.format import About, Format, Layout, refuse
from saereg.registry.readings.given import Given, unknown_keys
from saereg.registry.readings.reading import Reading, dictionary, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_native import DictionaryConfig
from saereg.schemas.recipe import SourceTensor, moved, transposed
from saereg.schemas.semantics import Activation, Assumption, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, CONFIG_FILE, WEIGHTS_FILE = "sparsify", "cfg.json", "sae.safetensors"

KNOWN = (
    "activation",
    "expansion_factor",
    "normalize_decoder",
    "num_latents",
    "k",
    "multi_topk",
    "skip_connection",
    "transcode",
    "signed",
    "d_in",
)
"""Keys of its configuration, and the width that it is saved with; `multi_topk` is a loss of training."""

TENSORS = frozenset({"encoder.weight", "encoder.bias", "W_dec", "b_dec"})


def detect(source: Source) -> str | None:
    """`encoder.weight` and `W_dec`, both (F, D), and a cfg.json with `d_in` and `expansion_factor` or `num_latents`."""
    if not source.keys >= TENSORS or source.shape("encoder.weight") != source.shape("W_dec"):
        return None
    cfg = source.document(CONFIG_FILE)
    if cfg is None or "d_in" not in cfg or not {"expansion_factor", "num_latents"} & cfg.keys():
        return None
    return "`encoder.weight` and `W_dec` are both (d_sae, d_in), and cfg.json has sparsify's keys"


def read(source: Source, given: Given) -> Reading:
    """Read a hookpoint's folder. Its name alone says which module was read, so it is not said; nor is the model.

    Raises:
        FormatError: when cfg.json contradicts the tensors or itself.
        WeightsError: when a tensor is missing or of another shape.
    """
    cfg, file = source.document(CONFIG_FILE) or {}, source.only()
    if not source.keys >= TENSORS or len(source.shape("encoder.weight")) != 2:
        expected = f"a matrix encoder.weight, and {', '.join(sorted(TENSORS - {'encoder.weight'}))}"
        raise WeightsError(
            str(file.path), f"its tensors are {', '.join(sorted(source.keys)[:12])}; expected {expected}"
        )
    d_sae, d_in = source.shape("encoder.weight")
    _check_widths(cfg, d_in, d_sae, source)
    plan = {
        "W_enc": transposed("encoder.weight"),
        "b_enc": moved("encoder.bias"),
        "W_dec": moved("W_dec"),
        "b_dec": moved("b_dec"),
    }
    if cfg.get("skip_connection", False):
        plan["W_skip"] = moved("W_skip")
    transcodes = bool(cfg.get("transcode", False))
    assumptions = [*given.assumptions, *unknown_keys(cfg, KNOWN, CONFIG_FILE)]
    for key, default in (("transcode", False), ("skip_connection", False), ("activation", "topk")):
        if key not in cfg:
            because = "absent from cfg.json, as in files from before sparsify had it"
            assumptions.append(Assumption(field=key, value=str(default), because=because))
    reading = dictionary(
        {"": file},
        plan,
        kind="transcoder" if transcodes else "sae",
        semantics=Semantics(
            pre_encoder_subtraction="none" if transcodes else "b_dec",
            activation=_activation(cfg, source),
            gate_quantity="pre_activation",
            rectified=not cfg.get("signed", False),
            k=_k(cfg, d_sae, source),
            skip="x_times_W_skip_transposed" if "W_skip" in plan else "none",
        ),
        assumptions=assumptions,
    )
    return with_left_out(reading, ())


def _check_widths(cfg: dict[str, Any], d_in: int, d_sae: int, source: Source) -> None:
    sizes: dict[str, Any] = {"d_in": None, "num_latents": 0, "expansion_factor": 32}
    sizes |= {name: cfg[name] for name in sizes if name in cfg}
    for name, value in sizes.items():
        if type(value) is not int or value < 0:
            raise FormatError(source.path, f"cfg.json says {name} = {value!r}; expected a whole number")
    for name in ("transcode", "skip_connection", "signed"):
        if type(cfg.get(name, False)) is not bool:
            raise FormatError(source.path, f"cfg.json says {name} = {cfg[name]!r}; expected true or false")
    # `num_latents: 0` means that the expansion factor decides
    expected = sizes["num_latents"] or sizes["d_in"] * sizes["expansion_factor"]
    if (sizes["d_in"], expected) != (d_in, d_sae):
        said = f"cfg.json says d_in = {sizes['d_in']} and {expected} latents"
        raise FormatError(source.path, f"{said}, but encoder.weight is {(d_sae, d_in)}; correct cfg.json")


def _activation(cfg: dict[str, Any], source: Source) -> Activation:
    name = cfg.get("activation", "topk")
    if name not in ("topk", "groupmax"):
        raise FormatError(source.path, f"cfg.json says activation {name!r}; sparsify has topk and groupmax")
    if cfg.get("signed", False):
        return "abstopk"
    return "topk" if name == "topk" else "groupmax"


def _k(cfg: dict[str, Any], d_sae: int, source: Source) -> float:
    if "k" not in cfg:
        raise FormatError(source.path, "cfg.json has no k; add the one that it was trained with")
    k = cfg["k"]
    if type(k) is not int or not 0 < k <= d_sae:
        raise FormatError(source.path, f"cfg.json says k = {k!r}; expected a whole number from 1 to d_sae = {d_sae}")
    return float(k)


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """Sparsify's own forward: x − b_dec unless it transcodes, Linear, ReLU, select, decode, and x·W_skipᵀ on raw x."""
    from saereg.registry.readings import reference as do

    del reading  # cfg.json says everything
    cfg, b_dec = raw.document(CONFIG_FILE), raw.vector("b_dec")
    k, centred = int(cfg["k"]), x if cfg.get("transcode", False) else x - b_dec
    pre = raw.times_transposed(centred, "encoder.weight") + raw.vector("encoder.bias")
    if cfg.get("signed", False):
        f, margin = do.topk(pre, k, pre.abs(), keep_negative=True)
    else:
        f, margin = do.groupmax(pre, k) if cfg.get("activation") == "groupmax" else do.topk(pre, k)
    x_hat = raw.times(f, "W_dec") + b_dec
    if cfg.get("skip_connection", False):
        x_hat = x_hat + raw.times_transposed(x, "W_skip")
    return do.Codes(f, x_hat, margin)


def layout(cfg: ArtifactConfig) -> Layout:
    """Say what to write for `SparseCoder.load_from_disk`.

    Raises:
        FormatError: with the reason, when sparsify cannot say it.
    """
    if not isinstance(cfg, DictionaryConfig):
        raise FormatError(NAME, "cannot say a crosscoder, or codes across layers")
    _refuse(cfg)
    rules = cfg.semantics
    plan = {
        "encoder.weight": transposed("W_enc"),
        "encoder.bias": moved("b_enc"),
        "W_dec": moved("W_dec"),
        "b_dec": moved("b_dec"),
    }
    if rules.skip != "none":
        plan["W_skip"] = moved("W_skip")
    written = {
        "activation": rules.activation,
        "expansion_factor": max(1, cfg.d_sae // cfg.d_in),
        "normalize_decoder": False,
        "num_latents": cfg.d_sae,
        "k": int(rules.k or 0),
        "multi_topk": False,
        "skip_connection": rules.skip != "none",
        "transcode": cfg.kind == "transcoder",
        "d_in": cfg.d_in,
    }
    files: dict[str, dict[str, SourceTensor]] = {WEIGHTS_FILE: plan}
    return Layout(cfg, files, {CONFIG_FILE: json.dumps(written, indent=2) + "\n"})


def _refuse(cfg: DictionaryConfig) -> None:
    rules = cfg.semantics
    wrong = {
        f"it has topk and groupmax, no {rules.activation}": rules.activation not in ("topk", "groupmax"),
        "it ranks by the pre-activation alone": rules.gate_quantity != "pre_activation",
        f"it has no input normalization {rules.normalization.kind!r}": rules.normalization.kind != "none",
        "an SAE subtracts b_dec there and a transcoder does not": (rules.pre_encoder_subtraction == "b_dec")
        == (cfg.kind == "transcoder"),
        "input and output have the same width there": cfg.d_in != cfg.d_out,
        "it has one type for all tensors": bool(cfg.dtypes),
        "it does not reshape heads": rules.reshape != "none",
        "it sets negative latents to 0": not rules.rectified,
    }
    refuse(NAME, wrong)


ABOUT = About(
    title="sparsify",
    used_by="EleutherAI (`EleutherAI/sae-*`), delphi users, skip transcoders",
    files="`<hookpoint>/cfg.json` and `sae.safetensors` with `encoder.weight` (F, D), `encoder.bias` (F,), `W_dec` "
    "(F, D), `b_dec` (D,), `W_skip` (D, D) where `skip_connection`.",
    silent="the model; the module, which only the folder is named after; whether its output was taken before or after "
    "a norm that follows it.",
    assumed="`transcode` and `skip_connection` false and `activation` topk in files that have no such key. "
    "`num_latents: 0` is `expansion_factor` times `d_in`. `b_dec` is subtracted unless `transcode`, whatever "
    "`normalize_decoder` says.",
    saelens="its loader transposes `W_dec`, which fails or, when F = D, passes unnoticed; takes 0 latents for "
    "`num_latents: 0`; does not subtract `b_dec` from default files; and drops skip, transcode and groupmax.",
    source="sparsify 1.3, sparse_coder.py",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference, layout=layout)
