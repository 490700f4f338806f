"""What the switches of an artifact mean, in sentences; `docs/semantics.md` has the same as formulas."""

from collections.abc import Iterator

from saereg.registry.cards.marking import code
from saereg.schemas.manifest import Artifact, CrosscoderArtifact
from saereg.schemas.semantics import Activation, GateQuantity, Preprocessing, Semantics

NAMES: dict[Activation, str] = {
    "relu": "ReLU",
    "topk": "TopK",
    "abstopk": "AbsTopK",
    "groupmax": "groupmax",
    "batchtopk": "BatchTopK",
    "jumprelu": "JumpReLU",
    "gated": "gated",
    "matching_pursuit": "matching-pursuit",
    "temporal": "temporal",
}
"""Nonlinearity → what it is called before `sparse autoencoder`."""

NORMALIZED: dict[Preprocessing, str] = {
    "layer_norm": "Each row is centred and divided by its own standard deviation + 1e-5.",
    "constant_norm_rescale": "Each row is scaled to the norm √d_in.",
    "constant_scalar_rescale": "The input is multiplied by a number of `cfg.json`.",
    "center": "The stored `input_mean` is taken off the input.",
    "scale": "The input is multiplied by the stored `input_scale`.",
    "center_scale": "The stored `input_mean` is taken off the input, which is then multiplied by `input_scale`.",
}
"""What happens to the input first; what is not here is applied by no reader."""

GATES: dict[GateQuantity, str] = {
    "pre_activation": "the pre-activation",
    "pre_times_decoder_norm": "the pre-activation times the norm of the latent's decoder direction",
    "pre_times_code_norm": "the pre-activation times the code norm that `cfg.json` names",
    "gate_pre_activation": "the gate path",
}
"""What is ranked or compared."""


def sentences(rules: Semantics, claim: Artifact) -> list[str]:
    """Return what an artifact computes, one sentence a step, in the order of the computation; Markdown.

    Args:
        rules: the switches.
        claim: its entry in the manifest.
    """
    return [*_before(rules), *_latents(rules, claim), *_after(rules, claim)]


def _before(rules: Semantics) -> Iterator[str]:
    norm = rules.normalization
    if rules.reshape == "hook_z":
        yield "The heads of the input, (heads, width), are laid side by side first."
    if norm.kind in NORMALIZED and norm.applied_by_reader:
        yield NORMALIZED[norm.kind]
    elif norm.kind != "none":
        yield (f"`cfg.json` declares {code(norm.kind)}, which no reader applies: the weights read the input as it is.")
    else:
        yield "The input is not normalized."
    if rules.pre_encoder_subtraction == "b_dec":
        yield "`b_dec` is subtracted before the encoder."


def _latents(rules: Semantics, claim: Artifact) -> Iterator[str]:
    if isinstance(claim, CrosscoderArtifact):
        summed = "the sum of the biases of all sources" if rules.bias_reduction == "sum_over_sources" else "one bias"
        count = claim.sources.count
        yield f"The pre-activation is the sum of what the encoders of all {count} sources give, plus {summed}."
    yield _active(rules)
    if rules.gate == "per_source":
        yield "Each source has a gate of its own: a latent may be active at some of them alone, with the same value."
    if not rules.rectified:
        yield "A latent that is kept with a negative value keeps it."
    if rules.latents_scaled_by_decoder_norm:
        yield "Latents are stored times the norm of their decoder directions, and divided by it before decoding."


def _active(rules: Semantics) -> str:
    gate, k = GATES[rules.gate_quantity], "" if rules.k is None else f"{rules.k:g}"
    if rules.gate == "per_source":
        gate = "the pre-activation times the norm of the latent's decoder direction at that source"
    cut = {"scalar": "one stored threshold", "per_source": "the stored threshold of the source"}.get(
        rules.threshold, "the stored threshold of the latent"
    )
    where = " at each source" if rules.gate == "per_source" else ""
    texts: dict[Activation, str] = {
        "relu": "Latents are the pre-activations after a ReLU.",
        "topk": f"The {k} latents of each row with the largest {gate[4:]}{where} are kept, after a ReLU.",
        "abstopk": f"The {k} latents of each row with the largest magnitude of {gate} are kept, with their signs.",
        "groupmax": f"The latents are {k} groups of neighbours; of each the largest is kept, after a ReLU.",
        "batchtopk": f"A latent is active where {gate} exceeds {cut}{f' ({k} of a row on average)' if k else ''}.",
        "jumprelu": f"A latent is active where {gate} exceeds {cut}, strictly.",
        "gated": "A latent is active where its gate path is positive; a second path gives its value.",
        "matching_pursuit": "Directions are taken one by one, each time the one that explains most of what is left.",
        "temporal": "Attention over earlier positions predicts part of the code; the rest is coded sparsely.",
    }
    said = texts[rules.activation]
    return said if rules.rectified else said.replace(", after a ReLU", "")


def _after(rules: Semantics, claim: Artifact) -> Iterator[str]:
    if rules.output_bias == "b_dec":
        yield "The decoder adds `b_dec`."
    else:
        yield "The decoder adds no bias."
    if rules.normalization.inverted_on_output:
        yield "The reconstruction is mapped back to the units of the input."
    elif (
        claim.kind != "transcoder" and rules.normalization.kind in NORMALIZED and rules.normalization.applied_by_reader
    ):
        yield "The reconstruction stays in the units that the encoder reads."
    if rules.skip != "none":
        yield "A skip connection adds the raw input times `W_skip` transposed."
