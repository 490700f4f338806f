"""SR1: the documents themselves, and what they say of each other."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from saereg.errors import did_you_mean
from saereg.registry.files.natural import natural_key
from saereg.registry.release import MANIFEST_FILE
from saereg.registry.validators.findings import document_findings, finding
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.schemas import jsontext
from saereg.schemas.artifact_config import is_training
from saereg.schemas.cfg import SaelensConfig, SaelensMetadata
from saereg.schemas.document import SCHEMA_VERSION
from saereg.schemas.evaluation import Evaluation, TokenRows
from saereg.schemas.jsonedit import has_sorted_keys
from saereg.schemas.manifest import SCHEMA_URL, CrosscoderArtifact, TranscoderArtifact, identity
from saereg.schemas.report import Finding


def documents_fit(release: ReleaseSubject) -> Iterator[Finding]:
    """SR100 to SR104: manifest.json and index.json are strict JSON and fit their schemas."""
    for path, problems in release.document_problems.items():
        yield from document_findings(path, problems)


def schema_version(release: ReleaseSubject) -> Iterator[Finding]:
    """SR104: a newer minor version is read, with a note that it is newer."""
    manifest = release.manifest
    if manifest and int(manifest.schema_version.split(".")[1]) > int(SCHEMA_VERSION.split(".")[1]):
        message = f"schema version {manifest.schema_version} is newer than this saereg knows ({SCHEMA_VERSION})"
        raw = release.manifest_finding("SR104", message, "/schema_version")
        yield raw.model_copy(update={"severity": "note"})


def schema_named(release: ReleaseSubject) -> Iterator[Finding]:
    """SR105: editors find the schema of the manifest."""
    manifest = release.manifest
    if manifest is not None and PurePosixPath(manifest.schema_url or "").name != PurePosixPath(SCHEMA_URL).name:
        message = "`$schema` is missing"
        if manifest.schema_url is not None:
            message = f"`$schema` is {manifest.schema_url!r}, not a manifest schema of version {SCHEMA_VERSION}"
        found = manifest.schema_url
        yield release.manifest_finding("SR105", message, "/$schema", expected=SCHEMA_URL, found=found, fixable="safe")


def identities_unique(release: ReleaseSubject) -> Iterator[Finding]:
    """SR110: no two artifacts have one id, one folder, or one identity."""
    if release.manifest is None:
        return
    for label, key in (("id", "/id"), ("path", "/path")):
        seen: dict[str, str] = {}
        for artifact in release.artifacts:
            value = getattr(artifact.claim, label)
            if value in seen:
                message = f"the {label} {value!r} is also that of artifact {seen[value]!r}"
                yield artifact.claim_finding("SR110", message, key)
            seen.setdefault(value, artifact.claim.id)
    groups: dict[str, list[ArtifactSubject]] = defaultdict(list)
    for artifact in release.artifacts:
        groups[repr(identity(artifact.claim, release.manifest))].append(artifact)
    for first, *others in (sorted(group, key=lambda a: natural_key(a.claim.id)) for group in groups.values()):
        for other in others:
            if other.claim.id != first.claim.id:
                message = f"by its fields it is the same thing as {first.claim.id!r}"
                yield other.claim_finding("SR110", message)


def references_resolve(release: ReleaseSubject) -> Iterator[Finding]:
    """SR113: sites, base models, data sets and evaluations that are named are defined."""
    manifest = release.manifest
    if manifest is None:
        return
    uses = [(f"/sites/{key}/model", site.model, "base_models") for key, site in manifest.sites.items()]
    for key, evaluation in manifest.evaluations.items():
        uses += _uses_of_data(f"/evaluations/{key}", evaluation)
    for artifact in release.artifacts:
        uses += _uses(artifact)
    tables = {name: getattr(manifest, name) for name in ("base_models", "sites", "datasets", "evaluations")}
    for pointer, name, table in uses:
        if name not in tables[table]:
            guess = did_you_mean(name, tables[table])
            hint = f"did you mean {guess!r}?" if guess else f"add {name!r} to `{table}`"
            yield release.manifest_finding("SR113", f"{name!r} is not in `{table}`", pointer, hint=hint)


def _uses_of_data(pointer: str, evaluation: Evaluation) -> list[tuple[str, str, str]]:
    uses = [(f"{pointer}/site", evaluation.site, "sites")] if evaluation.site else []
    uses += [(f"{pointer}/dataset", evaluation.dataset, "datasets")] if evaluation.dataset else []
    if isinstance(evaluation, TokenRows):
        uses += [(f"{pointer}/sites/{i}", site, "sites") for i, site in enumerate(evaluation.sites)]
        uses += [(f"{pointer}/site_out", evaluation.site_out, "sites")] if evaluation.site_out else []
    return uses


def _uses(artifact: ArtifactSubject) -> list[tuple[str, str, str]]:
    claim, pointer = artifact.claim, artifact.pointer
    uses = [(f"{pointer}/training/dataset", claim.training.dataset, "datasets")] if claim.training.dataset else []
    for i, stated in enumerate(claim.claims):
        if stated.evaluation:
            uses.append((f"{pointer}/claims/{i}/evaluation", stated.evaluation, "evaluations"))
    if isinstance(claim, CrosscoderArtifact):
        return uses + [(f"{pointer}/sources", key, "sites") for key in claim.sources.site_keys]
    uses.append((f"{pointer}/site", claim.site, "sites"))
    return uses + ([(f"{pointer}/site_out", claim.site_out, "sites")] if isinstance(claim, TranscoderArtifact) else [])


def config_fits(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR100 to SR103: cfg.json is strict JSON and fits its architecture."""
    yield from document_findings(artifact.config_path, artifact.checked_config[1], artifact.claim.id)


