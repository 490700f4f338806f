"""Boxes of safetensors and npz files are slices of their tensors, however the reads are arranged."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from saereg.errors import WeightsError
from saereg.registry.files import flat, memory
from saereg.registry.files.flat import open_npz, open_safetensors
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.tensors import MemoryFile, full_box, whole

TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


@st.composite
def arrays(draw) -> tuple[torch.Tensor, tuple[tuple[int, int], ...]]:
    """Draw a tensor and a box of it."""
    shape = draw(st.lists(st.integers(0, 6), max_size=4))
    dtype = draw(st.sampled_from(TYPES))
    x = torch.randint(0, 200, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    starts = [draw(st.integers(0, size)) for size in shape]
    return x, tuple((start, draw(st.integers(start, size))) for start, size in zip(starts, shape, strict=True))


@settings(max_examples=150, deadline=None)
@given(drawn=arrays(), skipped=st.sampled_from([-1, 0, 8, 16_384]), chunk=st.integers(1, 64), mapped=st.booleans())
def test_a_box_of_safetensors_is_a_slice(tmp_path_factory, drawn, skipped, chunk, mapped):
    """Read run by run or with what lies between, into the heap or into memory of its own."""
    (x, box), path = drawn, tmp_path_factory.mktemp("box") / "a.safetensors"
    save_file({"first": torch.ones(3), "x": x}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat, "SKIPPED_BYTES", skipped)
        patch.setattr(flat, "CHUNK_BYTES", chunk)
        patch.setattr(memory, "MAPPED_BYTES", 1 if mapped else 10**9)
        found = open_safetensors(path).box("x", box)
    expected = x[tuple(slice(*span) for span in box)]
    assert found.dtype == x.dtype
    assert found.is_contiguous()
    assert torch.equal(found, expected)


@settings(max_examples=100, deadline=None)
@given(drawn=arrays(), column_major=st.booleans(), packed=st.booleans())
def test_a_box_of_an_npz_is_a_slice(tmp_path_factory, drawn, column_major, packed):
    """Stored or compressed, row-major or column-major."""
    (x, box), path = drawn, tmp_path_factory.mktemp("box") / "a.npz"
    x = x.float() if x.dtype == torch.bfloat16 else x
    array = np.asarray(x.numpy(), order="F" if column_major else "C")
    (np.savez_compressed if packed else np.savez)(path, x=array, other=np.ones(2))
    file = open_npz(path)
    assert file.entries["x"].shape == tuple(x.shape)
    found = file.box("x", box)
    assert found.dtype == x.dtype
    assert found.is_contiguous()
    assert torch.equal(found, x[tuple(slice(*span) for span in box)])


@settings(max_examples=50, deadline=None)
@given(drawn=arrays())
def test_a_box_of_tensors_in_memory_is_a_slice(drawn):
    """Its bytes can be looked at, whatever the strides were."""
    x, box = drawn
    found = MemoryFile({"x": x.movedim(0, -1) if x.ndim else x}).box("x", (*box[1:], *box[:1]))
    expected = x[tuple(slice(*span) for span in box)]
    assert torch.equal(found, expected.movedim(0, -1) if x.ndim else expected)
    assert found.reshape(-1).view(torch.uint8).numel() == expected.numel() * expected.itemsize


def test_large_boxes_go_back_to_the_system(tmp_path):
    """Also where a chunk of rows does not divide the tensor."""
    x = torch.arange(5000 * 999, dtype=torch.float32).reshape(5000, 999)
    save_file({"x": x}, tmp_path / "a.safetensors")
    file = open_safetensors(tmp_path / "a.safetensors")
    for columns in ((0, 999), (0, 1), (998, 999), (3, 500)):
        assert torch.equal(file.box("x", ((1, 4999), columns)), x[1:4999, columns[0] : columns[1]])


def test_a_file_that_becomes_shorter_is_an_error(tmp_path):
    """With its name, and no crash."""
    save_file({"x": torch.ones(1000, 50)}, tmp_path / "a.safetensors")
    file = open_safetensors(tmp_path / "a.safetensors")
    os.truncate(tmp_path / "a.safetensors", 5000)
    for box in (full_box((1000, 50)), ((0, 1000), (0, 3))):
        with pytest.raises(OSError, match="the file ends before byte 5000") as caught:
            file.box("x", box)
        assert caught.value.filename == str(tmp_path / "a.safetensors")


def test_many_boxes_leave_no_descriptor_open(tmp_path):
    """Of compressed members one stays open while its file is in use."""
    save_file({"x": torch.ones(4)}, tmp_path / "a.safetensors")
    np.savez_compressed(tmp_path / "a.npz", x=np.ones(4))
    before = _descriptors()
    for _ in range(50):
        whole(open_safetensors(tmp_path / "a.safetensors"), "x")
        whole(open_npz(tmp_path / "a.npz"), "x")
    assert _descriptors() == before


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0


def test_threads_share_an_unpacked_member(tmp_path):
    """It is unpacked once."""
    x = np.arange(300_000, dtype=np.float32)
    np.savez_compressed(tmp_path / "a.npz", x=x)
    file, found = open_npz(tmp_path / "a.npz"), []
    threads = [threading.Thread(target=lambda: found.append(float(whole(file, "x").sum()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8


def test_what_a_file_is_is_told_by_its_content(tmp_path):
    """Never by its name."""
    x = torch.arange(6.0).reshape(2, 3)
    save_file({"x": x}, tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=x.numpy())
    (tmp_path / "b.npz").rename(tmp_path / "b.pt")
    torch.save({"x": x}, tmp_path / "c.safetensors")
    torch.save({"x": x}, tmp_path / "d.npz", _use_new_zipfile_serialization=False)
    for name in ("a.npz", "b.pt", "c.safetensors", "d.npz"):
        assert torch.equal(whole(open_tensors(tmp_path / name), "x"), x)


NO_TENSORS = {
    "empty": (b"", "0 bytes are too few for a safetensors file"),
    "text": (b"version https://git-lfs.github.com/spec/v1\n", None),
    "page": (b"<!DOCTYPE html><html></html>", None),
    "gzip": (b"\x1f\x8b\x08\x00" + b"\0" * 20, "is compressed with gzip; unpack it first"),
    "zip that is none": (b"PK\x03\x04" + b"\0" * 40, "is a damaged archive: File is not a zip file"),
    "start of a pickle": (b"\x80\x02", "cannot be opened as tensors and plain values: EOFError"),
}


@pytest.mark.parametrize("name", NO_TENSORS)
def test_what_holds_no_tensors_is_refused(tmp_path, name):
    """In one line with the name of the file."""
    content, expected = NO_TENSORS[name]
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        open_tensors(tmp_path / "a.pt")
    text = str(caught.value)
    assert text.startswith("a.pt: ")
    assert "\n" not in text
    assert expected is None or text == f"a.pt: {expected}"
