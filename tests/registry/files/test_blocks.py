"""Tensors are read block by block, and the blocks are the tensor."""

import os

import pytest
import torch
from safetensors.torch import save_file

from saereg.registry.files.blocks import read_span, read_tensor, row_blocks, torch_dtype
from saereg.registry.files.header import ITEM_BYTES, read_header

SHAPES = [(), (1,), (7,), (0,), (0, 3), (3, 0), (7, 5), (4, 3, 2)]


def same_bytes(a: torch.Tensor, b: torch.Tensor) -> bool:
    left, right = (t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(left, right)


@pytest.mark.parametrize("block_bytes", [1, 7, 40, 64, 10**6])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F64", "I64"])
def test_blocks_of_any_size_join_to_the_tensor(tmp_path, dtype, shape, block_bytes):
    """In order, each starting where the one before it ended; scalars and empty tensors are one block."""
    tensor = (torch.randn(shape) * 100).to(torch_dtype(dtype))
    save_file({"before": torch.ones(3), "x": tensor}, tmp_path / "x")
    entry = read_header(tmp_path / "x").tensors["x"]

    blocks = list(row_blocks(tmp_path / "x", entry, block_bytes))

    if not shape or 0 in shape:
        assert len(blocks) == 1
        assert same_bytes(blocks[0][1], tensor)
        return
    position = 0
    for first, block in blocks:
        assert first == position
        assert len(block) == 1 or block.nbytes <= block_bytes
        position += len(block)
    assert same_bytes(torch.cat([block for _, block in blocks]), tensor)


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_a_tensor_of_any_type_is_read(tmp_path, dtype):
    """With the bytes that are in the file."""
    tensor = torch.arange(6).reshape(2, 3).to(torch_dtype(dtype))
    save_file({"x": tensor}, tmp_path / "x")

    assert same_bytes(read_tensor(tmp_path / "x", read_header(tmp_path / "x"), "x"), tensor)


def test_a_block_is_a_tensor_of_its_own(tmp_path):
    """Writing into one changes neither the file nor another block."""
    save_file({"x": torch.zeros(4, 2)}, tmp_path / "x")
    header = read_header(tmp_path / "x")
    before = (tmp_path / "x").read_bytes()

    read_tensor(tmp_path / "x", header, "x").fill_(1)

    assert (tmp_path / "x").read_bytes() == before
    assert read_span(tmp_path / "x", header.tensors["x"], 1, 2).sum() == 0


def test_a_file_that_has_become_shorter_is_an_error(tmp_path):
    """Not a tensor of zeros."""
    save_file({"x": torch.zeros(4, 2)}, tmp_path / "x")
    header = read_header(tmp_path / "x")
    os.truncate(tmp_path / "x", header.tensors["x"].end - 4)

    with pytest.raises(OSError, match=r"^x ends before byte \d+$"):
        read_tensor(tmp_path / "x", header, "x")
