"""Rows that no run should be given: one line each, which says where."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.errors import UsageError
from saereg.trainers.saelens.train import train
from tests.trainers.conftest import INFO


@pytest.fixture
def own(collection, tmp_path):
    """A copy of the collection that a test may damage."""
    return shutil.copytree(collection, tmp_path / "acts")


def shard(folder, number):
    return folder / f"residual-1/shard-{number:05d}.safetensors"


def message(config, root):
    with pytest.raises(UsageError) as caught:
        train(config, root / "release", root / "checkpoints", info=INFO)
    return str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_named(value, own, training, tmp_path):
    """In a shard that was damaged, or made elsewhere: collecting itself refuses it."""
    rows = load_file(shard(own, 2))["x"]
    rows[17, 3] = value
    save_file({"x": rows}, shard(own, 2))
    assert message(training("topk", collection=str(own)), tmp_path) == (
        f"{shard(own, 2)}, row 17 (row 617 of site residual-1) holds a value that is not finite; "
        "collect again in a new folder"
    )


def test_a_shard_of_another_width_is_named(own, training, tmp_path):
    """Before anything is written."""
    save_file({"x": torch.zeros(300, 17)}, shard(own, 1))
    assert message(training("topk", collection=str(own)), tmp_path) == (
        f"{shard(own, 1)}: expected a tensor 'x' of shape (300, 16), found shape (300, 17); "
        "collect again in a new folder"
    )
    assert not (tmp_path / "release").exists()


def test_a_shard_that_was_cut_off_is_named_with_its_folder(own, training, tmp_path):
    path = shard(own, 1)
    path.write_bytes(path.read_bytes()[:-16])
    line = message(training("topk", collection=str(own)), tmp_path)
    assert line.startswith(f"{path}: ")
    assert line.endswith("truncated; run `saereg train collect` again in a new folder")


def test_too_few_rows_for_a_batch_are_told_of(training, tmp_path):
    """One step would not be possible."""
    line = message(training("topk", optimization={"batch_size": 1701, "tokens": 10_000}), tmp_path)
    assert "batch_size is 1701, but" in line
    assert "has only 1700 rows to train on; collect more, or take smaller batches" in line


def test_a_collection_that_changed_since_the_run_was_stopped_is_told_of(own, training, tmp_path):
    """Its rows may be others: what is there is no half of this run."""
    config = training("topk", collection=str(own), optimization={"checkpoint_every": 5})

    def fail(seen):
        if seen.tokens == 320:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        train(config, tmp_path / "release", tmp_path / "checkpoints", fail, info=INFO)
    path = own / "collection.json"
    document = json.loads(path.read_text())
    document["sites"]["residual-1"]["shards"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(document))
    line = message(config, tmp_path)
    state = tmp_path / "checkpoints/residual-1/topk/state"
    assert line.startswith(f"{state / 'step-000000010'} is of another run: the digest of collection.json is ")
    assert line.endswith(f"remove {state} to begin anew, or give another id")


@pytest.mark.parametrize("architecture", ["standard", "topk", "batchtopk", "jumprelu", "gated", "matryoshka_batchtopk"])
def test_no_step_draws_from_the_generator_that_all_share(architecture, training, tmp_path):
    """Its state is in no checkpoint, and members trained together would disturb each other."""
    before = torch.get_rng_state()
    train(training(architecture), tmp_path / "release", tmp_path / "checkpoints", info=INFO)
    assert torch.equal(torch.get_rng_state(), before)
