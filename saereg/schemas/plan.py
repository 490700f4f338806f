"""What a publish will do, and what it did."""

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256
from saereg.schemas.names import ReleasePath, Revision
from saereg.schemas.report import Level

State = Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
"""What a target holds, in one word: the commit of a repository, or of a folder the digest over all its files."""

Mode = Literal["one_commit", "staged", "parts"]
"""How files reach a branch of a repository.

`one_commit`: all in one commit. `staged`: in parts on a pull request, looked at there, then merged as one. `parts`: in
several commits on the branch itself, the inventory in the last one; only where a target can do neither.
"""


class Operation(Record):
    """One file of the plan."""

    action: Literal["add", "change", "same", "remove", "keep"]
    """What happens to it at the target; `keep` is a file that the release does not have, and that stays there."""
    path: ReleasePath
    """Path in the release."""
    size: int = Field(ge=0)
    """Bytes."""
    sha256: Sha256 | None = None
    """Digest that the target holds afterwards; for `remove`, the digest it holds before. Null where the target does not
    say it: of small files that are removed or kept, a repository knows git's digest alone."""


class HubPlan(Record):
    """What a publish to a repository on the Hub needs besides the files."""

    endpoint: str
    """Address of the Hub."""
    repo: str
    """Repository, `org/name`."""
    branch: str = "main"
    """Branch that readers read."""
    creates: Literal["repository", "branch"] | None = None
    """What is not there yet."""
    private: bool = False
    """Whether a repository that is made is private."""
    mode: Mode
    """How the files get there."""
    commits: int = Field(ge=0)
    """Commits that are planned."""
    upload_bytes: int = Field(ge=0)
    """Bytes of the files that are added or changed; what the Hub has already is not sent again."""
    tag: str | None = None
    """Tag that the new commit gets, e.g. `v1.0.0`."""
    tagged: Revision | None = None
    """Commit that has this tag already."""
    pull_request: bool = False
    """Whether it ends with a pull request, for somebody else to merge."""
    existing: Literal["refuse", "skip", "replace"] = "refuse"
    """What was wished where this version is published already."""
    skips: str | None = None
    """Why nothing is done although files differ: this version is published already."""
    lost: tuple[str, ...] = ()
    """What this target cannot do, and what is lost by it; empty for the Hub itself."""


class Plan(Document):
    """A publish, before it happens. It is made from a report without errors, and of that report's bytes only."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    release: str
    """Name and version of the release."""
    target: str
    """Where it goes, e.g. `dir:/srv/releases/x`."""
    release_digest: Sha256
    """Digest over manifest and index that the report vouches for."""
    validated_at_level: Level
    """Level of the report."""
    ignored: int = Field(default=0, ge=0)
    """Findings of the report that the configuration ignores, each with its reason."""
    lowered: int = Field(default=0, ge=0)
    """Errors that the configuration made warnings or notes."""
    base: State | None = None
    """State of the target when the plan was made; null when it does not exist."""
    operations: tuple[Operation, ...]
    """One per file, sorted by path."""
    hub: HubPlan | None = None
    """Of a repository on the Hub: how it gets there."""

    @property
    def is_noop(self) -> bool:
        """Whether no file is sent or removed: the target already holds exactly this release, or keeps another."""
        return (self.hub is not None and self.hub.skips is not None) or all(
            operation.action in ("same", "keep") for operation in self.operations
        )

    @property
    def digest(self) -> str:
        """One digest of what the target is to hold, by which its own commits and pull requests are known again.

        It does not depend on what the target held before: a run that is gone on with finds less to do.
        """
        files = [f"{one.path}\0{one.sha256}" for one in self.release_files]
        gone = [f"{one.path}\0" for one in self.operations if one.action == "remove"]
        words = [self.release, self.target, self.release_digest, *files, *gone]
        return hashlib.sha256("\n".join(words).encode("utf-8")).hexdigest()

    @property
    def release_files(self) -> tuple[Operation, ...]:
        """The files of the release: all but those that only the target has."""
        return tuple(operation for operation in self.operations if operation.action not in ("remove", "keep"))

    @property
    def changes(self) -> tuple[Operation, ...]:
        """The files that are sent or removed."""
        return tuple(operation for operation in self.operations if operation.action not in ("same", "keep"))

    @property
    def moved(self) -> tuple[Operation, ...]:
        """The files that are sent."""
        return tuple(operation for operation in self.operations if operation.action in ("add", "change"))


class HubReceipt(Record):
    """What a publish to a repository on the Hub did besides the files."""

    made: Literal["repository", "branch"] | None = None
    """What was not there before."""

    endpoint: str
    """Address of the Hub."""
    repo: str
    """Repository, `org/name`."""
    branch: str
    """Branch that readers read."""
    commit: Revision
    """Commit that holds the release: the head of the branch, or of the pull request that waits to be merged."""
    tag: str | None = None
    """Tag of that commit."""
    pull_request: int | None = Field(default=None, ge=1)
    """Number of the pull request that it went through, or that waits."""
    waits: bool = False
    """Whether the pull request is still to be merged."""
    url: str
    """Page of the commit, or of the pull request that waits."""
    mode: Mode
    """How the files got there."""
    commits: int = Field(ge=0)
    """Commits that this run made."""
    requests: int = Field(ge=0)
    """Requests that this run made, uploads of blocks by the Xet client not counted."""
    retries: int = Field(ge=0)
    """Requests that were made again after an error or silence."""
    reconciled: int = Field(ge=0)
    """Replies that left open whether something had happened, and were decided by what the repository holds."""
    lost: tuple[str, ...] = ()
    """What this target could not do, and what is lost by it."""


class Receipt(Document):
    """A publish, after it happened and was verified."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    release: str
    """Name and version of the release."""
    target: str
    """Where it went."""
    release_digest: Sha256
    """Digest over manifest and index."""
    base: State | None = None
    """State of the target before."""
    result: State
    """State of the target after: the commit, or of a folder the digest over every path, size and sha256."""
    changed: bool
    """False when there was nothing to do."""
    added: int = Field(ge=0)
    """Files added."""
    replaced: int = Field(ge=0)
    """Files replaced."""
    removed: int = Field(ge=0)
    """Files removed."""
    bytes_written: int = Field(ge=0)
    """Bytes written."""
    seconds: float = Field(ge=0)
    """Time that applying the plan took."""
    files: tuple[Operation, ...]
    """Every file of the release at the target, with the digest read back from it."""
    hub: HubReceipt | None = None
    """Of a repository on the Hub: how it got there."""
