"""A release of saereg, as rows: its claims are what is stated, its evidence what is measured."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saereg import __version__
from saereg.errors import DocumentError, NothingToValidateError, UsageError
from saereg.registry import hub
from saereg.registry.catalog.rows import (
    Assumed,
    Edge,
    Entry,
    Metric,
    ReleaseRows,
    Snapshot,
    Source,
    Standing,
)
from saereg.registry.files.place import FolderPlace, Place
from saereg.registry.refs import require_folder
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE, Release, ReleaseArtifact
from saereg.registry.withdrawal import standing as mark_of
from saereg.schemas import jsontext
from saereg.schemas.index import Index, IndexArtifact
from saereg.schemas.manifest import Manifest
from saereg.schemas.report import Report

TOOL = f"saereg {__version__}"

SAME = (
    "id", "kind", "architecture", "format", "model", "model_step", "layer", "stream", "module", "hook_name",
    "parameter", "site", "site_out", "axis", "n_sources", "d_in", "d_out", "d_sae", "k", "l1_coefficient",
    "l0_coefficient", "target_l0", "seed", "snapshot", "variant", "canonical", "withdrawn", "tokens",
)  # fmt: skip
"""Fields of an entry that are fields of `ReleaseArtifact.fields` by the same name."""


ATTEMPTS = 3
"""Times that a folder is read which changes meanwhile."""


def folder_pin(source: Source) -> str:
    """Return one digest over manifest and index of a folder, whatever they say.

    Raises:
        NothingToValidateError: when there is no folder, or no manifest in it.
    """
    folder = Path(source.locator)
    require_folder(folder)
    if not (folder / MANIFEST_FILE).is_file():
        raise NothingToValidateError(f"{folder} holds no {MANIFEST_FILE}, so it is no release")
    index = folder / INDEX_FILE
    digest = hashlib.sha256((folder / MANIFEST_FILE).read_bytes())
    digest.update(b"\0" + (index.read_bytes() if index.is_file() else b""))
    return digest.hexdigest()


def read_folder(source: Source) -> Snapshot:
    """Return the release in a folder as rows, all of one state of it.

    Raises:
        NothingToValidateError: when there is no folder, or no manifest in it.
        DocumentError: when the manifest does not parse or fit.
        UsageError: when the folder changes while it is read.
    """
    for _ in range(ATTEMPTS):
        pin = folder_pin(source)
        found = _read(FolderPlace(Path(source.locator)), source, pin)
        if folder_pin(source) == pin:
            return found
    raise UsageError(f"{source.locator} changes while it is read; try again when that has ended")


def read_hub(source: Source, place: Place, head: Manifest | None = None) -> Snapshot:
    """Return the release at one commit on the Hub as rows; of weights only headers are fetched.

    Args:
        source: the repository.
        place: the commit.
        head: the manifest at the head of the default branch, where marks of withdrawal are made; None: its own.

    Raises:
        NothingToValidateError: when it holds no manifest.
        DocumentError: when the manifest does not parse or fit.
        PublishError: when the Hub does not answer.
    """
    return _read(place, source, place.revision or "", head)


def manifest_of(place: Place) -> Manifest:
    """Return the manifest of a release, wherever it is.

    Raises:
        NothingToValidateError: when there is none.
        DocumentError: when it does not parse or fit.
    """
    return Manifest.from_text(_text(place, MANIFEST_FILE), _named(place, MANIFEST_FILE))


def _read(place: Place, source: Source, pin: str, head: Manifest | None = None) -> Snapshot:
    from saereg.registry.validators import runner

    manifest = manifest_of(place)
    report = runner.validate(place, "header")
    if head is not None:
        manifest = manifest.model_copy(update={"withdrawn": head.withdrawn})
    path = place.folder or Path(pin)
    repo = source.locator if source.kind == "hub" else None
    return snapshot(Release(path, manifest, _index(place), repo), report, source, pin)


def _index(place: Place) -> Index | None:
    """Return the index; None where there is none, or none that can be read, which is a finding of the validation."""
    try:
        return Index.from_text(_text(place, INDEX_FILE), _named(place, INDEX_FILE))
    except (NothingToValidateError, DocumentError):
        return None


def _text(place: Place, path: str) -> str:
    entry = next((entry for entry in place.entries() if entry.path == path and entry.kind == "file"), None)
    if entry is None:
        raise NothingToValidateError(f"{_named(place, '')} holds no {path}, so it is no release")
    try:
        return jsontext.decode(place.read(path))
    except jsontext.JsonError as problem:
        raise DocumentError(_named(place, path), "", problem.problem) from None


def _named(place: Place, path: str) -> str:
    if place.revision is None and place.folder is not None:
        return str(place.folder / path)
    return f"{hub.name_of(place.name, place.revision)}{': ' if path else ''}{path}"


def snapshot(release: Release, report: Report | None, source: Source, pin: str) -> Snapshot:
    """Return an open release as rows.

    Args:
        release: the release.
        report: its validation, at whatever level; None where nobody has looked.
        source: folder or repository.
        pin: digest of its documents, or the commit.
    """
    info, at_hub = release.manifest.release, source.kind == "hub"
    mark = mark_of(release.manifest, info.version)
    rows = ReleaseRows(
        name=info.name,
        version=info.version,
        title=info.title,
        license=info.license,
        repo=source.locator if at_hub else None,
        revision=pin if at_hub else None,
        folder=None if at_hub else source.locator,
        standing=_standing(release, report),
        level=report.level if report else None,
        withdrawn=mark.kind if mark else None,
        entries=tuple(entry(artifact) for artifact in release),
        edges=tuple(_edges(release)),
        aliases=tuple(("canonical", artifact.id) for artifact in release if artifact.claim.canonical),
        findings=tuple(f for f in report.findings if f.ignored is None) if report else (),
    )
    return Snapshot(source, pin, TOOL, (rows,))


def _standing(release: Release, report: Report | None) -> Standing:
    return "verified" if report is not None and release.index is not None and not report.errors else "unverified"


def entry(artifact: ReleaseArtifact) -> Entry:
    """Return one artifact as a row."""
    fields, claim, evidence = artifact.fields, artifact.claim, artifact.evidence
    known: dict[str, Any] = {name: fields[name] for name in SAME}
    weights = sorted((f.path, f.sha256) for f in evidence.files if f.role == "weights") if evidence else []
    return Entry(
        **known,
        path=claim.path if claim.path != claim.id else None,
        model_revision=fields["revision"],
        steps=tuple(fields["steps"] or ()),
        dtype=evidence.dtype if evidence else None,
        weights_sha256=_joined([digest for _, digest in weights]),
        size=sum(f.size for f in evidence.files) if evidence else None,
        neuronpedia_id=claim.neuronpedia_id,
        metrics=(*_measured(evidence), *_stated(artifact)),
        assumptions=tuple(_assumptions(evidence)),
    )


def _joined(digests: list[str]) -> str | None:
    if len(digests) > 1:
        return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()
    return digests[0] if digests else None


def _measured(evidence: IndexArtifact | None) -> Iterator[Metric]:
    for m in evidence.metrics if evidence else ():
        if m.value is not None:
            yield Metric("measured", m.metric, m.metric, m.value, m.evaluation, None, m.units, m.batch_rows, m.rows)


def _stated(artifact: ReleaseArtifact) -> Iterator[Metric]:
    verdicts = {v.claim: v.verdict for v in artifact.evidence.verdicts} if artifact.evidence else {}
    for n, c in enumerate(artifact.claim.claims):
        facts = (c.evaluation, c.kind, c.units, c.batch_rows, c.rows)
        yield Metric("stated", c.metric, c.metric, c.value, *facts, verdicts.get(n))


def _assumptions(evidence: IndexArtifact | None) -> Iterator[Assumed]:
    seen = set()
    for assumed in evidence.assumptions if evidence else ():
        if assumed.field not in seen:
            seen.add(assumed.field)
            yield Assumed(assumed.field, assumed.value, assumed.because)


def _edges(release: Release) -> Iterator[Edge]:
    info = release.manifest.release
    yield from (Edge("sister", target) for target in info.sister_releases)
    yield from (Edge("derived_from", target) for target in info.derived_from)
    for artifact in release:
        claim = artifact.claim
        yield from (Edge("derived_from", target, claim.id) for target in claim.derived_from)
        if claim.source_checkpoint:
            checkpoint = claim.source_checkpoint
            yield Edge("source_checkpoint", checkpoint.path, claim.id, checkpoint.sha256)
