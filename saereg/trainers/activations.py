"""Read a collection: any rows, and batches in a seeded random order, without holding more than a buffer of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.files.blocks import read_span
from saereg.registry.files.header import ITEM_BYTES, TensorEntry, read_header
from saereg.schemas.collection import Collection, Shard
from saereg.trainers.shards import COLLECTION_FILE, TENSOR

if TYPE_CHECKING:
    from torch import Generator, Tensor

BUFFER_BYTES = 2**30
"""Bytes of activations held in memory for shuffling; a smaller collection is shuffled as a whole."""

SLICE_ROWS = 1024
"""Rows that stay together when a collection is larger than the buffer, until the buffer is shuffled."""


def read_collection(folder: Path) -> Collection:
    """Read a finished collection.

    Raises:
        UsageError: when there is none, or it is not finished.
        DocumentError: when its document does not fit.
    """
    path = folder / COLLECTION_FILE
    if not path.is_file():
        raise UsageError(f"{folder} holds no {COLLECTION_FILE}; make it with `saereg train collect`")
    collection = Collection.read(path)
    if collection.cursor is not None or collection.rows != collection.target_rows:
        raise UsageError(
            f"{folder} is not finished: {collection.rows} of {collection.target_rows} rows; "
            "run `saereg train collect` again with the same options"
        )
    return collection


@dataclass(frozen=True)
class _Part:
    """One shard: its file, and the row of the collection that it starts with."""

    path: Path
    entry: TensorEntry
    first: int


class Activations:
    """The rows of one site.

    Args:
        folder: the collection.
        collection: its document.
        site: key of the site.

    Raises:
        UnknownNameError: when the collection has no such site.
        UsageError: when a shard is missing or has another shape than the document says.
        WeightsError: when a shard is damaged.
    """

    def __init__(self, folder: Path, collection: Collection, site: str) -> None:
        if site not in collection.sites:
            raise UnknownNameError(f"site in {folder}", site, collection.sites)
        self.width = collection.sites[site].d_in
        self._parts: list[_Part] = []
        self.rows = 0
        for shard in collection.sites[site].shards:
            self._parts.append(_Part(folder / shard.path, _entry(folder, shard, self.width), self.rows))
            self.rows += shard.rows

    def read(self, first: int, last: int) -> "Tensor":
        """Return rows `first` to `last` (exclusive), as they are stored: (rows, d_in)."""
        import torch

        pieces = []
        for part in self._parts:
            begin, end = max(first, part.first), min(last, part.first + part.entry.shape[0])
            if begin < end:
                pieces.append(read_span(part.path, part.entry, begin - part.first, end - begin))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def batches(
        self, rows: int, size: int, generator: "Generator", buffer_bytes: int = BUFFER_BYTES
    ) -> "Iterator[Tensor]":
        """Yield float32 batches of the first `rows` rows for ever; each row once per pass, in a new order each time.

        Args:
            rows: rows to draw from.
            size: rows per batch; a batch may span two passes.
            generator: the order.
            buffer_bytes: memory for shuffling.
        """
        import torch

        rest = torch.empty(0, self.width)
        for block in self._blocks(rows, generator, buffer_bytes):
            order = torch.randperm(len(block), generator=generator)
            position = size - len(rest)
            if position > len(block):
                rest = torch.cat([rest, block[order].float()])
                continue
            yield torch.cat([rest, block[order[:position]].float()])
            for begin in range(position, len(block) - size + 1, size):
                yield block[order[begin : begin + size]].float()
            tail = (len(block) - position) % size
            rest = block[order[len(block) - tail :]].float()

    def _blocks(self, rows: int, generator: "Generator", buffer_bytes: int) -> "Iterator[Tensor]":
        """Yield everything, or buffers filled with random slices, pass after pass."""
        import torch

        row_bytes = self.width * ITEM_BYTES[self._parts[0].entry.dtype]
        if rows * row_bytes <= buffer_bytes:
            everything = self.read(0, rows)
            while True:
                yield everything
        starts = torch.arange(0, rows, SLICE_ROWS)
        together = max(1, buffer_bytes // (SLICE_ROWS * row_bytes))
        while True:
            order = starts[torch.randperm(len(starts), generator=generator)].tolist()
            for begin in range(0, len(order), together):
                chosen = order[begin : begin + together]
                yield torch.cat([self.read(first, min(rows, first + SLICE_ROWS)) for first in chosen])


def _entry(folder: Path, shard: Shard, width: int) -> TensorEntry:
    path = folder / shard.path
    if not path.is_file():
        raise UsageError(f"{path} is missing; run `saereg train collect` again in a new folder")
    entry = read_header(path).tensors.get(TENSOR)
    if entry is None or entry.shape != (shard.rows, width):
        raise UsageError(f"{path}: expected a tensor {TENSOR!r} of shape {(shard.rows, width)}")
    return entry
