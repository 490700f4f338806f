"""The Xet storage as a folder, which hf-xet writes and reads."""

import pytest
from huggingface_hub import CommitOperationAdd, constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session

from saereg.publishers.local_hub import local_hub
from tests.hub.conftest import REPO, client, commit, large, paths, words

pytest.importorskip("hf_xet", reason="hf-xet is not installed")


@pytest.fixture
def xet(hub, api, monkeypatch):
    """The client with Xet on."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    try:
        commit(api, probe_safetensors=b"probe")
    except (ConnectionError, RuntimeError, ValueError) as error:
        if any(request.status != 200 for request in hub.requests):
            raise
        pytest.skip(f"this hf-xet has no local:// storage: {error}")
    hub.requests.clear()
    return api


def test_large_files_go_to_the_storage_and_come_back(hub, xet, tmp_path):
    """From memory and from a file; no byte of them passes through the hub."""
    one, two = large(), large(2_000_000)
    (tmp_path / "two").write_bytes(two)
    operations = [CommitOperationAdd("one.safetensors", one), CommitOperationAdd("two.safetensors", tmp_path / "two")]
    xet.create_commit(REPO, operations, commit_message="both")
    assert "put" not in words(hub)
    assert "xet" in words(hub)
    place = xet.snapshot_download(REPO, local_dir=tmp_path / "down")
    assert (tmp_path / "down/one.safetensors").read_bytes() == one
    assert (tmp_path / "down/two.safetensors").read_bytes() == two
    assert xet.verify_repo_checksums(REPO, local_dir=place).mismatches == []
    assert max(request.sent for request in hub.requests) < 10_000
    (entry,) = xet.get_paths_info(REPO, ["two.safetensors"])
    assert (entry.size, len(entry.xet_hash)) == (2_000_000, 64)


def test_a_client_without_xet_reads_them_too(hub, xet, tmp_path, monkeypatch):
    """The hub unpacks them on the first read, ranges included, and holds them as blobs from then on."""
    weights = large()
    commit(xet, w_safetensors=weights)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    where = f"{hub.url}/{REPO}/resolve/main/w.safetensors"
    assert get_session().get(where, headers={"Range": "bytes=1000-1999"}).content == weights[1000:2000]
    place = xet.hf_hub_download(REPO, "w.safetensors", cache_dir=tmp_path)
    with open(place, "rb") as file:
        assert file.read() == weights
    assert [path.stat().st_size for path in (hub.store.folder / "incoming").iterdir()] == []


def test_files_are_found_again_after_a_restart(folder, monkeypatch):
    """Also by a client that sends them as LFS files: nothing is sent twice."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    weights = large()
    with local_hub(folder) as hub:
        client(hub).create_repo(REPO)
        commit(client(hub), w_safetensors=weights)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with local_hub(folder) as hub:
        assert client(hub).get_paths_info(REPO, ["w.safetensors"])[0].xet_hash
        commit(client(hub), again_safetensors=weights)
        assert "put" not in words(hub)
        assert paths(client(hub)) == ["again.safetensors", "w.safetensors"]


def test_a_hub_without_xet_says_so(folder, monkeypatch):
    """The client makes a ConnectionError of the 404; with HF_HUB_DISABLE_XET=1 it is served."""
    with local_hub(folder, xet=False) as hub:
        api = client(hub)
        api.create_repo(REPO)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
        with pytest.raises(Exception, match="404") as caught:
            commit(api, w_safetensors=b"weights")
        assert not isinstance(caught.value, HfHubHTTPError)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        commit(api, w_safetensors=b"weights")
        assert api.get_paths_info(REPO, ["w.safetensors"])[0].xet_hash is None
