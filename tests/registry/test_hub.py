"""Releases on the Hub: documents first, weights only of the artifact asked for, and every failure is a line."""

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.cases.tools import edit
from tests.reading_hub import REPO, SHA, Client, hub
from tests.releases import tiny_release

pytestmark = pytest.mark.slow

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


def test_claims_are_compared_with_what_is_on_the_hub(client, release):
    """The weights of the artifact and the rows of its evaluation are fetched, and nothing else."""
    with hub(release) as server:
        answer = client.saereg(server.url, "metrics", "compare", f"hf://{REPO}", "--where", "kind = crosscoder")
        assert (answer.returncode, answer.stderr) == (0, f"next: saereg show hf://{REPO}\n")
        assert "W_U/cross-snapshot-2  explained_variance   -11.09  -11.0879  verified" in answer.stdout
        fetched = {path for path in server.fetched() - DOCUMENTS if path.endswith(".safetensors")}
        assert {path.split("/")[0] for path in fetched} == {"W_U", "evaluation"}
        assert "evaluation/layer-1.safetensors" not in fetched


def test_recomputing_fetches_one_artifact_and_its_rows(client, release):
    """Nothing of the others; the numbers are those of the folder."""
    words = ("metrics", "recompute", "--format", "json")
    with hub(release) as server:
        answer = client.saereg(server.url, *words, f"hf://{REPO}:layer_1/topk")
        assert (answer.returncode, answer.stderr) == (0, "")
        fetched = server.fetched()
    folder = client.saereg(server.url, *words, f"{release}:layer_1/topk")
    found, expected = ([record["measurements"] for record in json.loads(a.stdout)] for a in (answer, folder))
    assert found == expected
    weights = {"layer_1/topk/sae_weights.safetensors", "layer_1/topk/golden.safetensors"}
    assert fetched == DOCUMENTS | weights | {"evaluation/layer-1.safetensors"}


def test_of_a_model_only_configuration_and_weights_are_fetched(client, tmp_path):
    """No code, and no weights twice in another form; afterwards the cache has it by its commit."""
    repository = tmp_path / "model"
    repository.mkdir()
    names = ("config.json", "model.safetensors", "consolidated.safetensors", "pytorch_model.bin", "own.py")
    for name in names:
        (repository / name).write_text(name)
    code = (
        "from saereg.registry import hub;"
        f"found = [hub.cached_model('{REPO}', '{SHA}'), hub.fetch_model('{REPO}', None).name,"
        f" hub.cached_model('{REPO}', '{SHA}').name, hub.cached_model('../x', None)]; print(*found)"
    )
    with hub(repository) as server:
        answer = client.python(server.url, code)
        assert (answer.stdout, answer.stderr) == (f"None {SHA} {SHA} None\n", "")
        assert server.fetched() == {"config.json", "model.safetensors"}
    (repository / "model.safetensors").unlink()
    with hub(repository) as server:
        fresh = Client(tmp_path / "other")
        answer = fresh.python(server.url, f"from saereg.registry import hub; hub.fetch_model('{REPO}', '{SHA}')")
        assert answer.stderr == ""
        assert server.fetched() == {"config.json", "pytorch_model.bin"}


NOBODY = "http://127.0.0.1:9"
"""Where no server listens."""


def test_a_hub_that_cannot_be_reached_is_soon_given_up(client):
    """The client takes a new session after each refused connection; its limits are those of the old one."""
    code = (
        "import time; waits = []; time.sleep = waits.append\n"
        "from saereg.registry.models.folders import folder_of\n"
        "for _ in range(2):\n"
        f"    try: folder_of('{REPO}', 'hf://{REPO}', '{SHA}')\n"
        "    except Exception as problem: print(problem, waits)\n"
    )

    answer = client.python(NOBODY, code)

    assert answer.stderr == ""
    assert answer.stdout == 2 * f"hf://{REPO}@{SHA}: the Hub does not answer [1, 2]\n"


def test_a_model_that_the_hub_does_not_give_is_as_one_that_is_not_here(client, release, tmp_path):
    """A claim that needs it is not verifiable, and nothing else fails."""
    shutil.copytree(release, tmp_path / "release")
    values = {"source": "parameters", "tensor": "embed_out.weight", "steps": [0, 1000], "rows": 12, "site": "W_U"}
    edit(tmp_path / "release/manifest.json", lambda m: m["evaluations"].update(vocabulary=values))

    answer = client.saereg(NOBODY, "metrics", "compare", str(tmp_path / "release"), "--model", "tiny=hf://no/thing")

    assert (answer.returncode, answer.stderr.splitlines()[1:]) == (0, [])
    assert "1 verified, 1 not verifiable" in answer.stdout
    assert "not verifiable: hf://no/thing@step0: " in answer.stdout
