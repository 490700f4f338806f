"""Rules that compare the artifacts of a release with each other: copies, figures that repeat, and failures."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import median

from saereg.registry.files.natural import natural_key
from saereg.registry.release import INDEX_FILE
from saereg.registry.validators.findings import finding
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.schemas.index import IndexFile
from saereg.schemas.manifest import CrosscoderArtifact, identity
from saereg.schemas.metrics import Claim, Measurement
from saereg.schemas.report import Finding

CONTINUOUS = (
    "explained_variance", "fvu", "mse_per_row", "mse_per_element", "nmse_uncentred_row", "ev_saelens_uncentred",
    "explained_variance_legacy_rowmean", "fve_centred_residual", "fve_scalar_var", "ce_recovered",
)  # fmt: skip
"""Metrics that two dictionaries share to the last digit only if something was copied."""

QUALITY = ("explained_variance", "fvu", "nmse_uncentred_row", "mse_per_row", "mse_per_element", "ce_recovered")
"""Metrics that, claimed together with an L0, are a fingerprint of a dictionary."""

DIGITS, DIGITS_OF_SEEDS = 3, 5
"""Digits that both claims need to be a fingerprint; seeds of one setting agree in three by nature."""

NAMED = 5
"""Ids that a message names."""

ALL_DEAD, ALL_ACTIVE, HALF, MADS, SIBLINGS, GOOD = 0.99, 0.9, 0.5, 5.0, 3, 0.5
"""Dead share and active share of a failure; how far below how many siblings; the variance that is no failure."""


def weights_unique(release: ReleaseSubject) -> Iterator[Finding]:
    """SR007: no two artifacts have the same weight bytes by the index, and no weights lie about twice."""
    if release.index is None:
        return
    roles = {file.path: file for file in release.index.all_files()}
    yield from _copies(release, {path: file.sha256 for path, file in roles.items()}, roles)


def weights_unique_hashed(release: ReleaseSubject) -> Iterator[Finding]:
    """SR007: the same for a release without an index, by hashing its weights."""
    if release.index is None:
        paths = {artifact.weights_path for artifact in release.artifacts} & set(release.files)
        sizes: dict[int, list[str]] = defaultdict(list)
        for path in sorted(paths):
            sizes[release.files[path].size].append(path)
        alike = [path for same in sizes.values() if len(same) > 1 for path in same]
        yield from _copies(release, {path: release.sha256(path) for path in alike}, {})


def _copies(release: ReleaseSubject, digests: Mapping[str, str], files: Mapping[str, IndexFile]) -> Iterator[Finding]:
    owners = {artifact.weights_path: artifact for artifact in release.artifacts}
    groups: dict[str, list[str]] = defaultdict(list)
    for path, digest in digests.items():
        groups[digest].append(path)
    for paths in groups.values():
        if len(paths) < 2 or not any(path in owners or _is_weights(files.get(path)) for path in paths):
            continue
        artifacts = sorted((owners[path] for path in paths if path in owners), key=lambda a: natural_key(a.claim.id))
        if len(artifacts) > 1:
            message = f"{_names([a.claim.id for a in artifacts])} have the same weights, byte for byte"
            yield artifacts[-1].claim_finding("SR007", message, "/path", found=artifacts[-1].weights_path)
        others = [path for path in paths if path not in owners]
        if others:
            first = artifacts[0].weights_path if artifacts else paths[0]
            again = next(path for path in others if path != first)
            message = f"{again} is a copy of {first}, byte for byte"
            owner = artifacts[0].claim.id if artifacts else None
            yield finding("SR007", message, path=again, artifact=owner)


def _is_weights(file: IndexFile | None) -> bool:
    return file is not None and file.role == "weights"


def metrics_differ(release: ReleaseSubject) -> Iterator[Finding]:
    """SR403: artifacts with different weights do not have the same measured metrics, or the same claims."""
    told: set[frozenset[str]] = set()
    for group in _groups((_measured_key(a), a) for a in release.artifacts if not a.claim.expected_failure):
        if len({_weights_sha256(artifact) for artifact in group}) > 1:
            ids = [artifact.claim.id for artifact in group]
            told.add(frozenset(ids))
            same = " and ".join(measurement.metric for measurement in _measured_pair(group[0]))
            message = f"{_names(ids)} have different weights and exactly the same {same}"
            yield group[1].finding("SR403", message, path=INDEX_FILE)
    yield from _claims_differ(release, told)


def _measured_key(artifact: ArtifactSubject) -> Hashable:
    """Return two continuous metrics of an artifact on one data set, or None where there are too few to tell."""
    pair = _measured_pair(artifact)
    # Another layout of one dictionary is other bytes and the same function.
    return (artifact.claim.format, *((m.metric, m.data_sha256, m.value) for m in pair)) if pair else None


def _measured_pair(artifact: ArtifactSubject) -> tuple[Measurement, ...]:
    metrics = artifact.evidence.metrics if artifact.evidence else ()
    found = [m for m in metrics if m.metric in CONTINUOUS and m.units == "raw" and m.value not in (None, 0.0, 1.0)]
    pair = tuple(m for m in found if m.data_sha256 == found[0].data_sha256)[:2]
    return pair if len({m.metric for m in pair}) == 2 else ()


def _weights_sha256(artifact: ArtifactSubject) -> str | None:
    files = artifact.evidence.files if artifact.evidence else ()
    return next((file.sha256 for file in files if file.path == artifact.weights_path), None)


def _claims_differ(release: ReleaseSubject, told: set[frozenset[str]]) -> Iterator[Finding]:
    if release.manifest is None:
        return
    for group in _groups((_claimed_key(a), a) for a in release.artifacts if not a.claim.expected_failure):
        ids = [artifact.claim.id for artifact in group]
        settings = {repr(identity(a.claim, release.manifest) | {"seed": None}) for a in group}
        pair = _fingerprint(group[0])
        if frozenset(ids) in told or pair is None:
            continue
        if len(settings) > 1 or min(_digits(claim.value) for claim in pair) >= DIGITS_OF_SEEDS:
            both = " and ".join(f"{claim.metric} {claim.value:g}" for claim in pair)
            message = f"{_names(ids)} all claim {both}" if len(ids) > 2 else f"{_names(ids)} both claim {both}"
            yield group[1].claim_finding("SR403", message, "/claims")


def _claimed_key(artifact: ArtifactSubject) -> Hashable:
    pair = _fingerprint(artifact)
    return tuple((claim.metric, claim.value, claim.kind) for claim in pair) if pair else None


def _fingerprint(artifact: ArtifactSubject) -> tuple[Claim, Claim] | None:
    """Return a claimed quality and a claimed L0 with enough digits, unless the index confirms both."""
    claims = artifact.claim.claims
    verified = {v.claim for v in artifact.evidence.verdicts if v.verdict == "verified"} if artifact.evidence else set()
    open_ = [claim for i, claim in enumerate(claims) if i not in verified and _digits(claim.value) >= DIGITS]
    quality = next((claim for claim in open_ if claim.metric in QUALITY), None)
    l0 = next((c for c in open_ if c.metric.startswith("l0") and c.value != artifact.claim.sparsity.k), None)
    return (quality, l0) if quality and l0 else None


def _digits(value: float) -> int:
    """Return how many digits a number is printed with, zeros at its ends left out."""
    return len(Decimal(repr(value)).normalize().as_tuple().digits)


def _groups(pairs: Iterable[tuple[Hashable, ArtifactSubject]]) -> Iterator[list[ArtifactSubject]]:
    """Yield the artifacts that share a key, those without one left out, where there are two or more."""
    groups: dict[Hashable, list[ArtifactSubject]] = defaultdict(list)
    for key, artifact in pairs:
        if key is not None:
            groups[key].append(artifact)
    # In an order that is not the manifest's: sorting it anew changes no finding.
    yield from (sorted(group, key=lambda a: natural_key(a.claim.id)) for group in groups.values() if len(group) > 1)


@dataclass(frozen=True)
class _Siblings:
    """Explained variances of artifacts that could be exchanged for each other: one kind, site, size and sources.

    Attributes:
        values: the explained variances, none of a declared failure.
        middle: their median.
        spread: median of their distances from it.
    """

    values: Sequence[float]
    middle: float = field(init=False)
    spread: float = field(init=False)

    def __post_init__(self) -> None:
        middle = median(self.values) if self.values else math.nan
        object.__setattr__(self, "middle", middle)
        object.__setattr__(self, "spread", median(abs(v - middle) for v in self.values) if self.values else math.nan)

    def outlier(self, value: float, *, member: bool) -> bool:
        """Whether a value lies far below the others: under half their median, and beyond five times their spread."""
        if len(self.values) - member < SIBLINGS:
            return False
        return value < HALF * self.middle and self.middle - value > MADS * self.spread


def failures_flagged(release: ReleaseSubject) -> Iterator[Finding]:
    """SR432 and SR434: artifacts that failed say so, and artifacts that say so failed."""
    groups: dict[Hashable, list[float]] = defaultdict(list)
    for artifact in release.artifacts:
        value = _value(artifact, "explained_variance")
        if value is not None and artifact.claim.expected_failure is None:
            groups[_family(artifact)].append(value)
    families = {family: _Siblings(values) for family, values in groups.items()}
    for artifact in release.artifacts:
        siblings = families.get(_family(artifact), _Siblings(()))
        why = _failure(artifact, siblings)
        value = _value(artifact, "explained_variance")
        declared = artifact.claim.expected_failure
        if why and declared is None:
            yield artifact.claim_finding("SR432", f"{artifact.claim.id!r} failed: {why}", "/expected_failure")
        elif declared is not None and why is None and value is not None and value > GOOD:
            message = f"{artifact.claim.id!r} is declared a failure, but its explained variance is {value:.4g}"
            yield artifact.claim_finding("SR434", message, "/expected_failure", found=declared)


def _family(artifact: ArtifactSubject) -> Hashable:
    claim = artifact.claim
    where = claim.sources if isinstance(claim, CrosscoderArtifact) else claim.site
    return claim.kind, repr(where), getattr(claim, "site_out", None), claim.d_sae


def _failure(artifact: ArtifactSubject, siblings: _Siblings) -> str | None:
    """Return by which number an artifact failed, or None."""
    value = _value(artifact, "explained_variance")
    if value is not None and value <= 0:
        return f"its explained variance is {value:.4g}, so the mean of the data reconstructs better"
    l0, d_sae = _value(artifact, "l0"), artifact.claim.d_sae
    l0 = _value(artifact, "l0_per_source_mean") if l0 is None else l0
    if l0 == 0:
        return "no latent is ever active: its L0 is 0"
    if l0 is not None and l0 >= ALL_ACTIVE * d_sae:
        return f"nearly all latents are always active: its L0 is {l0:.6g} of {d_sae}"
    dead = _value(artifact, "dead_fraction")
    if dead is not None and dead >= ALL_DEAD and _seen_enough(artifact, l0):
        return f"{dead:.4g} of its latents are dead"
    if value is not None and siblings.outlier(value, member=artifact.claim.expected_failure is None):
        count = len(siblings.values) - (artifact.claim.expected_failure is None)
        return (
            f"its explained variance is {value:.4g}, that of its {count} siblings {siblings.middle:.4g} in the middle"
        )
    return None


def _seen_enough(artifact: ArtifactSubject, l0: float | None) -> bool:
    """Whether the rows could have made every latent active: on few rows most latents of any dictionary are silent."""
    rows = max((m.rows for m in artifact.evidence.metrics), default=0) if artifact.evidence else 0
    return rows == 0 or (l0 is not None and rows * l0 >= artifact.claim.d_sae)


def _value(artifact: ArtifactSubject, metric: str) -> float | None:
    """Return the best measured value of a metric, else the best claimed one: data of another kind are no failure."""
    found = artifact.evidence.metrics if artifact.evidence else ()
    values = [m.value for m in found if m.metric == metric and m.units == "raw" and m.value is not None]
    values = values or [c.value for c in artifact.claim.claims if c.metric == metric and c.kind == "recomputed"]
    if not values:
        return None
    if metric.startswith("l0"):  # neither silent nor always on, where any of the evaluations says so
        return min(values, key=lambda value: (value == 0, value))
    return min(values) if metric == "dead_fraction" else max(values)


def _names(ids: Sequence[str]) -> str:
    """Return up to five ids as words, and how many more there are."""
    shown = [repr(name) for name in ids[:NAMED]]
    rest = len(ids) - len(shown)
    if rest:
        return f"{', '.join(shown)} and {rest} more ({len(ids)} artifacts)"
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
