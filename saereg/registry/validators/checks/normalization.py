"""SR3: whether a normalization is applied once, and is the one that the weights were trained with."""

import math
from collections.abc import Iterator, Mapping

from saereg.registry.evidence.golden_file import MAX_REL_ERROR
from saereg.registry.validators.subject import ArtifactSubject
from saereg.schemas.cfg import SaelensConfig
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.index import GoldenFacts
from saereg.schemas.manifest import TranscoderArtifact
from saereg.schemas.recipe import SourceTensor
from saereg.schemas.report import Finding

ROUNDING = 1e-5
"""A product of factors that is so close to 1 is 1."""

OURS = (
    "forward of saelens (",
    "forward of saelens_legacy (",
    "forward of saereg (",
    "forward of state_dict (",
    "saereg.registry.dictionary",
)
"""In `made_by`, forwards that take the normalization from cfg.json or the caller: they cannot show that it is right."""

Plan = Mapping[str, SourceTensor]


def normalized_once(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR312: no input scale was folded into weights whose configuration normalizes the rows as well."""
    config, source = artifact.config, artifact.claim.source_checkpoint
    if config is None or artifact.semantics is None or source is None:
        return
    rules = artifact.semantics.normalization
    folded = _folded_scale(source.tensors, transcodes=isinstance(artifact.claim, TranscoderArtifact))
    # one that readers do not apply is SR311, folded or not
    if rules.kind == "none" or not rules.applied_by_reader or folded is None:
        return
    if isinstance(config, SaelensConfig):
        pointer, key = "/normalize_activations", "normalize_activations"
    elif isinstance(config, CrosscoderConfig):
        pointer, key = "/statistics/preprocess", "preprocess"
    else:
        pointer, key = "/semantics/normalization/kind", "normalization"
    message = f"{folded} is folded into the weights, and {key} is {rules.kind!r}: inputs are normalized twice"
    yield artifact.config_finding("SR312", message, pointer, expected="none (folded)", found=rules.kind)


def _folded_scale(plan: Plan, *, transcodes: bool) -> str | None:
    """Return the scale of the inputs that recipes put into the weights, in words; None where they put none.

    A fold of s divides b_dec by s, and whatever it does to the encoder it undoes in the decoder. What is done to the
    latents alone, to make their decoder rows unit for example, leaves b_dec as it is; so does what corrects the
    encoder alone. A transcoder's output has another scale, so there only the encoder tells: W_enc is multiplied, b_enc
    is not.
    """
    factors = {name: _factor(plan[name]) if name in plan else 1.0 for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    if transcodes:
        by = factors["W_enc"] / factors["b_enc"] if "b_enc" in plan else 1.0
        return None if _is_one(by) else f"an input scale of {by:.6g}"
    if not _is_one(factors["b_dec"]) and _is_one(factors["W_enc"] * factors["W_dec"]):
        return f"an input scale of {1 / factors['b_dec']:.6g}"
    shared = _others(plan, "W_enc", "times") & _others(plan, "b_dec", "divide")
    return f"the input scale {min(shared)}" if shared else None


def _factor(recipe: SourceTensor) -> float:
    """Return what a recipe multiplies a tensor by; numbers that make no scale count as 1."""
    factor = math.prod(float(step.by or 1.0) for step in recipe.steps if step.do == "scale")
    return factor if factor and math.isfinite(factor) else 1.0


def _is_one(factor: float) -> bool:
    return abs(factor - 1) <= ROUNDING


def _others(plan: Plan, name: str, do: str) -> set[str]:
    """Return the source tensors that a recipe multiplies or divides by."""
    steps = plan[name].steps if name in plan else ()
    return {str(step.other.key) for step in steps if step.do == do and step.other is not None and step.other.key}


def layer_norm_proven(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR313: golden vectors of its source show which layer norm a SAELens artifact was trained with."""
    config, evidence = artifact.config, artifact.evidence
    if not isinstance(config, SaelensConfig) or config.normalize_activations != "layer_norm":
        return
    there = artifact.golden_path in artifact.release.files
    golden = evidence.golden if evidence is not None and there else None
    if golden is not None and _proves(golden, config.torch_dtype):
        return
    off = 1 / (2 * config.d_in)
    message = (
        "normalize_activations is 'layer_norm', and nothing shows that it was trained with SAELens' layer norm, which "
        f"is off from torch's by {off:.2g} (relative) at d_in = {config.d_in}"
    )
    found = f"golden vectors made by {golden.made_by}" if golden is not None else "no golden vectors in the index"
    yield artifact.config_finding(
        "SR313", message, "/normalize_activations", expected="golden vectors made by the trainer", found=found
    )


def _proves(golden: GoldenFacts, dtype: str) -> bool:
    """Whether vectors were made by somebody else's forward, and replay."""
    ours = any(name in golden.made_by for name in OURS) or golden.made_by == "unknown"
    # of an architecture without a publisher's forward, the converter takes saereg's own and names no source
    ours = ours or (golden.made_by.startswith("saereg ") and not golden.made_by.endswith(")"))
    replays = all(r.active_sets_equal and r.max_rel_error <= MAX_REL_ERROR[dtype] for r in golden.replayed)
    return replays and not ours
