"""`saereg yank` and `saereg deprecate`: one line for what was done, one for what is wrong."""

import json
import os
import re
import subprocess
import sys

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from saereg.publishers.local_hub import local_hub
from saereg.registry.withdrawn_documents import DOCUMENTS

DAY = "2026-11-21"


@pytest.fixture(autouse=True)
def day(monkeypatch):
    """Let it be a known day."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795300000")


def test_a_version_is_marked_and_readers_are_told(saereg, place):
    """In words and as JSON, with the next command; a second time there is nothing to do."""
    words = ["yank", "release", "--reason", "b_dec is 0", "--successor", "hf://org/other"]

    planned = saereg(*words, "--dry-run")
    assert planned.out == (
        f"1.0.0 is yanked ({DAY}): b_dec is 0; use hf://org/other instead\n"
        "would change: manifest.json, index.json, README.md\n"
    )
    assert planned.next == "saereg yank release --reason 'b_dec is 0' --successor hf://org/other"
    assert "withdrawn" not in (place / "release/README.md").read_text()

    (place / "release/model.sig").write_text("{}")
    done = saereg(*words, "--format", "json")
    assert json.loads(done.out) == {
        "target": "release",
        "version": "1.0.0",
        "changed": ["manifest.json", "index.json", "README.md"],
        "commit": None,
        "dry_run": False,
        "signature_fits": False,
        "withdrawn": [
            {
                "version": "1.0.0",
                "kind": "yanked",
                "reason": "b_dec is 0",
                "successor": "hf://org/other",
                "date": DAY,
            }
        ],
    }
    assert done.err == "model.sig no longer fits what was signed\nnext: saereg sign release --key FILE\n"
    again = saereg(*words)
    assert (again.code, again.out.splitlines()[1]) == (0, "nothing to do: every document says so already")
    assert again.err == done.err

    listed = saereg("ls", "release", "--where", "withdrawn = yanked", "--columns", "id,withdrawn")
    assert listed.out.splitlines()[1].split() == ["layer_1/topk", "yanked"]
    assert listed.err.startswith("4 artifacts withdrawn: saereg show says why\n")
    for shown in ("release", "release:layer_1/topk"):
        assert f"1.0.0 is yanked ({DAY}): b_dec is 0; use hf://org" in saereg("show", shown).out.splitlines()[1]
    assert "withdrawn" not in saereg("ls", "release", "--columns", "id").out


def test_artifacts_are_marked_and_taken_back(saereg):
    """Several at once, by the verb that marked them; what is replaced is said."""
    both = ["--artifact", "layer_1/topk", "--artifact", "layer_1/transcoder"]
    saereg("deprecate", "release", *both, "--reason", "see 2.0", "--successor", "layer_1/jumprelu")

    done = saereg("yank", "release", "v1.0.0", "--artifact", "layer_1/topk", "--reason", "wrong\nsign")
    assert done.out == (
        f"layer_1/topk of 1.0.0 is yanked ({DAY}): wrong sign (before: layer_1/topk of 1.0.0 is deprecated ({DAY}): "
        "see 2.0; use layer_1/jumprelu instead)\nchanged: manifest.json, index.json, README.md\n"
    )
    refused = saereg("deprecate", "release", *both, "--reason", "fine")
    assert refused.err.startswith(f"error: layer_1/topk of 1.0.0 is yanked since {DAY}; --replace makes it deprecated")
    assert saereg("deprecate", "release", *both, "--reason", "fine", "--replace").code == 0
    back = saereg("deprecate", "release", "--undo", *both)
    assert back.out.splitlines() == [
        "layer_1/topk of 1.0.0 is no longer deprecated",
        "layer_1/transcoder of 1.0.0 is no longer deprecated",
        "changed: manifest.json, index.json, README.md",
    ]
    assert saereg("validate", "release", "--level", "header").code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["release"], "saereg yank needs --reason TEXT: readers must know why"),
        (["release", "--reason", " "], "saereg yank needs --reason TEXT: readers must know why"),
        (["release", "layer_1/topk", "--reason", "x"], "'layer_1/topk' is no version; an artifact is named by "
         "--artifact layer_1/topk"),
        (["release", "1.0", "--reason", "x"], "'1.0' is no version; write all three numbers, such as 1.0.0"),
        (["release", "1.0.1", "--reason", "x"], "version 1.0.1 was never published: release is 1.0.0"),
        (["release:a", "--reason", "x"], "release:a: name the release, and the artifact behind it: --artifact a"),
        (["release", "--undo", "--reason", "x"], "saereg yank --undo takes a mark back; it needs neither --reason nor "
         "--successor"),
        (["release", "--undo"], "1.0.0 is not withdrawn; marked is nothing"),
        (["release", "--reason", "x" * 2001], "reason: String should have at most 2000 characters"),
        (["release", "--reason", "x", "--artifact", ""], "artifact: "),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line(saereg, words, sentence):
    """And nothing is written."""
    answer = saereg("yank", *words)

    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {sentence}")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda root: (root / "index.json").unlink(), "release holds no index.json: only a release that was built"),
        (
            lambda root: (root / "README.md").rename(root / "readme.md"),
            "release/readme.md should be the file README.md",
        ),
        (
            lambda root: (root / "README.md").rename(root / "a") and (root / "README.md").symlink_to("a"),
            "release/README.md is a link; a mark is written into a file of the release itself",
        ),
        (lambda root: (root / "manifest.json").write_text("{"), "manifest.json: "),
    ],
)
def test_a_folder_that_is_no_built_release_is_left_alone(saereg, place, prepare, sentence):
    """A link, a card under another name, no index, no manifest that can be read."""
    prepare(place / "release")
    before = {path.name: path.read_bytes() for path in (place / "release").iterdir() if path.is_file()}

    answer = saereg("yank", "release", "--reason", "x")

    assert answer.code == 2
    assert sentence in answer.err
    assert {path.name: path.read_bytes() for path in (place / "release").iterdir() if path.is_file()} == before


@pytest.mark.slow
def test_a_branch_on_the_hub_is_marked_by_the_same_words(place):
    """Without torch, which is not there where releases are only looked after."""
    with local_hub(place / "hub", xet=False) as hub:
        api = HfApi(endpoint=hub.url, token="hf_write")
        api.create_repo("org/tiny")
        files = [CommitOperationAdd(name, (place / "release" / name).read_bytes()) for name in DOCUMENTS]
        api.create_commit("org/tiny", files, commit_message="1.0.0")
        code = (
            "import sys; sys.modules['torch'] = None; from saereg.cli import run\n"
            "words = ['hf://org/tiny', '--artifact', 'layer_1/topk']\n"
            "codes = [run(['yank', *words, '--reason', 'b_dec is 0']), run(['yank', *words, '--undo', '--dry-run'])]\n"
            "codes += [run(['yank', 'hf://org/tiny', '1.0.1', '--reason', 'x'])]\n"
            "codes += [run(['yank', 'hf://org/tiny', '--reason', 'x', '--successor', '1.0.1'])]\n"
            "codes += [run(['yank', 'hf://no/body', '--reason', 'x'])]\n"
            "from huggingface_hub import HfApi\n"
            "HfApi().upload_file(path_or_fileobj=b'{}', path_in_repo='model.sig', repo_id='org/tiny')\n"
            "words = ['yank', 'hf://org/tiny', '--reason', 'b is 0']\n"
            "codes += [run(words), run([*words, '--leave-stale'])]; print(codes, file=sys.stderr)"
        )
        own = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_write", "HF_HOME": str(place / "home")}
        child = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **own}, capture_output=True, text=True, check=True
        )
        last, _, head = [commit.commit_id for commit in api.list_repo_commits("org/tiny")][:3]

    mark = f"layer_1/topk of 1.0.0 is yanked ({DAY}): b_dec is 0"
    assert child.stdout == (
        f"{mark}\nchanged: manifest.json, index.json, README.md, in commit {head}\n"
        "layer_1/topk of 1.0.0 is no longer yanked\nwould change: manifest.json, index.json, README.md\n"
        f"1.0.0 is yanked ({DAY}): b is 0\nchanged: manifest.json, index.json, README.md, in commit {last}\n"
    )
    assert child.stderr.splitlines() == [
        "next: saereg show hf://org/tiny",
        "next: saereg yank hf://org/tiny --artifact layer_1/topk --undo",
        "error: version 1.0.1 was never published (there is no tag v1.0.1); did you mean 1.0.0?",
        "error: --successor 1.0.1 was never published (there is no tag v1.0.1): publish it first, or leave it out and "
        "add it later by the same command with it",
        "error: hf://no/body: there is no such repository or branch, or this token may not see it",
        "error: hf://org/tiny is signed, and its signature would no longer fit, so nothing was changed; with the "
        "release in FOLDER: saereg yank FOLDER 1.0.0 --reason 'b is 0' && saereg sign FOLDER --key FILE && saereg "
        "publish FOLDER hf://org/tiny; or --leave-stale, and readers who check the signature find that it does not fit",
        "model.sig no longer fits what was signed: saereg verify --public-key fails until it is signed again and "
        "published",
        "next: saereg show hf://org/tiny",
        "[0, 0, 2, 2, 4, 1, 0]",
    ]
    assert re.fullmatch("[0-9a-f]{40}", str(head))
