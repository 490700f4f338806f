"""The plan of a publish: one base commit, what changes, how it gets there. Reads only: no right to write is needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import InvalidReleaseError, UsageError
from saereg.publishers.hub.blobs import light
from saereg.publishers.hub.capabilities import Capabilities, capabilities_of
from saereg.publishers.hub.client import Client
from saereg.publishers.hub.edits import require_unedited
from saereg.publishers.hub.staging import PART, count_parts
from saereg.publishers.hub.state import Ids, Tree, state_of
from saereg.publishers.hub.target import BRANCH
from saereg.publishers.hub.versions import Remote, Verdict, Versions
from saereg.publishers.plan import Target, local_state, make_plan, require_valid
from saereg.publishers.publisher import Wishes
from saereg.registry.files.digest_cache import Digests
from saereg.registry.release import MANIFEST_FILE
from saereg.schemas.manifest import Manifest
from saereg.schemas.plan import HubPlan, Mode, Operation, Plan
from saereg.schemas.report import Report

ONE_COMMIT = PART
"""Most files that one commit carries; the Hub has a minute for each commit."""

ONE_LARGE_COMMIT = 5_000
"""Most files that one commit carries where nothing can be staged: the Hub may answer late, and is looked at again."""

ONE_LARGE_COMMIT_BYTES = 400 * 1024 * 1024
"""Most bytes of small files in it: they are held in memory until it is made."""


@dataclass(frozen=True)
class Found:
    """What is at the target.

    Attributes:
        base: commit that the plan is made for; None when the repository is not there.
        creates: what has to be made, as `HubPlan` has it.
        tree: what the base holds.
        tags: tag → commit.
    """

    base: str | None
    creates: str | None
    tree: Tree
    tags: dict[str, str]


def look(client: Client) -> Found:
    """Look at the target once.

    Raises:
        UsageError: when the target is a tag.
        PublishError: when the Hub cannot be asked.
    """
    head = client.head(BRANCH)
    if head is None:
        return Found(None, "repository", {}, {})
    branch, refs = client.target.branch, client.refs()
    if branch == BRANCH:
        return Found(head, None, client.tree(head), refs.tags)
    if branch in refs.branches and (there := client.head(branch)) is not None:
        return Found(there, None, client.tree(there), refs.tags)
    if branch in refs.tags:
        raise UsageError(f"{client.target.name}: {branch} is a tag, which never moves; name a branch")
    return Found(head, "branch", client.tree(head), refs.tags)


def plan_of(root: Path, report: Report, client: Client, wishes: Wishes, digests: Digests) -> Plan:
    """Return what publishing a release would do.

    Args:
        root: release folder.
        report: validation of exactly this release.
        client: asks the Hub.
        wishes: what the user wishes.
        digests: digests of the release's files.

    Raises:
        InvalidReleaseError: when the report does not allow it, or a published version would be overwritten.
        UsageError: when the target is no place for this release.
        PublishError: when the Hub cannot be asked.
    """
    if not report.errors and (report.level, wishes.at_least) == ("header", "weights"):
        problem = "validated at level header, and a repository wants level weights"
        raise InvalidReleaseError(f"{problem}; nothing was published. Where it is enough, say so with --level header")
    require_valid(root, report, wishes.at_least)
    found, wanted = look(client), local_state(root, digests.sha256)
    if wishes.private and found.base is not None and client.is_public():
        problem = f"{client.target.name} is public, and --private makes only a new repository private"
        raise UsageError(f"{problem}: make it private on its settings page first")
    manifest = Manifest.read(root / MANIFEST_FILE)
    verdict = Versions(client, wanted, digests, wishes).judge(
        manifest, Remote(found.base, found.tree, found.tags, found.creates)
    )
    held = state_of(found.tree, wanted, Ids(digests)) if found.base is not None else None
    target = Target(client.target.name, held, found.base, keeps=not wishes.delete_unknown)
    draft = make_plan(root, report, target, at_least=wishes.at_least)
    if wishes.existing == "refuse" and verdict.skips is None and found.base is not None:
        require_unedited(client, draft, found.tree, found.base)
    hub = _hub_plan(draft, client, wishes, found, verdict)
    return draft.model_copy(update={"hub": hub})


def _hub_plan(draft: Plan, client: Client, wishes: Wishes, found: Found, verdict: Verdict) -> HubPlan:
    idle = draft.is_noop or verdict.skips is not None
    there = found.base is not None and not idle
    able = capabilities_of(client) if there else Capabilities()
    work = draft.changes
    mode = mode_of(work, able, client.target.branch)
    return HubPlan(
        endpoint=client.endpoint,
        repo=client.target.repo,
        branch=client.target.branch,
        creates=found.creates,  # type: ignore[arg-type]
        private=wishes.private,
        mode=mode,
        commits=0 if idle else 1 if mode == "one_commit" else count_parts(work) + (mode == "staged"),
        upload_bytes=0 if idle else sum(one.size for one in draft.moved),
        tag=verdict.tag if able.tags else None,
        tagged=verdict.tagged,
        pull_request=wishes.pull_request,
        existing=wishes.existing,
        skips=verdict.skips,
        lost=able.lost,
    )


def mode_of(work: Sequence[Operation], able: Capabilities, branch: str) -> Mode:
    """Return the strongest way in which so many files can get to a branch of a Hub that can do so much.

    The Hub merges pull requests into main alone.
    """
    if len(work) <= ONE_COMMIT and count_parts(work) <= 1:
        return "one_commit"
    if able.pull_requests and branch == BRANCH:
        return "staged"
    fits = sum(light(one) for one in work) <= ONE_LARGE_COMMIT_BYTES
    return "one_commit" if len(work) <= ONE_LARGE_COMMIT and fits else "parts"
