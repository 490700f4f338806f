"""Tensors as runs of bytes: where they lie, and what happens when the file ends before they do."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from saereg.registry.files.opening import open_tensors
from saereg.registry.files.spans import MOST_PIECES, Blocks, Reader, span_of

TENSORS = {"W": torch.arange(60.0).reshape(12, 5), "h": torch.arange(7).bfloat16(), "none": torch.zeros(0, 3)}


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
@pytest.mark.parametrize(("block", "whole_rows"), [(1, False), (23, False), (23, True), (10**6, True)])
def test_blocks_are_the_tensor_in_the_order_of_its_bytes(tmp_path, kind, block, whole_rows):
    """Flat, and of whole rows where that is asked for; a pickle's, too, where the system tells where they lie."""
    if kind == "pt" and not Path("/proc/self/maps").exists():
        pytest.skip("only Linux tells")
    path = tmp_path / f"x.{kind}"
    save_file(TENSORS, path) if kind == "safetensors" else torch.save(TENSORS, path)
    file = open_tensors(path)

    for name in ("W", "h"):
        span = span_of(file, name)
        with Reader(path) as reader:
            parts = [(at, part.clone()) for at, part in Blocks(block).of(span, reader, whole_rows=whole_rows)]

        assert torch.equal(torch.cat([part for _, part in parts]), TENSORS[name].flatten())
        assert [at for at, _ in parts] == [sum(len(p) for _, p in parts[:i]) for i in range(len(parts))]
        assert not whole_rows or all(len(part) % TENSORS[name][0].numel() == 0 for _, part in parts)


def test_what_does_not_lie_in_row_major_order_has_no_span(tmp_path):
    """A pickle's transposed tensor, and none of a tensor in memory: they are read box by box."""
    torch.save({"T": TENSORS["W"].T, "every second": torch.arange(9.0)[::2]}, tmp_path / "x.pt")
    file = open_tensors(tmp_path / "x.pt")

    assert [span_of(file, name) for name in file.entries] == [None, None]
    assert torch.equal(file.box("T", ((1, 3), (0, 12))), TENSORS["W"].T[1:3])


def test_many_pieces_are_filled_one_behind_the_other(tmp_path):
    """In as many calls as the system wants."""
    content = os.urandom(3 * (MOST_PIECES + 5))
    (tmp_path / "x").write_bytes(b"head" + content)
    pieces = [bytearray(3) for _ in range(MOST_PIECES + 5)]

    with Reader(tmp_path / "x") as reader:
        reader.scatter([memoryview(piece) for piece in pieces], 4)
        assert b"".join(pieces) == content
        with pytest.raises(OSError, match="the file ends before byte"):
            reader.scatter([memoryview(piece) for piece in pieces], 5)
        with pytest.raises(OSError, match="the file ends before byte"):
            reader.fill(memoryview(bytearray(9)), len(content))
