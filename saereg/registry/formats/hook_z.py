"""Attention SAEs of Kissane, Krzyzanowski and others: `<name>.pt` with `<name>_cfg.json`; ReLU on concatenated heads.

Source: the loader `connor_rob_hook_z` of SAELens 6.54 and 3.0, `pretrained_sae_loaders.py`; the training code that both
go back to subtracts b_dec before the encoder and adds it after the decoder.
"""

from typing import TYPE_CHECKING, Any, Literal

from saereg.errors import FormatError
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, unknown_keys
from saereg.registry.readings.reading import Reading, dictionary, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.recipe import moved
from saereg.schemas.semantics import Assumption, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME = "hook_z"

TENSORS = frozenset({"W_enc", "W_dec", "b_enc", "b_dec"})

TRAINING = frozenset([
    "seed", "batch_size", "buffer_mult", "lr", "num_tokens", "l1_coeff", "beta1", "beta2", "dict_mult", "seq_len",
    "enc_dtype", "device", "reinit", "resample_scheme", "anthropic_neuron_resample_scale", "dead_direction_cutoff",
    "re_init_every", "anthropic_resample_last", "resample_factor", "num_resamples", "wandb_project_name",
    "wandb_entity", "save_state_dict_every", "b_dec_init", "sched_type", "sched_epochs", "sched_lr_factor",
    "sched_warmup_epochs", "sched_finish", "anthropic_resample_batches", "eval_every", "model_batch_size",
    "buffer_size", "buffer_batches", "name", "remove_rare_dir", "tokens_per_batch",
])  # fmt: skip
"""Keys of training, storage and logging, which leave the function as it is."""

READ = frozenset(["act_size", "dict_size", "act_name", "model_name", "layer", "site", "head", "concat_heads"])
"""Keys that are read."""


def detect(source: Source) -> str | None:
    """SAELens' names and orientation, and a document of its name with `act_size` and `act_name`."""
    encoder = source.shape("W_enc")
    if not source.keys >= TENSORS or len(encoder) != 2 or source.shape("W_dec") != encoder[::-1]:
        return None
    cfg = source.document(_document(source))
    if cfg is None or not {"act_size", "dict_size", "act_name"} <= cfg.keys():
        return None
    return f"`W_enc` (d_in, d_sae), `W_dec` (d_sae, d_in), and {_document(source)} has `act_size` and `act_name`"


def _document(source: Source) -> str:
    return f"{source.stem}_cfg.json"


def read(source: Source, given: Given) -> Reading:
    """Read one file and the document of its name.

    Raises:
        FormatError: when the document contradicts the tensors, or says something that is not known.
        WeightsError: when a tensor is missing, extra, or of another shape.
    """
    del given  # there is nothing to ask for
    cfg = source.document(_document(source)) or {}
    said, found = (cfg.get("act_size"), cfg.get("dict_size")), source.shape("W_enc")
    if said != found:
        problem = f"says act_size = {said[0]!r} and dict_size = {said[1]!r}, but W_enc is {found}"
        raise FormatError(source.path, f"{_document(source)} {problem}; correct it")
    notes = unknown_keys(cfg, TRAINING | READ, _document(source))
    because = "no file says so; the one training code that writes such files has nothing else"
    notes += [
        Assumption(field="activation", value="relu", because=because),
        Assumption(field="pre_encoder_subtraction", value="b_dec", because=because),
    ]
    reading = dictionary(
        {"": source.only()},
        {name: moved(name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")},
        kind="sae",
        semantics=Semantics(
            pre_encoder_subtraction="b_dec",
            activation="relu",
            gate_quantity="pre_activation",
            reshape=_reshape(cfg, source),
        ),
        metadata={
            "model_name": cfg.get("model_name"),
            "hook_name": cfg.get("act_name"),
            "hook_layer": cfg.get("layer"),
            "hook_head_index": cfg["head"] if type(cfg.get("head")) is int else None,
        },
        assumptions=notes,
    )
    return with_left_out(reading, ())


def _reshape(cfg: dict[str, Any], source: Source) -> Literal["none", "hook_z"]:
    """Return how heads are treated: they are concatenated at hook_z, unless the document says that one was read."""
    name, concatenated = cfg.get("act_name"), cfg.get("concat_heads", True)
    if not isinstance(name, str) or not isinstance(concatenated, bool):
        problem = f"says act_name {name!r} and concat_heads {concatenated!r}; expected a name, and true or false"
        raise FormatError(source.path, f"{_document(source)} {problem}")
    one = not concatenated or type(cfg.get("head")) is int
    return "hook_z" if name.endswith("hook_z") and not one else "none"


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """relu((x − b_dec)·W_enc + b_enc), and f·W_dec + b_dec."""
    from saereg.registry.readings import reference as do

    del reading  # there is nothing to choose
    b_dec = raw.vector("b_dec")
    f, margin = do.relu(raw.times(x - b_dec, "W_enc") + raw.vector("b_enc"))
    return do.Codes(f, raw.times(f, "W_dec") + b_dec, margin)


ABOUT = About(
    title="attention SAEs on hook_z",
    used_by="`ckkissane/attn-saes-gpt2-small-all-layers`",
    files="`<name>.pt` with `W_enc` (D, F), `W_dec` (F, D), `b_enc` (F,), `b_dec` (D,), and `<name>_cfg.json` with "
    "`act_size`, `dict_size`, `act_name`.",
    silent="the activation, and that b_dec is subtracted before the encoder.",
    assumed="both, as in the training code that writes such files. Heads are concatenated where `act_name` ends in "
    "`hook_z`, unless `head` is a number or `concat_heads` false.",
    saelens="its loader `connor_rob_hook_z` reads this repository; it says gpt2-small, openwebtext and a context of "
    "128 of any; the same function.",
    source="SAELens 6.54 and 3.0, `connor_rob_hook_z_huggingface_loader`",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
