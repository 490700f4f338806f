"""One commit, made once: where the reply is lost, what the repository holds decides whether it was made."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saereg import __version__
from saereg.errors import ConflictError, PublishError
from saereg.publishers.hub.asking import MissingBytesError, UnsureError
from saereg.publishers.hub.blobs import Bytes
from saereg.publishers.hub.client import Client
from saereg.publishers.hub.state import changes, is_done, missing
from saereg.publishers.hub.words import Failure
from saereg.publishers.publisher import Progress
from saereg.schemas.plan import Operation

TRIES = 6
"""Times that one commit is sent whose reply is lost each time, and of which nothing can be seen."""

LOOKS = 4
"""Times that a branch is looked at, ever later, before a commit counts as not made: what is read may lag behind."""

LOOKS_WITHOUT_LOCK = 7
"""The same where a commit that is late would not be refused: longer than the minute that a Hub takes for one."""

PAUSE = 0.5
"""Seconds before the second look; each further one waits twice as long."""

MARK = "saereg-plan: "
"""Line of a commit's message by which its own is known again."""


@dataclass(frozen=True)
class Commit:
    """A commit that is wanted.

    Attributes:
        revision: branch, or pull request.
        base: commit that it is made on.
        operations: what it changes.
        title: its title.
        mark: digest of the plan that it belongs to, and which part of it.
    """

    revision: str
    base: str
    operations: Sequence[Operation]
    title: str
    mark: str

    @property
    def description(self) -> str:
        """Its message."""
        return f"Made by saereg {__version__}.\n\n{MARK}{self.mark}"


class Committer:
    """Makes commits of one release in one repository.

    Attributes:
        made: commits made by it.
    """

    def __init__(self, client: Client, content: Bytes, *, lock_is_enforced: bool) -> None:
        self._client, self._bytes, self._locked = client, content, lock_is_enforced
        self.made = 0

    def commit(self, wanted: Commit, progress: Progress | None = None) -> str:
        """Send bytes, make one commit, and return it.

        Raises:
            ConflictError: when somebody else changed the branch meanwhile.
            PublishError: when the Hub refuses, or goes on not answering.
        """
        prepared = self._bytes.send(wanted.operations, wanted.revision, progress)
        found = self._send(wanted, prepared)
        self.made += 1
        if not self._locked:
            self._require_parent(wanted, found)
        return found

    def _send(self, wanted: Commit, prepared: list[Any]) -> str:
        last: Failure | None = None
        for attempt in range(TRIES):
            try:
                return self._client.commit(prepared, wanted.revision, wanted.base, wanted.title, wanted.description)
            except MissingBytesError:
                last = Failure(400, "bytes that were sent are not there")
                prepared = self._bytes.send(wanted.operations, wanted.revision)
            except UnsureError as unsure:
                last = unsure.failure
                self._client.counts.add(reconciled=1)
                if landed := self._landed(wanted):
                    return landed
                self._client.counts.add(retries=1)
                time.sleep(PAUSE * 2**attempt)
        said = last.sentence(self._client.target.repo, self._client.endpoint) if last else ""
        raise PublishError(f"{self._client.target.name}: cannot commit: {said}")

    def _landed(self, wanted: Commit) -> str | None:
        """Return the commit when it was made all the same; None when the branch stands where it stood.

        Raises:
            ConflictError: when the branch is somewhere else.
        """
        for look in range(LOOKS if self._locked else LOOKS_WITHOUT_LOCK):
            head = self._client.head(wanted.revision)
            if head is not None and head != wanted.base:
                return self._mine(wanted, head)
            time.sleep(PAUSE * 2**look)
        return None

    def _mine(self, wanted: Commit, head: str) -> str:
        for commit, message in self._client.history(head):
            if commit == wanted.base:
                break
            if f"{MARK}{wanted.mark}" in message:
                return commit
        tree = self._client.tree(head)
        if not missing(wanted.operations, tree, self._bytes.ids):
            return head  # somebody else made the same change
        raise conflict(self._client, wanted.base, head, wanted.operations)

    def _require_parent(self, wanted: Commit, found: str) -> None:
        """Find out whether somebody else's commit came between, where nothing kept it from doing so."""
        history = [commit for commit, _ in self._client.history(found)]
        if found == wanted.base or wanted.base in history[1:2]:
            return
        between = history[1] if len(history) > 1 else wanted.base
        raise conflict(self._client, wanted.base, between, wanted.operations, landed=found)


def conflict(
    client: Client, base: str, head: str, operations: Sequence[Operation], landed: str | None = None
) -> ConflictError:
    """Return what to say when somebody else changed a branch: which files, and whether they are ours too.

    Args:
        client: asks the Hub.
        base: commit that the plan was made for.
        head: commit that somebody else made.
        operations: what the plan changes.
        landed: our own commit, where it was made all the same.
    """
    try:
        before = client.tree(base)
    except PublishError:
        problem = f"{client.target.name} has no commit {base[:8]} any more: its history was rewritten"
        return ConflictError(f"{problem}; nothing of yours was published; publish again: the plan is made anew")
    after = client.tree(head)
    lines = changes(before, after)
    ours = {operation.path for operation in operations}
    both = sorted(path for path in ours if before.get(path) != after.get(path))
    where = f"{client.target.name} has moved from {base[:8]} to {head[:8]} since the plan was made"
    shared = f"; {len(both)} of the files that differ are yours too, first {both[0]}" if both else ""
    done = f"; your commit {landed[:8]} was made on top of it" if landed else "; nothing of yours was published"
    advice = "look at it and publish again: the plan is made anew"
    return ConflictError("\n".join([f"{where}{shared}{done}; {advice}", *(f"  {line}" for line in lines)]), lines)


def require_shown(client: Client, operations: Sequence[Operation], revision: str, content: Bytes) -> None:
    """Look at a commit and refuse it when it does not show what was planned.

    Raises:
        PublishError: when a file is missing or differs.
    """
    tree = client.tree(revision)
    wrong = [one.path for one in operations if not is_done(one, tree, content.ids)]
    if wrong:
        shown = ", ".join(wrong[:5]) + (" …" if len(wrong) > 5 else "")
        raise PublishError(f"{client.target.name}@{revision[:8]} does not hold what was sent: {shown}; publish again")
