"""Every fault does what it says, once, and the hub is well again."""

import time

import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from huggingface_hub.utils import get_session, parse_ratelimit_headers

from saereg.publishers.local_hub import Fault, local_hub
from tests.hub.conftest import REPO, client, commit, files, paths, words


def broken(status, act):
    """Return the answer of a call that fails with a status."""
    with pytest.raises(HfHubHTTPError) as caught:
        act()
    assert caught.value.response.status_code == status
    return caught.value.response


def test_a_504_before_the_commit_leaves_the_branch_as_it_was(hub, api):
    hub.faults.append(Fault("commit"))
    broken(504, lambda: commit(api, a_json=b"1"))
    assert paths(api) == []
    commit(api, a_json=b"1")
    assert paths(api) == ["a.json"]
    assert hub.faults[0].count == 0


def test_a_504_after_the_commit_hides_that_it_landed(hub, api):
    hub.faults.append(Fault("commit", when="after"))
    broken(504, lambda: commit(api, a_json=b"1"))
    assert paths(api) == ["a.json"]


@pytest.mark.parametrize(("when", "landed"), [("before", []), ("after", ["a.json"])])
def test_the_connection_of_a_commit_is_cut(hub, api, when, landed):
    hub.faults.append(Fault("commit", when=when, drop=True))
    with pytest.raises(OSError if when == "none" else Exception) as caught:
        commit(api, a_json=b"1")
    assert not isinstance(caught.value, HfHubHTTPError)
    assert paths(api) == landed


def test_a_connection_is_cut_in_the_middle_of_a_file(hub, api, monkeypatch):
    """Nothing is kept of it; the client sends it again."""
    hub.faults.append(Fault("put", drop=True))
    commit(api, w_safetensors=b"1" * 90_000)
    assert words(hub).count("put") == 2
    assert paths(api) == ["w.safetensors"]
    assert not list((hub.store.folder / "incoming").iterdir())


def test_a_412_comes_though_the_head_is_right(hub, api):
    head = api.repo_info(REPO).sha
    hub.faults.append(Fault("commit", status=412))
    wish = lambda: api.create_commit(REPO, files(a_json=b"1"), commit_message="x", parent_commit=head)  # noqa: E731
    assert "The branch was updated" in broken(412, wish).json()["error"]
    wish()


def test_a_429_says_when_to_come_back(hub, api):
    hub.faults.append(Fault("commit", status=429, headers={"RateLimit": '"api";r=0;t=7', "Retry-After": "7"}))
    answer = broken(429, lambda: commit(api, a_json=b"1"))
    assert parse_ratelimit_headers(answer.headers).reset_in_seconds == 7
    assert answer.headers["Retry-After"] == "7"


def test_a_missing_blob_is_said_to_be_missing(hub, api):
    hub.faults.append(Fault("commit", status=400))
    with pytest.raises(BadRequestError, match="LFS pointer pointed to a file that does not exist"):
        commit(api, w_safetensors=b"1")


def test_a_file_is_said_to_be_ignored(hub, api):
    """The client leaves it out of its commit, and says nothing."""
    hub.faults.append(Fault("preupload", ignore="w.safe", count=-1))
    commit(api, a_json=b"1", w_safetensors=b"2")
    assert paths(api) == ["a.json"]
    assert hub.faults[0].count == -1


@pytest.mark.parametrize("route", ["info", "refs", "tree"])
def test_a_branch_is_read_as_it_was_before(hub, api, route):
    first, second = commit(api, a_json=b"1"), commit(api, b_json=b"2")
    read = {
        "info": lambda: api.repo_info(REPO).sha,
        "refs": lambda: api.list_repo_refs(REPO).branches[0].target_commit,
        "tree": lambda: second.oid if any(one.path == "b.json" for one in api.list_repo_tree(REPO)) else first.oid,
    }[route]
    hub.faults.append(Fault(route, stale=True))
    assert [read(), read()] == [first.oid, second.oid]
    hub.faults.append(Fault("info", stale=True))
    assert api.repo_info(REPO, revision=second.oid).sha == second.oid  # a commit is never stale


def test_an_answer_can_be_slow(hub, api):
    hub.faults.append(Fault("", status=0, seconds=0.2, path="/refs"))
    start = time.monotonic()
    api.list_repo_refs(REPO)
    assert time.monotonic() - start >= 0.2
    assert hub.faults[0].count == 0


@pytest.mark.parametrize(
    ("route", "act"),
    [
        ("create", lambda api: api.create_repo("org/other")),
        ("auth", lambda api: api.auth_check(REPO, write=True)),
        ("info", lambda api: api.repo_info(REPO)),
        ("refs", lambda api: api.list_repo_refs(REPO)),
        ("tag", lambda api: api.create_tag(REPO, tag="v1")),
        ("branch", lambda api: api.create_branch(REPO, branch="next")),
        ("discussion", lambda api: api.create_pull_request(REPO, "a title")),
        ("yaml", lambda api: commit(api, README_md=b"---\n---\n")),
    ],
)
def test_any_route_can_be_out_of_order_before_and_after(hub, api, route, act):
    """After it what was asked for is done: the second attempt says so where it can be done once only."""
    hub.faults[:] = [Fault(route, status=500, message="a bad day"), Fault(route, status=503, when="after")]
    assert broken(500, lambda: act(api)).json() == {"error": "a bad day"}
    broken(503, lambda: act(api))
    if route in ("create", "tag", "branch"):
        broken(409, lambda: act(api))
    else:
        act(api)
    assert [fault.count for fault in hub.faults] == [0, 0]


def test_a_merge_can_land_unseen(hub, api):
    commit(api, a_json=b"1")
    api.create_commit(REPO, files(b_json=b"1"), commit_message="a pull request", create_pr=True)
    hub.faults.append(Fault("merge", when="after"))
    broken(504, lambda: api.merge_pull_request(REPO, 1))
    assert paths(api) == ["a.json", "b.json"]
    assert api.get_discussion_details(REPO, 1).status == "merged"


def test_a_child_process_is_driven_over_http(folder):
    """Only where it was started for it."""
    with local_hub(folder) as hub:
        assert get_session().get(f"{hub.url}/_requests").status_code == 501
    with local_hub(folder, allow_faults=True) as hub:
        fault = {"route": "commit", "status": 503, "count": 2}
        for wrong in ([fault], {}, *({"faults": [fault | other]} for other in ({"rout": "tag"}, {"status": "503"}))):
            answer = get_session().post(f"{hub.url}/_faults", json=wrong)
            said = 'write {"faults": [{"route": "commit", "status": 504}]}; there are route, when, status, count, '
            assert (answer.status_code, answer.json()["error"][: len(said)]) == (400, said)
        answer = get_session().post(f"{hub.url}/_faults", json={"faults": [fault]})
        assert answer.json()[0] | fault == answer.json()[0]
        api = client(hub)
        api.create_repo(REPO)
        broken(503, lambda: api.create_commit(REPO, [CommitOperationAdd("a", b"1")], commit_message="x"))
        assert get_session().get(f"{hub.url}/_faults").json()[0]["count"] == 1
        listed = get_session().get(f"{hub.url}/_requests").json()
        assert [one["route"] for one in listed][-3:] == ["commit", "hub", "hub"]
        assert [one["status"] for one in listed if one["route"] == "commit"] == [503]
