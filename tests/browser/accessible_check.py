"""The page against axe-core, which npm installs: no serious or critical violation, in light and dark.

Not part of `make test`: `make test-browser`. Where npm is absent it says so and passes.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = "axe-core@4.11.0"
HERE = "npm is not here: the page is not checked with axe-core"
GRAVE = ("serious", "critical")
RUN = "() => axe.run(document, {resultTypes: ['violations']})"


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """Install axe-core in a scratch folder and return its source."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip(HERE)
    folder = Path(os.environ.get("SAEREG_NPM") or tmp_path_factory.mktemp("npm"))
    script = folder / "node_modules/axe-core/axe.min.js"
    if not script.is_file():
        install = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
        subprocess.run(install, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return script.read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("hash_", ["", "#/artifact/layer_1/topk", "#/figures", "#/findings", "#/about"])
def test_no_serious_violation(visit, axe, hash_, scheme, width):
    """Colours, names, roles, order of headings, what can be reached: by axe's own grades."""
    page = visit("adorned", hash_, color_scheme=scheme, width=width)
    page.wait_for_timeout(1200)
    page.evaluate(axe)
    grave = [
        f"{found['id']} ({found['impact']}): {found['nodes'][0]['html'][:200]} {found['nodes'][0]['failureSummary']}"
        for found in page.evaluate(RUN)["violations"]
        if found["impact"] in GRAVE
    ]
    assert grave == []