def config_is_inference(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR122: cfg.json is that of an inference model, not of a training checkpoint."""
    if artifact.config is not None and is_training(artifact.config):
        message = "cfg.json is that of a SAELens training checkpoint"
        yield artifact.config_finding("SR122", message, "/architecture", found=artifact.config.architecture)


def metadata_survives(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR121 and SR103: SAELens keeps the metadata, and no key of it is misspelt."""
    config = artifact.config
    if not isinstance(config, SaelensConfig):
        return
    if not config.metadata.sae_lens_version:
        yield artifact.config_finding("SR121", "metadata.sae_lens_version is missing", "/metadata/sae_lens_version")
    for key in config.metadata.model_extra or {}:
        if guess := did_you_mean(key, SaelensMetadata.model_fields):
            message = f"unknown metadata key {key!r}, did you mean {guess!r}?"
            free = not jsontext.has(artifact.config_text[0] or "", f"/metadata/{guess}")
            where = {"expected": guess, "found": key, "fixable": "unsafe" if free else None}
            raw = artifact.config_finding("SR103", message, f"/metadata/{key}", **where)
            yield raw.model_copy(update={"severity": "warning"})  # SAELens itself keeps any metadata key


def keys_in_order(release: ReleaseSubject) -> Iterator[Finding]:
    """SR106: the keys of manifest.json stand in order."""
    if release.manifest is not None and not has_sorted_keys(release.manifest_text):
        message = f"the keys of {MANIFEST_FILE} are not in order"
        yield finding("SR106", message, path=MANIFEST_FILE, fixable="safe")


def manifest_and_config_agree(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR215: what the manifest says of an artifact is what its configuration says."""
    config, claim = artifact.config, artifact.claim
    if config is None:
        return
    pairs: list[tuple[str, object, object]] = [
        (name, getattr(claim, name), getattr(config, name)) for name in ("architecture", "d_in", "d_sae")
    ]
    if isinstance(claim, TranscoderArtifact):
        pairs.append(("d_out", claim.d_out, config.d_out))
    k = artifact.semantics.k if artifact.semantics is not None else None
    if k is not None and claim.sparsity.k is not None:
        pairs.append(("sparsity/k", claim.sparsity.k, float(k)))
    if isinstance(claim, CrosscoderArtifact):
        pairs.append(("sources", claim.sources, getattr(config, "sources", None)))
    elif not isinstance(config, SaelensConfig):  # SAELens' architectures say the kind, and have been compared
        pairs.append(("kind", claim.kind, config.kind))
    pairs.append(("format", claim.format, "saelens" if isinstance(config, SaelensConfig) else "saereg"))
    for name, stated, found in pairs:
        if stated != found:
            message = f"the manifest says {name} = {_show(stated)}, cfg.json says {_show(found)}"
            values = {"expected": _show(found), "found": _show(stated), "fixable": _fixable(stated, found)}
            yield artifact.claim_finding("SR215", message, f"/{name}", **values)


def _fixable(stated: object, found: object) -> str | None:
    """Whether the manifest can be made to say what cfg.json says: a name or a number that both have."""
    plain = isinstance(stated, str | int | float) and isinstance(found, str | int | float)
    return "unsafe" if plain and not isinstance(stated, bool) else None


def _show(value: object) -> str:
    if hasattr(value, "model_dump"):
        return json.dumps(value.model_dump(exclude_defaults=True))
    return f"{value:g}" if isinstance(value, float) else str(value)
