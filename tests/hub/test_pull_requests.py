"""Pull requests: opened, filled, merged."""

import pytest
from huggingface_hub import CommitOperationDelete
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from tests.hub.conftest import REPO, commit, files, paths


def pull(api, message, **contents):
    """Open a pull request with one commit, ready to be merged, and return its number."""
    found = api.create_pull_request(REPO, message)
    api.create_commit(REPO, files(**contents), commit_message="part", revision=found.git_reference)
    api.change_discussion_status(REPO, found.num, "open")
    return found.num


def test_a_pull_request_is_merged_as_one_commit(api):
    """Draft, two parts, open, merged; main had moved meanwhile, elsewhere."""
    base = commit(api, old_json=b"{}", both_json=b"{}").oid
    found = api.create_pull_request(REPO, "a release")
    assert (found.status, found.git_reference, found.target_branch) == ("draft", "refs/pr/1", "refs/heads/main")
    api.create_commit(REPO, files(a__cfg_json=b"1"), commit_message="part 1", revision="refs/pr/1", parent_commit=base)
    operations = [*files(b__cfg_json=b"2"), CommitOperationDelete("old.json")]
    last = api.create_commit(REPO, operations, commit_message="part 2", revision="refs/pr/1")
    commit(api, meanwhile_json=b"{}")
    assert paths(api) == ["both.json", "meanwhile.json", "old.json"]
    assert paths(api, "refs/pr/1") == ["a/cfg.json", "b/cfg.json", "both.json"]
    assert api.change_discussion_status(REPO, 1, "open").new_status == "open"
    api.merge_pull_request(REPO, 1)

    assert paths(api) == ["a/cfg.json", "b/cfg.json", "both.json", "meanwhile.json"]
    titles = [one.title for one in api.list_repo_commits(REPO)]
    assert titles == ["a release (#1)", "some files", "some files", "initial commit"]
    details = api.get_discussion_details(REPO, 1)
    assert (details.status, details.merge_commit_oid) == ("merged", api.repo_info(REPO).sha)
    assert [event.new_status for event in details.events] == ["open", "merged"]
    refs = {ref.ref: ref.target_commit for ref in api.list_repo_refs(REPO, include_pull_requests=True).pull_requests}
    assert refs == {"refs/pr/1": last.oid}


def test_what_both_changed_is_a_conflict(api):
    """Nothing is merged; what both changed alike is none."""
    commit(api, a_json=b"0", b_json=b"0")
    number = pull(api, "to merge", a_json=b"pull", b_json=b"same")
    head = commit(api, a_json=b"main", b_json=b"same").oid
    assert api.get_discussion_details(REPO, number).conflicting_files == ["a.json"]
    with pytest.raises(HfHubHTTPError, match=r"conflicts with main: a\.json"):
        api.merge_pull_request(REPO, number)
    assert api.repo_info(REPO).sha == head
    assert api.get_discussion_details(REPO, number).status == "open"


def test_only_an_open_pull_request_can_be_merged(api):
    """Neither a draft nor a closed one, and none twice."""
    draft = api.create_pull_request(REPO, "a draft").num
    closed = pull(api, "was closed", a_json=b"1")
    api.change_discussion_status(REPO, closed, "closed")
    merged = pull(api, "is merged", b_json=b"1")
    api.merge_pull_request(REPO, merged)
    for number in (draft, closed, merged):
        with pytest.raises(BadRequestError, match=r"it is (draft|closed|merged)"):
            api.merge_pull_request(REPO, number)
    assert paths(api) == ["b.json"]


def test_a_commit_can_open_its_own(api):
    made = api.create_commit(REPO, files(a_json=b"1"), commit_message="with a pull request", create_pr=True)
    assert (made.pr_num, made.pr_revision) == (1, "refs/pr/1")
    assert paths(api) == []
    assert api.get_discussion_details(REPO, 1).status == "open"
    api.merge_pull_request(REPO, 1)
    assert paths(api) == ["a.json"]


def test_all_are_listed_the_newest_first(api):
    """More than one page of them."""
    for number in range(12):
        api.create_pull_request(REPO, f"number {number}")
    api.create_discussion(REPO, "a question")
    found = list(api.get_repo_discussions(REPO))
    assert [one.num for one in found] == list(range(13, 0, -1))
    assert [one.is_pull_request for one in found] == [False] + [True] * 12
    with pytest.raises(HfHubHTTPError):
        api.get_discussion_details(REPO, 14)
    with pytest.raises(BadRequestError, match="3 to 200 characters"):
        api.create_pull_request(REPO, "no")
