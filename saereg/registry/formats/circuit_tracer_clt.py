"""circuit-tracer cross-layer transcoders: W_enc_<i>.safetensors and W_dec_<i>.safetensors for each layer.

Source: circuit-tracer 0.5.0, `transcoder/cross_layer_transcoder.py`, `load_clt` and `CrossLayerTranscoder`.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from saereg.errors import FormatError, WeightsError
from saereg.registry.files.tensors import TensorFile, whole
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading, several
from saereg.registry.readings.source import Source
from saereg.schemas.cfg_native import CrossLayerConfig
from saereg.schemas.recipe import SourceTensor, Step, moved, transposed
from saereg.schemas.semantics import Assumption, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, CONFIG_FILE = "circuit_tracer_clt", "config.yaml"

ENCODER, DECODER = re.compile(r"W_enc_(\d+)\.safetensors$"), re.compile(r"W_dec_(\d+)\.safetensors$")


def detect(source: Source) -> str | None:
    """Pairs of files for encoder and decoder of each layer, with tensors of the same numbered names in them."""
    encoders, decoders = numbered(source.names, ENCODER), numbered(source.names, DECODER)
    if not encoders or not decoders or len(encoders) + len(decoders) != len(source.names):
        return None
    layer = min(encoders)
    if f"W_enc_{layer}" not in source.file(encoders[layer]).entries:
        return None
    return "a W_enc_<i> and a W_dec_<i> for each layer, each in a file of its own"


def numbered(names: Iterable[str], pattern: re.Pattern[str]) -> dict[int, str]:
    """Return number → name of the names that match."""
    found = ((pattern.match(name), name) for name in names)
    return {int(match[1]): name for match, name in found if match}


def without_gap(numbers: Iterable[int], what: str, source: Source) -> int:
    """Return how many numbers there are, from 0 on.

    Raises:
        FormatError: naming the first that is missing.
    """
    there = set(numbers)
    for number in range(max(there, default=-1) + 1):
        if number not in there:
            name = what.format(number)
            raise FormatError(source.path, f"{name} is missing; there are files up to {what.format(max(there))}")
    return len(there)


def read(source: Source, given: Given) -> Reading:
    """Read the folder of one transcoder.

    Raises:
        FormatError: when a layer is missing.
        WeightsError: when a tensor is missing or of another shape.
    """
    encoders, decoders = numbered(source.names, ENCODER), numbered(source.names, DECODER)
    n_layers = without_gap(encoders, "W_enc_{}.safetensors", source)
    if not encoders:
        raise FormatError(source.path, "holds no W_enc_0.safetensors; name the folder of the transcoder")
    for layer in range(n_layers):
        if layer not in decoders:
            raise FormatError(source.path, f"W_dec_{layer}.safetensors is missing; there are {n_layers} encoders")
    files = {name: source.file(name) for name in (*encoders.values(), *decoders.values())}
    jumps = "threshold_0" in files[encoders[0]].entries
    skips = "W_skip_0" in files[encoders[0]].entries
    plan: dict[str, SourceTensor] = {}
    for layer in range(n_layers):
        plan |= _layer(layer, n_layers, encoders[layer], decoders[layer])
        if jumps:
            plan[f"threshold.{layer}"] = moved(f"threshold_{layer}", file=encoders[layer])
        if skips:
            plan[f"W_skip.{layer}"] = transposed(f"W_skip_{layer}", file=encoders[layer])
        _check_decoder(files[decoders[layer]], layer, n_layers)
    _check_all_used(files, plan)
    cfg = source.document(CONFIG_FILE) or {}
    widths = widths_of(files[encoders[0]], "W_enc_0", "b_dec_0", by_latents=True)
    rules = Semantics(
        pre_encoder_subtraction="none",
        activation="jumprelu" if jumps else "relu",
        gate_quantity="pre_activation",
        # features · (features > threshold), without a ReLU
        rectified=not jumps or not _any_negative(files, plan),
        threshold="per_latent" if jumps else "none",
        threshold_units="gate_quantity" if jumps else "none",
        skip="x_times_W_skip_transposed" if skips else "none",
    )
    fields = {"kind": "cross_layer", **widths, "n_layers": n_layers, "writes": "same_and_later", "semantics": rules}
    facts = {key: cfg.get(key) for key in ("model_name", "feature_input_hook", "feature_output_hook")}
    return several(
        CrossLayerConfig, files, plan, fields, metadata=facts, assumptions=[*given.assumptions, *_assumed(skips)]
    )


def _assumed(skips: bool) -> list[Assumption]:
    because = "circuit-tracer's class computes x·W_skip, untransposed; its loader reads no skip connection"
    return [Assumption(field="W_skip", value="x·W_skip", because=because)] if skips else []


def _layer(layer: int, n_layers: int, encoder: str, decoder: str) -> dict[str, SourceTensor]:
    plan = {
        f"W_enc.{layer}": transposed(f"W_enc_{layer}", file=encoder),
        f"b_enc.{layer}": moved(f"b_enc_{layer}", file=encoder),
        f"b_dec.{layer}": moved(f"b_dec_{layer}", file=encoder),
    }
    for target in range(layer, n_layers):
        step = Step(do="take", axis=1, index=target - layer)
        plan[f"W_dec.{layer}.{target}"] = moved(f"W_dec_{layer}", step, file=decoder)
    return plan


def _check_decoder(file: TensorFile, layer: int, n_layers: int) -> None:
    """Refuse a decoder that does not write to this layer and all behind it."""
    key = f"W_dec_{layer}"
    if key not in file.entries:
        raise WeightsError(str(file.path), f"missing; the file holds {', '.join(sorted(file.entries)[:12])}", key)
    shape, targets = file.entries[key].shape, n_layers - layer
    if len(shape) != 3 or shape[1] != targets:
        problem = f"shape {shape}; of {n_layers} layers, layer {layer} writes to {targets}: (d_sae, {targets}, d_out)"
        raise WeightsError(str(file.path), problem, key)


def widths_of(file: TensorFile, encoder: str, b_dec: str, *, by_latents: bool) -> dict[str, int]:
    """Return the widths that the tensors of one layer have.

    Args:
        file: its file.
        encoder: name of the encoder.
        b_dec: name of the output bias.
        by_latents: whether the encoder is (F, D), and not (D, F).

    Raises:
        WeightsError: when one is missing, or not a matrix and a vector.
    """
    for name, ndim in ((encoder, 2), (b_dec, 1)):
        if name not in file.entries:
            raise WeightsError(str(file.path), f"missing; the file holds {', '.join(sorted(file.entries)[:12])}", name)
        if len(file.entries[name].shape) != ndim:
            expected = "a matrix" if ndim == 2 else "a vector"
            raise WeightsError(str(file.path), f"shape {file.entries[name].shape}, expected {expected}", name)
    rows, columns = file.entries[encoder].shape
    d_in, d_sae = (columns, rows) if by_latents else (rows, columns)
    return {"d_in": d_in, "d_sae": d_sae, "d_out": file.entries[b_dec].shape[0]}


def _check_all_used(files: dict[str, TensorFile], plan: dict[str, SourceTensor]) -> None:
    used = {(recipe.file, recipe.key) for recipe in plan.values()}
    for name, file in files.items():
        for key in sorted(file.entries):
            if (name, key) not in used:
                raise WeightsError(str(file.path), "is no tensor of this layout; it would be lost", key)


def _any_negative(files: dict[str, TensorFile], plan: dict[str, SourceTensor]) -> bool:
    recipes = [recipe for name, recipe in plan.items() if name.startswith("threshold.")]
    there = [(files[str(r.file)], str(r.key)) for r in recipes if r.key in files[str(r.file)].entries]
    return any(bool((whole(file, key).double() < 0).any()) for file, key in there)


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """circuit-tracer's forward: f_i = features·(features > θ_i), or ReLU; f_i·W_dec_i[:, j] is added at layer i + j."""
    import torch

    from saereg.registry.readings import reference as do

    n_layers = x.shape[1]
    encoders = [f"W_enc_{layer}.safetensors" for layer in range(n_layers)]
    features = [
        raw.times_transposed(x[:, layer], f"W_enc_{layer}", name) + raw.vector(f"b_enc_{layer}", name)
        for layer, name in enumerate(encoders)
    ]
    pre = torch.stack(features, dim=1)
    if "threshold_0" in raw.files[encoders[0]].entries:
        cuts = torch.stack([raw.vector(f"threshold_{layer}", name) for layer, name in enumerate(encoders)])
        f, margin = do.threshold(pre, cuts, keep_negative=True)
    else:
        f, margin = do.relu(pre)
    x_hat = torch.stack([raw.vector(f"b_dec_{layer}", name) for layer, name in enumerate(encoders)]).repeat(
        len(x), 1, 1
    )
    for layer in range(n_layers):
        for ahead in range(n_layers - layer):
            name = f"W_dec_{layer}"
            x_hat[:, layer + ahead] += raw.times(f[:, layer], name, f"{name}.safetensors", at={1: ahead})
        if f"W_skip_{layer}" in raw.files[encoders[layer]].entries:
            x_hat[:, layer] += raw.times(x[:, layer], f"W_skip_{layer}", encoders[layer])
    return do.Codes(f, x_hat, margin)


ABOUT = About(
    title="circuit-tracer cross-layer transcoders",
    used_by="circuit-tracer and Neuronpedia (`mntss/clt-*`)",
    files="`config.yaml`; for each layer i `W_enc_<i>.safetensors` with `W_enc_<i>` (F, D), `b_enc_<i>` (F,), "
    "`b_dec_<i>` (D,), `threshold_<i>` (F,) where it applies, and `W_dec_<i>.safetensors` with `W_dec_<i>` (F, L − i, "
    "D), whose entry j writes to layer i + j.",
    silent="nothing that decides the function.",
    assumed="nothing. JumpReLU has no ReLU there: a latent above a negative threshold may be negative. A `W_skip_<i>`, "
    "which no release has, is used untransposed, as the class does, unlike in transcoder sets.",
    saelens="adds the decoders of all targets, which reconstructs no layer, and drops thresholds.",
    source="circuit-tracer 0.5.0, transcoder/cross_layer_transcoder.py",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
