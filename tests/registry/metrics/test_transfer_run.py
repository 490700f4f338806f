"""Dictionaries and corpora as they are named, and measured by others than this process."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file

from saereg.errors import UsageError
from saereg.registry.recompute.chosen import Setting
from saereg.registry.transfer.corpora import corpus_of
from saereg.registry.transfer.entrants import entrants_of
from saereg.registry.transfer.run import measured
from saereg.registry.work.here import Here
from saereg.registry.work.workers import Workers, run_packed
from tests.releases import D_IN, tiny_release


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release, read only."""
    return tiny_release(tmp_path_factory.mktemp("transfer"))


def test_tasks_that_travel_give_the_same_measurements(release, tmp_path):
    """Three chunks of rows, each packed with its dictionary as for another machine, and merged in their order."""
    torch.set_num_threads(1)
    save_file({"x": torch.randn(16_384 * 2 + 5, D_IN)}, tmp_path / "many.safetensors")
    entrants = (
        *entrants_of(f"{release}:layer_1/topk", Setting()),
        *entrants_of(f"X={release}/layer_1/jumprelu", Setting()),
    )
    corpora = (corpus_of(f"many={tmp_path}/many.safetensors", (D_IN,), Setting()),)
    seen: list[tuple[str, int, int]] = []
    here = measured(entrants, corpora, Workers("here", Here()))

    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as executor:
        workers = Workers("packed", executor, 4, (), run_packed)
        there = measured(entrants, corpora, workers, progress=lambda *at: seen.append(at))

    assert list(here) == [("layer_1/topk", "many"), ("X", "many")]
    assert there == here
    assert [m.rows for m in there["X", "many"]] == [32_773] * len(there["X", "many"])
    assert seen[0] == ("layer_1/topk on many", 16_384, 65_546)
    assert seen[-1][1:] == (65_546, 65_546)


def test_an_artifact_that_was_altered_is_not_measured(tmp_path):
    """Its digest is the one in the index, or it is another dictionary."""
    folder = tiny_release(tmp_path)
    weights = folder / "layer_1/topk/sae_weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(Exception, match=r"its sha256 is not the one in index\.json"):
        entrants_of(f"{folder}:layer_1/topk", Setting())[0].facts()


WORDS = {
    "{}:layer_1/topk": ["layer_1/topk"],
    "T={}:layer_1/topk": ["T"],
    "{}/layer_1/topk": ["layer_1/topk"],
    "{}/layer_1/topk/sae_weights.safetensors": ["sae_weights"],
}


@pytest.mark.parametrize("word", WORDS)
def test_a_dictionary_is_named_by_a_label_or_by_itself(release, word):
    """A file of a release is a file like any other."""
    assert [entrant.name for entrant in entrants_of(word.format(release), Setting())] == WORDS[word]


def test_an_equals_sign_in_a_path_is_no_label(release, tmp_path):
    """Sweeps name folders so."""
    folder = tmp_path / "lr=0.1"
    folder.symlink_to(release / "layer_1/topk")
    assert entrants_of(str(folder), Setting())[0].name == "lr=0.1"
    with pytest.raises(UsageError, match=r"runs/lr=0.3: no such file or folder"):
        entrants_of("runs/lr=0.3", Setting())
