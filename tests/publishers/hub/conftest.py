"""A hub on this machine, one for each module of tests, and a repository of its own for each test."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_session, hf_hub_url

from saereg.publishers.hub import asking, client, committing, planning, staging
from saereg.publishers.hub.publisher import HubPublisher
from saereg.publishers.hub.target import HubTarget
from saereg.publishers.local_hub import Server, local_hub
from saereg.publishers.publisher import Wishes
from saereg.registry.validators.runner import validate
from saereg.schemas.plan import Plan, Receipt
from saereg.schemas.report import Report

NOISE = "/api/agent-harnesses"
"""What the Hub client asks for once a day, whatever is done."""


@dataclass(frozen=True)
class Repository:
    """A repository on the hub, which need not be there yet, and what can be done with it.

    Attributes:
        hub: where it is.
        name: `org/name`.
        report_of: validates a release at level weights.
    """

    hub: Server
    name: str
    report_of: Callable[[Path], Report]

    @property
    def api(self) -> HfApi:
        """The Hub client of somebody else, who may write."""
        return HfApi(endpoint=self.hub.url, token="hf_somebody")

    def publisher(self, branch: str = "main", **wishes: Any) -> HubPublisher:
        """Return a publisher."""
        return HubPublisher(HubTarget(self.name, branch, self.hub.url), Wishes(**wishes))

    def plan(self, root: Path, **wishes: Any) -> Plan:
        """Plan a publish."""
        return self.publisher(**wishes).plan(root, self.report_of(root))

    def apply(self, root: Path, plan: Plan) -> Receipt:
        """Do what a plan says that was written before, by another process."""
        hub = plan.hub
        assert hub is not None
        publisher = self.publisher(hub.branch, tag=hub.tag, private=hub.private, pull_request=hub.pull_request)
        return publisher.apply(root, publisher.renew(root, self.report_of(root), plan))

    def publish(self, root: Path, **wishes: Any) -> Receipt:
        """Plan a publish and do it."""
        publisher = self.publisher(**wishes)
        return publisher.apply(root, publisher.plan(root, self.report_of(root)))

    def redo(self, root: Path, plan: Plan, **wishes: Any) -> Receipt:
        """Do a plan that was made before, by another process."""
        publisher = self.publisher(**wishes)
        return publisher.apply(root, publisher.renew(root, self.report_of(root), plan))

    def put(self, files: dict[str, str | bytes | None], branch: str = "main", title: str = "by hand") -> str:
        """Let somebody commit files by hand, None removes one; return the commit."""
        self.api.create_repo(self.name, exist_ok=True)
        done = [
            CommitOperationDelete(path)
            if content is None
            else CommitOperationAdd(path, content.encode() if isinstance(content, str) else content)
            for path, content in files.items()
        ]
        return str(self.api.create_commit(self.name, done, commit_message=title, revision=branch).oid)

    def tree(self, revision: str = "main") -> dict[str, int]:
        """Return path → bytes, without .gitattributes."""
        found = self.api.list_repo_tree(self.name, recursive=True, revision=revision)
        return {one.path: one.size for one in found if hasattr(one, "blob_id") and one.path != ".gitattributes"}

    def read(self, path: str, revision: str = "main") -> bytes:
        """Return the bytes of a file."""
        return get_session().get(hf_hub_url(self.name, path, revision=revision, endpoint=self.hub.url)).content

    def history(self, revision: str = "main") -> list[str]:
        """Return the titles of the commits, the newest first."""
        return [commit.title for commit in self.api.list_repo_commits(self.name, revision=revision)]

    def head(self, revision: str = "main") -> str:
        """Return the commit of a branch."""
        return str(self.api.repo_info(self.name, revision=revision).sha)

    def tags(self) -> dict[str, str]:
        """Return tag → commit."""
        return {ref.name: ref.target_commit for ref in self.api.list_repo_refs(self.name).tags}

    def pull_requests(self) -> list[tuple[int, str]]:
        """Return (number, status) of all pull requests, the oldest first."""
        return sorted((one.num, one.status) for one in self.api.get_repo_discussions(self.name))

    def asked(self) -> list[str]:
        """Return the words of the requests since the last call, without the client's own noise."""
        found = [one.route for one in self.hub.requests if NOISE not in one.path]
        self.hub.requests.clear()
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A hub without Xet, for all tests of a module."""
    with local_hub(tmp_path_factory.mktemp("hub"), xet=False) as found:
        yield found


@pytest.fixture(scope="session")
def reports() -> Callable[[Path], Report]:
    """Validate at level weights, of folders that nobody changes once only."""
    known: dict[tuple[Path, int], Report] = {}

    def report_of(root: Path) -> Report:
        key = (root, max(path.stat().st_mtime_ns for path in root.rglob("*")))
        if key not in known:
            known[key] = validate(root, "weights")
        return known[key]

    return report_of


@pytest.fixture
def repository(server, reports, request, monkeypatch) -> Repository:
    """A repository that is not there yet, and a token that may make it."""
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for module in (asking, client, committing, staging):
        monkeypatch.setattr(module, "PAUSE", 0.001)
    server.requests.clear()
    server.faults.clear()
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[-80:]
    return Repository(server, f"org/{name.strip('-')}", reports)


@pytest.fixture(scope="session")
def settled(versions) -> Path:
    """Version 1.0.0, written long enough ago for its digests to be kept; read only."""
    for path in versions[0].rglob("*"):
        os.utime(path, ns=(1_700_000_000_000_000_000,) * 2)
    return versions[0]


@pytest.fixture
def small_parts(monkeypatch):
    """Let five files be many: more than one commit carries."""
    monkeypatch.setattr(staging, "PART", 5)
    monkeypatch.setattr(planning, "ONE_COMMIT", 5)
