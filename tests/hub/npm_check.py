"""The hub against a client that nobody here wrote it for: `@huggingface/hub` from npm.

Not part of `make test`, because npm installs the package: `make npm-check`.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from saereg.publishers.local_hub import local_hub

PACKAGE = "@huggingface/hub@2.17.5"
SCRIPT = Path(__file__).with_suffix(".mjs")
HERE = "node and npm are not here: the hub is only checked with the Python client"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Run the script in a folder that has the package."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        pytest.skip(HERE)
    folder = Path(os.environ.get("SAEREG_NPM") or tmp_path_factory.mktemp("npm"))
    if not (folder / "node_modules/@huggingface/hub").is_dir():
        install = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
        subprocess.run(install, check=True, timeout=300, stdout=subprocess.DEVNULL)
    script = tmp_path_factory.mktemp("script") / SCRIPT.name
    shutil.copy(SCRIPT, script)
    (script.parent / "node_modules").symlink_to(folder / "node_modules")

    def run(*words: object) -> dict:
        command = [node, str(script), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize(("size", "puts"), [(50_000, 2), (250_000, 5)])
def test_the_javascript_client_writes_and_reads(node, tmp_path, size, puts):
    """A small file, two large ones, of which one may go in parts; list, download, delete, and 412 on an old head."""
    with local_hub(tmp_path, page=2, multipart_over=100_000) as hub:
        saw = node(hub.url, size)
        assert saw["name"] == "local"
        assert saw["repoUrl"] == f"{hub.url}/org/release"
        assert [path for path, *_ in saw["files"]] == [
            ".gitattributes",
            "a",
            "a/small.safetensors",
            "a/w.safetensors",
            "cfg.json",
        ]
        assert [file[1:] for file in saw["files"] if file[0] == "a/w.safetensors"] == [["file", size, saw["sent"]]]
        assert (saw["got"], saw["small"], saw["info"]) == (saw["sent"], "small", size)
        assert (saw["stale"], saw["moved"], saw["missing"]) == (412, True, None)
        assert saw["titles"] == ["one less", "from node", "initial commit"]
        assert [request.route for request in hub.requests].count("put") == puts
        assert not [request for request in hub.requests if not request.route or request.status >= 500]
