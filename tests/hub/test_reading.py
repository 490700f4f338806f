"""Trees, histories and downloads."""

import pytest
from huggingface_hub import CommitOperationAdd, HfFileSystem
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import get_session

from tests.hub.conftest import REPO, commit, large, words

WEIGHTS = large(50_000)


@pytest.fixture
def filled(hub, api):
    """Two commits."""
    commit(api, message="first", README_md=b"---\n---\n", a__w_safetensors=WEIGHTS, a__b__cfg_json=b"{}", z_json=b"1")
    commit(api, message="second", z_json=b"2", a__x_json=b"3")
    hub.requests.clear()
    return api


def test_a_tree_comes_page_by_page(hub, filled):
    """Eight files and folders in pages of three."""
    found = [entry.path for entry in filled.list_repo_tree(REPO, recursive=True)]
    assert found == sorted(found)
    assert found == [".gitattributes", "README.md", "a", "a/b", "a/b/cfg.json", "a/w.safetensors", "a/x.json", "z.json"]
    assert words(hub) == ["tree"] * 3


def test_a_folder_can_be_listed_alone(filled):
    assert [entry.path for entry in filled.list_repo_tree(REPO, "a")] == ["a/b", "a/w.safetensors", "a/x.json"]
    assert [entry.path for entry in filled.list_repo_tree(REPO, "a/b", recursive=True)] == ["a/b/cfg.json"]
    for name in ("none", "z.json"):
        with pytest.raises(EntryNotFoundError):
            list(filled.list_repo_tree(REPO, name))


def test_the_last_commit_of_every_file_is_known(filled):
    entries = filled.list_repo_tree(REPO, recursive=True, expand=True)
    assert {entry.path: entry.last_commit.title for entry in entries} == {
        ".gitattributes": "initial commit",
        "README.md": "first",
        "a": "second",
        "a/b": "first",
        "a/b/cfg.json": "first",
        "a/w.safetensors": "first",
        "a/x.json": "second",
        "z.json": "second",
    }


def test_paths_that_do_not_exist_are_left_out(filled):
    found = filled.get_paths_info(REPO, ["a", "a/w.safetensors", "none.json"], expand=True)
    assert [(type(entry).__name__, entry.last_commit.title) for entry in found] == [
        ("RepoFolder", "second"),
        ("RepoFile", "first"),
    ]


def test_a_history_comes_page_by_page(hub, filled):
    for number in range(3):
        commit(filled, message=f"more {number}", z_json=b"more %d" % number)
    hub.requests.clear()
    found = filled.list_repo_commits(REPO)
    assert [one.title for one in found] == ["more 2", "more 1", "more 0", "second", "first", "initial commit"]
    assert words(hub) == ["commits"] * 2
    assert [one.title for one in filled.list_repo_commits(REPO, revision=found[3].commit_id)] == [
        "second",
        "first",
        "initial commit",
    ]


def test_a_repository_names_its_files_and_their_digests(filled):
    siblings = {one.rfilename: one for one in filled.model_info(REPO, files_metadata=True).siblings}
    assert siblings["a/w.safetensors"].lfs.size == siblings["a/w.safetensors"].size == 50_000
    assert filled.model_info(REPO).siblings[0].size is None


def test_a_download_knows_its_commit(filled, tmp_path):
    """At a branch, a tag, a commit and a shortened one."""
    head = filled.repo_info(REPO).sha
    filled.create_tag(REPO, tag="v1")
    for revision in ("main", "v1", head, head[:10]):
        place = filled.hf_hub_download(REPO, "a/w.safetensors", revision=revision, cache_dir=tmp_path)
        assert head in place
        with open(place, "rb") as file:
            assert file.read() == WEIGHTS


def test_a_part_of_a_file_can_be_read(hub, filled):
    """As the client's file system does; what is beyond the end is left out, what begins there is refused."""
    place = f"{REPO}/a/w.safetensors"
    files = HfFileSystem(endpoint=hub.url, token="hf_writer", skip_instance_cache=True)
    assert files.cat_file(place, start=100, end=200) == WEIGHTS[100:200]
    assert files.cat_file(place, start=-10) == WEIGHTS[-10:]
    assert [one.status for one in hub.requests if one.route == "resolve"] == [206, 206]
    where = f"{hub.url}/{REPO}/resolve/main/a/w.safetensors"
    for wanted, status, expected in (("49990-", 206, b"x" * 10), ("49990-99999", 206, b"x" * 10), ("50000-", 416, b"")):
        answer = get_session().get(where, headers={"Range": f"bytes={wanted}"})
        assert (answer.status_code, len(answer.content)) == (status, len(expected))
        assert answer.headers["Content-Range"].endswith("/50000")


def test_a_name_with_odd_characters_is_kept(api, tmp_path):
    name = "layer 1/é%20#?&+.json"
    api.create_commit(REPO, [CommitOperationAdd(name, b"{}")], commit_message="odd")
    assert api.file_exists(REPO, name)
    assert [entry.path for entry in api.list_repo_tree(REPO, "layer 1")] == [name]
    assert [entry.path for entry in api.get_paths_info(REPO, [name])] == [name]
