"""The flat fields of an artifact of a release: what its manifest says, and the numbers of it."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from saereg.registry.catalog.headline import STANDS_FOR, pick
from saereg.registry.catalog.rows import Metric
from saereg.registry.conditions.fields import FIELDS, METRICS, Basis, model_name
from saereg.registry.withdrawal import standing
from saereg.schemas.index import IndexArtifact
from saereg.schemas.manifest import Artifact, CrosscoderArtifact, Manifest, TranscoderArtifact
from saereg.schemas.metrics import Measurement


def headline(measurements: Iterable[Measurement]) -> dict[str, Measurement]:
    """Return metric → the measurement that stands for it where only one can: in raw units, of the first evaluation.

    An index may hold more of one metric: on other evaluations, at other batch sizes and in other units.
    """
    found: dict[str, Measurement] = {}
    for measurement in sorted(measurements, key=lambda m: m.units != "raw"):
        found.setdefault(measurement.metric, measurement)
    return found


def fields_of(claim: Artifact, manifest: Manifest, metrics: dict[str, float | None]) -> dict[str, Any]:
    """Return the flat fields of an artifact.

    Args:
        claim: its entry in the manifest.
        manifest: the manifest.
        metrics: its measured metrics; absent ones become None.
    """
    crosscoder = claim.sources if isinstance(claim, CrosscoderArtifact) else None
    site_key = crosscoder.site_keys[0] if crosscoder else getattr(claim, "site", None)
    site = manifest.sites.get(site_key or "")
    model = manifest.base_models.get(site.model) if site else None
    values: dict[str, Any] = dict.fromkeys(FIELDS)
    values |= {name: getattr(claim, name) for name in ("id", "path", "kind", "architecture", "format", "d_in", "d_sae")}
    values |= {name: getattr(claim, name) for name in ("seed", "snapshot", "variant", "canonical", "neuronpedia_id")}
    values |= claim.sparsity.model_dump()
    info = manifest.release
    values |= {"release": f"{info.name} {info.version}", "release_name": info.name}
    values |= {"version": info.version, "license": info.license}
    mark = standing(manifest, info.version, claim.id)
    values["withdrawn"] = mark.kind if mark else None
    values |= {"site": site_key, "tokens": claim.training.tokens, "d_out": claim.d_in}
    if isinstance(claim, TranscoderArtifact):
        values |= {"site_out": claim.site_out, "d_out": claim.d_out}
    if crosscoder:
        values |= {"axis": crosscoder.axis, "steps": crosscoder.steps or None, "n_sources": crosscoder.count}
    if site:
        values |= {name: getattr(site, name) for name in ("layer", "stream", "module", "hook_name", "parameter")}
    if model:
        values |= {"model": model.id, "model_name": model_name(model.id)}
        values |= {"model_step": model.step, "revision": model.revision}
    return values | metrics


def numbers_of(claim: Artifact, evidence: IndexArtifact | None) -> tuple[Metric, ...]:
    """Return every number of an artifact: the measured ones of the index, then the stated ones of the manifest."""
    return (*_measured(evidence), *_stated(claim, evidence))


def _measured(evidence: IndexArtifact | None) -> Iterator[Metric]:
    for m in evidence.metrics if evidence else ():
        if m.value is not None:
            yield Metric("measured", m.metric, m.metric, m.value, m.evaluation, None, m.units, m.batch_rows, m.rows)


def _stated(claim: Artifact, evidence: IndexArtifact | None) -> Iterator[Metric]:
    verdicts = {v.claim: v.verdict for v in evidence.verdicts} if evidence else {}
    for n, c in enumerate(claim.claims):
        facts = (c.evaluation, c.kind, c.units, c.batch_rows, c.rows)
        yield Metric("stated", c.metric, c.metric, c.value, *facts, verdicts.get(n))


def number_fields(numbers: Sequence[Metric], basis: Basis | None = None) -> dict[str, Any]:
    """Return the fields of the numbers of an artifact: of each definition the one that stands for it.

    Args:
        numbers: all of them.
        basis: only those that are measured, or stated; None: measured ones before stated ones.
    """
    numbers = [number for number in numbers if basis in (None, number.basis)]
    values: dict[str, Any] = dict.fromkeys(METRICS)
    for name in METRICS:
        found = pick(numbers, name)
        values[name] = found.value if found else None
        if name in STANDS_FOR:
            values[f"{name}_basis"] = found.basis if found else None
            values[f"{name}_definition"] = found.metric if found else None
    return values


def proof_fields(evidence: IndexArtifact | None) -> dict[str, Any]:
    """Return the fields that only an index knows."""
    if evidence is None:
        return {}
    return {
        "dtype": evidence.dtype,
        "size": sum(file.size for file in evidence.files),
        "weights_sha256": weights_digest(evidence),
    }


def weights_digest(evidence: IndexArtifact) -> str | None:
    """Return the sha256 of the weight file; of several, that of their digests one a line, sorted by path."""
    digests = [digest for _, digest in sorted((f.path, f.sha256) for f in evidence.files if f.role == "weights")]
    if len(digests) > 1:
        return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()
    return digests[0] if digests else None
