"""Tensors as runs of bytes in a file, read into memory of the caller: nothing is mapped, no page is new per block."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from saereg.registry.files.flat import ITEMS, SAFETENSORS_TYPES, fill
from saereg.registry.files.header import TensorEntry
from saereg.registry.files.memory import memory
from saereg.registry.files.tensors import TensorFile

if TYPE_CHECKING:
    import mmap

    from torch import Tensor

BLOCK_BYTES = 1024 * 1024
"""Bytes of one block: it stays in the cache while it is hashed, looked at and compared; smaller ones are more calls."""

MOST_PIECES = 512
"""Pieces of memory that one call fills; no system takes fewer than 16, and Linux and macOS take 1024."""


@dataclass(frozen=True)
class Span:
    """The bytes of a tensor in row-major order.

    Attributes:
        path: the file.
        begin: offset of the first byte.
        dtype: as torch names it.
        shape: its shape.
    """

    path: Path
    begin: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def item(self) -> int:
        """Bytes of one number."""
        return ITEMS[self.dtype]

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


def span_of(file: TensorFile, name: str) -> Span | None:
    """Return where a tensor lies, or None where it must be read box by box."""
    begin, entry = file.begin(name), file.entries[name]
    return None if begin is None else Span(file.path, begin, entry.dtype, entry.shape)


def span_in(path: Path, entry: TensorEntry) -> Span:
    """Return where the tensor of a safetensors header lies."""
    return Span(path, entry.begin, SAFETENSORS_TYPES[entry.dtype], entry.shape)


class Reader:
    """An open file, to be used in a `with` statement."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: when it cannot be opened.
        """
        self.path, self._descriptor = path, os.open(path, os.O_RDONLY)

    def fill(self, view: memoryview, position: int) -> None:
        """Read the bytes from `position` into memory, all of it.

        Raises:
            OSError: when the file ends before.
        """
        fill(self._descriptor, view, position, self.path)

    def scatter(self, views: Sequence[memoryview], position: int) -> None:
        """Read the bytes from `position` into many pieces of memory, one behind the other in the file, in few calls.

        Raises:
            OSError: when the file ends before.
        """
        for first in range(0, len(views), MOST_PIECES):
            part = views[first : first + MOST_PIECES]
            wanted = sum(len(view) for view in part)
            if os.preadv(self._descriptor, part, position) != wanted:  # interrupted, or the file ends
                at = position
                for view in part:
                    self.fill(view, at)
                    at += len(view)
            position += wanted

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


class Blocks:
    """A buffer that is used again for block after block of tensor after tensor."""

    def __init__(self, block_bytes: int | None = None) -> None:
        self.block_bytes = BLOCK_BYTES if block_bytes is None else block_bytes
        self._raw: bytearray | mmap.mmap = bytearray(self.block_bytes)

    def of(self, span: Span, reader: Reader, *, whole_rows: bool = False) -> Iterator[tuple[int, "Tensor"]]:
        """Yield (position of the first number, block) over a tensor in the order of its bytes.

        A block is flat, of the stored type, and only good until the next one is asked for. Each byte is read once.

        Args:
            span: the tensor.
            reader: its file, opened.
            whole_rows: whether a block must end where a row of the first axis does.

        Raises:
            OSError: when the file cannot be read, or has become shorter.
        """
        import torch

        dtype = getattr(torch, span.dtype)
        row = math.prod(span.shape[1:]) if whole_rows and span.shape else 1
        step = max(1, self.block_bytes // span.item // max(1, row)) * max(1, row)
        if len(self._raw) < step * span.item:
            self._raw = memory(step * span.item)
        for start in range(0, span.count, step):
            count = min(step, span.count - start)
            reader.fill(memoryview(self._raw)[: count * span.item], span.begin + start * span.item)
            yield start, torch.frombuffer(self._raw, dtype=dtype, count=count)
