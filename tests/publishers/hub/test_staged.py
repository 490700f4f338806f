"""Many files go through a pull request: readers of the branch see the old release until it is merged, then the new."""

from threading import Event, Thread

import pytest

from saereg.errors import ConflictError, PublishError, UsageError
from saereg.publishers.hub.staging import INVENTORY
from saereg.publishers.local_hub import Fault
from saereg.schemas.index import Index

pytestmark = pytest.mark.usefixtures("small_parts")


def named(root) -> set[str]:
    """Return the paths that a release publishes."""
    return {"manifest.json", "index.json", *(file.path for file in Index.read(root / "index.json").all_files())}


def test_many_files_are_merged_as_one_commit(repository, settled):
    """The parts are on the pull request, the inventory in the last; the branch gets one commit, which is tagged."""
    plan = repository.plan(settled)
    receipt = repository.publish(settled)

    assert (plan.hub.mode, plan.hub.commits) == ("staged", receipt.hub.commits + 1)
    assert repository.pull_requests() == [(1, "merged")]
    merged, first = repository.history()
    assert merged.endswith("(#1)")
    assert first == "initial commit"
    assert set(repository.tree()) == named(settled)
    assert repository.tags() == {"v1.0.0": repository.head()}
    assert (receipt.hub.commit, receipt.hub.pull_request, receipt.hub.waits) == (repository.head(), 1, False)

    parts = [commit.commit_id for commit in repository.api.list_repo_commits(repository.name, revision="refs/pr/1")]
    assert len(parts) == receipt.hub.commits + 1
    before = set(repository.tree(parts[1]))
    assert before.isdisjoint(INVENTORY)
    assert set(repository.tree(parts[0])) - before >= {"manifest.json", "index.json", "README.md"}


def test_readers_of_the_branch_see_the_old_release_or_the_new_one(repository, versions):
    """Whenever they look."""
    repository.publish(versions[0])
    seen, ended = [], Event()
    repository.hub.faults.append(Fault("commit", status=0, seconds=0.02, count=-1))

    def look() -> None:
        while not ended.is_set():
            seen.append(frozenset(repository.tree()))

    reader = Thread(target=look)
    reader.start()
    try:
        repository.publish(versions[1], delete_unknown=True)
    finally:
        ended.set()
        reader.join()

    old, new = frozenset(named(versions[0])), frozenset(named(versions[1]))
    assert set(seen) <= {old, new}
    assert seen[0] == old
    assert frozenset(repository.tree()) == new


def test_a_second_publish_opens_no_second_pull_request(repository, settled):
    """There is nothing to do."""
    repository.publish(settled)
    repository.asked()

    assert not repository.publish(settled).changed
    assert sorted(repository.asked()) == ["info", "refs", "tree"]
    assert repository.pull_requests() == [(1, "merged")]


@pytest.mark.parametrize("path", ["/commit/", "/merge", "/status"])
def test_a_run_that_failed_is_gone_on_with(repository, settled, path):
    """In the same pull request; what is in it already is not committed again."""
    if path == "/commit/":  # the second part
        repository.hub.faults.append(Fault("", status=0, path=path))
    repository.hub.faults.append(Fault("", status=403, path=path))
    with pytest.raises(PublishError, match="may not write"):
        repository.publish(settled)
    assert repository.tree() == {}
    ((number, status),) = repository.pull_requests()
    assert (number, status) in {(1, "draft"), (1, "open")}

    receipt = repository.publish(settled)

    assert repository.pull_requests() == [(1, "merged")]
    assert set(repository.tree()) == named(settled)
    parts = repository.history("refs/pr/1")
    assert len(parts) == len(set(parts))
    assert receipt.hub.pull_request == 1


def test_a_pull_request_of_a_release_that_changed_is_closed(repository, release, next_release):
    """A run that was never ended leaves nothing open for somebody to merge by mistake."""
    repository.hub.faults.append(Fault("merge", status=403))
    with pytest.raises(PublishError, match="may not write"):
        repository.publish(release)

    repository.publish(next_release)

    assert repository.pull_requests() == [(1, "closed"), (2, "merged")]
    assert set(repository.tree()) == named(next_release)


def test_a_conflict_lists_the_files(repository, versions):
    """Somebody commits to the branch between the plan and the merge: theirs stays, and the line says what it was."""
    repository.publish(versions[0])
    publisher = repository.publisher()
    plan = publisher.plan(versions[1], repository.report_of(versions[1]))
    base = repository.head()
    theirs = repository.put({"README.md": "# Mended on the site\n", "NOTES.md": "x"})

    with pytest.raises(ConflictError) as refused:
        publisher.apply(versions[1], plan)

    assert f"has moved from {base[:8]} to {theirs[:8]}" in str(refused.value)
    assert refused.value.changes == ("+ NOTES.md", "~ README.md")
    assert repository.head() == theirs


