"""Dictionaries of repositories on the Hub, of saereg or not: pinned, compared, and every failure a line."""

import json
import shutil

import pytest

from saereg.errors import DocumentError
from saereg.schemas.manifest import Manifest
from tests.reading_hub import REPO, SHA, Client, hub
from tests.releases import tiny_release

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release of saereg as it lies in a repository."""
    return tiny_release(tmp_path_factory.mktemp("repository"), checkpoints=False)


@pytest.fixture(scope="module")
def foreign(release, tmp_path_factory):
    """The same dictionaries in a repository without any document of saereg, as SAELens uploads them."""
    folder = tmp_path_factory.mktemp("foreign") / "repository"
    shutil.copytree(release, folder)
    for name in ("manifest.json", "index.json", "config.json"):
        (folder / name).unlink()
    return folder


@pytest.fixture
def client(tmp_path):
    """A client that has never seen the Hub."""
    return Client(tmp_path / "cache")


def test_a_reference_with_a_revision_needs_no_scheme(client, release):
    """`org/repo@revision:artifact` is loaded, compared with the index, and named by its commit."""
    with hub(release) as server:
        answer = client.saereg(server.url, "load", f"{REPO}@main:layer_1/topk")
        assert answer.returncode == 0, answer.stderr
        assert f"reference      {REPO}@{SHA}:layer_1/topk" in answer.stdout
        assert "compared with  index.json of its release" in answer.stdout
        assert f"saereg.load('{REPO}@{SHA}:layer_1/topk')" in answer.stderr


def test_a_repository_of_another_make_is_compared_with_what_the_hub_lists(client, foreign):
    """No manifest: the path is looked for in the repository; other bytes than the listed ones are refused."""
    with hub(foreign) as server:
        answer = client.saereg(server.url, "load", f"hf://{REPO}:layer_1/topk")
        assert answer.returncode == 0, answer.stderr
        assert f"reference      {REPO}@{SHA}:layer_1/topk" in answer.stdout
        assert "compared with  what the Hub lists at its commit" in answer.stdout
        absent = client.saereg(server.url, "load", f"hf://{REPO}:layer_1/tpk")
        assert (absent.returncode, absent.stdout) == (2, "")
        assert absent.stderr.startswith("error: unknown path in ")
        assert "did you mean 'layer_1/topk'?" in absent.stderr


def test_a_damaged_download_of_another_make_is_refused(client, foreign):
    """With one line that names the file."""
    with hub(foreign, altered="sae_weights") as server:
        answer = client.saereg(server.url, "load", f"hf://{REPO}:layer_1/topk")

    assert answer.returncode != 0
    assert answer.stdout == ""
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1


def test_the_manifest_keeps_lineage_and_other_names(release):
    """What an artifact was made from, and its id on Neuronpedia, are fields; a malformed id is refused."""
    document = json.loads((release / "manifest.json").read_text())
    document["artifacts"][0] |= {"neuronpedia_id": "gpt2-small/6-res-jb", "derived_from": ["hf://org/repo@v1:layer_6"]}
    claim = Manifest.from_text(json.dumps(document), "manifest.json").artifacts[0]

    assert claim.neuronpedia_id == "gpt2-small/6-res-jb"
    assert claim.derived_from == ("hf://org/repo@v1:layer_6",)
    document["artifacts"][0]["neuronpedia_id"] = "gpt2 small"
    with pytest.raises(DocumentError, match="neuronpedia_id"):
        Manifest.from_text(json.dumps(document), "manifest.json")


def test_a_manifest_of_another_make_does_not_stand_in_the_way(client, release, tmp_path):
    """Any program may call its list so; the path is looked for in the repository."""
    shutil.copytree(release, tmp_path / "repository")
    (tmp_path / "repository" / "index.json").unlink()
    (tmp_path / "repository" / "manifest.json").write_text('{"files": [{"id": "x", "layer": 1}]}')
    with hub(tmp_path / "repository") as server:
        answer = client.saereg(server.url, "load", f"{REPO}@main:layer_1/topk")
        assert answer.returncode == 0, answer.stderr
        assert "compared with  what the Hub lists at its commit" in answer.stdout
