"""One pass over a weight file: sha256, finiteness, largest magnitudes and decoder norms, block by block."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from saereg.registry.files.blocks import row_blocks
from saereg.registry.files.header import Header
from saereg.schemas.semantics import DecoderNorm

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


def inspect(path: Path, header: Header) -> Inspection:
    """Read a weight file once and return what is in it; memory stays at one block.

    Raises:
        OSError: when the file cannot be read.
    """
    digest, observer = hashlib.sha256(), Observer({name: entry.shape for name, entry in header.tensors.items()})
    in_order = sorted(header.tensors.items(), key=lambda item: item[1].begin)
    with path.open("rb") as file:
        digest.update(file.read(in_order[0][1].begin if in_order else path.stat().st_size))
    for name, entry in in_order:
        for first, block in row_blocks(path, entry):
            digest.update(block.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            observer.see(name, first, block)
    return observer.result(digest.hexdigest())


class Observer:
    """Looks at blocks as they pass, whoever reads or writes them."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._first_bad: dict[str, tuple[int, ...]] = {}
        self._largest: dict[str, float] = dict.fromkeys(shapes, 0.0)
        self._negative: set[str] = set()
        shape = shapes.get("W_dec", ())
        # one tensor from the start: small ones kept between blocks would pin the freed blocks before them in the heap
        self._norms = torch.zeros(shape[0], dtype=torch.float64) if len(shape) > 1 else None

    def see(self, name: str, first: int, block: Tensor) -> None:
        """Take note of one block, which begins at row `first` of tensor `name`."""
        if not block.is_floating_point() or not block.numel():
            return
        values = block if block.itemsize > 1 else block.float()
        low, high = (float(v) for v in torch.aminmax(values))  # NaN and infinity propagate
        self._largest[name] = max(self._largest[name], abs(low), abs(high))
        if low < 0:
            self._negative.add(name)
        if name not in self._first_bad and not (math.isfinite(low) and math.isfinite(high)):
            self._first_bad[name] = _first_bad(values, first)
        if name == "W_dec" and self._norms is not None:
            norms = self._norms[first : first + len(block)]
            torch.linalg.vector_norm(values.flatten(1), dim=1, dtype=torch.float64, out=norms)

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


def _first_bad(block: Tensor, first: int) -> tuple[int, ...]:
    position = tuple(int(i) for i in (~torch.isfinite(block)).nonzero()[0])
    return (position[0] + first, *position[1:]) if position else ()


def _summary(norms: Tensor) -> DecoderNorm | None:
    low, high = float(norms.min()), float(norms.max())
    if not math.isfinite(high):
        return None
    return DecoderNorm(unit=abs(low - 1) <= UNIT and abs(high - 1) <= UNIT, minimum=low, maximum=high)
