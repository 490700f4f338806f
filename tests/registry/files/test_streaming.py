"""Files that are written block by block are those that the libraries write, and a failure leaves none."""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from saereg.errors import WeightsError
from saereg.registry.files.flat import SAFETENSORS_TYPES
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.streaming import ORDER, write_npz, write_pickle, write_safetensors
from saereg.registry.files.tensors import Entry, MemoryFile, whole

Write = Callable[..., str]
WRITERS = {"safetensors": write_safetensors, "npz": write_npz, "pt": write_pickle}


def blocks_of(tensors: Mapping[str, Tensor], rows: int = 2) -> Callable[[str], Iterator[tuple[int, Tensor]]]:
    """Return the tensors in blocks of a few rows."""

    def blocks(name: str) -> Iterator[tuple[int, Tensor]]:
        tensor = tensors[name]
        if not tensor.ndim or not tensor.numel():
            yield 0, tensor
            return
        for first in range(0, len(tensor), rows):
            yield first, tensor[first : first + rows]

    return blocks


def write(writer: Write, path: Path, tensors: Mapping[str, Tensor], **more: object) -> list[tuple[str, int, Tensor]]:
    """Write tensors, and return what was seen on the way."""
    seen: list[tuple[str, int, Tensor]] = []
    digest = writer(
        path, MemoryFile(tensors).entries, blocks_of(tensors), see=lambda *block: seen.append(block), **more
    )
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert os.listdir(path.parent) == [path.name]
    return seen


@st.composite
def dictionaries(draw, types: tuple[torch.dtype, ...]) -> dict[str, Tensor]:
    """Draw some tensors under some names."""
    names = draw(st.lists(st.text('abW_.é"\\/ ', min_size=1, max_size=5), min_size=1, max_size=5, unique=True))
    return {
        name: torch.randn(draw(st.lists(st.integers(0, 4), max_size=3))).mul(9).to(draw(st.sampled_from(types)))
        for name in names
    }


NUMPY = (torch.float64, torch.float32, torch.float16, torch.int64, torch.uint8)
FLOATS = (*NUMPY, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.bool, torch.int8)


@settings(max_examples=100, deadline=None)
@given(tensors=dictionaries(FLOATS), metadata=st.none() | st.dictionaries(st.text(max_size=4), st.text(max_size=4)))
def test_safetensors_are_those_of_the_library(tmp_path_factory, tensors, metadata):
    """Byte for byte, for tensors of any types and names; the library shuffles several entries of the metadata."""
    folder = tmp_path_factory.mktemp("streaming")
    (folder / "a").mkdir()
    if metadata is not None and len(metadata) > 1:
        metadata = dict([min(metadata.items())])
    write(write_safetensors, folder / "a/a.safetensors", tensors, metadata=metadata)
    save_file(tensors, folder / "b.safetensors", metadata=metadata or None)
    assert (folder / "a/a.safetensors").read_bytes() == (folder / "b.safetensors").read_bytes()


def test_every_type_of_safetensors_has_its_place():
    """In the order that the library writes them in, and under the name that it has in torch."""
    assert sorted(ORDER) == sorted(SAFETENSORS_TYPES)


@settings(max_examples=50, deadline=None)
@given(tensors=dictionaries(NUMPY))
def test_numpy_loads_an_npz(tmp_path_factory, tensors):
    """With the same names, shapes and types."""
    path = tmp_path_factory.mktemp("streaming") / "a.npz"
    tensors = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    write(write_npz, path, tensors)
    with np.load(path) as found:
        assert sorted(found.files) == sorted(tensors)
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.numpy().dtype
            assert np.array_equal(found[name], tensor.numpy())


@settings(max_examples=25, deadline=None)
@given(tensors=dictionaries(FLOATS))
def test_torch_loads_a_state_dict(tmp_path_factory, tensors):
    """Mapped or not, with weights_only."""
    path = tmp_path_factory.mktemp("streaming") / "a.pt"
    write(write_pickle, path, tensors)
    for mmap in (True, False):
        found = torch.load(path, weights_only=True, mmap=mmap)
        assert list(found) == list(tensors)
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert found[name].shape == tensor.shape
            assert torch.equal(found[name].double(), tensor.double())
            assert found[name].untyped_storage().nbytes() == tensor.numel() * tensor.itemsize
            assert found[name].is_contiguous()


