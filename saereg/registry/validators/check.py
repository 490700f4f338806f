"""What a check is: a name, a level, and a generator of findings."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.schemas.report import Finding, Level


@dataclass(frozen=True)
class ReleaseCheck:
    """A check of the release as a whole."""

    name: str
    level: Level
    run: Callable[[ReleaseSubject], Iterator[Finding]]


@dataclass(frozen=True)
class ArtifactCheck:
    """A check of one artifact; skipped at levels weights and data once cheaper checks found errors in it.

    A `blocking` one counts as cheaper than the others of its level: where weights are not finite, nothing is replayed.
    """

    name: str
    level: Level
    run: Callable[[ArtifactSubject], Iterator[Finding]]
    blocking: bool = False


Check = ReleaseCheck | ArtifactCheck
