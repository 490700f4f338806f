"""One count for all fuzz tests, told at the end of the run."""

import pytest

from tests.fuzz.laws import Ledger

LEDGER = pytest.StashKey[Ledger]()


@pytest.fixture(scope="session")
def ledger(request) -> Ledger:
    return request.config.stash.setdefault(LEDGER, Ledger())


def pytest_terminal_summary(terminalreporter, config):
    found = config.stash.get(LEDGER, None)
    if found and found.cases:
        terminalreporter.section("fuzzing")
        for line in found.lines():
            terminalreporter.write_line(line)
