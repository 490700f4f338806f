"""Releases on the Hub: documents first, weights only of the artifact asked for, and every failure is a line."""

import json
import time
from pathlib import Path

import pytest

from tests.hub import REPO, SHA, Client, hub
from tests.releases import tiny_release

DOCUMENTS = {
    "manifest.json",
    "index.json",
    "config.json",
    "layer_1/topk/cfg.json",
    "layer_1/jumprelu/cfg.json",
    "layer_1/transcoder/cfg.json",
    "W_U/cross-snapshot-2/cfg.json",
}


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """A release as it lies in a repository."""
    return tiny_release(tmp_path_factory.mktemp("repository"), checkpoints=False)


@pytest.fixture
def client(tmp_path) -> Client:
    """A client that has never seen the Hub."""
    return Client(tmp_path / "cache")


def test_querying_fetches_documents_and_no_weights(client, release):
    """Seven files, all of them JSON, at the commit that the branch points to."""
    code = (
        f"import saereg; r = saereg.open('hf://{REPO}'); a = r.find(kind='sae', l0__lt=3).best('ev');"
        "import sys; print(a.id, r.path.name, a.cfg.k, 'torch' in sys.modules)"
    )
    with hub(release) as server:
        answer = client.python(server.url, code)
        assert (answer.stdout, answer.stderr) == (f"layer_1/topk {SHA} 3 False\n", "")
        assert server.fetched() == DOCUMENTS


def test_loading_fetches_the_weights_of_one_artifact(client, release):
    """Its folder and no other; and it computes what the local release computes."""
    code = (
        "import saereg, torch; x = torch.arange(8.0).reshape(2, 4);"
        f"print(torch.equal(saereg.load('hf://{REPO}:layer_1/topk')(x), saereg.load('{release}:layer_1/topk')(x)))"
    )
    with hub(release) as server:
        answer = client.python(server.url, code)
        assert (answer.stdout, answer.stderr) == ("True\n", "")
        assert server.fetched() == DOCUMENTS | {
            "layer_1/topk/sae_weights.safetensors",
            "layer_1/topk/golden.safetensors",
        }


def test_what_was_fetched_is_not_fetched_again(client, release):
    """And without a network, the cache is enough for what is in it."""
    load = f"import saereg; saereg.load('hf://{REPO}:layer_1/topk')"
    with hub(release) as server:
        assert client.python(server.url, load).returncode == 0
        server.requests.clear()
        assert client.python(server.url, load).returncode == 0
        assert server.fetched() == set()
        server.requests.clear()
        assert client.python(server.url, load, HF_HUB_OFFLINE="1").returncode == 0
        assert client.saereg(server.url, "ls", f"hf://{REPO}", HF_HUB_OFFLINE="1").returncode == 0
        missing = client.saereg(server.url, "ls", "hf://tiny/other", HF_HUB_OFFLINE="1")
        assert server.requests == []
    assert missing.returncode == 4
    reason = "not (or only in part) in the local cache, and HF_HUB_OFFLINE is set"
    assert missing.stderr == f"error: hf://tiny/other: {reason}\n"


def test_a_pinned_commit_is_read_at_that_commit(client, release):
    """`hf://org/repo@sha`; the branch is never asked for."""
    with hub(release) as server:
        answer = client.saereg(server.url, "show", f"hf://{REPO}@{SHA}:layer_1/topk")
        assert answer.returncode == 0
        code = f"import saereg; print(saereg.load('hf://{REPO}@{SHA}:layer_1/topk'))"
        assert answer.stderr == f'next: python -c "{code}"\n'
        assert not [path for _, path in server.requests if path.endswith("/main")]


def test_weights_that_are_not_those_of_the_index_are_refused(client, release, tmp_path):
    """The Hub's own digest says nothing about what the author published."""
    import shutil

    altered = tmp_path / "altered"
    shutil.copytree(release, altered)
    path = altered / "layer_1/topk/sae_weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with hub(altered) as server:
        answer = client.python(server.url, f"import saereg; saereg.load('hf://{REPO}:layer_1/topk')")
    last = answer.stderr.strip().splitlines()[-1]
    assert last.startswith("saereg.errors.WeightsError: ")
    assert last.endswith("its sha256 is not the one in index.json: altered, or not built again")


FAILURES = [
    ("hf://tiny/releas", "no such repository, or no access to it; check the name, or set HF_TOKEN"),
    (f"hf://{REPO}@v9", "no such revision"),
]


@pytest.mark.parametrize(("target", "reason"), FAILURES)
def test_what_is_not_there_is_one_line(client, release, target, reason):
    """Exit 4."""
    with hub(release) as server:
        answer = client.saereg(server.url, "ls", target)
    assert (answer.returncode, answer.stdout, answer.stderr) == (4, "", f"error: {target}: {reason}\n")


def test_a_name_that_no_repository_can_have_is_a_usage_error(client):
    """Exit 2, and nothing is asked."""
    answer = client.saereg("http://127.0.0.1:9", "ls", "hf://tiny/--x")
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: hf://tiny/--x is no reference: ")
    assert answer.stderr.count("\n") == 1


def test_a_repository_without_a_manifest_is_no_release(client, tmp_path):
    """Exit 5, like an empty folder."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text(json.dumps({}))
    with hub(tmp_path / "other") as server:
        answer = client.saereg(server.url, "ls", f"hf://{REPO}")
    assert answer.returncode == 5
    assert answer.stderr.endswith("holds no manifest.json, so it is no release\n")


def test_a_hub_that_is_down_is_one_line(client, release):
    """Exit 4, at once."""
    answer = client.saereg("http://127.0.0.1:9", "ls", f"hf://{REPO}")
    assert (answer.returncode, answer.stdout) == (4, "")
    assert answer.stderr == f"error: hf://{REPO}: the Hub cannot be reached\n"


@pytest.mark.parametrize("silent_on", ["/api/", "/tree/", "/manifest.json"])
def test_a_hub_that_never_answers_is_given_up(client, release, silent_on):
    """After two attempts, whichever request it is: one that opens a repository, lists it, or fetches a file."""
    started = time.monotonic()
    with hub(release, silent_on) as server:
        answer = client.saereg(server.url, "ls", f"hf://{REPO}", HF_HUB_DOWNLOAD_TIMEOUT="1", HF_HUB_ETAG_TIMEOUT="1")
    assert (answer.returncode, answer.stdout) == (4, "")
    assert answer.stderr == f"error: hf://{REPO}: the Hub does not answer\n"
    assert time.monotonic() - started < 20
