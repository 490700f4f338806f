"""Bring index.json up to date with texts that changed, without torch: digests, order, semantics and verdicts.

What was found in weights stays as it is, so this is done only for changes that leave the weights' meaning alone, or
that are verified afterwards.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from saereg.errors import DocumentError
from saereg.registry.claims.judge import judge
from saereg.registry.files.digest import sha256_of, sha256_text
from saereg.registry.files.names import CONFIG_FILE
from saereg.registry.files.roles import role_of
from saereg.registry.fixing.draft import Draft, Edit
from saereg.registry.provenance import provenance_of
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import assumptions, parse_config
from saereg.schemas.index import Index, IndexArtifact, IndexFile
from saereg.schemas.manifest import Manifest
from saereg.schemas.metrics import DType
from saereg.schemas.report import Finding


@dataclass(frozen=True)
class Wanted:
    """What is to be brought up to date.

    Attributes:
        files: files whose size and digest are to be taken anew although no fix changed them (SR003, SR009).
        manifest: whether the digest of a manifest that nobody fixed is to be taken anew (SR012).
    """

    files: frozenset[str]
    manifest: bool


def wanted(findings: Iterable[Finding]) -> Wanted:
    """Return what some findings ask for."""
    found = list(findings)
    files = frozenset(f.path for f in found if f.code in ("SR003", "SR009") and f.path)
    return Wanted(files, any(f.code == "SR012" for f in found))


def refreshed(draft: Draft, wanted: Wanted) -> Iterator[Edit]:
    """Yield the index as it must be for the texts of a draft; nothing when it cannot be read."""
    index, manifest = draft.index(), draft.manifest()
    if index is None or manifest is None or not (draft.changed or wanted.files or wanted.manifest):
        return
    old, text = draft.original(MANIFEST_FILE), draft.text(MANIFEST_FILE) or ""
    in_step = old is not None and sha256_text(old) == index.manifest_sha256
    anew = in_step or (wanted.manifest and _still_fits(index, manifest))
    digest = sha256_text(text) if anew else index.manifest_sha256
    known = {file.path for file in index.all_files()}
    new = sorted({*draft.changed, *wanted.files} - known - {MANIFEST_FILE, INDEX_FILE})
    artifacts = [_artifact(draft, manifest, entry, wanted.files) for entry in _ordered(index, manifest)]
    files = [*_files(draft, index.files, wanted.files)]
    for path in new:
        added = _file(draft, path)
        owner = next((i for i, a in enumerate(artifacts) if _folder(manifest, a.id) == str(Path(path).parent)), None)
        if owner is None:
            files.append(added)
        else:
            mine = sorted((*artifacts[owner].files, added), key=lambda file: file.path)
            artifacts[owner] = artifacts[owner].model_copy(update={"files": tuple(mine)})
    changes: dict[str, object] = {
        "manifest_sha256": digest,
        "files": tuple(sorted(files, key=lambda file: file.path)),
        "artifacts": tuple(artifacts),
    }
    if anew and index.provenance is not None:
        changes["provenance"] = provenance_of(manifest, artifacts, index.generated_by)
    yield Edit(INDEX_FILE, index.model_copy(update=changes).text())


def _still_fits(index: Index, manifest: Manifest) -> bool:
    """Whether every recorded number is of data, rows and a site that the manifest still names: else `saereg build`."""
    digests = {file.path: file.sha256 for file in index.all_files()}
    sites = {claim.id: getattr(claim, "site", None) for claim in manifest.artifacts}
    for artifact in index.artifacts:
        for found in artifact.metrics:
            evaluation = manifest.evaluations.get(found.evaluation)
            if evaluation is None or found.rows % evaluation.rows:  # of texts, each position is a row
                return False
            path = getattr(evaluation, "path", None)
            if path is not None and digests.get(path, found.data_sha256) != found.data_sha256:
                return False
            if None not in (evaluation.site, sites.get(artifact.id)) and evaluation.site != sites[artifact.id]:
                return False
    return {artifact.id for artifact in index.artifacts} == set(sites)


def _ordered(index: Index, manifest: Manifest) -> list[IndexArtifact]:
    """Return the entries in the manifest's order; those it does not list come last."""
    place = {claim.id: i for i, claim in enumerate(manifest.artifacts)}
    return sorted(index.artifacts, key=lambda entry: place.get(entry.id, len(place)))


def _folder(manifest: Manifest, identifier: str) -> str | None:
    return next((claim.path for claim in manifest.artifacts if claim.id == identifier), None)


def _artifact(draft: Draft, manifest: Manifest, entry: IndexArtifact, again: frozenset[str]) -> IndexArtifact:
    claim = next((claim for claim in manifest.artifacts if claim.id == entry.id), None)
    changes: dict[str, object] = {"files": tuple(_files(draft, entry.files, again))}
    if claim is not None:
        changes["verdicts"] = judge(claim.claims, entry.metrics)
        if text := draft.changed.get(f"{claim.path}/{CONFIG_FILE}"):
            changes |= _from_config(text)
    return entry.model_copy(update=changes)


def _from_config(text: str) -> dict[str, object]:
    try:
        config = parse_config(text)
    except DocumentError:
        return {}
    return {
        "semantics": semantics_of(config),
        "assumptions": assumptions(config),
        "dtype": cast(DType, config.torch_dtype),
    }


def _files(draft: Draft, files: Sequence[IndexFile], again: frozenset[str]) -> Iterator[IndexFile]:
    for file in files:
        yield _file(draft, file.path) if file.path in draft.changed or file.path in again else file


def _file(draft: Draft, path: str) -> IndexFile:
    if path in draft.changed:
        raw = draft.changed[path].encode("utf-8")
        return IndexFile(path=path, size=len(raw), sha256=hashlib.sha256(raw).hexdigest(), role=role_of(path))
    whole = draft.root / path
    return IndexFile(path=path, size=whole.stat().st_size, sha256=sha256_of(whole), role=role_of(path))
