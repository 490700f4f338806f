"""The transfer matrix of a release: one that it ships, or the one that its own evidence amounts to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from saereg.registry.flat_fields import weights_digest
from saereg.registry.release import Release, ReleaseArtifact
from saereg.registry.transfer.matrix import at_home, dataset_id, transfer_matrix
from saereg.schemas.metrics import Measurement
from saereg.schemas.transfer import TransferCorpus, TransferDictionary, TransferMatrix

TRANSFER_FILE = "analysis/transfer.json"
"""Where a release ships what `saereg metrics transfer --format json` prints."""


@dataclass(frozen=True)
class Found:
    """A transfer matrix, and how a release comes to it.

    Attributes:
        matrix: its dictionaries are artifacts of the release, each under its id.
        shipped: whether it is in a file of its own.
        strange: dictionaries and corpora of the file that are left out, as the release does not name them.
    """

    matrix: TransferMatrix
    shipped: bool
    strange: tuple[str, ...] = ()


def matrix_of(release: Release) -> Found | None:
    """Return the transfer matrix of a release; None where nothing was measured away from home.

    Raises:
        DocumentError: when the file is no transfer matrix.
        OSError: when it cannot be read.
    """
    path = release.path / TRANSFER_FILE
    return _shipped(release, TransferMatrix.read(path)) if path.is_file() else _measured(release)


def _shipped(release: Release, whole: TransferMatrix) -> Found | None:
    """Return the part of a matrix of the weights of this release, and of its data or of data sets that it names."""
    ids = {weights_digest(a.evidence): a.id for a in release if a.evidence is not None}
    data = {m.data_sha256 for a in release if a.evidence is not None for m in a.evidence.metrics}
    named = {dataset_id(release.manifest, key) for key in release.manifest.datasets}
    dictionaries = {d.name: ids[d.weights_sha256] for d in whole.dictionaries if d.weights_sha256 in ids}
    corpora = {c.name for c in whole.corpora if c.data_sha256 in data or (c.dataset_id and c.dataset_id in named)}
    strange = (
        *(d.name for d in whole.dictionaries if d.name not in dictionaries),
        *(c.name for c in whole.corpora if c.name not in corpora),
    )
    cells = [c for c in whole.cells if c.dictionary in dictionaries and c.corpus in corpora]
    if not cells:
        return None
    rows = [d for d in whole.dictionaries if d.name in dictionaries]
    kept = whole.model_copy(
        update={
            "dictionaries": tuple(d.model_copy(update={"name": dictionaries[d.name]}) for d in rows),
            "corpora": tuple(c for c in whole.corpora if c.name in corpora),
            "cells": tuple(c.model_copy(update={"dictionary": dictionaries[c.dictionary]}) for c in cells),
        }
    )
    return Found(kept, shipped=True, strange=strange)


def _measured(release: Release) -> Found | None:
    """Return the matrix of the artifacts that were measured on the same evaluations, of several data sets."""
    groups: dict[tuple[str, ...], list[ReleaseArtifact]] = {}
    for artifact in release:
        if len(names := _evaluations(artifact)) > 1 and len({_dataset(release, name) for name in names}) > 1:
            groups.setdefault(names, []).append(artifact)
    if not groups:
        return None
    names, artifacts = max(groups.items(), key=lambda group: len(group[1]))
    corpora = [_corpus(release, name, artifacts[0]) for name in names]
    found = {(a.id, name): _on(a, name) for a in artifacts for name in names}
    rows = [at_home(_dictionary(artifact), corpora, {}) for artifact in artifacts]
    if not any(row.home for row in rows):
        return None
    return Found(transfer_matrix(rows, corpora, found), shipped=False)


def _on(artifact: ReleaseArtifact, evaluation: str) -> Sequence[Measurement]:
    metrics = artifact.evidence.metrics if artifact.evidence else ()
    return [m for m in metrics if m.evaluation == evaluation and m.units == "raw" and m.batch_rows is None]


def _evaluations(artifact: ReleaseArtifact) -> tuple[str, ...]:
    """Return the evaluations that an artifact was measured on, in the order of the manifest."""
    metrics = artifact.evidence.metrics if artifact.evidence else ()
    found = Counter(m.evaluation for m in metrics if m.metric == "explained_variance" and m.units == "raw")
    return tuple(name for name in artifact.release.manifest.evaluations if name in found)


def _dataset(release: Release, evaluation: str) -> str | None:
    return dataset_id(release.manifest, release.manifest.evaluations[evaluation].dataset)


def _corpus(release: Release, name: str, artifact: ReleaseArtifact) -> TransferCorpus:
    first = _on(artifact, name)[0]
    dataset = release.manifest.evaluations[name].dataset
    return TransferCorpus(
        name=name,
        reference=name,
        rows=max(first.rows, 1),
        data_sha256=first.data_sha256,
        excluded=first.excluded,
        dataset=dataset,
        dataset_id=dataset_id(release.manifest, dataset),
    )


def _dictionary(artifact: ReleaseArtifact) -> TransferDictionary:
    claim, dataset = artifact.claim, artifact.claim.training.dataset
    digest = weights_digest(artifact.evidence) if artifact.evidence else None
    return TransferDictionary(
        name=artifact.id,
        reference=artifact.id,
        architecture=claim.architecture,
        d_in=claim.d_in,
        d_sae=claim.d_sae,
        weights_sha256=digest or "0" * 64,
        dataset=dataset,
        dataset_id=dataset_id(artifact.release.manifest, dataset),
        home_because="not looked for",
    )
