"""Memory of blocks: large ones are given back to the system at once, and all can be looked at byte by byte."""

import math
import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAPPED_BYTES = 4 * 1024 * 1024
"""Least bytes of a block that gets memory of its own."""


def memory(size: int) -> "bytearray | mmap.mmap":
    """Return so many bytes; those of a large block go back to the system when the last tensor on them does.

    What malloc gives may stay in the heap, behind something small: in long runs blocks would pile up there.
    """
    if size < MAPPED_BYTES:
        return bytearray(size)
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)


def empty(shape: tuple[int, ...], dtype: "torch.dtype") -> "Tensor":
    """Return a tensor to fill, on such memory."""
    import torch

    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory(math.prod(shape) * dtype.itemsize), dtype=dtype).view(shape)


def copied(tensor: "Tensor", dtype: "torch.dtype | None" = None) -> "Tensor":
    """Return a copy, in another type perhaps, on such memory."""
    return empty(tuple(tensor.shape), dtype or tensor.dtype).copy_(tensor)


def contiguous(tensor: "Tensor") -> "Tensor":
    """Return a tensor whose bytes can be looked at; torch calls one number contiguous whatever its strides."""
    import torch

    return tensor.contiguous() if tensor.numel() > 1 else tensor.clone(memory_format=torch.contiguous_format)
