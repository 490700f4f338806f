"""Uploads and commits."""

import concurrent.futures

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
from huggingface_hub.errors import BadRequestError, EntryNotFoundError, HfHubHTTPError

from saereg.publishers.local_hub import local_hub
from tests.hub.conftest import CARD, REPO, client, commit, files, large, paths, words


def content(api, path, tmp_path, revision="main"):
    """Return a file as the client downloads it."""
    where = api.hf_hub_download(REPO, path, revision=revision, cache_dir=tmp_path / "cache")
    with open(where, "rb") as file:
        return file.read()


def test_a_commit_holds_small_files_and_large_ones(hub, api, tmp_path):
    """Two of the same content are one blob; what has the end of a large file is one, whatever its size."""
    weights = large(90_000)
    made = commit(
        api, README_md=CARD, cfg_json=b"{}", a__w_safetensors=weights, b__w_safetensors=weights, empty_npz=b""
    )
    assert paths(api) == ["README.md", "a/w.safetensors", "b/w.safetensors", "cfg.json", "empty.npz"]
    assert made.commit_url == f"{hub.url}/{REPO}/commit/{made.oid}"
    assert [path.stat().st_size for path in (hub.store.folder / "blobs").rglob("*/*")].count(90_000) == 1
    entries = {entry.path: entry for entry in api.get_paths_info(REPO, ["a/w.safetensors", "cfg.json", "empty.npz"])}
    assert entries["a/w.safetensors"].lfs.size == 90_000
    assert entries["cfg.json"].lfs is None
    assert entries["cfg.json"].blob_id == "9e26dfeeb6e641a33dae4961196235bdb965b21b"  # `git hash-object`
    assert entries["empty.npz"].lfs is None
    assert content(api, "b/w.safetensors", tmp_path) == weights
    assert content(api, "cfg.json", tmp_path) == b"{}"


def test_a_file_above_the_size_is_sent_in_parts(hub, api, tmp_path):
    """250 kB in parts of 100 kB."""
    weights = large(250_000)
    commit(api, w_safetensors=weights)
    puts = [request for request in hub.requests if request.route == "put"]
    assert [request.received for request in puts[:3]] == [100_000, 100_000, 50_000]
    assert content(api, "w.safetensors", tmp_path) == weights
    assert list((hub.store.folder / "incoming").iterdir()) == []


def test_ten_megabytes_make_a_file_large(hub, api):
    commit(api, tokens_json=b"1" * (10 * 1024 * 1024 + 1))
    (entry,) = api.get_paths_info(REPO, "tokens.json")
    assert entry.lfs is not None


def test_nothing_new_is_no_commit(hub, api):
    """`preupload` says what the branch holds, so the client drops what is the same."""
    first = commit(api, README_md=CARD, w_safetensors=b"weights")
    again = commit(api, README_md=CARD, w_safetensors=b"weights")
    assert again.oid == first.oid
    assert words(hub).count("commit") == 1


def test_files_and_folders_are_deleted_and_copied(api, tmp_path):
    commit(api, README_md=CARD, a__w_safetensors=b"a", a__cfg_json=b"{}", b__cfg_json=b"[]")
    operations = [
        CommitOperationCopy("a/w.safetensors", "c/w.safetensors"),
        CommitOperationCopy("b/cfg.json", "c/cfg.json"),
        CommitOperationDelete("a/"),
        CommitOperationDelete("b/cfg.json"),
    ]
    api.create_commit(REPO, operations, commit_message="move")
    assert paths(api) == ["README.md", "c/cfg.json", "c/w.safetensors"]
    assert content(api, "c/w.safetensors", tmp_path) == b"a"


def test_what_is_not_there_cannot_be_deleted_and_nothing_else_is_done(api):
    operations = [*files(cfg_json=b"{}"), CommitOperationDelete("none.json")]
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        api.create_commit(REPO, operations, commit_message="half")
    assert paths(api) == []


def test_a_path_is_a_file_or_a_folder(api):
    commit(api, a_json=b"{}")
    with pytest.raises(BadRequestError, match=r"a\.json is a file and a folder"):
        api.create_commit(REPO, [CommitOperationAdd("a.json/b.json", b"{}")], commit_message="clash")


def test_a_commit_on_an_old_head_is_refused(api):
    """Also by the short name of the head; and with the right one it is taken."""
    first = commit(api, a_json=b"1")
    second = commit(api, a_json=b"2")
    with pytest.raises(HfHubHTTPError, match="The branch was updated") as caught:
        api.create_commit(REPO, files(a_json=b"3"), commit_message="late", parent_commit=first.oid)
    assert caught.value.response.status_code == 412
    assert api.repo_info(REPO).sha == second.oid
    third = api.create_commit(REPO, files(a_json=b"3"), commit_message="in time", parent_commit=second.oid[:8])
    assert api.repo_info(REPO).sha == third.oid


def test_of_two_that_race_one_wins(api):
    """Eight commits on one head at once: one lands, seven are told."""
    base = commit(api, a_json=b"0").oid

    def attempt(number: int) -> str:
        try:
            operations = files(**{f"f{number}_json": b"%d" % number})
            return api.create_commit(REPO, operations, commit_message=str(number), parent_commit=base).oid
        except HfHubHTTPError as error:
            return str(error.response.status_code)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, range(8)))
    assert results.count("412") == 7
    assert api.repo_info(REPO).sha in results
    assert len(api.list_repo_commits(REPO)) == 3


