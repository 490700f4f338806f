"""mlsae (Lawson): one TopK dictionary for the residual streams of all layers, model.safetensors and config.json.

Source: tim-lawson/mlsae ba90c51, `model/autoencoder.py`; `model/lightning.py` for repositories with the transformer.
"""

from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing, unknown_keys
from saereg.registry.readings.reading import Reading, dictionary, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.recipe import ZEROS, moved, transposed
from saereg.schemas.semantics import Assumption, Normalization, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, CONFIG_FILE = "mlsae", "config.json"

TENSORS = frozenset({"encoder.weight", "decoder.weight", "pre_encoder_bias"})

KNOWN = (
    "n_inputs",
    "n_latents",
    "k",
    "dead_steps_threshold",
    "dead_threshold",
    "auxk",
    "standardize",
    "model_name",
    "layers",
    "expansion_factor",
    "auxk_coef",
    "dead_tokens_threshold",
    "lr",
    "skip_special_tokens",
    "max_length",
    "batch_size",
    "accumulate_grad_batches",
    "tuned_lens",
)
"""Keys that config.json has: the arguments of the autoencoder, and of what it is trained in."""

PREFIXES = ("", "autoencoder.")
"""Of the tensors, alone and beside the transformer."""

NOT_OURS = ("transformer.", "lens.", "loss_true", "loss_pred", "logits_true", "logits_pred")
"""Beginnings of what stands beside the dictionary where the transformer was saved with it."""


def detect(source: Source) -> str | None:
    """A `pre_encoder_bias` beside two torch Linear layers without bias, alone or below `autoencoder`."""
    prefix = _prefix(source.keys)
    return None if prefix is None else f"`{prefix}pre_encoder_bias` and two torch Linear layers without bias"


def _prefix(keys: frozenset[str]) -> str | None:
    fitting = [prefix for prefix in PREFIXES if {prefix + name for name in TENSORS} <= keys]
    return fitting[0] if fitting and f"{fitting[0]}encoder.bias" not in keys else None


def read(source: Source, given: Given) -> Reading:
    """Read a dictionary. It belongs to the layers that config.json lists, if it does; to no single one.

    Raises:
        FormatError: when k is not said, or config.json contradicts the tensors.
        WeightsError: when a tensor is missing or of another shape.
    """
    cfg, file = source.document(CONFIG_FILE) or {}, source.only()
    prefix = _prefix(frozenset(file.entries)) or ""
    assumptions: list[Assumption] = []
    standardize = _flag(cfg, "standardize", source)
    if standardize is None:
        because = "absent from config.json; the default of the library's class, which loads it"
        standardize = True
        assumptions.append(Assumption(field="standardize", value="True", because=because))
    if _flag(cfg, "tuned_lens", source):
        because = "config.json says it: rows and x_hat are those after the lens, which is no part of this dictionary"
        assumptions.append(Assumption(field="tuned_lens", value="True", because=because))
    _check_widths(cfg, prefix, source)
    plan = {
        "W_enc": transposed(f"{prefix}encoder.weight"),
        "b_enc": ZEROS,
        "W_dec": transposed(f"{prefix}decoder.weight"),
        "b_dec": moved(f"{prefix}pre_encoder_bias"),
    }
    normalized = Normalization(kind="layer_norm", statistics="per_row", inverted_on_output=True)
    k = _k(cfg, source, given)
    reading = dictionary(
        {"": file},
        plan,
        kind="sae",
        semantics=Semantics(
            pre_encoder_subtraction="b_dec",
            activation="topk",
            gate_quantity="pre_activation",
            k=k,
            normalization=normalized if standardize else Normalization(),
        ),
        metadata={
            "model_name": cfg.get("model_name"),
            "mlsae_layers": cfg.get("layers"),
            "mlsae_tuned_lens": cfg.get("tuned_lens"),
            "mlsae_skip_special_tokens": cfg.get("skip_special_tokens"),
            "context_size": cfg.get("max_length"),
        },
        assumptions=(*assumptions, *given.assumptions, *unknown_keys(cfg, KNOWN, CONFIG_FILE)),
    )
    others = (key for key in file.entries if prefix and key.startswith(NOT_OURS))
    return with_left_out(reading, (f"{prefix}last_nonzero", *others))


def _flag(cfg: dict[str, Any], name: str, source: Source) -> bool | None:
    value = cfg.get(name)
    if value is not None and not isinstance(value, bool):
        raise FormatError(source.path, f"config.json says {name} = {value!r}; expected true or false")
    return value


def _check_widths(cfg: dict[str, Any], prefix: str, source: Source) -> None:
    key = f"{prefix}encoder.weight"
    for name, found in zip(("n_latents", "n_inputs"), source.shape(key), strict=False):
        if name in cfg and cfg[name] != found:
            problem = f"config.json says {name} = {cfg[name]!r}, but {key} is {source.shape(key)}; correct config.json"
            raise FormatError(source.path, problem)


def _k(cfg: dict[str, Any], source: Source, given: Given) -> float:
    k = cfg["k"] if cfg.get("k") is not None else given.whole("k")
    if k is None:
        raise missing(source.path, "k", "config.json is missing, or does not say k", "32")
    if type(k) is not int or k < 1:
        raise FormatError(source.path, f"config.json says k = {k!r}; expected a positive whole number")
    return float(k)


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The library's own forward: standardize, x − bias, Linear, the k largest, ReLU, decode + bias, undo."""
    from saereg.registry.readings import reference as do

    cfg = raw.document(CONFIG_FILE)
    prefix = _prefix(frozenset(raw.files[""].entries)) or ""
    mean, sigma = x.new_zeros(()), x.new_ones(())
    z = x
    if cfg.get("standardize") is not False:
        z, mean, sigma = do.layer_norm(x)
    bias = raw.vector(f"{prefix}pre_encoder_bias")
    k = cfg.get("k") or told(reading).whole("k") or 0
    f, margin = do.topk(raw.times_transposed(z - bias, f"{prefix}encoder.weight"), int(k))
    x_hat = raw.times_transposed(f, f"{prefix}decoder.weight") + bias
    return do.Codes(f, x_hat * sigma + mean, margin)


ABOUT = About(
    title="mlsae",
    used_by="`tim-lawson/mlsae-*` and `tim-lawson/sae-*`, with `-tfm` where the transformer is in the file",
    files="`config.json` (`n_inputs`, `n_latents`, `k`, `standardize`) and `model.safetensors`: `encoder.weight` "
    "(F, D), `decoder.weight` (D, F), `pre_encoder_bias` (D,), `last_nonzero`; below `autoencoder.` where "
    "`transformer.*` is beside it, which is left out.",
    silent="the layers, but where the transformer is beside it: it is one dictionary for the residual streams of all; "
    "of an autoencoder alone, whether a tuned lens was applied first.",
    assumed="there is no encoder bias: `b_enc` is zeros. `standardize` true where config.json does not say. "
    "Where it says `tuned_lens`, inputs and reconstructions are those after the lens.",
    saelens="has no loader; as `topk` with `layer_norm` it computes the same.",
    source="mlsae ba90c51, model/autoencoder.py",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
