"""The hub on this machine, asked by the real client in this process."""

import os
from pathlib import Path

import pytest
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, close_session, constants
from huggingface_hub.utils import disable_progress_bars

from saereg.publishers.local_hub import Server, local_hub

REPO = "org/release"
CARD = b"---\nlicense: mit\n---\n# A release\n"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    """No progress bars, no settings of this machine, no connections that are left over; large files go by LFS."""
    disable_progress_bars()
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield
    close_session()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where the hub keeps everything."""
    return tmp_path / "hub"


@pytest.fixture
def hub(folder):
    """A hub with small pages and small parts."""
    with local_hub(folder, page=3, multipart_over=100_000) as server:
        yield server


def client(server: Server, token: str | bool = "hf_writer") -> HfApi:
    """Return the real client of a hub."""
    return HfApi(endpoint=server.url, token=token)


@pytest.fixture
def api(hub) -> HfApi:
    """The client, after a repository was made."""
    api = client(hub)
    api.create_repo(REPO)
    hub.requests.clear()
    return api


def files(**contents: bytes) -> list[CommitOperationAdd]:
    """Return operations that add files; two underscores in a name stand for a slash, one before the end for a dot."""
    return [CommitOperationAdd(".".join(n.replace("__", "/").rsplit("_", 1)), c) for n, c in contents.items()]


def commit(api: HfApi, *, message: str = "some files", **contents: bytes) -> CommitInfo:
    """Commit files to main."""
    return api.create_commit(REPO, files(**contents), commit_message=message)


def paths(api: HfApi, revision: str = "main") -> list[str]:
    """Return the paths of a revision, without the .gitattributes that every repository starts with."""
    return sorted(set(api.list_repo_files(REPO, revision=revision)) - {".gitattributes"})


def words(server: Server) -> list[str]:
    """Return the words of the routes that were asked for."""
    return [request.route for request in server.requests]


def large(size: int = 250_000) -> bytes:
    """Return bytes that nothing compresses."""
    return os.urandom(size)
