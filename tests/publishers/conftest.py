"""Two versions of one release, and their validations."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from saereg.registry.build import build
from saereg.registry.validators.runner import validate
from saereg.schemas.report import Report
from tests.releases import tiny_release


@pytest.fixture(scope="session")
def versions(tmp_path_factory) -> tuple[Path, Path]:
    """Version 1.0.0, and 1.1.0 with another card, a new file and without the crosscoder; both read only."""
    first = tiny_release(tmp_path_factory.mktemp("first"))
    second = tmp_path_factory.mktemp("second") / "release"
    shutil.copytree(first, second)
    shutil.rmtree(second / "W_U")
    card = second / "README.md"
    card.write_text(card.read_text().replace("# Tiny dictionaries", "# Tiny dictionaries, again"))
    (second / "NOTICE.md").write_text("new\n")
    manifest = json.loads((second / "manifest.json").read_text())
    manifest["release"]["version"] = "1.1.0"
    manifest["artifacts"] = [a for a in manifest["artifacts"] if a["id"] != "W_U/cross-snapshot-2"]
    (second / "manifest.json").write_text(json.dumps(manifest))
    build(second)
    return first, second


@pytest.fixture
def release(versions, tmp_path) -> Path:
    """A copy of version 1.0.0 that may be changed."""
    shutil.copytree(versions[0], tmp_path / "release")
    return tmp_path / "release"


@pytest.fixture
def next_release(versions, tmp_path) -> Path:
    """A copy of version 1.1.0 that may be changed."""
    shutil.copytree(versions[1], tmp_path / "next")
    return tmp_path / "next"


@pytest.fixture(scope="session")
def report_of() -> Callable[[Path], Report]:
    """Validate at level header."""
    return lambda root: validate(root, "header")
