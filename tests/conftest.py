"""What every test is spared: the digests and reports that the user of this machine keeps."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory):
    """Let saereg, and every process that a test starts, keep its state in a folder of this run."""
    before = os.environ.get("SAEREG_CACHE")
    os.environ["SAEREG_CACHE"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["SAEREG_CACHE"]
    else:
        os.environ["SAEREG_CACHE"] = before
