"""A hub that serves a folder, for the client of this process; and a tiny release to serve."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from saereg.registry.fetching.opening import RemoteRelease, open_remote
from tests.reading_hub import REPO, Server, hub
from tests.releases import tiny_release


@pytest.fixture(scope="session")
def release(tmp_path_factory) -> Path:
    """A release as it lies in a repository; read only."""
    return tiny_release(tmp_path_factory.mktemp("repository"), checkpoints=False)


@pytest.fixture
def serve(monkeypatch):
    """Serve a folder to the client of this process, which reads the address of the Hub when it is imported."""
    from huggingface_hub import constants

    with ExitStack() as stack:

        def start(root: Path, **habits: object) -> Server:
            server = stack.enter_context(hub(root, **habits))
            monkeypatch.setattr(constants, "ENDPOINT", server.url)
            template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
            return server

        yield start


@pytest.fixture
def opened():
    """Open the release that is served."""

    def at(revision: str | None = None) -> RemoteRelease:
        return open_remote(REPO, revision)

    return at
