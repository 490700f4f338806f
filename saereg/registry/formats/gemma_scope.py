"""Gemma Scope 1 (Google DeepMind): one params.npz per dictionary and no configuration; JumpReLU throughout.

Source: arXiv:2408.05147 and its tutorial; SAELens 6.54, `gemma_2_sae_huggingface_loader` and its transcoder loader.
"""

import math
from typing import TYPE_CHECKING

from saereg.errors import FormatError, WeightsError
from saereg.registry.files.tensors import TensorFile, whole
from saereg.registry.readings.format import About, Format, Layout, refuse
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading, dictionary, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_native import DictionaryConfig
from saereg.schemas.recipe import SourceTensor, Step, cast_to, moved, scaled
from saereg.schemas.semantics import Assumption, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, WEIGHTS_FILE = "gemma_scope", "params.npz"

TENSORS = frozenset({"W_enc", "W_dec", "b_enc", "b_dec", "threshold"})

SITES = ("residual", "attention", "mlp", "embedding")
"""Sites of SAEs; only those of the embedding are in other units than the model's stream."""

RULES = Semantics(
    pre_encoder_subtraction="none",
    activation="jumprelu",
    gate_quantity="pre_activation",
    threshold="per_latent",
    threshold_units="gate_quantity",
)
"""What all of these dictionaries have in common."""


def detect(source: Source) -> str | None:
    """An npz archive of W_enc (D, F), W_dec (F, O), two biases and a threshold per latent; nothing else."""
    if source.keys != TENSORS or not source.names or not all(name.endswith(".npz") for name in source.names):
        return None
    encoder, decoder = source.shape("W_enc"), source.shape("W_dec")
    if len(encoder) != 2 or len(decoder) != 2 or encoder[1] != decoder[0]:
        return None
    if source.shape("threshold") != (encoder[1],):
        return None
    return "an npz archive of exactly W_enc (D, F), W_dec (F, O), b_enc, b_dec and a threshold per latent"


def read(source: Source, given: Given) -> Reading:
    """Read params.npz. No file names model or site; the tensors say all of the function but for embeddings.

    Raises:
        FormatError: when a threshold is negative, or a given site does not fit.
        UsageError: when a given value is none of its choices.
        WeightsError: when a tensor is missing or of another shape.
    """
    file = source.only()
    for name in sorted(TENSORS - source.keys):
        raise WeightsError(str(file.path), f"missing; expected {', '.join(sorted(TENSORS))}", name)
    (d_in, *_), (*_, d_out) = (source.shape(name) or (0,) for name in ("W_enc", "W_dec"))
    notes: list[Assumption] = []
    kind = given.text("kind", ("sae", "transcoder")) or _kind(d_in, d_out, notes)
    site = given.text("site", SITES) or _site(kind, notes)
    if site == "embedding" and kind == "transcoder":
        raise FormatError(source.path, "site=embedding is of SAEs, and this is a transcoder; leave site out")
    if bool((whole(file, "threshold").double() < 0).any()):
        raise FormatError(source.path, "threshold is negative somewhere, which no Gemma Scope dictionary has")
    # trained on rows of the embedding matrix, which Gemma multiplies by √d before they enter its stream
    root = math.sqrt(d_in) if site == "embedding" else 1.0
    plan = {
        "W_enc": _scaled(file, "W_enc", 1 / root),
        "b_enc": moved("b_enc"),
        "W_dec": _scaled(file, "W_dec", root),
        "b_dec": _scaled(file, "b_dec", root),
        "threshold": moved("threshold"),
    }
    reading = dictionary(
        {"": file},
        plan,
        kind="transcoder" if kind == "transcoder" else "sae",
        semantics=RULES,
        assumptions=[*given.assumptions, *notes],
    )
    return with_left_out(reading, ())


def _kind(d_in: int, d_out: int, notes: list[Assumption]) -> str:
    if d_in != d_out:
        return "transcoder"
    because = "no file says it; it is the same function, and only what it should approximate differs: --set kind=…"
    notes.append(Assumption(field="kind", value="sae", because=because))
    return "sae"


def _site(kind: str, notes: list[Assumption]) -> str:
    if kind == "transcoder":
        return "not the embedding"
    because = "no file says the site; only SAEs of the embedding are scaled, by √d_in: --set site=embedding"
    notes.append(Assumption(field="site", value="not the embedding", because=because))
    return "not the embedding"


