"""SR4: the numbers. Those in the documents at level header, those in the weights at level data."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from saereg.registry.claims.fits import COARSE, EXPLAINED, L1, SHARES, SILENT, SQUARED, UNEXPLAINED
from saereg.registry.claims.judge import correction, judge, tolerance_of
from saereg.registry.release import INDEX_FILE
from saereg.registry.validators.checks.evaluations import files_of
from saereg.registry.validators.subject import ArtifactSubject
from saereg.schemas import jsontext
from saereg.schemas.cfg_native import BY_K
from saereg.schemas.evaluation import Evaluation
from saereg.schemas.metrics import Claim, Measurement, Verdict
from saereg.schemas.report import Finding, Skipped

CODE_OF = {"explained_variance": "SR411", "fvu": "SR411", "l0": "SR412"}
"""Metric → rule of a claim that differs; all others are SR414."""

FAILED = ("differs", "matches_another")
"""Verdicts that speak against a claim."""

KEPT, DRIFT = 0.9, 2.0
"""Share of k that is active at least in TopK, and by which factor the L0 of BatchTopK may miss k."""

NEVER_NEGATIVE = (*UNEXPLAINED, *SQUARED, *L1)
"""Metrics that are sums of squares or of sizes over something positive."""


def claims_possible(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR402: no claim is a number that cannot be measured, or has a tolerance with which it says nothing."""
    for i, claim in enumerate(artifact.claim.claims):
        problem = _impossible(claim, artifact.claim.d_sae)
        if problem:
            message = f"{claim.metric} = {claim.value:g} is impossible: {problem}"
            yield artifact.claim_finding("SR402", message, f"/claims/{i}/value", found=f"{claim.value:g}")
        most = _widest(claim)
        if claim.tolerance is not None and claim.tolerance > most:
            message = f"a tolerance of {claim.tolerance:g} for {claim.metric} = {claim.value:g} says next to nothing"
            values = {"expected": f"at most {most:.2g}", "found": f"{claim.tolerance:g}"}
            values["hint"] = "Leave `tolerance` out, or state what the number really varies by."
            finding = artifact.claim_finding("SR402", message, f"/claims/{i}/tolerance", **values)
            yield finding.model_copy(update={"severity": "warning"})


def _widest(claim: Claim) -> float:
    """Return the largest tolerance with which a claim still says something."""
    printed = tolerance_of(claim.model_copy(update={"tolerance": None}))
    # a little more: 0.05·|value| of what is written in decimals may be a bit below it
    return max(COARSE if claim.metric in SHARES else 0.0, 0.05 * abs(claim.value), printed) * (1 + 1e-9)


def _impossible(claim: Claim, d_sae: int) -> str | None:
    value, metric = claim.value, claim.metric
    if metric in EXPLAINED and value > 1:
        return "it cannot exceed 1"
    if metric.startswith("l0") and not 0 <= value <= d_sae:
        return f"it lies between 0 and d_sae = {d_sae}"
    if metric in NEVER_NEGATIVE and value < 0:
        return "it cannot be negative"
    return "it is a share" if metric in SILENT and not 0 <= value <= 1 else None


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
    """SR411, SR412, SR414, SR415 and SR418: the claims agree with the measurements that the index records."""
    if artifact.evidence is not None:
        verdicts = _judged(artifact, artifact.evidence.metrics)
        claims, d_sae, limits = artifact.claim.claims, artifact.claim.d_sae, _limits(artifact)
        verdicts = tuple(v for v in verdicts if not _above_k(limits, claims[v.claim]))
        # An impossible number has its own rule; that it also differs from the measurement adds nothing.
        yield from _verdict_findings(artifact, [v for v in verdicts if not _impossible(claims[v.claim], d_sae)])


def _judged(artifact: ArtifactSubject, measurements: Iterable[Measurement]) -> tuple[Verdict, ...]:
    return judge(artifact.claim.claims, measurements, artifact.release.options.tolerances)


