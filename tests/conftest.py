"""What tests are spared: digests and reports that the user of this machine keeps, and how pytest was started."""

import os
import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Let Ctrl-C be tried also where a shell started pytest in the background, which makes it and its children deaf."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
