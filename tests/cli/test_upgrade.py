"""`saereg upgrade`: what it shows, what it writes, and that the original stays."""

import json
import shutil
from pathlib import Path

import pytest

from saereg.schemas.manifest import Manifest

DATA = Path(__file__).parent.parent / "registry/foreign/data"

PACKAGE = (
    "--license", "apache-2.0", "--site", "blocks.{layer}.hook_resid_post", "--module", "model.layers.{layer}",
    "--set", "kind=sae",
)  # fmt: skip

ROWS = [
    {"path": "W_U/cross-snapshot-3/d64/seed0.safetensors", "model": "org/tiny", "matrix": "W_U", "d_sae": 64,
     "colour": "red", "kind": "cross-snapshot-3", "steps": [0, 1, 2], "d_in": 16, "arch": "JumpReLU"},
]  # fmt: skip


@pytest.fixture
def package(place):
    """A folder with the manifest of a package of SAEs, of another make."""
    return shutil.copytree(DATA / "package", place / "package")


@pytest.fixture
def index(place):
    """A folder with an index of one crosscoder, of another make."""
    folder = place / "trajectory"
    folder.mkdir()
    (folder / "index.json").write_text(json.dumps(ROWS))
    return folder


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_diff_shows_everything_and_writes_nothing(saereg, package):
    """A unified diff on stdout; what found no place and what was inferred on stderr."""
    before = _files(package)
    answer = saereg("upgrade", package, *PACKAGE, "--diff")
    assert answer.code == 0
    assert answer.out.startswith(f"--- {package}/manifest.json\n+++ {package}/manifest.json\n@@ ")
    assert '+      "d_sae": 131072,' in answer.out.splitlines()
    assert '-  "activation_width": 4096,' in answer.out.splitlines()
    assert "39 values placed, 29 not placed" in answer.err
    assert "a source checkpoint needs its sha256" in answer.err
    assert _files(package) == before


def test_the_original_is_kept_and_a_second_time_nothing_is_to_do(saereg, package):
    """manifest.foreign.json has the bytes of the original; the folder is then of today."""
    original = (package / "manifest.json").read_bytes()
    answer = saereg("upgrade", package, *PACKAGE)
    assert (answer.code, answer.next) == (0, f"saereg validate {package}")
    assert (package / "manifest.foreign.json").read_bytes() == original
    assert len(Manifest.read(package / "manifest.json").artifacts) == 7
    after = _files(package)
    again = saereg("upgrade", package)
    assert (again.code, _files(package)) == (0, after)
    assert "nothing to do" in again.out


def test_an_index_makes_room_for_that_of_the_tool(saereg, index):
    """Its rows become manifest.json, and itself index.foreign.json: `saereg build` writes another index.json."""
    answer = saereg("upgrade", index, "--license", "mit")
    assert answer.code == 0, answer.err
    assert set(_files(index)) == {"index.foreign.json", "manifest.json"}
    (artifact,) = Manifest.read(index / "manifest.json").artifacts
    assert (artifact.id, artifact.kind, artifact.sources.steps) == (
        "W_U/cross-snapshot-3/d64/seed0",
        "crosscoder",
        (0, 1, 2),
    )


def test_another_folder_gets_result_and_original(saereg, index, place):
    """With --out nothing is touched where the inventory is; the same again changes nothing; another is refused."""
    before, out = _files(index), place / "out"
    words = ("upgrade", index / "index.json", "--license", "mit", "--out", out)
    assert saereg(*words).code == 0
    made = _files(out)
    assert made["index.foreign.json"] == before["index.json"]
    assert saereg(*words).code == 0
    refused = saereg(*words, "--title", "Another")
    assert (refused.code, _files(out), _files(index)) == (2, made, before)
    assert refused.err == f"error: {out}/manifest.json is there and says something else; it is left as it is: " \
        "choose a folder with --out\n"  # fmt: skip


def test_machines_get_every_value(saereg, index):
    """JSON has the manifest, where each value went, and why others went nowhere."""
    answer = saereg("upgrade", index, "--license", "mit", "--diff", "--format", "json")
    found = json.loads(answer.out)
    assert found["unplaced"] == [{"from": "/0/colour", "value": "red", "why": "no field of that meaning"}]
    assert {"from": "/0/matrix", "value": "W_U", "to": "/sites/W_U/parameter", "became": "W_U"} in found["placed"]
    assert {"at": "/artifacts/0/kind", "value": "crosscoder", "because": "kind: cross-snapshot-3"} in found["assumed"]
    assert len(found["placed"]) + len(found["unplaced"]) == len(ROWS[0])


def test_what_is_missing_is_said_in_one_line(saereg, package):
    """All of it, with the options that say it; nothing is written."""
    before = _files(package)
    answer = saereg("upgrade", package)
    assert (answer.code, answer.out, _files(package)) == (2, "", before)
    assert answer.err.count("\n") == 1
    assert all(word in answer.err for word in ("--license", "--set kind", "--site"))


def test_our_own_documents_are_left_as_they_are(saereg, place):
    """Of today's version: nothing to do. Of a later one: refused in one line, and not touched."""
    before = _files(place / "release")
    assert saereg("upgrade", "release").code == 0
    path = place / "release/manifest.json"
    later = path.read_text().replace('"schema_version": "1.0"', '"schema_version": "1.7"')
    assert later != path.read_text()
    path.write_text(later)
    answer = saereg("upgrade", "release")
    assert (answer.code, path.read_text()) == (2, later)
    assert answer.err.count("\n") == 1
    assert "release/manifest.json: schema version 1.7 is later than 1.0" in answer.err
    assert set(_files(place / "release")) == set(before)


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("none.json", None, 5),
        ("broken.json", "{", 2),
        ("other.json", "[1]", 2),
        ("rows.json", '[{"id": "a/{b}", "k": 1}]', 2),
    ],
)
def test_what_cannot_be_upgraded_is_told_in_one_line(saereg, place, name, text, code):
    """No file, no JSON, no rows, no row that is one dictionary."""
    if text is not None:
        (place / name).write_text(text)
    answer = saereg("upgrade", name, "--license", "mit")
    assert (answer.code, answer.out, answer.err.count("\n")) == (code, "", 1)
    assert "Traceback" not in answer.err
