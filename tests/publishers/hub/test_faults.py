"""One thing goes wrong in each kind of request: it is published all the same, or refused in a line and then published.

Every request, with every fault: benchmarks/reliability.py.
"""

import shutil
import time
from types import SimpleNamespace

import pytest

from saereg.errors import ConflictError, PublishError
from saereg.publishers.hub import asking, planning
from saereg.publishers.hub.client import Client
from saereg.publishers.local_hub import Fault, local_hub

NO_WAIT = {"RateLimit": '"api";r=0;t=0'}

FAULTS = ({"drop": True, "when": "after"},)

MORE = (
    {"status": 504},
    {"status": 504, "when": "after"},
    {"drop": True},
    {"status": 429, "headers": NO_WAIT},
)
"""Also for the requests that carry bytes or make a commit."""

HEAVY = ("put", "commit", "merge")

ONE_COMMIT = ("info", "create", "auth", "yaml", "preupload", "batch", "put", "verify", "commit", "tree", "refs", "tag")
STAGED = ("discussion", "commit", "tree", "status", "merge", "info", "tag")


@pytest.fixture
def patient(monkeypatch):
    """Let the Hub client, too, repeat without pauses."""
    clock = SimpleNamespace(**{name: getattr(time, name) for name in ("time", "monotonic", "perf_counter")})
    clock.sleep = lambda seconds: None
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)


def require_published(repository, settled, commits=2) -> None:
    """Find the release at the head of main, tagged, in one commit."""
    files = {path.relative_to(settled).as_posix() for path in settled.rglob("*") if path.is_file()}
    assert set(repository.tree()) == files
    assert len(repository.history()) == commits
    assert repository.tags() == {"v1.0.0": repository.head()}


def with_each_fault(repository, route):
    """Yield a new repository for each fault, on a hub that has none of the bytes and does this wrong once."""
    for number, words in enumerate(FAULTS + (MORE if route in HEAVY else ())):
        shutil.rmtree(repository.hub.store.folder / "blobs", ignore_errors=True)
        one = type(repository)(repository.hub, f"{repository.name[:60]}-{number}", repository.report_of)
        fault = Fault(route, **words)
        one.hub.faults[:] = [fault]
        yield one
        assert fault.count == 0


@pytest.mark.parametrize("route", ONE_COMMIT)
def test_one_commit_is_made_once_whatever_goes_wrong(repository, settled, patient, route):
    for one in with_each_fault(repository, route):
        one.publish(settled)
        require_published(one, settled)


@pytest.mark.parametrize("route", STAGED)
def test_many_files_are_merged_once_whatever_goes_wrong(repository, settled, patient, small_parts, route):
    for one in with_each_fault(repository, route):
        one.publish(settled)
        require_published(one, settled)
        assert one.pull_requests() == [(1, "merged")]


@pytest.mark.parametrize("route", ["info", "put", "commit"])
def test_a_hub_that_never_answers_gives_one_line_and_the_next_run_publishes(
    repository, settled, patient, monkeypatch, route
):
    shutil.rmtree(repository.hub.store.folder / "blobs", ignore_errors=True)
    asked = []
    monkeypatch.setattr(asking.Counts, "add", lambda self, **more: asked.append(more.get("requests", 0)))
    repository.hub.faults[:] = [Fault(route, drop=True, count=-1)]
    with pytest.raises(PublishError) as raised:
        repository.publish(settled)
    assert len(str(raised.value).splitlines()) == 1
    assert "again" in str(raised.value)
    assert sum(asked) < 150  # it gave up: the client's own repetitions are not repeated again and again

    repository.hub.faults.clear()
    repository.publish(settled)
    require_published(repository, settled)


def test_who_loses_a_race_leaves_no_pull_request_open(repository, versions, small_parts, monkeypatch):
    """Somebody commits after the last look at the branch and before the merge: the Hub finds the conflict."""
    repository.publish(versions[0])
    monkeypatch.setattr(planning, "ONE_COMMIT", 2)  # the next version changes four files
    merge = Client.merge

    def late(self, *arguments) -> None:
        repository.put({"README.md": "by somebody else\n"})
        merge(self, *arguments)

    monkeypatch.setattr(Client, "merge", late)
    with pytest.raises(ConflictError, match=r"README\.md"):
        repository.publish(versions[1])

    assert repository.read("README.md") == b"by somebody else\n"
    assert [status for _, status in repository.pull_requests()] == ["merged", "closed"]


def test_a_second_publish_to_a_hub_without_tags_has_nothing_to_do(repository, settled, tmp_path):
    """As after a run that was killed when all was there but the tag."""
    with local_hub(tmp_path, xet=False, tags=False) as hub:
        one = type(repository)(hub, "org/without-tags", repository.report_of)
        one.publish(settled)
        again = one.publish(settled)

    assert not again.changed
    assert again.hub.tag is None