def test_a_large_file_that_was_never_sent_is_refused(hub, api):
    """The client believes that it was sent before."""
    (operation,) = files(w_safetensors=b"weights")
    api.preupload_lfs_files(REPO, [operation], free_memory=False)
    (blob,) = [path for path in (hub.store.folder / "blobs").rglob("*") if path.is_file() and path.stat().st_size == 7]
    blob.unlink()
    with pytest.raises(BadRequestError, match="LFS pointer pointed to a file that does not exist"):
        api.create_commit(REPO, [operation], commit_message="lost")
    commit(api, w_safetensors=b"weights")  # fresh operations: sent again
    assert paths(api) == ["w.safetensors"]


def test_bytes_that_are_not_what_was_named_are_refused(hub, api):
    """The client hashes what it was given first, and sends what is there then."""
    (operation,) = files(w_safetensors=b"weights")
    operation.path_or_fileobj = b"weighty"
    with pytest.raises(RuntimeError) as caught:
        api.preupload_lfs_files(REPO, [operation])
    assert "the content has the sha256" in str(caught.value.__cause__)
    assert not list((hub.store.folder / "incoming").iterdir())


def test_files_are_invisible_until_they_are_committed(hub, api):
    operations = files(w_safetensors=large(), x_safetensors=large(1000))
    api.preupload_lfs_files(REPO, operations)
    assert paths(api) == []
    hub.requests.clear()
    api.create_commit(REPO, operations, commit_message="now")
    assert "put" not in words(hub)
    assert paths(api) == ["w.safetensors", "x.safetensors"]


def test_the_gitignore_of_the_hub_applies_to_the_next_commit(api):
    """As it does on the real one; a folder's line hides what is in it, a later line brings back."""
    commit(api, **{"_gitignore": b"# junk\nruns/\n*.log\n!keep.log\n"})
    commit(api, a_log=b"1", keep_log=b"2", runs__x_json=b"3", sub__runs__y_json=b"4", running_json=b"5")
    assert paths(api) == [".gitignore", "keep.log", "running.json"]


def test_a_card_that_is_no_yaml_is_refused_before_anything_is_sent(hub, api):
    for card in (b"---\nlicense: [\n---\n", b"---\nlicense: mit\n"):
        with pytest.raises(ValueError, match="Invalid metadata in README"):
            commit(api, README_md=card, w_safetensors=b"weights")
    assert set(words(hub)) == {"yaml"}


def test_a_card_without_front_matter_is_warned_about(api):
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        commit(api, README_md=b"# A release\n")


def test_a_folder_is_sent_by_the_clients_own_way(hub, api, tmp_path):
    for number in range(7):
        (tmp_path / "up" / str(number)).mkdir(parents=True)
        (tmp_path / "up" / str(number) / "cfg.json").write_text(str(number))
        (tmp_path / "up" / str(number) / "w.safetensors").write_bytes(large(1000))
    api.upload_folder(repo_id=REPO, folder_path=tmp_path / "up", path_in_repo="saes")
    assert len(paths(api)) == 14
    found = api.snapshot_download(REPO, local_dir=tmp_path / "down")
    assert api.verify_repo_checksums(REPO, local_dir=found).mismatches == []
    assert api.verify_repo_checksums(REPO, local_dir=found).checked_count == 15


def test_branches_and_tags_are_made_once(hub, api):
    first = commit(api, a_json=b"1")
    api.create_tag(REPO, tag="v1", revision=first.oid)
    api.create_branch(REPO, branch="next", revision="v1")
    api.create_commit(REPO, files(a_json=b"2"), commit_message="next", revision="next")
    refs = api.list_repo_refs(REPO)
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first.oid}
    assert [ref.name for ref in refs.branches] == ["main", "next"]
    assert api.repo_info(REPO, revision="next").sha != first.oid
    for again in (lambda: api.create_tag(REPO, tag="v1"), lambda: api.create_branch(REPO, branch="next")):
        with pytest.raises(HfHubHTTPError) as caught:
            again()
        assert caught.value.response.status_code == 409
    api.create_tag(REPO, tag="v1", exist_ok=True)
    assert {ref.target_commit for ref in api.list_repo_refs(REPO).tags} == {first.oid}
    with pytest.raises(BadRequestError, match="Invalid reference"):
        api.create_branch(REPO, branch="refs/pr/5")


def test_a_hub_can_be_one_that_can_less(folder):
    """Without the lock a stale parent is taken; tags and pull requests answer 501."""
    with local_hub(folder, lock=False, tags=False, pull_requests=False) as hub:
        api = client(hub)
        api.create_repo(REPO)
        first = commit(api, a_json=b"1")
        commit(api, a_json=b"2")
        api.create_commit(REPO, files(a_json=b"3"), commit_message="late", parent_commit=first.oid)
        assert len(api.list_repo_commits(REPO)) == 4
        for wish in (
            lambda: api.create_tag(REPO, tag="v1"),
            lambda: api.create_pull_request(REPO, "a title"),
            lambda: api.create_commit(REPO, files(a_json=b"4"), commit_message="pull", create_pr=True),
        ):
            with pytest.raises(HfHubHTTPError, match="not supported by this hub") as caught:
                wish()
            assert caught.value.response.status_code == 501
