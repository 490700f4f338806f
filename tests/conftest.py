"""What tests are spared: digests, reports and the catalogue that a user keeps, and how pytest was started."""

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
    """Let saereg, and every process that a test starts, keep its state and its catalogue in a folder of this run."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAEREG_CACHE", str(folder))
        patch.setenv("SAEREG_CATALOG", str(folder / "catalog.sqlite"))
        yield
