"""The release that is worth registering, made once."""

import shutil
from pathlib import Path

import pytest

from tests.registry.emitting.good_release import good_release


@pytest.fixture(scope="session")
def good(tmp_path_factory) -> Path:
    """The release; read only."""
    return good_release(tmp_path_factory.mktemp("good") / "good-ones")


@pytest.fixture
def own(tmp_path, good) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(good, tmp_path / "good-ones"))
