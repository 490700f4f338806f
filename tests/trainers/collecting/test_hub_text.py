"""A data set of the Hub is streamed at one commit by the `datasets` library itself, from a hub on this machine."""

import json
import os
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from saereg.errors import UsageError
from saereg.publishers.local_hub import local_hub
from saereg.trainers.collecting.hub_text import HubText

CHILD = """
import json, sys
from saereg.errors import SaeregError
from saereg.trainers.collecting.corpus import Corpus
from saereg.trainers.collecting.documents import Fields

def tell(*names, **fields):
    try:
        corpus = Corpus(names, Fields(**fields))
        texts = list(corpus.read())
        print(json.dumps([texts, corpus.ref().model_dump(mode="json")]))
    except SaeregError as problem:
        print(json.dumps(str(problem)))

tell("hf:org/prose")
tell("hf:org/prose@" + sys.argv[1] + "::held")
tell("hf:org/chat:sft:train", "hf:org/prose", columns=("messages", "text"), rendering="contents")
tell("hf:org/prose::nothing")
tell("hf:org/chat:sft:train")
tell("hf:org/absent")
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Put two data sets on a hub, change one of them, and return what a child process reads, and the commits."""
    root = tmp_path_factory.mktemp("hub")
    rows = [[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]]
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "messages": rows}), root / "a.parquet")
    card = b"---\nconfigs:\n- config_name: sft\n  data_files: sft/*.parquet\n---\n"
    held = json.dumps({"text": "held out"}).encode()

    def lines(*texts):
        return "".join(json.dumps({"text": text, "n": 1}) + "\n" for text in texts).encode()

    with local_hub(root / "hub") as server:
        api = HfApi(endpoint=server.url, token="hf_writer")

        def commit(name, **files):
            added = [CommitOperationAdd(path.replace("__", "/").replace("_", "."), raw) for path, raw in files.items()]
            return api.create_commit(name, added, commit_message="files", repo_type="dataset").oid

        for name in ("org/prose", "org/chat"):
            api.create_repo(name, repo_type="dataset")
        old = commit("org/prose", train_jsonl=lines("one", "two"), held_jsonl=held, README_md=SPLITS)
        new = commit("org/prose", train_jsonl=lines("one", "zwei", "three"))
        chat = commit("org/chat", README_md=card, sft__a_parquet=(root / "a.parquet").read_bytes())
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        settings = {"HF_ENDPOINT": server.url, "HF_HOME": str(root / "home"), "OMP_NUM_THREADS": "1"}
        run = subprocess.run(
            [sys.executable, "-c", CHILD, old], env=clean | settings, capture_output=True, text=True, check=False
        )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return [json.loads(line) for line in run.stdout.splitlines()], {"old": old, "new": new, "chat": chat}


SPLITS = b"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: train.jsonl
  - split: held
    path: held.jsonl
---
"""


def test_a_split_is_read_and_the_commit_is_written_down(answers):
    (first, second, *_), commits = answers
    texts, ref = first
    assert texts == ["one", "zwei", "three"]
    said = {name: ref[name] for name in ("id", "config", "split", "revision", "documents")}
    assert said == {"id": "org/prose", "config": None, "split": "train", "revision": commits["new"], "documents": 3}
    texts, ref = second
    assert texts == ["held out"]
    assert (ref["split"], ref["revision"]) == ("held", commits["old"])


def test_several_data_sets_are_named_with_their_commits(answers):
    texts, ref = answers[0][2]
    chat, prose = answers[1]["chat"], answers[1]["new"]
    assert texts == ["Why?\n\nSo.", "one", "zwei", "three"]
    assert ref["id"] == f"org/chat@{chat}:sft:train+org/prose@{prose}::train"
    assert (ref["columns"], ref["rendering"]) == (["messages", "text"], "contents")


def test_what_is_not_there_is_one_line(answers):
    split, column, absent = answers[0][3:]
    assert split.startswith(f"corpus hf:org/prose@{answers[1]['new']}::nothing: Bad split: nothing.")
    assert column.endswith(": no column `text`; it has id, messages: give --text-column")
    assert absent.startswith("hf://org/absent: ")
    assert all("\n" not in line for line in (split, column, absent))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hf:org/name", ("org/name", None, "train", None)),
        ("hf:org/name:sub", ("org/name", "sub", "train", None)),
        ("hf:org/name::test[:10%]", ("org/name", None, "test[:10%]", None)),
        ("hf:squad@v1:plain:validation", ("squad", "plain", "validation", "v1")),
    ],
)
def test_names_have_a_revision_a_configuration_and_a_split(name, parts):
    found = HubText.parse(name)
    assert (found.repo, found.config, found.split, found.revision) == parts


@pytest.mark.parametrize("name", ["hf:", "hf:a/b/c", "hf:org/name@", "hf://org/name"])
def test_another_form_is_refused(name):
    with pytest.raises(UsageError, match=r"write hf:org/name\[@revision\]\[:config\]\[:split\]$"):
        HubText.parse(name)
