"""Tests read and write nothing that the user of this machine keeps."""

import os
import subprocess
import sys

from saereg.registry.catalog.store import catalog_path
from saereg.registry.files.state import state_folder

PLACES = (
    "from saereg.registry.catalog.store import catalog_path; from saereg.registry.files.state import state_folder;"
    "print(catalog_path()); print(state_folder())"
)


def test_a_run_has_a_catalogue_and_a_state_of_its_own(tmp_path_factory):
    """In this process and in those that it starts."""
    here = [catalog_path(), state_folder()]
    there = subprocess.run([sys.executable, "-c", PLACES], capture_output=True, text=True, check=True)

    assert all(path.is_relative_to(tmp_path_factory.getbasetemp()) for path in here)
    assert there.stdout.splitlines() == [str(path) for path in here]


def test_without_the_variables_it_would_be_the_users_own(monkeypatch, tmp_path):
    """So they are what spares it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SAEREG_CATALOG", "SAEREG_CACHE", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        assert os.environ.get(name) or name.startswith("XDG")
        monkeypatch.delenv(name, raising=False)

    assert catalog_path().is_relative_to(tmp_path)
    assert state_folder().is_relative_to(tmp_path)
