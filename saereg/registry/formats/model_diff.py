"""Crosscoders between models or layers in the manner of Neel Nanda's code: a `.pt`, and training settings beside it.

Source: ckkissane/crosscoder-model-diff-replication e221e8d, `crosscoder.py` and `buffer.py`.
"""

from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError, UsageError
from saereg.registry.formats.crosscoder_sources import named_sources
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing, unknown_keys
from saereg.registry.readings.reading import Reading, several, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.cfg_crosscoder import ActivationInput, CrosscoderConfig, InputStatistics
from saereg.schemas.recipe import SourceTensor, cast_to, constant, moved

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME = "model_diff"
TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec")
SETTINGS = frozenset(
    {"d_in", "dict_size", "enc_dtype", "model_name", "site", "hook_point", "layer", "seed", "device", "dec_init_norm"}
    | {"batch_size", "buffer_mult", "lr", "num_tokens", "l1_coeff", "beta1", "beta2", "seq_len", "model_batch_size"}
    | {"log_every", "save_every", "wandb_project", "wandb_entity"}
)
"""Settings that training saves; what `dict_size` and `d_in` say is compared, and the rest is not the function's."""

FOLDED = "folded"
"""What the caller says of weights that read activations as they are."""


def detect(source: Source) -> str | None:
    """`W_enc` (K, D, F) and `W_dec` (F, K, D), and settings with `dict_size` in cfg.json or `<version>_cfg.json`."""
    if not set(TENSORS) <= source.keys or len(source.shape("W_enc")) != 3:
        return None
    count, d_in, d_sae = source.shape("W_enc")
    if source.shape("W_dec") != (d_sae, count, d_in) or "dict_size" not in _settings(source):
        return None
    return "`W_enc` is (K, D, F) and `W_dec` (F, K, D), and the settings beside them have `dict_size`"


def _settings(source: Source) -> dict[str, Any]:
    return source.document(f"{source.stem}_cfg.json") or source.document("cfg.json") or {}


def read(source: Source, given: Given) -> Reading:
    """Read a crosscoder. By what its inputs were multiplied was estimated at run time and not saved, so it is asked.

    Raises:
        FormatError: when that is not said, or the settings contradict the tensors.
        UsageError: when what is said is no number for each source.
        WeightsError: when a tensor is missing or of another shape.
    """
    file, settings = source.only(), _settings(source)
    if len(source.shape("W_enc")) != 3:
        raise FormatError(source.path, "has no `W_enc` of shape (K, D, F)")
    count, d_in, d_sae = source.shape("W_enc")
    for key, found in (("dict_size", d_sae), ("d_in", d_in)):
        if settings.get(key, found) != found:
            raise FormatError(
                source.path, f"the settings say {key} = {settings[key]!r}, but W_enc is {(count, d_in, d_sae)}"
            )
    plan: dict[str, SourceTensor] = {name: moved(name) for name in TENSORS}
    scales = _scales(source, given, count)
    if scales is not None:
        plan["input_scale"] = constant(scales).model_copy(update={"steps": (cast_to("float32"),)})
    sources, named = named_sources(given, count, "model" if count == 2 else "layer")
    reading = several(
        CrosscoderConfig,
        {"": file},
        plan,
        {
            "kind": "crosscoder",
            "architecture": "standard",
            "sources": sources,
            "input": ActivationInput(kind="activations"),
            "n_sources": count,
            "d_in": d_in,
            "d_sae": d_sae,
            "bias_reduction": "shared",
            "gate": "shared",
            "code_norm": "none",
            "statistics": InputStatistics(preprocess="none" if scales is None else "scale"),
        },
        metadata={"model_name": settings.get("model_name"), "hook_name": settings.get("hook_point")},
        assumptions=[*given.assumptions, *named, *unknown_keys(settings, SETTINGS, "the settings")],
    )
    return with_left_out(reading, ())


def _scales(source: Source, given: Given, count: int) -> tuple[float, ...] | None:
    """Return the factor of each source's input, or None where weights read activations as they are."""
    said = given.text("input_scale")
    if said is None:
        why = (
            "in training the activations of each source were multiplied by √d_in over their mean norm, and the files "
            f"do not say by what; say {count} factors with commas between them, or that it is folded into the weights"
        )
        raise missing(source.path, "input_scale", why, FOLDED)
    if said == FOLDED:
        return None
    try:
        factors = tuple(float(number) for number in said.split(","))
    except ValueError:
        factors = ()
    if len(factors) != count or not all(0 < factor < float("inf") for factor in factors):
        raise UsageError(
            f"input_scale={said}: expected {FOLDED!r}, or {count} positive numbers with commas between them"
        )
    return factors


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The publisher's own forward on scaled inputs, and its reconstruction in their units."""
    import torch

    from saereg.registry.readings import reference as do

    said = told(reading).text("input_scale") or FOLDED
    scale = x.new_tensor([1.0] if said == FOLDED else [float(number) for number in said.split(",")])[:, None]
    heads = range(x.shape[1])
    pre = sum(raw.times((x * scale)[:, k], "W_enc", at={0: k}) for k in heads) + raw.vector("b_enc")
    f, margin = do.relu(pre)
    x_hat = torch.stack([raw.times(f, "W_dec", at={1: k}) for k in heads], dim=1) + raw.vector("b_dec")
    return do.Codes(f, x_hat / scale, margin)


ABOUT = About(
    title="crosscoders between models",
    used_by="`ckkissane/crosscoder-gemma-2-2b-model-diff`, and others with Neel Nanda's code",
    files="`<hook>/cc_weights.pt` and `cfg.json`, or `<version>.pt` and `<version>_cfg.json`: `W_enc` (K, D, F), "
    "`W_dec` (F, K, D), `b_enc` (F,), `b_dec` (K, D), float32 or bfloat16.",
    silent="by what activations were multiplied before they were read: it was estimated at run time. Say it: "
    "`--set input_scale=0.27,0.24`, one factor for each source, or `--set input_scale=folded`. The second of two "
    "models. That the first position of each text was dropped.",
    assumed="nothing that decides the function. Two sources are taken to be models and others layers, unless "
    "`--set axis=` says otherwise; this changes no number.",
    saelens="has no crosscoder; it is written as an SAE of width K·D with the factors folded.",
    source="ckkissane/crosscoder-model-diff-replication e221e8d",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