def recomputed(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR411 to SR418: metrics are recomputed from the weights and compared with claims and records."""
    from saereg.registry.claims.measuring import measured
    from saereg.registry.kernels.running import runner_of
    from saereg.registry.loading import load_path
    from saereg.registry.metrics.sources.opening import Surroundings
    from saereg.registry.semantics import row_shape

    release, manifest = artifact.release, artifact.release.manifest
    evaluations = _usable(artifact)
    if not evaluations or manifest is None:
        return
    folder, options = release.root / artifact.claim.path, release.options
    dictionary = load_path(folder, options.device, layout=artifact.claim.format, as_library=True)
    shape = row_shape(dictionary.cfg)

    def around(evaluation: Evaluation) -> Surroundings:
        path = getattr(evaluation, "path", None)
        digests = {file: release.sha256(file) for file in (files_of(release, path) if path is not None else ())}
        return Surroundings(release.root, manifest, shape, digests, options.models, options.device)

    claims, predicts = artifact.claim.claims, artifact.claim.kind == "transcoder"
    found = measured(runner_of(dictionary), evaluations, around, claims, options.tolerances, predicts=predicts)
    for name, error in found.failed.items():
        path = getattr(evaluations[name], "path", None)
        yield artifact.finding("SR425", f"evaluation {name!r}: {error}", path=path)
    yield from _not_reproduced(artifact, artifact.evidence.metrics if artifact.evidence else (), found.measurements)
    for name, why in found.unavailable.items():
        reason = f"evaluation {name!r}: {why}"
        release.skipped.append(Skipped(check="recomputed", artifact=artifact.claim.id, reason=reason))
    yield from _verdict_findings(artifact, _new(artifact, found.diagnosed.verdicts, found.unavailable))


def _usable(artifact: ArtifactSubject) -> dict[str, Evaluation]:
    """Return the evaluations that claims or records name, whose files are there."""
    manifest = artifact.release.manifest
    names = {claim.evaluation for claim in artifact.claim.claims if claim.kind == "recomputed" and claim.evaluation}
    names |= {measurement.evaluation for measurement in (artifact.evidence.metrics if artifact.evidence else ())}
    usable = {}
    for name in sorted(names & set(manifest.evaluations)) if manifest else ():
        path = getattr(manifest.evaluations[name], "path", None) if manifest else None
        if manifest and (path is None or files_of(artifact.release, path)):
            usable[name] = manifest.evaluations[name]
    return usable


def _new(artifact: ArtifactSubject, verdicts: Iterable[Verdict], unavailable: Mapping[str, str]) -> Iterator[Verdict]:
    """Yield what recomputing adds to what the index says: claims that fail now, and those that cannot be recomputed."""
    recorded = artifact.evidence.metrics if artifact.evidence else ()
    before = {v.claim: v.verdict for v in _judged(artifact, recorded)} if artifact.evidence else {}
    for verdict in verdicts:
        told, without = before.get(verdict.claim), artifact.claim.claims[verdict.claim].evaluation in unavailable
        fails = verdict.verdict in FAILED and told not in FAILED
        if fails or (verdict.verdict == "not_verifiable" and without and told == "verified"):
            yield verdict


def _not_reproduced(
    artifact: ArtifactSubject, recorded: Iterable[Measurement], measured: Iterable[Measurement]
) -> Iterator[Finding]:
    found = {_key(m): m for m in measured}
    for old in recorded:
        new = found.get(_key(old))
        if new is None or (new.value is None and old.value is None):
            continue
        if new.value is None or old.value is None or abs(new.value - old.value) > new.tolerance:
            message = f"{old.metric} on {old.evaluation!r} is {_text(new.value)}, the index records {_text(old.value)}"
            expected, now = _text(old.value), _text(new.value)
            yield artifact.finding("SR416", message, path=INDEX_FILE, expected=expected, found=now)


def _key(m: Measurement) -> tuple[object, ...]:
    return m.metric, m.evaluation, m.batch_rows, m.units


def _verdict_findings(artifact: ArtifactSubject, verdicts: Iterable[Verdict]) -> Iterator[Finding]:
    for verdict in verdicts:
        claim, pointer = artifact.claim.claims[verdict.claim], f"/claims/{verdict.claim}"
        if verdict.verdict == "differs":
            code = CODE_OF.get(claim.metric, "SR414")
            message = f"{claim.metric} is claimed to be {claim.value:g}; {verdict.why}"
            shown = _text(verdict.measured)
            values = {"expected": shown, "found": f"{claim.value:g}", "fixable": "unsafe"}
            yield artifact.claim_finding(code, message, f"{pointer}/value", **values)
        elif verdict.verdict == "matches_another":
            yield _of_another(artifact, claim, verdict)
        elif verdict.verdict == "not_verifiable":
            message = f"{claim.metric} = {claim.value:g} cannot be verified: {verdict.why}"
            yield artifact.claim_finding("SR415", message, pointer)


def _of_another(artifact: ArtifactSubject, claim: Claim, verdict: Verdict) -> Finding:
    """SR418: what to write in place of what is written, each as JSON that can be pasted."""
    change = correction(claim, verdict)
    message = f"{claim.metric} = {claim.value:g} follows another definition: {verdict.why}"
    pointer = f"/claims/{verdict.claim}"
    if not change:
        hint = "State the definition, and the batch_rows at which it was computed; or claim the measured value."
        return artifact.claim_finding("SR418", message, pointer, hint=hint)
    stands = claim.model_dump(mode="json")
    values: dict[str, object] = {"found": jsontext.compact({name: stands[name] for name in change})}
    values |= {"expected": jsontext.compact(dict(change)), "fixable": "unsafe"}
    values["hint"] = (
        f"State the number for what it is, in the claim: {values['expected']}; or claim the measured value."
    )
    return artifact.claim_finding("SR418", message, pointer, **values)


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"
