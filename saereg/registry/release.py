"""A release: its claims, its evidence, and its artifacts as things that can be queried and loaded."""

import shlex
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saereg.errors import NothingToValidateError, UnknownNameError, UsageError, WeightsError, WithdrawnWarning
from saereg.registry import hub
from saereg.registry.conditions.fields import Basis
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.names import CONFIG_FILE
from saereg.registry.files.pulled import read_pulled
from saereg.registry.flat_fields import fields_of, headline, number_fields, numbers_of, proof_fields
from saereg.registry.query import Selection
from saereg.registry.refs import Reference, parse_reference, require_folder
from saereg.registry.withdrawal import standing, told
from saereg.schemas.artifact_config import ArtifactConfig, read_config
from saereg.schemas.evaluation import Evaluation
from saereg.schemas.index import Index, IndexArtifact
from saereg.schemas.manifest import CrosscoderArtifact, Manifest, SaeArtifact, TranscoderArtifact
from saereg.schemas.pulled import Pulled
from saereg.schemas.withdrawal import Withdrawal

if TYPE_CHECKING:
    from saereg.registry.dictionary import Dictionary

MANIFEST_FILE = "manifest.json"
INDEX_FILE = "index.json"
CANONICAL = "canonical"
"""What the author's pick is called, where no artifact has this id."""
CHECKPOINTS = "checkpoints"
"""Folder beside a release in which source checkpoints are looked for, and put by trainers."""


