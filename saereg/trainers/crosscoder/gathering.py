"""The weights of all processes as one file, which no process ever holds whole."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from saereg.registry.files.streaming import order_in_file, write_safetensors
from saereg.registry.files.tensors import Entry
from saereg.trainers.crosscoder.group import Group, share

BLOCK_BYTES = 64 * 1024 * 1024
"""Bytes of one block; where the axis of latents is the last one, a block is at least one row of the first axis."""


def write_joined(path: Path, tensors: Mapping[str, Tensor], split: Mapping[str, int], d_sae: int, group: Group) -> None:
    """Write the parts of all processes as whole tensors; the process of rank 0 writes, and all must call this.

    Args:
        path: the file; it appears when it is complete.
        tensors: name → part of this process, or what is the same in all of them.
        split: name → axis of latents, the first or the last one; those without one are the same everywhere.
        d_sae: latents of all processes together.
        group: the processes.

    Raises:
        OSError: when the file cannot be written.
    """
    entries = {name: _entry(tensor, split.get(name), d_sae) for name, tensor in tensors.items()}

    def blocks(name: str) -> Iterator[tuple[int, Tensor]]:
        for first, block in _blocks(tensors[name].detach(), split.get(name), d_sae, group):
            yield first, block.cpu()

    if group.rank == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, entries, blocks, see=lambda name, first, block: None)
        return
    for name in order_in_file(entries):
        for _ in _blocks(tensors[name].detach(), split.get(name), d_sae, group):
            pass


def _entry(tensor: Tensor, axis: int | None, d_sae: int) -> Entry:
    shape = list(tensor.shape)
    if axis is not None:
        shape[axis] = d_sae
    return Entry(str(tensor.dtype).removeprefix("torch."), tuple(shape))


def _blocks(tensor: Tensor, axis: int | None, d_sae: int, group: Group) -> Iterator[tuple[int, Tensor]]:
    """Yield (first row, block) of the whole tensor over its first axis; in every process, as many."""
    if axis is None or group.size == 1:
        yield from _cut(tensor)
    elif axis == 0:
        own = share(d_sae, group)
        step = _rows(tensor)
        for first in range(0, d_sae, step):
            begin, end = max(first, own.start), min(first + step, d_sae, own.stop)
            part = tensor[begin - own.start : max(begin, end) - own.start]
            yield first, group.joined(part, 0)
    else:
        for first in range(len(tensor)):
            yield first, group.joined(tensor[first : first + 1], axis)


def _cut(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    if not tensor.dim() or not tensor.numel():
        yield 0, tensor
        return
    step = _rows(tensor)
    for first in range(0, len(tensor), step):
        yield first, tensor[first : first + step]


def _rows(tensor: Tensor) -> int:
    """Return how many rows of the first axis are a block."""
    return max(1, BLOCK_BYTES // max(1, tensor.element_size() * math.prod(tensor.shape[1:])))
