"""Publish to a repository on the Hub: planned, sent, committed once, looked at, tagged."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from saereg.errors import ConflictError, PublishError, UsageError
from saereg.publishers.hub.asking import PAUSE, TRIES, NotOfferedError, UnsureError
from saereg.publishers.hub.blobs import Bytes
from saereg.publishers.hub.capabilities import LOST, Capabilities, capabilities_of
from saereg.publishers.hub.client import Client
from saereg.publishers.hub.committing import Committer, conflict, require_shown
from saereg.publishers.hub.delivery import Delivered, Delivery
from saereg.publishers.hub.journal import Journal
from saereg.publishers.hub.planning import mode_of, plan_of
from saereg.publishers.hub.staging import Staging
from saereg.publishers.hub.state import missing
from saereg.publishers.hub.target import BRANCH, HubTarget, parse_target
from saereg.publishers.hub.written import require_planned
from saereg.publishers.publisher import Progress, Publisher, Wishes
from saereg.registry.files.digest_cache import Digests
from saereg.schemas.plan import HubPlan, HubReceipt, Plan, Receipt
from saereg.schemas.report import Report

CARD = "README.md"


def open_target(place: str, wishes: Wishes) -> Publisher:
    """Return the publisher of `hf:PLACE`.

    Raises:
        UsageError: when the place is no repository, or wishes contradict each other.
    """
    if wishes.pull_request and wishes.no_tag:
        raise UsageError("--pr makes no tag anyway: leave --no-tag out")
    return HubPublisher(parse_target(f"hf:{place}", wishes.branch), wishes)


class HubPublisher:
    """Publishes to one branch of one repository.

    Attributes:
        target: the branch.
        wishes: what the user wishes.
        client: asks the Hub; it counts.
    """

    def __init__(self, target: HubTarget, wishes: Wishes = Wishes()) -> None:  # noqa: B008 - a frozen value
        self.target, self.wishes = target, wishes
        self.client = Client(target, wishes.tell)
        self.client.instead = "" if wishes.pull_request else "; or publish with --pr, which needs less"
        self._made: Plan | None = None

    def plan(self, root: Path, report: Report) -> Plan:
        """Return what publishing would do; nothing is written, there or here.

        Raises:
            InvalidReleaseError: when the report does not allow it, or a published version would be overwritten.
            UsageError: when the target is no place for this release.
            PublishError: when the Hub cannot be asked.
        """
        self._require_main(pull_request=self.wishes.pull_request)
        with Digests(root) as digests:
            self._made = plan_of(root, report, self.client, self.wishes, digests)
        return self._made

    def renew(self, root: Path, report: Report, planned: Plan) -> Plan:
        """Return a plan that was made before, made anew and found to be the same; then it can be applied.

        Where it was done before, as by a run that was killed, it is one that does nothing more.

        Raises:
            ConflictError: when the branch has moved since.
            PublishError: when the release is another by now, or the plan was altered.
            UsageError: when the plan is for another target.
            SaeregError: whatever `plan` raises.
        """
        self._require_mine(planned)
        fresh = self.plan(root, report)
        if fresh.is_noop and fresh.digest == planned.digest:
            return fresh
        if fresh.release_digest != planned.release_digest:
            raise PublishError(f"{root} is not the release that was planned; plan again")
        if planned.base is None and fresh.base is not None:
            return self._was_made(planned, fresh)
        if planned.base is not None and fresh.base is not None and fresh.base != planned.base:
            raise conflict(self.client, planned.base, fresh.base, planned.changes)
        if fresh != planned:
            raise PublishError(f"the plan does not fit {self.target.name} any more, or was altered; plan again")
        return fresh

    def _was_made(self, planned: Plan, fresh: Plan) -> Plan:
        """Return the plan for a repository that has been made since; as good as none while it holds nothing."""
        if there := sum(one.action in ("keep", "same", "change", "remove") for one in fresh.operations):
            files = f"{there} file{'s' if there > 1 else ''}"
            raise ConflictError(
                f"{self.target.name} was made by somebody else meanwhile, and holds {files}; plan again"
            )
        if fresh.digest != planned.digest:
            raise PublishError(f"the plan for {self.target.name} was altered; plan again")
        return fresh

    def apply(self, root: Path, plan: Plan, progress: Progress | None = None) -> Receipt:
        """Do what the plan says, look at what arrived, and return the receipt.

        Safe to repeat after a kill at any moment: what is there is not sent again, a commit is never made twice.

        Raises:
            ConflictError: when the branch is no longer where the plan was made for.
            PublishError: when the Hub refuses or does not answer, or a file of the release changed meanwhile.
            UsageError: when the plan is not the one that was made here last.
        """
        started = time.monotonic()
        if plan != self._made or plan.hub is None:  # one from a file may be old, or may have been altered
            raise UsageError("apply takes the plan that this publisher has just made; renew one that was made before")
        hub = plan.hub
        with Digests(root) as digests:
            require_planned(root, plan, digests)
            done = self._idle(plan, hub) if plan.is_noop else self._publish(root, plan, hub, digests, progress)
        return _receipt(plan, done, round(time.monotonic() - started, 3))

    def _publish(self, root: Path, plan: Plan, hub: HubPlan, digests: Digests, progress: Progress | None) -> HubReceipt:
        journal = Journal(self.target, self.client.endpoint)
        with journal.held():
            content = Bytes(self.client, root, digests, self.wishes.jobs)
            base, arrived = self._ready(root, plan, hub, content)
            able = capabilities_of(self.client)
            if hub.pull_request and not able.pull_requests:
                raise UsageError(f"{hub.endpoint} has no pull requests; publish without --pr")
            mode = mode_of(plan.changes, able, self.target.branch)
            committer = Committer(self.client, content, lock_is_enforced=able.lock)
            delivery = Delivery(plan, base, committer, Staging(self.client, committer, journal, content.ids))
            if not arrived:
                self._require_free(hub, able)
            with _xet(on=able.xet and self.wishes.xet), content.hashing(plan.changes):
                try:
                    done = Delivered(base) if arrived else delivery.run(mode, progress)
                except NotOfferedError:
                    if mode != "staged" or hub.pull_request:
                        raise
                    able = replace(able, pull_requests=False)  # it showed a list of them, and takes none
                    mode = mode_of(plan.changes, able, self.target.branch)
                    self.client.tell(f"{hub.endpoint} takes no pull requests: {LOST['pull_requests']}")
                    done = delivery.run(mode, progress)
            tag = None
            if not done.waits:
                require_shown(self.client, plan.operations, done.commit, content)
                tag, able = self._tagged(plan, hub, done.commit, able)
            journal.close()
        made = self._done(hub, done).model_copy(update={"mode": mode, "lost": able.lost, "tag": tag})
        return made.model_copy(update=self._counted(committer.made))

    def _ready(self, root: Path, plan: Plan, hub: HubPlan, content: Bytes) -> tuple[str, bool]:
        """Make what is not there, ask for what may be refused, and return the commit to build on.

        It may hold already what is planned: what a killed run asked for last may be done a little after its end.

        Everything that can fail for want of a right, or for the card, fails here, before any bytes are sent.
        """
        if hub.creates == "repository":
            self.client.make_repository(private=hub.private)
        if hub.private and self.client.is_public():
            raise ConflictError(f"{self.target.name} is public, and it was to be private; nothing was sent")
        if not hub.pull_request:  # to propose, less is needed than to write
            self.client.require_write()
        if any(one.path == CARD for one in plan.moved):
            self.client.check_card((root / CARD).read_bytes().decode("utf-8", "replace"))
        if hub.creates is not None and self.target.branch != BRANCH:
            self.client.make_branch(plan.base or self.client.appeared(BRANCH))
        head = self.client.appeared(self.target.branch)
        if head != plan.base:
            there = self.client.tree(head)
            if not hub.pull_request and not missing(plan.operations, there, content.ids):
                return head, True
            if plan.base is not None:
                raise conflict(self.client, plan.base, head, plan.changes)
            if there:  # a new repository holds nothing of ours
                raise ConflictError(
                    f"{self.target.name} was made by somebody else meanwhile, and holds {len(there)} files"
                )
        return head, False

    def _require_free(self, hub: HubPlan, able: Capabilities) -> None:
        """Look once more, before anything is sent, whether somebody else has taken the tag since the plan was made."""
        if hub.tag is None or hub.tagged is not None or not able.tags:
            return
        if (found := self.client.tags().get(hub.tag)) is not None:
            problem = f"{self.target.name} has had the tag {hub.tag} at {found[:8]} since the plan was made"
            raise ConflictError(f"{problem}; nothing was published; plan again")

    def _idle(self, plan: Plan, hub: HubPlan) -> HubReceipt:
        """Do nothing but tag what is there already, as after a run that was killed before it tagged."""
        if plan.base is None:
            raise UsageError("a plan that does nothing must name the commit that holds the release")
        if hub.creates == "branch" and hub.skips is None:
            self.client.make_branch(plan.base)
        wants = hub.tag is not None and hub.tagged is None and hub.skips is None
        tag, able = self._tagged(plan, hub, plan.base, Capabilities()) if wants else (hub.tag, Capabilities())
        made = self._done(hub, Delivered(plan.base)).model_copy(update={"tag": tag, "lost": able.lost})
        return made.model_copy(update=self._counted(0))

    def _tagged(self, plan: Plan, hub: HubPlan, commit: str, able: Capabilities) -> tuple[str | None, Capabilities]:
        """Tag a commit where it has none yet; return the tag, and whether there are tags at all."""
        if hub.tagged is not None:
            return None, able
        try:
            return self._tag(plan, hub, commit, able), able
        except NotOfferedError:
            return None, replace(able, tags=False)

    def _tag(self, plan: Plan, hub: HubPlan, commit: str, able: Capabilities) -> str | None:
        """Tag a commit, once; where the reply is lost, the tags are looked at."""
        if hub.tag is None or not able.tags:
            return None
        for attempt in range(TRIES):
            found = self.client.tags().get(hub.tag)
            if found == commit:
                return hub.tag
            if found is not None:
                problem = f"{self.target.name} has the tag {hub.tag} at {found[:8]}, and a tag is never moved"
                raise ConflictError(f"{problem}; the release is published as {commit[:8]}")
            with contextlib.suppress(UnsureError):
                self.client.tag(hub.tag, commit, plan.release)
                return hub.tag
            self.client.counts.add(reconciled=1)
            time.sleep(PAUSE * 2**attempt)
        raise PublishError(f"{self.target.name}: published as {commit[:8]}, but not tagged; run the same command again")

    def _done(self, hub: HubPlan, done: Delivered) -> HubReceipt:
        page = f"discussions/{done.number}" if done.waits else f"commit/{done.commit}"
        return HubReceipt(
            made=hub.creates if hub.skips is None else None,
            endpoint=hub.endpoint,
            repo=hub.repo,
            branch=hub.branch,
            commit=done.commit,
            pull_request=done.number,
            waits=done.waits,
            url=f"{hub.endpoint}/{hub.repo}/{page}",
            mode=hub.mode,
            commits=0,
            requests=0,
            retries=0,
            reconciled=0,
        )

    def _counted(self, commits: int) -> dict[str, int]:
        counts = self.client.counts
        return {
            "commits": commits,
            "requests": int(counts.requests),
            "retries": int(counts.retries),
            "reconciled": int(counts.reconciled),
        }

    def _require_mine(self, plan: Plan) -> HubPlan:
        hub = plan.hub
        if hub is None or (hub.repo, hub.branch) != (self.target.repo, self.target.branch):
            raise UsageError(f"the plan is for {plan.target}, not for {self.target.name}")
        if hub.endpoint != self.client.endpoint:
            raise UsageError(f"the plan is for {hub.endpoint}, and HF_ENDPOINT is {self.client.endpoint}")
        self._require_main(pull_request=hub.pull_request)
        return hub

    def _require_main(self, *, pull_request: bool) -> None:
        if pull_request and self.target.branch != BRANCH:
            raise UsageError(f"{self.target.name}: the Hub merges a pull request into {BRANCH} alone; leave --pr out")


def _receipt(plan: Plan, done: HubReceipt, seconds: float) -> Receipt:
    actions: tuple[Literal["add", "change", "remove"], ...] = ("add", "change", "remove")
    counts = [0 if plan.is_noop else sum(one.action == action for one in plan.operations) for action in actions]
    return Receipt(
        release=plan.release,
        target=plan.target,
        release_digest=plan.release_digest,
        base=plan.base,
        result=done.commit,
        changed=not plan.is_noop,
        added=counts[0],
        replaced=counts[1],
        removed=counts[2],
        bytes_written=0 if plan.is_noop else sum(one.size for one in plan.moved),
        seconds=seconds,
        files=() if plan.hub is not None and plan.hub.skips else plan.release_files,
        hub=done,
    )


@contextlib.contextmanager
def _xet(*, on: bool) -> Iterator[None]:
    """Keep the Hub client from using Xet while the block runs, where that is not wanted or not there."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = before or not on
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before
