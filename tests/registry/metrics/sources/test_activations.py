"""Rows in files: the same however they are cut into shards and reads, and refused in one line where they do not fit."""

import hashlib
import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from saereg.errors import SaeregError, UsageError, WeightsError
from saereg.registry.files.digest import sha256_of
from saereg.registry.metrics.sources.activations import StoredRows
from saereg.registry.metrics.sources.contexts import ContextFile
from saereg.registry.metrics.sources.spec import rows_of_spec
from saereg.schemas.collection import CollectedSite, Collection
from saereg.schemas.evaluation import ActivationRows
from saereg.trainers.collecting.shards import COLLECTION_FILE, ShardBuffer

WIDTH = 3


def x_of(rows: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, *(shape or (WIDTH,)), generator=torch.Generator().manual_seed(seed))


def record(rows: int, **more) -> ActivationRows:
    return ActivationRows.model_validate({"source": "activations", "path": "rows", "rows": rows} | more)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """A folder of 57 rows in twelve shards; in the order of letters 10 would come before 2."""
    folder = tmp_path_factory.mktemp("shards")
    cuts = [0, 1, 4, 9, 10, 17, 20, 22, 30, 41, 48, 56, 57]
    for number, (first, last) in enumerate(pairwise(cuts), start=1):
        part = {"x": x_of(57)[first:last].clone(), "y": x_of(57, 2, seed=1)[first:last].clone()}
        save_file(part, folder / f"part-{number}.safetensors")
    return folder


@given(st.integers(0, 57), st.integers(0, 57))
def test_rows_are_the_same_however_they_are_cut(shards, first, last):
    """Reads may begin and end in any shard."""
    first, last = sorted((first, last))

    x, target = StoredRows(shards, record(57, target="y")).read(first, last - first)

    assert torch.equal(x, x_of(57)[first:last])
    assert torch.equal(target, x_of(57, 2, seed=1)[first:last])


def test_the_digest_of_a_folder_is_that_of_the_list_of_its_files(shards, tmp_path):
    """As `sha256sum` prints it, in the order of reading; any byte and any name matter."""
    names = [f"part-{number}.safetensors" for number in range(1, 13)]
    listed = "".join(f"{sha256_of(shards / name)}  {name}\n" for name in names)

    assert StoredRows(shards, record(57)).digest() == hashlib.sha256(listed.encode()).hexdigest()

    for name in names:
        (tmp_path / name).write_bytes((shards / name).read_bytes())
    assert StoredRows(tmp_path, record(57)).digest() == StoredRows(shards, record(57)).digest()
    raw = bytearray((tmp_path / names[3]).read_bytes())
    raw[-1] ^= 1
    (tmp_path / names[3]).write_bytes(raw)
    assert StoredRows(tmp_path, record(57)).digest() != StoredRows(shards, record(57)).digest()


def test_digests_that_are_known_are_not_computed_again(shards):
    """As `saereg build` knows those of all files of a release."""
    known = {path.name: sha256_of(path) for path in shards.iterdir()}

    assert StoredRows(shards, record(57), known=known).digest() == StoredRows(shards, record(57)).digest()
    assert StoredRows(shards, record(57), known=known | {"part-1.safetensors": "0" * 64}).digest() != (
        StoredRows(shards, record(57)).digest()
    )


def _saved(folder: Path, name: str) -> str:
    """Write ten rows as a kind of file and return what names them."""
    x, path = x_of(10), folder / name.partition("#")[0]
    if path.suffix == ".npz":
        save = np.savez_compressed if "packed" in name else np.savez
        save(path, acts=x.numpy(), tokens=np.arange(10))
    elif path.suffix == ".npy":
        np.save(path, np.asfortranarray(x.numpy()) if "columns" in name else x.numpy())
    elif path.suffix == ".pt":
        torch.save(x if "bare" in name else {"x": x, "other": x + 1}, path)
    elif path.suffix == ".safetensors":
        save_file({"a": x, "b": x + 1, "tokens": torch.arange(10)}, path)
    else:
        path.mkdir()
        np.save(path / "2.npy", x[:7].numpy())
        np.save(path / "10.npy", x[7:].numpy())
    return str(folder / name)


