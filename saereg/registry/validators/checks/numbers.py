"""SR4: the numbers. Those in the documents at level header, those in the weights at level data."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from saereg.errors import WeightsError
from saereg.registry.metrics.claims import judge, tolerance_of
from saereg.registry.release import INDEX_FILE
from saereg.registry.validators.subject import ArtifactSubject
from saereg.schemas.cfg_native import BY_K
from saereg.schemas.manifest import CrosscoderArtifact
from saereg.schemas.metrics import Claim, Measurement, Verdict
from saereg.schemas.report import Finding

CODE_OF = {"explained_variance": "SR411", "fvu": "SR411", "l0": "SR412"}
"""Metric → rule of a claim that differs; all others are SR414."""

AT_MOST_ONE = (
    "explained_variance", "explained_variance_legacy_rowmean", "ev_saelens_uncentred", "fve_centred_residual",
    "fve_scalar_var",
)  # fmt: skip
"""Metrics of the form 1 − something that is a sum of squares over another."""

KEPT, DRIFT = 0.9, 2.0
"""Share of k that is active at least in TopK, and by which factor the L0 of BatchTopK may miss k."""

NEVER_NEGATIVE = ("fvu", "mse_per_row", "mse_per_element", "nmse_uncentred_row")
"""Metrics that are sums of squares over something positive."""


def claims_possible(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR402: no claim is a number that cannot be measured."""
    for i, claim in enumerate(artifact.claim.claims):
        problem = _impossible(claim, artifact.claim.d_sae)
        if problem:
            message = f"{claim.metric} = {claim.value:g} is impossible: {problem}"
            yield artifact.claim_finding("SR402", message, f"/claims/{i}/value", found=f"{claim.value:g}")


def _impossible(claim: Claim, d_sae: int) -> str | None:
    value, metric = claim.value, claim.metric
    if metric in AT_MOST_ONE and value > 1:
        return "it cannot exceed 1"
    if metric.startswith("l0") and not 0 <= value <= d_sae:
        return f"it lies between 0 and d_sae = {d_sae}"
    if metric in NEVER_NEGATIVE and value < 0:
        return "it cannot be negative"
    return "it is a share" if metric == "dead_fraction" and not 0 <= value <= 1 else None