def test_a_proposal_waits_for_somebody_to_merge_it(repository, versions):
    """`--pr`: the branch is as it was, nothing is tagged, and the receipt says where to merge."""
    first = repository.publish(versions[0]).hub.commit

    receipt = repository.publish(versions[1], pull_request=True)

    number = receipt.hub.pull_request
    assert receipt.hub.waits
    assert receipt.hub.url == f"{repository.hub.url}/{repository.name}/discussions/{number}"
    assert receipt.hub.commit == repository.head(f"refs/pr/{number}")
    assert receipt.hub.tag is None
    assert named(versions[1]) <= set(repository.tree(f"refs/pr/{number}"))
    assert repository.pull_requests()[-1] == (number, "open")
    assert (repository.head(), repository.tags()) == (first, {"v1.0.0": first})


def test_a_proposal_that_is_made_again_is_the_same(repository, versions):
    """No second pull request, and no second commit in the first."""
    repository.publish(versions[0])
    first = repository.publish(versions[1], pull_request=True)

    again = repository.publish(versions[1], pull_request=True)

    assert (again.hub.pull_request, again.hub.commit) == (first.hub.pull_request, first.hub.commit)
    assert again.hub.commits == 0
    assert len(repository.pull_requests()) == 2


def test_a_proposal_that_was_merged_is_published(repository, versions):
    """The next run finds nothing to do but to tag it."""
    repository.publish(versions[0])
    number = repository.publish(versions[1], pull_request=True).hub.pull_request
    repository.api.merge_pull_request(repository.name, number)

    assert not repository.publish(versions[1], pull_request=True).changed
    receipt = repository.publish(versions[1])

    assert (receipt.changed, receipt.hub.tag) == (False, "v1.1.0")
    assert repository.tags()["v1.1.0"] == repository.head()


def test_a_proposal_of_few_files_is_one_too(repository, settled, monkeypatch):
    """Whatever the number of files; into a repository that has to be made first."""
    from saereg.publishers.hub import planning, staging

    monkeypatch.setattr(staging, "PART", 200)
    monkeypatch.setattr(planning, "ONE_COMMIT", 200)
    receipt = repository.publish(settled, pull_request=True)

    assert (receipt.hub.waits, receipt.hub.commits) == (True, 1)
    assert repository.tree() == {}
    assert named(settled) == set(repository.tree("refs/pr/1"))


def test_other_branches_than_main(repository, versions):
    """A pull request goes to main alone on the Hub: many files for another branch do not end up there."""
    receipt = repository.publish(versions[0], branch="next")

    assert repository.tree() == {}
    assert (receipt.hub.mode, receipt.hub.commit) == ("one_commit", repository.head("next"))
    assert named(versions[0]) == set(repository.tree("next"))
    with pytest.raises(UsageError, match="the Hub merges a pull request into main alone; leave --pr out"):
        repository.publish(versions[1], branch="another", pull_request=True)
    assert repository.pull_requests() == []


def test_a_hub_without_pull_requests_gets_one_large_commit(repository, settled):
    """And the receipt says what is lost; a proposal is refused."""
    repository.hub.faults.append(Fault("discussion", status=501, count=-1))

    with pytest.raises(UsageError, match="has no pull requests; publish without --pr"):
        repository.publish(settled, pull_request=True)
    receipt = repository.publish(settled)

    assert (receipt.hub.mode, receipt.hub.commits, receipt.hub.pull_request) == ("one_commit", 1, None)
    assert any(line.startswith("no pull requests") for line in receipt.hub.lost)
    assert set(repository.tree()) == named(settled)


def test_very_many_files_without_pull_requests_are_sent_in_parts(repository, settled, monkeypatch):
    """The inventory comes last, so that nobody is told of files that are not there."""
    from saereg.publishers.hub import planning

    monkeypatch.setattr(planning, "ONE_LARGE_COMMIT", 5)
    repository.hub.faults.append(Fault("discussion", status=501, count=-1))

    receipt = repository.publish(settled)

    assert receipt.hub.mode == "parts"
    commits = [commit.commit_id for commit in repository.api.list_repo_commits(repository.name)]
    assert len(commits) == receipt.hub.commits + 1
    assert set(repository.tree(commits[1])).isdisjoint(INVENTORY)
    assert set(repository.tree()) == named(settled)
