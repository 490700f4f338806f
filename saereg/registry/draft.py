"""Add a dictionary to a release folder's manifest.json, without disturbing what else stands there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from saereg.errors import UsageError
from saereg.registry.files.atomic import exclusive, write_text_atomically
from saereg.registry.release import MANIFEST_FILE
from saereg.schemas.document import Record
from saereg.schemas.evaluation import Evaluation, ParameterRows
from saereg.schemas.manifest import SCHEMA_URL, Artifact, Manifest, ReleaseInfo
from saereg.schemas.site import BaseModelRef, DatasetRef, Site, TokenPolicy

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class References:
    """Everything that the entry of a dictionary refers to.

    Attributes:
        base_models: key → base model.
        sites: key → site.
        datasets: key → data set.
        evaluations: key → evaluation data.
        tokens: which tokens became rows; None for dictionaries of parameters.
    """

    base_models: Mapping[str, BaseModelRef]
    sites: Mapping[str, Site]
    datasets: Mapping[str, DatasetRef] = field(default_factory=dict)
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    tokens: TokenPolicy | None = None


def add_to_manifest(
    release: Path, artifact: Artifact, references: References, *, info: ReleaseInfo | None = None
) -> Manifest:
    """Create or update manifest.json; processes that do so at the same time wait for each other.

    Args:
        release: release folder.
        artifact: the dictionary; one of the same id is replaced.
        references: what its entry refers to.
        info: the release as a whole; needed when there is no manifest yet, ignored when there is one.

    Returns:
        The manifest as it stands now.

    Raises:
        UsageError: when the manifest holds something else under one of the keys, or is missing and `info` too.
        DocumentError: when the manifest that is there cannot be read.
    """
    release.mkdir(parents=True, exist_ok=True)
    with exclusive(release):
        manifest = check_references(release, references, info)
        artifacts = {known.id: known for known in manifest.artifacts} | {artifact.id: artifact}
        manifest = manifest.model_copy(update={"artifacts": tuple(artifacts.values())})
        write_text_atomically(release / MANIFEST_FILE, manifest.text())
    return manifest


def check_references(release: Path, references: References, info: ReleaseInfo | None = None) -> Manifest:
    """Return the manifest with the references in it, unwritten: whoever trains for hours asks before.

    Raises:
        UsageError: when the manifest holds something else under one of the keys, or is missing and `info` too.
        DocumentError: when the manifest that is there cannot be read.
    """
    manifest, path = read_or_new(release, info), release / MANIFEST_FILE
    if manifest.artifacts and references.tokens and manifest.tokens not in (None, references.tokens):
        raise UsageError(f"{path}: its dictionaries were trained on other tokens; use another release folder")
    changes = {
        "base_models": _joined(manifest.base_models, references.base_models, "base model", path),
        "sites": _joined(manifest.sites, references.sites, "site", path),
        "datasets": _joined(manifest.datasets, references.datasets, "data set", path),
        "evaluations": _joined(manifest.evaluations, references.evaluations, "evaluation", path),
        "tokens": references.tokens or manifest.tokens,
    }
    return manifest.model_copy(update=changes)


def read_or_new(release: Path, info: ReleaseInfo | None) -> Manifest:
    """Return the manifest of a release folder, or an empty one.

    Raises:
        UsageError: when there is none and `info` is missing.
        DocumentError: when it cannot be read.
    """
    path = release / MANIFEST_FILE
    if path.exists():
        return Manifest.read(path)
    if info is None:
        raise UsageError(f"{path} does not exist; to make one, say the release's name, title and license")
    return Manifest(schema_url=SCHEMA_URL, release=info, base_models={}, sites={}, artifacts=())


def _joined(old: Mapping[str, R], new: Mapping[str, R], kind: str, path: Path) -> dict[str, R]:
    joined = {**old, **new}
    for key in (key for key in new if key in old):
        agreed = _agreed(old[key], new[key])
        if agreed is None:
            value, known = new[key], old[key]
            fields = [name for name in type(value).model_fields if getattr(value, name) != getattr(known, name)]
            way_out = "use another release folder"
            if kind == "evaluation":
                way_out = f"give this one another name with evaluation.name, or {way_out}"
            raise UsageError(f"{path}: {kind} {key!r} has another {', '.join(fields)}; {way_out}")
        joined[key] = agreed
    return joined


def _agreed(old: R, new: R) -> R | None:
    """Return what two records of one thing say, or None where they differ; one may pin what the other leaves open."""
    for less, more in ((old, new), (new, old)):
        open_ = isinstance(less, ParameterRows) and isinstance(more, ParameterRows) and not less.sha256
        if less == more or (open_ and less.model_copy(update={"sha256": getattr(more, "sha256", ())}) == more):
            return more
    return None
