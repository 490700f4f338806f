"""Batches of rows in a seeded random order, from several places at once, without holding more than a buffer of them."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Generator, Tensor

BUFFER_BYTES = 2**30
"""Bytes of rows held in memory for shuffling; a smaller collection is shuffled as a whole."""

SLICE_ROWS = 1024
"""Rows that stay together when a collection is larger than the buffer, until the buffer is shuffled."""

Span = tuple[int, int]


class StoredRows(Protocol):
    """Rows that can be read from anywhere."""

    @property
    def rows(self) -> int:
        """How many there are."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, as it is stored."""

    def read(self, first: int, last: int) -> "Tensor":
        """Return rows `first` to `last` (exclusive), as they are stored."""


def batches(
    places: Mapping[str, StoredRows],
    rows: int,
    size: int,
    seed: int,
    *,
    skip: int = 0,
    buffer_bytes: int = BUFFER_BYTES,
) -> "Iterator[dict[str, Tensor]]":
    """Yield float32 batches of the first `rows` rows for ever; each row once per pass, in a new order each time.

    All places give the same rows, in the same order. What comes after `skip` batches is what would have come without
    skipping: a run that was stopped goes on with it.

    Args:
        places: key → rows; those of one position belong together.
        rows: rows to draw from.
        size: rows per batch; a batch may span two passes.
        seed: the order.
        skip: batches to leave out; little more than the last buffer before is read for them.
        buffer_bytes: memory for shuffling, of all places together.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    left = skip * size
    rest: dict[str, Tensor] = {key: torch.empty(0) for key in places}
    kept, block, loaded = 0, rest, None
    for spans in _blocks(places, rows, generator, buffer_bytes):
        count = sum(last - first for first, last in spans)
        order = torch.randperm(count, generator=generator)
        if left >= count:
            left -= count
            continue
        if spans != loaded:  # what fits the buffer as a whole is read once
            block, loaded = {key: _read(place, spans) for key, place in places.items()}, spans
        order, left = order[left:], 0
        while kept + len(order) >= size:
            taken, order = order[: size - kept], order[size - kept :]
            yield {key: _joined(rest[key], kept, block[key], taken) for key in places}
            kept = 0
        rest = {key: _joined(rest[key], kept, block[key], order) for key in places}
        kept += len(order)


def _joined(rest: "Tensor", kept: int, block: "Tensor", taken: "Tensor") -> "Tensor":
    import torch

    rows = block[taken].float()
    return torch.cat([rest, rows]) if kept else rows


def _read(place: StoredRows, spans: list[Span]) -> "Tensor":
    import torch

    pieces = [place.read(first, last) for first, last in spans]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _blocks(
    places: Mapping[str, StoredRows], rows: int, generator: "Generator", buffer_bytes: int
) -> Iterator[list[Span]]:
    """Yield everything, or spans that fill a buffer, pass after pass."""
    import torch

    row_bytes = sum(place.row_bytes for place in places.values())
    if rows * row_bytes <= buffer_bytes:
        while True:
            yield [(0, rows)]
    together = max(1, buffer_bytes // (SLICE_ROWS * row_bytes))
    while True:
        order = torch.randperm(math.ceil(rows / SLICE_ROWS), generator=generator).tolist()
        for begin in range(0, len(order), together):
            chosen = order[begin : begin + together]
            yield [(number * SLICE_ROWS, min(rows, (number + 1) * SLICE_ROWS)) for number in chosen]