def recorded_l0(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR413 and SR417: the L0 measured or claimed of a dictionary that keeps k latents is not above k or far below."""
    limits = _limits(artifact)
    if limits is None:
        return
    measured = [m for m in (artifact.evidence.metrics if artifact.evidence else ()) if m.metric == "l0"]
    for measurement in measured:
        # Of BatchTopK k is an average: no row is bound by it.
        most = measurement.value if limits.loose or measurement.maximum is None else measurement.maximum
        if most is not None and most > limits.most:
            words = "a mean of" if limits.loose else "up to"
            message = f"the index records {words} {most:g} active latents, but k = {limits.k:g}"
            yield limits.above(artifact.finding("SR413", message, path=INDEX_FILE, **limits.words(most)))
        if measurement.value is not None and measurement.value < limits.least:
            message = f"the index records {measurement.value:g} active latents in the mean, but k = {limits.k:g}"
            expected, found = f"about {limits.k:g}", f"{measurement.value:g}"
            yield artifact.finding("SR417", message, path=INDEX_FILE, expected=expected, found=found)
    for i, claim in enumerate(artifact.claim.claims):
        message, pointer = f"l0 is claimed to be {claim.value:g}, but k = {limits.k:g}", f"/claims/{i}/value"
        if _above_k(limits, claim):
            yield limits.above(artifact.claim_finding("SR413", message, pointer, **limits.words(claim.value)))
        elif claim.metric == "l0" and 0 <= claim.value < limits.least and not measured:
            expected, found = f"about {limits.k:g}", f"{claim.value:g}"
            yield artifact.claim_finding("SR417", message, pointer, expected=expected, found=found)


@dataclass(frozen=True)
class _Limits:
    """Between which numbers the L0 of a dictionary that keeps k latents lies.

    Attributes:
        k: how many it keeps.
        least: smallest mean that is not remarkable; minus infinity where none is.
        most: largest possible one.
        loose: whether k is an average over a batch, and a stored threshold takes its place at inference.
    """

    k: float
    least: float
    most: float
    loose: bool

    def words(self, found: float) -> dict[str, object]:
        return {"expected": f"at most {self.k:g}" if not self.loose else f"about {self.k:g}", "found": f"{found:g}"}

    def above(self, finding: Finding) -> Finding:
        return finding.model_copy(update={"severity": "warning"}) if self.loose else finding


def _limits(artifact: ArtifactSubject) -> _Limits | None:
    rules = artifact.semantics
    k = rules.k if rules is not None else None
    if rules is None and "topk" in artifact.claim.architecture:
        k = artifact.claim.sparsity.k
    loose = "batchtopk" in (rules.activation if rules is not None else artifact.claim.architecture)
    if k is None or not (loose or rules is None or rules.activation in BY_K):
        return None
    keeps = loose or rules is None or rules.activation != "groupmax"  # a group may well have no positive latent
    least = k * (1 / DRIFT if loose else KEPT) if keeps and not artifact.claim.expected_failure else -math.inf
    return _Limits(k, least, k * DRIFT if loose else k, loose)


def _above_k(limits: _Limits | None, claim: Claim) -> bool:
    return limits is not None and claim.metric == "l0" and claim.value > limits.most + tolerance_of(claim)


def recorded_claims(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR411, SR412, SR414 and SR415: the claims agree with the measurements that the index records."""
    if artifact.evidence is not None:
        verdicts = _judged(artifact, artifact.evidence.metrics)
        claims, d_sae, limits = artifact.claim.claims, artifact.claim.d_sae, _limits(artifact)
        verdicts = tuple(v for v in verdicts if not _above_k(limits, claims[v.claim]))
        # An impossible number has its own rule; that it also differs from the measurement adds nothing.
        yield from _verdict_findings(artifact, [v for v in verdicts if not _impossible(claims[v.claim], d_sae)])


def _judged(artifact: ArtifactSubject, measurements: Iterable[Measurement]) -> tuple[Verdict, ...]:
    return judge(artifact.claim.claims, measurements, artifact.release.options.tolerances)


def evaluations_fit(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR425: the evaluation files that claims and measurements refer to are there, as declared."""
    manifest, release = artifact.release.manifest, artifact.release
    names = {claim.evaluation for claim in artifact.claim.claims if claim.evaluation}
    names |= {m.evaluation for m in artifact.evidence.metrics} if artifact.evidence else set()
    for name in sorted(names & set(manifest.evaluations if manifest else ())):
        evaluation = manifest.evaluations[name] if manifest else None
        if evaluation is None or evaluation.path not in release.files:
            if evaluation is not None and evaluation.path not in release.indexed:  # else SR002 says so
                yield artifact.finding("SR425", f"{evaluation.path} is missing", path=evaluation.path)
            continue
        try:
            tensors = release.evaluation_tensors(evaluation.path)
        except WeightsError as error:
            yield artifact.finding("SR425", str(error), path=evaluation.path)
            continue
        found = tensors[evaluation.tensor].shape if evaluation.tensor in tensors else None
        if shape := _shape_missed(found, evaluation.rows, artifact):
            expected = f"{evaluation.tensor} {shape}"
            shown = f"{evaluation.tensor} {found}" if found is not None else ", ".join(tensors)
            message = f"{evaluation.path} holds {shown}, but {expected} is declared"
            yield artifact.finding("SR425", message, path=evaluation.path, expected=expected, found=shown)


def _shape_missed(found: tuple[int, ...] | None, rows: int, artifact: ArtifactSubject) -> str | None:
    """Return the shape that a tensor of inputs should have for this artifact, or None when it has it."""
    claim, rules = artifact.claim, artifact.semantics
    if rules is not None and rules.reshape == "hook_z":
        fits = found is not None and len(found) == 3 and found[0] == rows and found[1] * found[2] == claim.d_in
        return None if fits else f"({rows}, heads, width) with heads × width = {claim.d_in}"
    if not found or found[0] != rows or found[-1] != claim.d_in:
        return f"({rows}, …, {claim.d_in})"
    sources = (claim.sources.count,) if isinstance(claim, CrosscoderArtifact) else ()
    shape = (rows, *sources, claim.d_in)
    return None if found == shape or claim.architecture == "temporal" else str(shape)


def recomputed(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR411 to SR416: metrics are recomputed from the weights and compared with claims and records."""
    from saereg.registry.loading import load_path
    from saereg.registry.metrics.engine import measure

    manifest, root = artifact.release.manifest, artifact.release.root
    recorded = artifact.evidence.metrics if artifact.evidence else ()
    names = {claim.evaluation for claim in artifact.claim.claims if claim.kind == "recomputed" and claim.evaluation}
    names |= {measurement.evaluation for measurement in recorded}
    usable = sorted(names & set(manifest.evaluations)) if manifest else []
    if not usable or manifest is None:
        return
    dictionary = load_path(root / artifact.claim.path, layout=artifact.claim.format, as_library=True)
    measured: list[Measurement] = []
    for name in usable:
        evaluation = manifest.evaluations[name]
        if evaluation.path not in artifact.release.files:
            continue
        try:
            digest = artifact.release.sha256(evaluation.path)
            measured += measure(dictionary, root, manifest, name, data_sha256=digest)
        except WeightsError as error:
            yield artifact.finding("SR425", str(error), path=evaluation.path)
    yield from _not_reproduced(artifact, recorded, measured)
    differing = [v for v in _judged(artifact, measured) if v.verdict == "differs"]
    already = {v.claim for v in _judged(artifact, recorded) if v.verdict == "differs"}
    yield from _verdict_findings(artifact, [v for v in differing if v.claim not in already])


def _not_reproduced(
    artifact: ArtifactSubject, recorded: Iterable[Measurement], measured: Iterable[Measurement]
) -> Iterator[Finding]:
    found = {(m.metric, m.evaluation): m for m in measured}
    for old in recorded:
        new = found.get((old.metric, old.evaluation))
        if new is None or (new.value is None and old.value is None):
            continue
        if new.value is None or old.value is None or abs(new.value - old.value) > new.tolerance:
            message = f"{old.metric} on {old.evaluation!r} is {_text(new.value)}, the index records {_text(old.value)}"
            expected, now = _text(old.value), _text(new.value)
            yield artifact.finding("SR416", message, path=INDEX_FILE, expected=expected, found=now)


def _verdict_findings(artifact: ArtifactSubject, verdicts: Iterable[Verdict]) -> Iterator[Finding]:
    for verdict in verdicts:
        claim, pointer = artifact.claim.claims[verdict.claim], f"/claims/{verdict.claim}"
        if verdict.verdict == "differs":
            code = CODE_OF.get(claim.metric, "SR414")
            message = f"{claim.metric} is claimed to be {claim.value:g}; {verdict.why}"
            shown = _text(verdict.measured)
            values = {"expected": shown, "found": f"{claim.value:g}", "fixable": "unsafe"}
            yield artifact.claim_finding(code, message, f"{pointer}/value", **values)
        elif verdict.verdict == "not_verifiable":
            message = f"{claim.metric} = {claim.value:g} cannot be verified: {verdict.why}"
            yield artifact.claim_finding("SR415", message, pointer)


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"