@dataclass(frozen=True, eq=False)
class ReleaseArtifact:
    """One artifact of an open release.

    Attributes:
        release: the release it belongs to.
        claim: what the author says of it.
        evidence: what saereg found, or None when the release was never built.
    """

    release: "Release" = field(repr=False)
    claim: SaeArtifact | TranscoderArtifact | CrosscoderArtifact
    evidence: IndexArtifact | None = field(repr=False, default=None)

    @property
    def id(self) -> str:
        """Its id in the release."""
        return self.claim.id

    @property
    def folder(self) -> Path:
        """Its folder on this machine; on the Hub's cache, its weights are fetched by `load`."""
        return self.release.path / self.claim.path

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Every queryable field: identity, site, sparsity, and numbers. Absent values are None.

        Of each number the measured one, else the stated one; `l0_basis` and `explained_variance_basis` say which.
        """
        return self.fields_by(None)

    def fields_by(self, basis: Basis | None) -> dict[str, Any]:
        """Return its fields with the numbers of one basis only: those that are measured, or those that are stated."""
        numbers = number_fields(numbers_of(self.claim, self.evidence), basis)
        values = fields_of(self.claim, self.release.manifest, numbers) | proof_fields(self.evidence)
        release = self.release
        if release.repo is not None:
            values |= {"repo": release.repo, "reference": f"{release.repo}@{release.path.name}:{self.id}"}
        else:
            folder = str(release.path.absolute())
            values |= {"folder": folder, "reference": f"{folder}:{self.id}"}
        return values

    @property
    def metrics(self) -> dict[str, float | None]:
        """Measured metrics by definition id, of the first evaluation that has them; empty before the first build."""
        return {name: m.value for name, m in headline(self.evidence.metrics).items()} if self.evidence else {}

    @property
    def withdrawn(self) -> Withdrawal | None:
        """The mark by which its author takes it, or this whole version, back; None where there is none."""
        manifest = self.release.manifest
        return standing(manifest, manifest.release.version, self.id)

    @property
    def pull_command(self) -> str | None:
        """The command that fetches it, where a pull of the release left it out; else None."""
        pulled = self.release.pulled
        if pulled is None or self.id in pulled.artifacts or self.folder.is_dir():
            return None
        out = shlex.quote(str(self.release.path))
        return f"saereg pull {hub.name_of(pulled.repo, pulled.commit)} {self.id} --out {out}"

    @property
    def cfg(self) -> ArtifactConfig:
        """Its configuration, read from cfg.json.

        Raises:
            DocumentError: when cfg.json cannot be read, or does not parse or fit.
        """
        return read_config(self.folder / CONFIG_FILE)

    def load(self, device: str = "cpu", *, verify: bool = True) -> "Dictionary":
        """Load it as something one can call: `x_hat = dictionary(x)`.

        Of a yanked one a `WithdrawnWarning` says why, and what to use instead.

        Args:
            device: torch device.
            verify: compare the sha256 of its weights and cfg.json with index.json first, where there is one.

        Raises:
            WeightsError: when it was not pulled, a file differs from the index, or tensors from the configuration.
            DocumentError: when cfg.json does not fit.
            PublishError: when the Hub does not answer.
            MissingExtraError: without the `torch` extra.
        """
        if (mark := self.withdrawn) is not None and mark.kind == "yanked":
            warnings.warn(told(mark), WithdrawnWarning, stacklevel=3)
        artifact = self.local()
        if artifact.pull_command is not None:
            raise WeightsError(artifact.folder, f"was not pulled: {artifact.pull_command} fetches it")
        if verify:
            artifact._verify()
        from saereg.registry.loading import load_path

        return load_path(artifact.folder, device=device, layout=artifact.claim.format, as_library=True)

    def local(self) -> "ReleaseArtifact":
        """Return it with all its files on this machine; those on the Hub are fetched.

        Raises:
            PublishError: when the Hub does not answer.
        """
        if self.release.repo is None:
            return self
        path = hub.fetch_folder(self.release.repo, self.release.path.name, self.claim.path)
        return replace(self, release=replace(self.release, path=path))

    def _verify(self) -> None:
        for file in self.evidence.files if self.evidence else ():
            if file.role in ("weights", "config"):
                path = self.release.path / file.path
                if not path.is_file():
                    raise WeightsError(path, "is in index.json but not in the release")
                if sha256_of(path) != file.sha256:
                    raise WeightsError(path, "its sha256 is not the one in index.json: altered, or not built again")


@dataclass(frozen=True, eq=False)
class Release:
    """An open release folder.

    Attributes:
        path: the folder.
        manifest: the claims.
        index: the evidence, or None when it was never built.
        repo: Hub repository that the folder is a snapshot of, if any.
    """

    path: Path
    manifest: Manifest = field(repr=False)
    index: Index | None = field(repr=False)
    repo: str | None = None

    @cached_property
    def artifacts(self) -> tuple[ReleaseArtifact, ...]:
        """Every artifact, in the manifest's order."""
        evidence = {entry.id: entry for entry in self.index.artifacts} if self.index else {}
        return tuple(ReleaseArtifact(self, claim, evidence.get(claim.id)) for claim in self.manifest.artifacts)

    @cached_property
    def pulled(self) -> Pulled | None:
        """What `saereg pull` noted in the folder; None where it was made here, or is on the Hub."""
        return read_pulled(self.path) if self.repo is None else None

    def __iter__(self) -> Iterator[ReleaseArtifact]:
        return iter(self.artifacts)

    def __len__(self) -> int:
        return len(self.artifacts)

    def __getitem__(self, artifact_id: str) -> ReleaseArtifact:
        """Return the artifact with this id.

        Raises:
            UnknownNameError: when there is none.
        """
        for artifact in self.artifacts:
            if artifact.id == artifact_id:
                return artifact
        raise UnknownNameError("artifact", artifact_id, [artifact.id for artifact in self.artifacts])

    def named(self, name: str) -> ReleaseArtifact:
        """Return the artifact with this id, else at this path, or the only canonical one where the name says so.

        Raises:
            UnknownNameError: when there is none.
            UsageError: when several artifacts are canonical.
        """
        if name != CANONICAL or any(artifact.id == CANONICAL for artifact in self.artifacts):
            ids = {artifact.claim.path: artifact.id for artifact in self.artifacts}
            return self[name if any(artifact.id == name for artifact in self.artifacts) else ids.get(name, name)]
        picks = [artifact for artifact in self.artifacts if artifact.claim.canonical]
        if len(picks) != 1:
            listed = ", ".join(artifact.id for artifact in picks) or "none"
            raise UsageError(
                f"{self.path.name}:{name}: {len(picks)} artifacts are canonical ({listed}); name one by its id"
            )
        return picks[0]

    def fetched(self, evaluation: Evaluation) -> Path:
        """Return the folder of the release in which the rows of an evaluation are; those on the Hub are fetched.

        Raises:
            PublishError: when the Hub does not answer.
        """
        path = getattr(evaluation, "path", None)
        if self.repo is None or path is None:
            return self.path
        return hub.fetch_path(self.repo, self.path.name, path)

    def find(self, **conditions: Any) -> "Selection[ReleaseArtifact]":  # noqa: ANN401
        """Return the artifacts that meet every condition, e.g. `find(kind="sae", layer=2, l0__lt=64)`.

        Operators are `lt`, `le`, `gt`, `ge`, `ne`, `in` and `contains`, written `field__operator`. An artifact whose
        field is absent meets no condition on it but `field=None`.

        Raises:
            UnknownNameError: for a field or operator that does not exist.
        """
        return Selection(self.artifacts).find(**conditions)