@pytest.mark.parametrize(
    "name",
    [
        "x.npy", "columns.npy", "rows.npz", "packed.npz", "dict.pt", "bare.pt", "two.safetensors#a", "folder",
        "with#mark.npy",
    ],
)  # fmt: skip
def test_a_word_names_rows_in_files_of_any_kind(tmp_path, name):
    """Of several tensors `x`, or the only one that can be rows, or the one that is named."""
    if name.startswith("with#"):
        np.save(tmp_path / name, x_of(10).numpy())
        word = str(tmp_path / name)
    else:
        word = _saved(tmp_path, name)
    rows = rows_of_spec(word, (WIDTH,))

    assert rows.rows == 10
    assert torch.equal(rows.read(2, 8)[0], x_of(10)[2:])
    if not Path(word).is_dir():
        assert rows.digest() == sha256_of(word.removesuffix("#a"))


def test_a_word_names_inputs_and_targets(tmp_path):
    """For a transcoder."""
    save_file({"a": x_of(4), "b": x_of(4, 2)}, tmp_path / "x.safetensors")

    rows = rows_of_spec(f"{tmp_path}/x.safetensors#a,b", (WIDTH,))

    assert rows.has_target
    assert [tuple(tensor.shape) for tensor in rows.read(1, 2)] == [(2, 3), (2, 2)]


def test_a_word_names_a_record_whose_path_is_beside_it(tmp_path):
    """The record says which tensor, and what was left out."""
    save_file({"acts": x_of(5)}, tmp_path / "x.safetensors")
    value = {"source": "activations", "path": "x.safetensors", "tensor": "acts", "rows": 5, "excluded": ["bos"]}
    (tmp_path / "data.json").write_text(json.dumps(value))

    rows = rows_of_spec(str(tmp_path / "data.json"), (WIDTH,))

    assert (rows.rows, rows.excluded) == (5, ("bos",))
    assert torch.equal(rows.read(0, 5)[0], x_of(5))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((4, 3), (3,)), ((2, 3), (6,)), ((2, 3), (2, 3)), ((3,), (3,))],
    ids=["positions", "heads", "sources", "plain"],
)
def test_rows_of_sequences_heads_and_sources_are_read_as_they_are(tmp_path, shape, wanted):
    """(rows, positions, d_in) for a temporal dictionary, (rows, heads, width) for `hook_z`."""
    np.save(tmp_path / "x.npy", x_of(5, *shape).numpy())

    assert torch.equal(rows_of_spec(f"{tmp_path}/x.npy", wanted).read(1, 3)[0], x_of(5, *shape)[1:4])


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> Path:
    """A finished collection of two sites, written by what writes those of `saereg train collect`."""
    folder = tmp_path_factory.mktemp("collected")
    buffer = ShardBuffer(folder, {"early": 3, "late": 2}, "float16", 4, 0)
    shards: dict[str, list] = {"early": [], "late": []}
    for first in range(0, 10, 4):
        count = min(4, 10 - first)
        part = slice(first, first + count)
        buffer.add({"early": x_of(10)[part], "late": x_of(10, 2, seed=1)[part]})
        for key, shard in buffer.flush().items():
            shards[key].append(shard)
    site = {"model": "base", "layer": 1, "module": "model.layers.1"}
    collection = Collection.made(
        folder,
        model={"id": "tiny"},
        dataset={"id": "text"},
        tokens={"bos": True, "excluded": ("pad",)},
        batch_contexts=1,
        shard_rows=4,
        sites={
            key: CollectedSite(site=site, d_in=w, shards=tuple(shards[key])) for key, w in (("early", 3), ("late", 2))
        },
        dtype="float16",
        rows=10,
        target_rows=10,
    )
    (folder / COLLECTION_FILE).write_text(collection.text())
    return folder


def test_a_collection_is_read_site_by_site_in_its_order(collected):
    """Its policy on tokens comes along."""
    rows = rows_of_spec(f"{collected}#late", (2,))

    assert (rows.rows, rows.excluded) == (10, ("pad",))
    assert torch.equal(rows.read(3, 6)[0], x_of(10, 2, seed=1)[3:9].half())
    shards = [f"late/shard-0000{number}.safetensors" for number in range(3)]
    listed = "".join(f"{sha256_of(collected / path)}  {path}\n" for path in shards)
    assert rows.digest() == hashlib.sha256(listed.encode()).hexdigest()


