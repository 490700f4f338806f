"""Batches hold every row once per pass, in an order that the seed decides."""

import pytest
import torch

from saereg.errors import UnknownNameError, UsageError
from saereg.schemas.collection import Collection
from saereg.trainers.rows.activations import Activations, read_collection
from saereg.trainers.rows.batches import batches


@pytest.fixture
def activations(collection) -> Activations:
    return Activations(collection, read_collection(collection), "residual-1")


def passes(activations, rows, size, seed, buffer_bytes, number):
    found = batches({"x": activations}, rows, size, seed, buffer_bytes=buffer_bytes)
    return torch.cat([next(found)["x"] for _ in range(number)])


def in_order(rows: torch.Tensor) -> list[tuple[float, ...]]:
    return sorted(map(tuple, rows.tolist()))


@pytest.mark.parametrize("buffer_bytes", [2**30, 70_000, 1])
@pytest.mark.parametrize("size", [100, 850, 1700])
def test_each_pass_holds_every_row_once(activations, buffer_bytes, size):
    found = passes(activations, 1700, size, 0, buffer_bytes, 2 * 1700 // size)
    expected = in_order(activations.read(0, 1700))
    assert in_order(found[:1700]) == expected
    assert in_order(found[1700:]) == expected
    assert not torch.equal(found[:1700], found[1700:])


def test_a_batch_may_span_passes_and_be_larger_than_one(activations):
    found = passes(activations, 130, 300, 0, 2**30, 2)
    counts = torch.unique(found, dim=0, return_counts=True)[1]
    assert found.shape == (600, 16)
    assert int(counts.min()) >= 4


def test_the_seed_decides_the_order(activations):
    first = passes(activations, 1000, 100, 0, 2**30, 3)
    assert torch.equal(first, passes(activations, 1000, 100, 0, 2**30, 3))
    assert not torch.equal(first, passes(activations, 1000, 100, 1, 2**30, 3))


def test_rows_are_read_across_shards(activations):
    everything = activations.read(0, 2000)
    assert torch.equal(activations.read(250, 950), everything[250:950])


def test_an_unknown_site_is_named(collection):
    with pytest.raises(UnknownNameError) as caught:
        Activations(collection, read_collection(collection), "residual-2")
    assert str(caught.value) == f"unknown site in {collection} 'residual-2'; did you mean 'residual-1'?"


def test_a_missing_collection_says_how_to_make_one(tmp_path):
    with pytest.raises(UsageError) as caught:
        read_collection(tmp_path)
    assert str(caught.value) == f"{tmp_path} holds no collection.json; make it with `saereg train collect`"


def test_an_unfinished_collection_says_how_to_finish_it(collection, tmp_path):
    from saereg.schemas.collection import Cursor

    document = Collection.read(collection / "collection.json")
    unfinished = document.model_copy(update={"rows": 900, "cursor": Cursor()})
    (tmp_path / "collection.json").write_text(unfinished.text())
    with pytest.raises(UsageError) as caught:
        read_collection(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is not finished: 900 of 2000 rows; run `saereg train collect` again with the same options"
    )


def test_a_missing_shard_is_named(collection, tmp_path):
    (tmp_path / "collection.json").write_text((collection / "collection.json").read_text())
    with pytest.raises(UsageError, match=r"residual-1/shard-00000\.safetensors is missing"):
        Activations(tmp_path, read_collection(tmp_path), "residual-1")


@pytest.mark.parametrize("buffer_bytes", [2**30, 70_000, 1])
def test_what_comes_behind_some_batches_does_not_depend_on_reading_them(activations, buffer_bytes):
    found = batches({"x": activations}, 1700, 300, 0, buffer_bytes=buffer_bytes)
    everything = [next(found)["x"] for _ in range(14)]
    for skip in (1, 5, 6, 13):
        rest = batches({"x": activations}, 1700, 300, 0, skip=skip, buffer_bytes=buffer_bytes)
        assert torch.equal(next(rest)["x"], everything[skip])


def test_places_give_the_same_rows(activations):
    found = next(batches({"a": activations, "b": activations}, 1700, 300, 0, buffer_bytes=70_000))
    assert torch.equal(found["a"], found["b"])