def checkpoints_beside(root: Path) -> Path | None:
    """Return the folder of source checkpoints beside a release, if there is one."""
    beside = root.absolute().parent / CHECKPOINTS
    return beside if beside.is_dir() else None


def open_release(target: str | Path) -> Release:
    """Open a release folder or `hf://org/repo[@revision]`. Reads JSON only; no weights, no torch.

    Raises:
        NothingToValidateError: when there is no manifest.json.
        DocumentError: when a document does not parse or fit.
        PublishError: when the Hub does not answer.
    """
    return _open(parse_reference(target))


def open_artifact(target: str | Path) -> ReleaseArtifact:
    """Open one artifact of a release by `release:artifact_id`, `hf://org/repo@rev:id`, or its folder in a release.

    Raises:
        UsageError: when the reference names no single artifact.
        UnknownNameError: when the release has no artifact of that id.
        NothingToValidateError: when there is no manifest.json.
        DocumentError: when a document does not parse or fit.
        PublishError: when the Hub does not answer.
    """
    reference = parse_reference(target)
    if reference.artifact is not None:
        return _open(reference).named(reference.artifact)
    if reference.folder is not None and not (reference.folder / MANIFEST_FILE).is_file():
        return _inside_release(reference.folder)
    release = _open(reference)
    if len(release) == 1:
        return release.artifacts[0]
    example = f"; name one: {target}:{release.artifacts[0].id}" if len(release) else ""
    raise UsageError(f"{target} holds {len(release)} artifacts{example}")


def _inside_release(folder: Path) -> ReleaseArtifact:
    """Find the release that a folder of one artifact stands in."""
    real = folder.absolute()
    for parent in real.parents:
        if (parent / MANIFEST_FILE).is_file():
            release = _open(Reference(folder=parent))
            for artifact in release:
                if (parent / artifact.claim.path) == real:
                    return artifact
    raise UsageError(f"{folder} is no artifact of a release")


def _open(reference: Reference) -> Release:
    if reference.repo is not None:
        snapshot = hub.fetch_documents(reference.repo, reference.revision)
        return _read(snapshot, repo=reference.repo)
    folder = reference.folder or Path()
    require_folder(folder)
    return _read(folder, repo=None)


def _read(folder: Path, repo: str | None) -> Release:
    if not (folder / MANIFEST_FILE).is_file():
        raise NothingToValidateError(f"{folder} holds no {MANIFEST_FILE}, so it is no release")
    manifest = Manifest.read(folder / MANIFEST_FILE)
    index_path = folder / INDEX_FILE
    return Release(folder, manifest, Index.read(index_path) if index_path.is_file() else None, repo)
