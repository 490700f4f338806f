"""The three ways in which files get to a branch; see `saereg.schemas.plan.Mode`."""

from dataclasses import dataclass

from saereg.errors import ConflictError
from saereg.publishers.hub.committing import Commit, Committer
from saereg.publishers.hub.staging import Staging, parts, title_of
from saereg.publishers.publisher import Progress
from saereg.schemas.plan import Mode, Plan


@dataclass(frozen=True)
class Delivered:
    """What came of it.

    Attributes:
        commit: commit that holds the release.
        number: of the pull request that it went through, or that waits.
        waits: whether the pull request is still to be merged.
    """

    commit: str
    number: int | None = None
    waits: bool = False


@dataclass(frozen=True)
class Delivery:
    """One plan on its way to a branch.

    Attributes:
        plan: the plan.
        base: commit of the branch that it is made on.
        committer: makes commits.
        staging: makes pull requests.
    """

    plan: Plan
    base: str
    committer: Committer
    staging: Staging

    def run(self, mode: Mode, progress: Progress | None) -> Delivered:
        """Deliver.

        Raises:
            ConflictError: when somebody else changed the branch meanwhile.
            PublishError: when the Hub refuses or does not answer.
        """
        hub = self.plan.hub
        if mode == "staged" or (hub is not None and hub.pull_request):
            staged = self.staging.propose(self.plan, self.base, progress)
            if hub is not None and hub.pull_request:
                return Delivered(staged.commit, staged.number, waits=True)
            try:
                merged = self.staging.merge(self.plan, staged, self.base)
            except ConflictError:
                self.staging.close(staged.number, "Somebody else changed the branch meanwhile; this was not published.")
                raise
            return Delivered(merged.commit, merged.number)
        return Delivered(self._on_the_branch(mode, progress))

    def _on_the_branch(self, mode: Mode, progress: Progress | None) -> str:
        plan, head = self.plan, self.base
        branch = plan.hub.branch if plan.hub else "main"
        title, several = title_of(plan), mode == "parts"
        for number, part in enumerate(parts(plan.changes) if several else [list(plan.changes)], 1):
            named = f"{title}, part {number}" if several else title
            mark = f"{plan.digest} {number}" if several else plan.digest
            head = self.committer.commit(Commit(branch, head, part, named, mark), progress)
        return head