REFUSED = {
    "other width": ("x.npy", (4,), "x.npy: x: has width 3, the dictionary reads d_in = 4"),
    "no sources": ("x.npy", (2, 3), "x.npy: x: has rows of shape (3,), the dictionary reads (sources, d_in) = (2, 3)"),
    "integers": ("i.npy", (3,), "i.npy: x: is of type int64; rows are one of float64, float32, float16, bfloat16"),
    "integers by name": (
        "i.npy#x", (3,), "i.npy: x: is of type int64; rows are one of float64, float32, float16, bfloat16",
    ),
    "one axis": ("v.npy#x", (3,), "v.npy: x: has shape (3,); rows are at least (rows, d_in)"),
    "no rows": ("e.npy", (3,), "e.npy: x: holds no rows"),
    "several": ("two.safetensors", (3,), "two.safetensors: holds a float32 (4, 3), b float32 (4, 3); say which"),
    "no such tensor": ("two.safetensors#c", (3,), "two.safetensors: c: missing; the file holds a, b"),
    "no such target": ("two.safetensors#a,c", (3,), "two.safetensors: c: missing; the file holds a, b"),
    "empty folder": ("none", (3,), "none: holds no file of rows (.safetensors, .npy, .npz, .pt, .pth, .bin)"),
    "data set": ("arrow", (3,), "arrow: holds an Arrow data set; save its column of activations as .npy first"),
    "shards of two widths": (
        "mixed", (3,), "mixed/2.npy: holds float32 rows (4,), 1.npy float32 rows (3,)",
    ),
    "shards of two types": ("types", (3,), "types/2.npy: holds float64 rows (3,), 1.npy float32 rows (3,)"),
    "no tensors": ("text.pt", (3,), "text.pt: its header claims "),
}  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """Files that are no rows, or not those wanted."""
    folder = tmp_path_factory.mktemp("odd")
    arrays = {
        "x": x_of(4).numpy(), "i": np.ones((4, 3), np.int64), "v": np.ones(3, np.float32),
        "e": np.ones((0, 3), np.float32), "mixed/1": x_of(4).numpy(), "mixed/2": x_of(4, 4).numpy(),
        "types/1": x_of(4).numpy(), "types/2": x_of(4).double().numpy(),
    }  # fmt: skip
    for name, array in arrays.items():
        (folder / name).parent.mkdir(exist_ok=True)
        np.save(folder / f"{name}.npy", array)
    save_file({"a": x_of(4), "b": x_of(4, seed=1)}, folder / "two.safetensors")
    (folder / "none").mkdir()
    (folder / "arrow").mkdir()
    (folder / "arrow/data-00000-of-00001.arrow").touch()
    (folder / "text.pt").write_text("hello world")
    return folder


@pytest.mark.parametrize("name", REFUSED)
def test_what_are_no_rows_for_a_dictionary_is_refused_in_one_line(odd, name):
    """With what is there."""
    word, shape, message = REFUSED[name]

    with pytest.raises(WeightsError) as caught:
        rows_of_spec(f"{odd}/{word}", shape)

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    """A release of a stranger may hold one."""
    os.mkfifo(tmp_path / "rows.safetensors")
    rows = StoredRows(tmp_path / "rows.safetensors", record(4))
    for what in (rows.check, rows.digest, lambda: ContextFile(tmp_path / "rows.safetensors").rows):
        with pytest.raises(WeightsError, match=r"rows.safetensors: is no ordinary file"):
            what()


WORDS = {
    "nowhere/x.npy": "--data nowhere/x.npy: there is no nowhere/x.npy; name a file or folder of rows, or synthetic:",
    "synthetic:rows=0": "--data synthetic:rows=0: ",
    "synthetic:rows=3,rows=4": "--data synthetic:rows=3,rows=4: 'rows=4' is not understood; expected synthetic:",
    "synthetic:seed=-1,rows=3": "--data synthetic:seed=-1,rows=3: seed is no number; expected synthetic:",
    "synthetic:": "--data synthetic:: '' is not understood; expected synthetic:",
    "synthetic:rows=3,distribution=uniform": "--data synthetic:rows=3,distribution=uniform: distribution",
    "/dev/null": "--data /dev/null: /dev/null is neither a file nor a folder",
}


@pytest.mark.parametrize("word", WORDS)
def test_words_that_name_nothing_are_refused(word):
    """Before anything is read."""
    with pytest.raises(UsageError) as caught:
        rows_of_spec(word, (3,))

    assert str(caught.value).startswith(WORDS[word])
    assert "\n" not in str(caught.value)


def test_a_collection_of_several_sites_needs_one_named(collected, tmp_path):
    """And a finished one."""
    for word in (str(collected), f"{collected}#erly"):
        with pytest.raises(SaeregError, match=r"say which|did you mean 'early'"):
            rows_of_spec(word, (3,))
    text = json.loads((collected / COLLECTION_FILE).read_text()) | {"target_rows": 11}
    (tmp_path / COLLECTION_FILE).write_text(json.dumps(text))
    with pytest.raises(UsageError, match="is not finished: 10 of 11 rows"):
        rows_of_spec(str(tmp_path), (3,))
