"""Many files: in parts on a pull request that readers do not see, looked at there, then merged as one.

The inventory (manifest, index, signature, card) is in the last part. A run that was killed is gone on with: what the
pull request shows already is not sent again, and it is found by its title when even its number was lost.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from saereg.errors import ConflictError, PublishError
from saereg.publishers.hub.asking import UnsureError
from saereg.publishers.hub.blobs import light
from saereg.publishers.hub.client import Client, PullRequest
from saereg.publishers.hub.committing import LOOKS, MARK, PAUSE, TRIES, Commit, Committer, conflict
from saereg.publishers.hub.journal import Entry, Journal
from saereg.publishers.hub.state import Ids, missing, strange
from saereg.publishers.publisher import Progress
from saereg.registry.files.names import SIGNATURE_FILE
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.schemas.plan import Operation, Plan

PART = 200
"""Most files in one commit: the Hub has a minute for each."""

PART_BYTES = 80 * 1024 * 1024
"""Most bytes of small files in one commit, which travel in the request itself."""

INVENTORY = (INDEX_FILE, MANIFEST_FILE, SIGNATURE_FILE, "README.md")
"""What tells readers of all other files: in the last part."""

OPEN = ("draft", "open")
"""States of a pull request that can still be merged."""


@dataclass(frozen=True)
class Staged:
    """What came of it.

    Attributes:
        commit: head of the branch after the merge, or of the pull request where it waits.
        number: of the pull request.
    """

    commit: str
    number: int


class Staging:
    """One release on its way through a pull request.

    A pull request is gone on with only when it is ours (the journal knows its number, or our account opened it), nobody
    else has committed to it, and it starts where the plan does: the Hub merges by files, so that what an older one did
    not touch would stay as somebody left it since.
    """

    def __init__(self, client: Client, committer: Committer, journal: Journal, ids: Ids) -> None:
        self._client, self._committer, self._journal, self._ids = client, committer, journal, ids

    def propose(self, plan: Plan, base: str, progress: Progress | None = None) -> Staged:
        """Bring a pull request to the state that is planned, and open it for merging.

        Args:
            plan: what is wanted.
            base: commit of the branch that it is made on.
            progress: called after each batch of files.

        Raises:
            ConflictError: when somebody else changed the pull request or the branch meanwhile.
            PublishError: when the Hub refuses or does not answer.
        """
        number = self._number(plan, base)
        revision = f"refs/pr/{number}"
        head = self._client.appeared(revision)
        todo = {one.path for one in missing(plan.changes, self._client.tree(head), self._ids)}
        every = list(parts(plan.changes))
        for ordinal, part in enumerate(every, 1):
            operations = [one for one in part if one.path in todo]
            if not operations:  # a run before this one was there
                continue
            title = f"{title_of(plan)}, part {ordinal}"
            mark = f"{plan.digest} {ordinal} {operations[0].path}"
            head = self._committer.commit(Commit(revision, head, operations, title, mark), progress)
            self._client.tell(f"part {ordinal} of {len(every)} is on pull request {number}")
        self._require_exactly(plan, base, head, revision)
        if self._status(plan, number) == "draft":
            self._client.set_status(number, "open")
        return Staged(head, number)

    def merge(self, plan: Plan, staged: Staged, base: str) -> Staged:
        """Merge the pull request and return the commit of the branch that holds the release.

        Raises:
            ConflictError: when somebody else changed the branch meanwhile.
            PublishError: when the Hub refuses or does not answer.
        """
        found = self._merged(plan, base, looks=1)
        for _ in range(TRIES):
            if found is not None:
                self._close_others(plan, staged.number)
                return Staged(found, staged.number)
            try:
                self._client.merge(staged.number, f"{title_of(plan)} ({len(plan.moved)} files)")
            except UnsureError:
                self._client.counts.add(reconciled=1, retries=1)
            except PublishError:  # as of a pull request that is merged already
                if (found := self._merged(plan, base, looks=LOOKS)) is None:
                    raise
                continue
            found = self._merged(plan, base, looks=LOOKS)
        raise PublishError(
            f"{self._client.target.name}: pull request {staged.number} holds the whole release, but the Hub does not "
            f"say that {self._client.target.branch} has it; run the same command again, or merge it on its page"
        )

    def close(self, number: int, why: str) -> None:
        """Close a pull request that will never be merged, if it is still there and open."""
        with contextlib.suppress(PublishError):
            self._client.set_status(number, "closed", why)

    def _merged(self, plan: Plan, base: str, looks: int) -> str | None:
        """Return the commit of the branch that holds the release; None when the branch stands where it stood.

        Raises:
            ConflictError: when it is somewhere else.
        """
        for look in range(looks):
            head = self._client.head(self._client.target.branch)
            if head is not None and head != base:
                return self._found(plan, base, head)
            if look + 1 < looks:
                time.sleep(PAUSE * 2**look)
        return None

    def _found(self, plan: Plan, base: str, head: str) -> str:
        """Return our merge in the history of a branch, or the head where somebody else published the same."""
        ours = self._own(plan, head, base)
        candidate = ours or head
        tree = self._client.tree(candidate, whole=True)
        strangers = strange(plan.changes, self._client.tree(base, whole=True), tree) if ours else []
        if strangers or missing(plan.changes, tree, self._ids):
            raise conflict(self._client, base, head, plan.changes, landed=ours)
        if ours is not None and ours != head:
            self._client.tell(f"somebody has committed to {self._client.target.branch} since: it is at {head[:8]} now")
        return candidate

    def _own(self, plan: Plan, head: str, base: str) -> str | None:
        """Return the newest commit of a branch, since the base, that is ours."""
        for commit, message in self._client.history(head):
            if commit == base:
                return None
            if title_of(plan) in message:
                return commit
        return None

    def _require_exactly(self, plan: Plan, base: str, head: str, revision: str) -> None:
        """Refuse a pull request that does not hold what is planned, or holds anything else besides."""
        tree = self._client.tree(head, whole=True)
        wrong = [one.path for one in missing(plan.changes, tree, self._ids)]
        wrong += strange(plan.changes, self._client.tree(base, whole=True), tree)
        if wrong:
            shown = ", ".join(wrong[:5]) + (" …" if len(wrong) > 5 else "")
            raise ConflictError(
                f"{self._client.target.name}: {revision} is not what was sent: {shown}; nothing was merged. "
                "Close that pull request, and publish again"
            )

    def _number(self, plan: Plan, base: str) -> int:
        """Return the number of our pull request: that of the run before, or a new one."""
        entry = self._journal.entry
        if entry is not None and entry.plan != plan.digest:
            self._abandon(entry)
            entry = None
        looks = LOOKS if entry is not None and entry.opening and entry.pull_request is None else 1
        number = self._known(plan, base, entry.pull_request if entry else None, looks)
        if number is None:
            self._journal.write(Entry(plan.digest, opening=True))
            number = self._open(plan, base)
        self._journal.write(Entry(plan.digest, opening=True, pull_request=number))
        return number

    def _open(self, plan: Plan, base: str) -> int:
        """Open a pull request; where the reply is lost, the one that was opened is found."""
        description = f"{plan.release}, made by saereg.\n\nsaereg-plan: {plan.digest}"
        for _ in range(TRIES):
            try:
                return self._client.open_pull_request(title_of(plan), description)
            except UnsureError:
                self._client.counts.add(reconciled=1, retries=1)
                if (number := self._known(plan, base, None, LOOKS)) is not None:
                    return number
        raise PublishError(
            f"{self._client.target.name}: the Hub does not say whether it opened a pull request; "
            "nothing was published, run the same command again"
        )

    def _known(self, plan: Plan, base: str, noted: int | None, looks: int) -> int | None:
        """Return the number of a pull request that can be gone on with; others of ours are closed."""
        for look in range(looks):
            for one in self._client.pull_requests(title_of(plan)):
                if one.status not in OPEN or not (one.number == noted or self._is_mine(one)):
                    continue
                if self._starts_at(plan, one.number) == base:
                    return one.number
                self.close(one.number, "Made anew, on what the branch holds now.")
            if look + 1 < looks:
                time.sleep(PAUSE * 2**look)
        return None

    def _is_mine(self, one: PullRequest) -> bool:
        """Whether our account opened a pull request; where the Hub does not say who we are, it counts as not."""
        try:
            return one.author == self._client.me()
        except PublishError:
            return False

    def _starts_at(self, plan: Plan, number: int) -> str | None:
        """Return the newest commit of a pull request that is not one of this plan's."""
        history = self._client.history(self._client.appeared(f"refs/pr/{number}"))
        return next((commit for commit, message in history if f"{MARK}{plan.digest}" not in message), None)

    def _close_others(self, plan: Plan, number: int) -> None:
        """Close what lost replies may have left open."""
        for one in self._client.pull_requests(title_of(plan)):
            if one.number != number and one.status in OPEN and self._is_mine(one):
                self.close(one.number, f"The same as #{number}.")

    def _status(self, plan: Plan, number: int) -> str | None:
        known = self._client.pull_requests(title_of(plan))
        return next((one.status for one in known if one.number == number), None)

    def _abandon(self, entry: Entry) -> None:
        """Close the pull request of a run that was never ended, of a release that has changed since."""
        if entry.pull_request is not None:
            self.close(entry.pull_request, "The release has changed; this was not finished.")


def title_of(plan: Plan) -> str:
    """Return the title of a plan's commits and pull request; no other plan has the same."""
    return f"Publish {plan.release} [{plan.digest[:12]}]"


def parts(operations: Sequence[Operation]) -> Iterator[list[Operation]]:
    """Yield operations in parts that are small enough for one commit, the inventory together in the last one."""
    inventory = [one for one in operations if one.path in INVENTORY]
    rest = sorted((one for one in operations if one.path not in INVENTORY), key=lambda one: one.path)
    part: list[Operation] = []
    small = 0
    for one in rest:
        size = light(one)
        if part and (len(part) == PART or small + size > PART_BYTES):
            yield part
            part, small = [], 0
        part.append(one)
        small += size
    if part and len(part) + len(inventory) > PART:
        yield part
        part = []
    if part + inventory:
        yield part + inventory


def count_parts(operations: Sequence[Operation]) -> int:
    """Return how many commits the parts are."""
    return sum(1 for _ in parts(operations))
