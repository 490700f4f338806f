"""Which artifacts of a release, and which of its files, are wanted."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from saereg.errors import UsageError
from saereg.registry.fetching.opening import RemoteRelease
from saereg.registry.metrics.sources.texts import text_path
from saereg.registry.query import Selection, meeting
from saereg.registry.release import Release
from saereg.schemas.evaluation import ActivationRows, TokenRows
from saereg.schemas.index import IndexFile


@dataclass(frozen=True)
class Choice:
    """What a user asks for.

    Attributes:
        ids: ids of artifacts; all when there are none.
        conditions: conditions that each of them must meet, such as `l0 < 64`.
    """

    ids: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ids or self.conditions)

    def of(self, release: Release) -> tuple[str, ...]:
        """Return the ids of the artifacts that are meant, in the manifest's order.

        Raises:
            UnknownNameError: when an id or a field does not exist.
            UsageError: when no artifact meets every condition.
        """
        for identifier in self.ids:
            _ = release[identifier]
        chosen = [artifact for artifact in release if not self.ids or artifact.id in self.ids]
        found = tuple(artifact.id for artifact in meeting(Selection(tuple(chosen)), self.conditions))
        if not found:
            raise UsageError("no artifact meets every condition" if self.conditions else "the release has no artifacts")
        return found


def files_of(remote: RemoteRelease, ids: Collection[str]) -> Iterator[IndexFile]:
    """Yield the files that the index names for some artifacts."""
    for artifact in remote.index.artifacts:
        if artifact.id in ids:
            yield from artifact.files


def evaluations_of(remote: RemoteRelease, ids: Collection[str]) -> Iterator[IndexFile]:
    """Yield the files of rows on which some artifacts were measured, by claims and measurements, and of their text."""
    manifest = remote.manifest
    names = {m.evaluation for entry in remote.index.artifacts if entry.id in ids for m in entry.metrics}
    names |= {claim.evaluation or "" for entry in manifest.artifacts if entry.id in ids for claim in entry.claims}
    used = [manifest.evaluations[name] for name in names if name in manifest.evaluations]
    paths = {evaluation.path for evaluation in used if isinstance(evaluation, ActivationRows | TokenRows)}
    paths |= {path for evaluation in used if (path := text_path(evaluation)) is not None}
    for file in remote.index.files:
        if file.path in paths or file.path.rpartition("/")[0] in paths:
            yield file


def common_files(remote: RemoteRelease) -> Iterator[IndexFile]:
    """Yield the files that belong to the release as a whole, without the rows of evaluations."""
    return (file for file in remote.index.files if file.role != "evaluation")


def total(files: Iterable[IndexFile]) -> int:
    """Return the bytes of some files."""
    return sum(file.size for file in files)
