"""One exported tensor against what its recipe gives, while its blocks pass: three ways, by what the recipe does.

Straight  the bytes lie in the source in the same order: they are compared as they are
Tiled     the matrix is transposed: rows of the source against columns of the export, tile by tile
Redone    everything else: the recipe is carried out block by block

Bytes are compared, never values: -0.0 is not 0.0, and a NaN is the same only with the same payload.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from saereg.registry.files.memory import memory
from saereg.registry.files.spans import Reader, Span, span_of
from saereg.registry.readings.recipes import Recipes, shape_after
from saereg.schemas.recipe import Step

if TYPE_CHECKING:
    import mmap

MAX_FLOAT = float(torch.finfo(torch.float64).max)

PART_NUMBERS = 128 * 1024
"""Numbers of blocks that are subtracted at once."""

TILE_BYTES = 8 * 1024 * 1024
"""Bytes of a tile: memory holds one of the source and one of the export."""

LEAST_RUN = 1024
"""Numbers in a run of neighbours of a tile, at least: for shorter ones the calls cost more than the bytes."""

PAD = 64
"""Bytes between the rows of a tile: at a distance of a power of two all would want the same places in the cache."""

PATCH_ROWS, PATCH_COLUMNS = 512, 64
"""Part of a tile that is compared at once: both sides stay in the cache of a core, whose lines are used whole."""

SAME_ORDER = frozenset({"squeeze", "merge_first_axes", "merge_last_axes"})
"""Steps after which the bytes lie as before."""

WORDS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}
"""Bytes of a number → the whole number that its bits are compared as."""


@dataclass
class Difference:
    """How an exported tensor differs from what its recipe gives.

    Attributes:
        bitwise: whether type and bytes are the same.
        largest: largest absolute difference, in float64.
        first: position of the first number whose bytes differ.
    """

    bitwise: bool = True
    largest: float = 0.0
    first: int | None = None

    def note(self, position: int, largest: float) -> None:
        """Take note of a part that differs, first at `position`."""
        self.bitwise, self.largest = False, max(self.largest, largest)
        self.first = position if self.first is None else min(self.first, position)


class Comparison(Protocol):
    """Looks at the blocks of one exported tensor in the order of its bytes."""

    difference: Difference

    def see(self, start: int, block: Tensor) -> None:
        """Compare a flat block, which begins at number `start`."""

    def finish(self) -> None:
        """Compare what can only be compared when all blocks have passed, and close."""

    def close(self) -> None:
        """Let go of files and memory."""


@dataclass(frozen=True)
class Lying:
    """Where the numbers of a tensor that a recipe only moves lie in the source.

    Attributes:
        span: the bytes.
        transposed: whether they are those of the matrix transposed; then `span.shape` is that of the source.
    """

    span: Span
    transposed: bool = False


def comparison(name: str, exported: Span | None, recipes: Recipes) -> Comparison:
    """Return the cheapest way to compare an exported tensor with its recipe.

    Args:
        name: the tensor.
        exported: where its bytes lie, if they lie in order.
        recipes: how it was made.
    """
    lying = _lying(name, recipes)
    if lying is None or exported is None or lying.span.dtype != exported.dtype or exported.item not in WORDS:
        return Redone(name, recipes)
    return Tiled(exported, lying.span) if lying.transposed else Straight(lying.span)


class Straight:
    """The bytes of the source in the same order."""

    def __init__(self, source: Span) -> None:
        self.difference, self._source, self._raw = Difference(), source, bytearray(0)
        self._reader: Reader | None = None

    def see(self, start: int, block: Tensor) -> None:
        """Compare a flat block, which begins at number `start`."""
        if self._reader is None:
            self._reader = Reader(self._source.path)
        mine, size = _bytes(block), block.nbytes
        if len(self._raw) < size:
            self._raw = bytearray(size)
        self._reader.fill(memoryview(self._raw)[:size], self._source.begin + start * self._source.item)
        if not _same(np.frombuffer(self._raw, np.uint8, size), mine):
            _note(self.difference, start, torch.frombuffer(self._raw, dtype=block.dtype, count=len(block)), block)

    def finish(self) -> None:
        """Close: every block was compared when it passed."""
        self.close()

    def close(self) -> None:
        """Close the source."""
        if self._reader is not None:
            self._reader.close()


class Redone:
    """What the recipe gives, made again block by block."""

    def __init__(self, name: str, recipes: Recipes) -> None:
        self.difference, self._made = Difference(), self._parts(name, recipes)
        self._part: Tensor | None = None

    @staticmethod
    def _parts(name: str, recipes: Recipes) -> Iterator[Tensor]:
        for _, block in recipes.blocks(name):
            yield block.reshape(-1)
            del block  # before the next one is made

    def see(self, start: int, block: Tensor) -> None:
        """Compare a flat block, which begins at number `start`."""
        while len(block):
            if self._part is None or not len(self._part):
                self._part = None  # before the next one is made
                self._part = next(self._made)
            count = min(len(block), len(self._part))
            expected, mine = self._part[:count], block[:count]
            if expected.dtype != mine.dtype or not _same(_bytes(expected), _bytes(mine)):
                _note(self.difference, start, expected, mine)
            self._part, block, start = self._part[count:], block[count:], start + count

    def finish(self) -> None:
        """Close: every block was compared when it passed."""
        self.close()

    def close(self) -> None:
        """Let go of the blocks."""
        self._part = None
        self._made.close()  # type: ignore[attr-defined]  # it is a generator


class Tiled:
    """A matrix against the transposed one in the source, neither of which is ever in memory whole.

    The export is read in the order of its bytes by whoever hashes it. Compared in that order, every block would need a
    few columns of the source, and so all its pages; so a tile is compared at a time, read from both files in runs.
    """

    def __init__(self, exported: Span, source: Span) -> None:
        self.difference, self._exported, self._source = Difference(), exported, source

    def see(self, start: int, block: Tensor) -> None:
        """Leave the block: it is compared with the others of its tile."""

    def finish(self) -> None:
        """Compare tile by tile."""
        if self._exported.count:
            with Reader(self._exported.path) as exported, Reader(self._source.path) as source:
                self._compare(exported, source)

    def close(self) -> None:
        """Do nothing: files are open while they are compared."""

    def _compare(self, exported: Reader, source: Reader) -> None:
        rows, columns = self._source.shape
        most = max(1, TILE_BYTES // self._source.item)
        high = min(rows, max(LEAST_RUN, most // columns))
        wide = min(columns, max(1, most // high))
        theirs, mine = Tile(self._source, high, wide), Tile(self._exported, wide, high)
        for top in range(0, rows, high):
            for left in range(0, columns, wide):
                tall, broad = min(high, rows - top), min(wide, columns - left)
                expected = theirs.read(source, (top, tall), (left, broad))
                self._patches(expected, mine.read(exported, (left, broad), (top, tall)), (top, left))

    def _patches(self, expected: "np.ndarray", mine: "np.ndarray", corner: tuple[int, int]) -> None:
        """Compare a tile of the source with one of the export, patch by patch."""
        (tall, broad), (top, left) = expected.shape, corner
        for row in range(0, tall, PATCH_ROWS):
            for column in range(0, broad, PATCH_COLUMNS):
                rows, columns = slice(row, row + PATCH_ROWS), slice(column, column + PATCH_COLUMNS)
                theirs, ours = expected[rows, columns].T, mine[columns, rows]
                differing = theirs != ours
                if differing.any():
                    self._differ(theirs, ours, differing, (top + row, left + column))

    def _differ(
        self, theirs: "np.ndarray", ours: "np.ndarray", differing: "np.ndarray", corner: tuple[int, int]
    ) -> None:
        """Note a patch of the export that differs; `corner` is its place in the source."""
        row, column = (int(axis[0]) for axis in np.nonzero(differing))
        position = (corner[1] + row) * self._exported.shape[1] + corner[0] + column
        dtype = getattr(torch, self._exported.dtype)
        both = (torch.from_numpy(np.ascontiguousarray(part)).view(dtype) for part in (theirs, ours))
        self.difference.note(position, max_abs_diff(*both))


class Tile:
    """Memory for a tile of a matrix in a file, its rows a little apart."""

    def __init__(self, span: Span, rows: int, columns: int) -> None:
        self._span, self._stride = span, columns * span.item + PAD
        self._raw: bytearray | mmap.mmap = memory(rows * self._stride)

    def read(self, reader: Reader, rows: tuple[int, int], columns: tuple[int, int]) -> "np.ndarray":
        """Return a box, given as (first, count) of rows and columns, as whole numbers.

        Raises:
            OSError: when the file ends before.
        """
        item, width, view, stride = self._span.item, self._span.shape[1], memoryview(self._raw), self._stride
        size, place = columns[1] * item, self._span.begin + (rows[0] * width + columns[0]) * item
        into = [view[at : at + size] for at in range(0, rows[1] * stride, stride)]
        if columns[1] == width:
            reader.scatter(into, place)
        else:
            for row, part in enumerate(into):
                reader.fill(part, place + row * width * item)
        table = np.frombuffer(self._raw, np.uint8, rows[1] * stride).reshape(rows[1], stride)
        return table[:, :size].view(WORDS[item])


def _lying(name: str, recipes: Recipes) -> Lying | None:
    """Return where the numbers lie that a recipe gives; None where it does more than to find or transpose them."""
    recipe = recipes.plan[name]
    if recipe.key is None:
        return None
    file, _ = recipes.source(recipe)
    span = span_of(file, recipe.key)
    lying = None if span is None else Lying(span)
    for step in recipe.steps:
        lying = None if lying is None else _after(step, lying)
    return lying


def _after(step: Step, lying: Lying) -> Lying | None:
    span, axis = lying.span, step.axis or 0
    if step.do == "transpose":
        return Lying(span, not lying.transposed)
    if lying.transposed:
        return None
    if step.do == "take" and math.prod(span.shape[:axis]) == 1:
        skipped = (step.index or 0) * math.prod(span.shape[axis + 1 :]) * span.item
        return Lying(Span(span.path, span.begin + skipped, span.dtype, shape_after((step,), span.shape)))
    if step.do in SAME_ORDER:
        return Lying(Span(span.path, span.begin, span.dtype, shape_after((step,), span.shape)))
    return None


def _bytes(block: Tensor) -> "np.ndarray":
    return block.view(torch.uint8).numpy()


def _same(left: "np.ndarray", right: "np.ndarray") -> bool:
    """Whether so many bytes are the same; eight at a time, where they are so many."""
    word = np.uint64 if len(left) % 8 == 0 else np.uint8
    return np.array_equal(left.view(word), right.view(word))


def _note(difference: Difference, start: int, expected: Tensor, block: Tensor) -> None:
    """Note two flat blocks that are not the same bytes."""
    first = 0
    if expected.dtype == block.dtype:
        unequal = (_bytes(expected) != _bytes(block)).reshape(-1, block.itemsize).any(axis=1)
        first = int(unequal.argmax())
    difference.note(start + first, max_abs_diff(expected, block))


def max_abs_diff(expected: Tensor, block: Tensor) -> float:
    """Return the largest absolute difference of two blocks, in float64; a part at a time, as that is wide."""
    if expected.shape != block.shape:
        return MAX_FLOAT
    left, right = expected.reshape(-1), block.reshape(-1)
    parts = (slice(first, first + PART_NUMBERS) for first in range(0, left.numel(), PART_NUMBERS))
    return max((_largest(left[part], right[part]) for part in parts), default=0.0)


def _largest(expected: Tensor, block: Tensor) -> float:
    expected, block = expected.double(), block.double()
    difference = (expected - block).abs()
    # Equal infinities and equal NaNs differ by nothing; whether their bytes agree is the business of `bitwise`.
    difference[(expected == block) | (expected.isnan() & block.isnan())] = 0.0
    return float(difference.nan_to_num(nan=MAX_FLOAT).max())


def same_bytes(a: Tensor, b: Tensor) -> bool:
    """Whether two blocks have one type, one shape and the same bytes."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    left, right = (_bytes(t.contiguous().reshape(-1)) for t in (a, b))
    return _same(left, right)
