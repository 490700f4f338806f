"""The install script of the GitHub Action, run for real. Not part of `make test`: it needs the package index."""

import os
import subprocess
from pathlib import Path

from saereg import __version__
from tests.releases import tiny_release

ROOT = Path(__file__).parents[2]


def test_the_action_installs_its_own_checkout_and_validates_with_it(tmp_path):
    """Into an environment of its own that comes first on the path of later steps; at level header without torch."""
    release = tiny_release(tmp_path, checkpoints=False)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"SAEREG_SOURCE": str(ROOT), "SAEREG_VENV": str(tmp_path / "venv")}
    environment |= {"GITHUB_PATH": str(tmp_path / "path"), "INPUT_LEVEL": "header"}

    done = subprocess.run(
        ["bash", str(ROOT / "ci/install.sh")], env=environment, capture_output=True, text=True, timeout=600, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"saereg, version {__version__}"
    added = (tmp_path / "path").read_text().strip()
    assert not list((tmp_path / "venv").glob("lib/python*/site-packages/torch"))
    again = subprocess.run([f"{added}/saereg", "validate", release], capture_output=True, cwd=tmp_path, check=False)
    assert again.returncode == 0