def _scaled(file: TensorFile, key: str, by: float) -> SourceTensor:
    if by == 1.0:
        return moved(key)
    wide = (cast_to("float32"),) if file.entries[key].dtype == "float16" else ()
    return moved(key, *wide, scaled(by))


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The tutorial's own forward: relu(pre) where pre = x·W_enc + b_enc is above the threshold, then f·W_dec + b_dec.

    At the embedding it runs on rows of the embedding matrix: x of the stream / √d, and the result is multiplied back.
    """
    from saereg.registry.readings import reference as do

    root = x.shape[1] ** 0.5 if told(reading).text("site") == "embedding" else 1.0
    pre = raw.times(x / root, "W_enc") + raw.vector("b_enc")
    f, margin = do.threshold(pre, raw.vector("threshold"))
    return do.Codes(f, (raw.times(f, "W_dec") + raw.vector("b_dec")) * root, margin)


def layout(cfg: ArtifactConfig) -> Layout:
    """Say what to write: params.npz as `numpy.savez` does.

    Raises:
        FormatError: with the reason, when Gemma Scope cannot say it.
    """
    if not isinstance(cfg, DictionaryConfig):
        raise FormatError(NAME, "cannot say a crosscoder, or codes across layers")
    refuse_all_but_jumprelu(cfg, NAME)
    refuse(NAME, {"it has no skip connection": cfg.semantics.skip != "none"})
    casts = {name: _wide(spec.dtype or cfg.dtype) for name, spec in cfg.tensors().items()}
    wide = {name: steps[0].to for name, steps in casts.items() if steps}
    plan = {name: SourceTensor(key=name, steps=casts[name]) for name in cfg.tensors()}
    dtypes = {name: wide.get(name, cfg.dtypes.get(name, cfg.dtype)) for name in plan}
    dtype = dtypes["W_dec"] or cfg.dtype
    written = cfg.model_copy(
        update={"dtype": dtype, "dtypes": {name: found for name, found in dtypes.items() if found != dtype}}
    )
    return Layout(written, {WEIGHTS_FILE: plan})


def _wide(dtype: str) -> tuple[Step, ...]:
    """Return the cast of a type that numpy has not."""
    return (cast_to("float32"),) if dtype == "bfloat16" else ()


def refuse_all_but_jumprelu(cfg: DictionaryConfig, name: str) -> None:
    """Refuse every function but JumpReLU of raw inputs with a threshold per latent.

    Raises:
        FormatError: with the reason.
    """
    rules = cfg.semantics
    wrong = {
        f"it has jumprelu with a threshold per latent, no {rules.activation}": rules.activation != "jumprelu"
        or rules.threshold != "per_latent",
        "it compares the pre-activation alone": rules.gate_quantity != "pre_activation",
        "it sets negative latents to 0": not rules.rectified,
        "it subtracts nothing from the input": rules.pre_encoder_subtraction != "none",
        f"it has no input normalization {rules.normalization.kind!r}": rules.normalization.kind != "none",
        "it always adds b_dec": rules.output_bias != "b_dec",
        "it does not say that heads are flattened": rules.reshape != "none",
    }
    refuse(name, wrong)


ABOUT = About(
    title="Gemma Scope 1",
    used_by="Google DeepMind (`google/gemma-scope-*`)",
    files="`params.npz` with `W_enc` (D, F), `W_dec` (F, O), `b_enc` (F,), `b_dec` (O,), `threshold` (F,), in float32.",
    silent="model, layer and site, which only the path in the repository names; whether it is a transcoder.",
    assumed="an SAE where input and output have one width, since a transcoder is the same function; any site but the "
    "embedding. `--set kind=transcoder` and `--set site=embedding` say otherwise. SAEs of the embedding were trained "
    "on rows of the embedding matrix: for the model's stream, which holds them times √D, `W_enc` is divided, and "
    "`W_dec` and `b_dec` are multiplied by √D. SAEs of attention read the heads flattened.",
    saelens="reads it, with model, site and width taken from the names of repository and folder; at the embedding it "
    "leaves `b_dec` as it is, in other units than the rest.",
    source="SAELens 6.54, pretrained_sae_loaders.py",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference, layout=layout)
