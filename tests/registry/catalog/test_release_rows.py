"""A release of ours as rows: what is stated, measured and assumed stands apart, and nothing is invented."""

import hashlib
import json
from pathlib import Path

import pytest

from saereg.registry.catalog.readers.release import folder_pin, read_folder
from saereg.registry.catalog.rows import Edge, Source
from saereg.schemas.index import Index
from tests.registry.catalog.books import variant
from tests.releases import CROSSCODER_EV, tiny_release


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """A built release with a source checkpoint; read only."""
    return tiny_release(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def rows(release):
    """Its rows."""
    return read_folder(Source("folder", str(release)))


def test_a_release_is_pinned_to_the_digest_of_its_documents(release, rows):
    """Whatever they say; the rows lead to the folder, and to no repository."""
    both = (release / "manifest.json").read_bytes() + b"\0" + (release / "index.json").read_bytes()
    (of,) = rows.releases
    assert rows.pin == hashlib.sha256(both).hexdigest() == folder_pin(rows.source)
    assert (of.name, of.version, of.standing, of.level) == ("tiny-saes", "1.0.0", "verified", "header")
    assert (of.folder, of.repo, of.revision, of.loader) == (str(release), None, None, None)


def test_claims_are_stated_and_evidence_is_measured(release, rows):
    """Each claim once, with the verdict of the weights; each measured number as the index has it."""
    index = {entry.id: entry for entry in Index.read(release / "index.json").artifacts}
    for entry in rows.releases[0].entries:
        measured = [m for m in entry.metrics if m.basis == "measured"]
        found = [(m.metric, m.value, m.evaluation) for m in measured]
        assert found == [(m.metric, m.value, m.evaluation) for m in index[entry.id].metrics if m.value is not None]
        assert all(m.kind is None and m.verdict is None for m in measured)
    crosscoder = next(entry for entry in rows.releases[0].entries if entry.kind == "crosscoder")
    (stated,) = [m for m in crosscoder.metrics if m.basis == "stated"]
    assert (stated.metric, stated.value, stated.evaluation) == ("explained_variance", CROSSCODER_EV, "vocabulary")
    assert stated.verdict is not None


def test_what_is_not_said_is_none(rows):
    """No default takes its place: neither zeros, nor empty texts."""
    entries = {entry.id: entry for entry in rows.releases[0].entries}
    topk, crosscoder = entries["layer_1/topk"], entries["W_U/cross-snapshot-2"]
    assert (topk.k, topk.steps, topk.n_sources, topk.tokens, topk.neuronpedia_id) == (3.0, (), None, None, None)
    assert (crosscoder.k, crosscoder.layer, crosscoder.steps) == (None, None, (0, 1000))
    assert topk.canonical is not True
    assert topk.withdrawn is None


def test_weights_have_one_digest_and_sources_are_edges(release, rows):
    entry = next(entry for entry in rows.releases[0].entries if entry.id == "layer_1/topk")
    weights = release / "layer_1/topk/sae_weights.safetensors"
    assert entry.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert entry.size >= weights.stat().st_size
    claim = json.loads((release / "manifest.json").read_text())["artifacts"][0]["source_checkpoint"]
    assert rows.releases[0].edges == (Edge("source_checkpoint", claim["path"], "layer_1/topk", claim["sha256"]),)


def test_a_release_that_was_never_built_is_unverified(release, tmp_path):
    """It has its claims, and nothing that only an index knows; sister releases are edges."""
    sister = "hf://org/sister"
    folder = variant(release, tmp_path / "unbuilt", sister_releases=[sister])
    (of,) = read_folder(Source("folder", str(folder))).releases
    assert of.standing == "unverified"
    assert Edge("sister", sister) in of.edges
    assert {m.basis for entry in of.entries for m in entry.metrics} == {"stated"}
    assert {(entry.weights_sha256, entry.size, entry.dtype) for entry in of.entries} == {(None, None, None)}
