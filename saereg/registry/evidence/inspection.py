"""One pass over a weight file: sha256, finiteness, largest magnitudes and decoder norms, block by block."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from saereg.registry.files.header import Header
from saereg.registry.files.spans import Blocks, Reader, span_in
from saereg.schemas.semantics import DecoderNorm

DECODER = "W_dec"
"""The tensor whose rows have norms."""

SERIAL = 32 * 1024
"""Numbers that torch works on with one thread."""

UNIT = 1e-3
"""Distance from 1 within which a decoder norm counts as unit."""


@dataclass(frozen=True)
class Inspection:
    """What one pass over a weight file found.

    Attributes:
        sha256: digest of the file.
        first_bad: tensor → position of its first value that is not finite; empty when all are.
        largest: tensor → largest magnitude.
        negative: tensors that hold a negative value.
        decoder_norm: norms of the decoder directions.
        zero_directions: decoder rows of norm zero.
    """

    sha256: str
    first_bad: dict[str, tuple[int, ...]]
    largest: dict[str, float]
    negative: frozenset[str]
    decoder_norm: DecoderNorm | None
    zero_directions: int


class Watcher(Protocol):
    """Looks at the blocks of a file as they pass, beside what an inspection does with them."""

    def see(self, name: str, start: int, block: Tensor) -> None:
        """Look at a flat block, which begins at number `start` of tensor `name`; it is only good for now."""

    def finish(self, name: str) -> None:
        """Take note that all blocks of a tensor have passed."""


def inspect(path: Path, header: Header, watcher: Watcher | None = None) -> Inspection:
    """Read a weight file once and return what is in it; memory stays at one block.

    A block is hashed, looked at and shown to the watcher while it is in the cache of the core.

    Args:
        path: the file.
        header: its header.
        watcher: who else looks at the blocks.

    Raises:
        OSError: when the file cannot be read.
    """
    digest, observer = hashlib.sha256(), Observer({name: entry.shape for name, entry in header.tensors.items()})
    in_order = sorted(header.tensors.items(), key=lambda item: item[1].begin)
    blocks = Blocks()
    with path.open("rb", buffering=0) as file:
        start = memoryview(bytearray(in_order[0][1].begin if in_order else path.stat().st_size))
        while len(start) and (count := file.readinto(start)):
            digest.update(start[:count])
            start = start[count:]
    with Reader(path) as reader:
        for name, entry in in_order:
            for first, block in blocks.of(span_in(path, entry), reader, whole_rows=name == DECODER):
                digest.update(block.view(torch.uint8).numpy().data)
                observer.note(name, first, block)
                if watcher is not None:
                    watcher.see(name, first, block)
            if watcher is not None:
                watcher.finish(name)
    return observer.result(digest.hexdigest())


class Observer:
    """Looks at blocks as they pass, whoever reads or writes them."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = shapes
        self._first_bad: dict[str, tuple[int, ...]] = {}
        self._largest: dict[str, float] = dict.fromkeys(shapes, 0.0)
        self._negative: set[str] = set()
        shape = shapes.get(DECODER, ())
        # one tensor from the start: small ones kept between blocks would pin the freed blocks before them in the heap
        self._norms = torch.zeros(shape[0], dtype=torch.float64) if len(shape) > 1 else None

    def see(self, name: str, first: int, block: Tensor) -> None:
        """Take note of one block of whole rows, which begins at row `first` of tensor `name`."""
        self.note(name, first * math.prod(self._shapes[name][1:]), block.reshape(-1))

    def note(self, name: str, start: int, block: Tensor) -> None:
        """Take note of one flat block, which begins at number `start` of tensor `name`, and for W_dec at a row."""
        if not block.is_floating_point() or not block.numel():
            return
        values = block if block.itemsize > 1 else block.float()
        low, high = _range(values)
        self._largest[name] = max(self._largest[name], abs(low), abs(high))
        if low < 0:
            self._negative.add(name)
        if name not in self._first_bad and not (math.isfinite(low) and math.isfinite(high)):
            bad = start + int((~torch.isfinite(values)).nonzero()[0])
            self._first_bad[name] = _place(bad, self._shapes[name])
        if name == DECODER and self._norms is not None:
            self._see_rows(start, values)

    def _see_rows(self, start: int, values: Tensor) -> None:
        """Take the norms of some rows of W_dec."""
        row = math.prod(self._shapes[DECODER][1:])
        rows, at = values.view(-1, row), start // row
        if self._norms is not None:
            _norms_of(rows, self._norms[at : at + len(rows)])

    def result(self, sha256: str) -> Inspection:
        """Return what was seen of a file with this digest."""
        norms = self._norms
        return Inspection(
            sha256=sha256,
            first_bad=self._first_bad,
            largest=self._largest,
            negative=frozenset(self._negative),
            decoder_norm=_summary(norms) if norms is not None and "W_dec" not in self._first_bad else None,
            zero_directions=int((norms == 0).sum()) if norms is not None else 0,
        )


def _range(values: Tensor) -> tuple[float, float]:
    """Return the least and the largest value; NaN and infinity propagate.

    numpy, where it knows the type: torch would start its threads for every block, and those of two files would fight.
    """
    if values.dtype in (torch.float32, torch.float64):
        array = values.numpy()
        with np.errstate(invalid="ignore"):
            return float(array.min()), float(array.max())
    pairs = [torch.aminmax(values[first : first + SERIAL]) for first in range(0, len(values), SERIAL)]
    low, high = (torch.stack([pair[i] for pair in pairs]) for i in (0, 1))
    return float(low.amin()), float(high.amax())


def _norms_of(rows: Tensor, norms: Tensor) -> None:
    """Write the norms of rows, taken in float64, so few rows at a time that they stay in the cache."""
    step = max(1, SERIAL // max(1, rows.shape[1]))
    fast = getattr(np, "vecdot", None) if rows.dtype == torch.float32 else None  # numpy 2
    wide = np.empty((min(step, len(rows)), rows.shape[1])) if fast is not None else None
    for first in range(0, len(rows), step):
        part, out = rows[first : first + step], norms[first : first + step]
        if fast is None or wide is None:
            torch.linalg.vector_norm(part, dim=1, dtype=torch.float64, out=out)
        else:
            squares = wide[: len(part)]
            np.copyto(squares, part.numpy())
            np.sqrt(fast(squares, squares), out=out.numpy())


def _place(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the index of a number by its position in row-major order."""
    return tuple(int(i) for i in np.unravel_index(position, shape)) if shape else ()


def _summary(norms: Tensor) -> DecoderNorm | None:
    low, high = float(norms.min()), float(norms.max())
    if not math.isfinite(high):
        return None
    return DecoderNorm(unit=abs(low - 1) <= UNIT and abs(high - 1) <= UNIT, minimum=low, maximum=high)