def test_a_state_dict_is_no_larger_than_its_tensors(tmp_path):
    """Each has a record of its own, though all were saved from one mapping."""
    tensors = {f"t{index}": torch.randn(1000, 50) for index in range(10)}
    write(write_pickle, tmp_path / "a.pt", tensors)
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        records = [m.file_size for m in file.infolist() if "/data/" in m.filename]
    assert records == [200_000] * 10
    assert (tmp_path / "a.pt").stat().st_size < 2_000_000 + 10_000
    found = torch.load(tmp_path / "a.pt", weights_only=True, mmap=True)
    found["t0"].zero_()
    assert torch.equal(found["t1"], tensors["t1"])


@pytest.mark.parametrize("kind", WRITERS)
def test_every_block_is_seen_once_and_what_is_written_is_read(tmp_path, kind):
    """In order."""
    tensors = {"W": torch.randn(5, 3), "b": torch.randn(4), "s": torch.tensor(2.0), "none": torch.empty(0, 3)}
    seen = write(WRITERS[kind], tmp_path / f"a.{kind}", tensors)
    for name, tensor in tensors.items():
        parts = [(first, block) for found, first, block in seen if found == name]
        assert [first for first, _ in parts] == (list(range(0, len(tensor), 2)) or [0] if tensor.ndim else [0])
        assert torch.equal(torch.cat([block for _, block in parts]) if tensor.ndim else parts[0][1], tensor)
        assert torch.equal(whole(open_tensors(tmp_path / f"a.{kind}"), name), tensor)


def wrong_blocks(name: str) -> Iterator[tuple[int, Tensor]]:
    """Give what was not announced."""
    x = torch.ones(4, 3)
    yield from {
        "rows missing": [(0, x[:3])],
        "too many rows": [(0, x), (4, x)],
        "a gap": [(0, x[:1]), (2, x[2:])],
        "other type": [(0, x.double())],
        "other width": [(0, torch.ones(4, 2))],
        "nothing": [],
    }[name]


WRONG = {
    "rows missing": "3 of 4 rows",
    "too many rows": "8 of 4 rows",
    "a gap": "a block is float32 (2, 3) at row 2: float32 (4, 3) from row 1",
    "other type": "a block is float64 (4, 3) at row 0: float32 (4, 3) from row 0",
    "other width": "a block is float32 (4, 2) at row 0: float32 (4, 3) from row 0",
    "nothing": "0 of 4 rows",
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", WRONG)
def test_blocks_that_were_not_announced_leave_no_file(tmp_path, kind, name):
    """Nor a temporary one; an old file stays."""
    (tmp_path / "a").write_text("old")
    with pytest.raises(WeightsError) as caught:
        WRITERS[kind](tmp_path / "a", {name: Entry("float32", (4, 3))}, wrong_blocks, see=lambda *_: None)
    assert str(caught.value) == f"a: {name}: {WRONG[name]}"
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("kind", WRITERS)
def test_an_interrupt_leaves_no_file(tmp_path, kind):
    """Wherever it comes."""

    def interrupted(name: str) -> Iterator[tuple[int, Tensor]]:
        yield 0, torch.ones(2, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        WRITERS[kind](tmp_path / "a", {"x": Entry("float32", (4, 3))}, interrupted, see=lambda *_: None)
    assert os.listdir(tmp_path) == []


def test_numpy_has_no_bfloat16(tmp_path):
    """That is said before anything is written."""
    with pytest.raises(WeightsError, match=r"a\.npz: x: numpy has no type bfloat16; cast it to float32"):
        write(write_npz, tmp_path / "a.npz", {"x": torch.ones(2).bfloat16()})
    assert os.listdir(tmp_path) == []


FULL = """
import resource, signal, sys
from pathlib import Path

import torch

from saereg.registry.files import streaming
from saereg.registry.files.tensors import Entry

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
entries = {"x": Entry("float32", (1000, 1000)), "y": Entry("float32", (200, 100))}
for kind, limit in (
    ("safetensors", 100_000),
    ("npz", 100_000),
    ("pickle", 100_000),  # while the tensors are written
    ("pickle", 4_080_500),  # when they are saved
):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    write = getattr(streaming, f"write_{kind}")
    try:
        write(folder / "a", entries, lambda name: [(0, torch.ones(entries[name].shape))], see=lambda *_: None)
        print("written")
    except OSError as error:
        print(error.filename == str(folder / "a"), error.strerror)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
def test_a_full_disk_is_an_error_with_the_name_of_the_file(tmp_path):
    """A limit on file sizes is met in the same places."""
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["True File too large"] * 4
    assert os.listdir(tmp_path) == []


def test_what_is_loaded_is_what_safetensors_loads(tmp_path):
    """Not only what our own reader does."""
    tensors = {"W": torch.randn(50, 3).bfloat16(), "b": torch.randn(4, dtype=torch.float64)}
    write(write_safetensors, tmp_path / "a.safetensors", tensors, metadata={"b": "2", "a": "1"})
    found = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
