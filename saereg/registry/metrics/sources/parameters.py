"""Rows of a parameter tensor at some pretraining steps: row i is vocabulary entry i at every snapshot."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.files.flat import ITEMS
from saereg.registry.metrics.sources.activations import opened
from saereg.registry.metrics.sources.checkpoints import Snapshot
from saereg.registry.metrics.sources.shapes import check_rows, check_shape
from saereg.schemas.evaluation import ParameterRows, Preprocess

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from saereg.registry.files.tensors import Entry

BLOCK_BYTES = 4 * 1024 * 1024
"""Bytes of a tensor that are read at once when it is read through."""

PART_VALUES = 1 << 14
"""Numbers that are computed with at once: in float64 they stay in the cache of the processor, four times as quick, and
torch starts no threads for so few, which would only wait for each other."""


@dataclass(frozen=True)
class Statistics:
    """What rows of one snapshot are centred and scaled by, of all its rows.

    Attributes:
        mean: mean row, float64, (d,).
        square: mean of ‖x − mean‖².
    """

    mean: "Tensor"
    square: float

    def scale(self, preprocess: Preprocess) -> float | None:
        """Return by what rows are multiplied so that the mean of ‖x‖² is d; None where nothing else is asked for.

        Infinite where all rows are equal.
        """
        if preprocess not in ("scale", "center_scale"):
            return None
        square = self.square + (float(self.mean.square().sum()) if preprocess == "scale" else 0.0)
        return math.sqrt(len(self.mean) / square) if square > 0 else math.inf


@dataclass(frozen=True)
class ParameterSource:
    """Rows of a parameter: (rows, d), or (rows, K, d) with K snapshots.

    They are float32 however they are stored, float64 where any snapshot is. Statistics are those of all rows, in
    float64; `x ↦ (x − mean) · scale` is computed in float64 and rounded once.

    Attributes:
        evaluation: what is said of them.
        snapshots: where the tensor is at every step.
        shape: shape of one row that the dictionary reads; None: whatever is there.
    """

    evaluation: ParameterRows
    snapshots: tuple[Snapshot, ...]
    shape: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """Name of the tensor."""
        return self.evaluation.tensor

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.evaluation.rows

    @property
    def excluded(self) -> tuple[str, ...]:
        """Entries of the vocabulary that were left out, as the record says."""
        return self.evaluation.excluded

    @property
    def has_target(self) -> bool:
        """Never."""
        return False

    @property
    def paths(self) -> "tuple[Path, ...]":
        """The file of every snapshot."""
        return tuple(snapshot.path for snapshot in self.snapshots)

    @property
    def _single(self) -> bool:
        """Whether rows have no axis of sources: there is one, and no crosscoder of one source reads them."""
        return len(self.snapshots) == 1 and (self.shape is None or len(self.shape) == 1)

    @cached_property
    def _entries(self) -> "tuple[Entry, ...]":
        """Shape and type of every snapshot, found to fit together."""
        found: list[Entry] = []
        for snapshot in self.snapshots:
            where = f"{snapshot.revision}/{snapshot.path.name}"
            entry = opened(snapshot.path, any_kind=True).entries[snapshot.tensor]
            check_rows(where, snapshot.tensor, entry)
            if len(entry.shape) != 2:
                raise WeightsError(where, f"has shape {entry.shape}; a matrix (rows, d) is needed", snapshot.tensor)
            if entry.shape != (found[0].shape if found else entry.shape):
                said = f"has shape {entry.shape}, that of {self.snapshots[0].revision} {found[0].shape}"
                raise WeightsError(where, said, snapshot.tensor)
            found.append(entry)
        rows, width = found[0].shape
        if rows != self.rows:
            raise WeightsError(self.snapshots[0].path.name, f"has {rows} rows, {self.rows} are declared", self.name)
        if self.shape is not None:
            check_shape(self.snapshots[0].path.name, self.name, (len(found), width)[self._single :], self.shape)
        return tuple(found)

    @cached_property
    def _digests(self) -> tuple[str, ...]:
        """Digest of the bytes of each matrix: row by row, little-endian, in the stored type."""
        _ = self._entries
        return tuple(_sha256_of(snapshot, _identity(snapshot)) for snapshot in self.snapshots)

    @cached_property
    def _statistics(self) -> tuple[tuple["Tensor", float | None], ...]:
        """(mean row, scale) of each snapshot."""
        found = []
        for snapshot in self.snapshots:
            one = _statistics_of(snapshot, _identity(snapshot))
            scale = one.scale(self.evaluation.preprocess)
            if scale == math.inf:
                raise WeightsError(snapshot.revision, "all rows are equal: they cannot be scaled", snapshot.tensor)
            found.append((one.mean, scale))
        return tuple(found)

    def check(self) -> None:
        """Refuse snapshots that do not fit together, or are not what is said of them.

        Raises:
            WeightsError: naming the one that does not fit, or holds another matrix than the record says.
        """
        _ = self._entries
        if not self.evaluation.sha256:
            return
        for snapshot, found, said in zip(self.snapshots, self._digests, self.evaluation.sha256, strict=True):
            if found != said:
                raise WeightsError(
                    f"{snapshot.revision}/{snapshot.path.name}",
                    f"sha256 of the matrix at step {snapshot.step} is {found}, {said} is declared; "
                    "give the checkpoints that the dictionaries were trained on, with --model",
                    snapshot.tensor,
                )

    def digest(self) -> str:
        """Return the SHA-256 of a line per snapshot, `step revision sha256 dtype rows×d`, and one of preprocessing."""
        lines = [
            f"{s.step} {s.revision} {sha256} {entry.dtype} {entry.shape[0]}x{entry.shape[1]}\n"
            for s, sha256, entry in zip(self.snapshots, self._digests, self._entries, strict=True)
        ]
        return hashlib.sha256("".join([*lines, f"{self.evaluation.preprocess}\n"]).encode()).hexdigest()

    def read(self, first: int, count: int) -> "tuple[Tensor, Tensor]":
        """Return some rows, twice; of each snapshot no others are read."""
        import torch

        entries = self._entries
        if not 0 <= first <= first + count <= self.rows:
            raise WeightsError(self.name, f"rows {first} to {first + count} are not there; it has {self.rows}")
        dtype = torch.float64 if any(entry.dtype == "float64" for entry in entries) else torch.float32
        width = entries[0].shape[1]
        x = torch.empty(count, len(entries), width, dtype=dtype)
        for k, snapshot in enumerate(self.snapshots):
            block = opened(snapshot.path, any_kind=True).box(snapshot.tensor, ((first, first + count), (0, width)))
            self._fill(x[:, k], block, k)
        x = x[:, 0] if self._single else x
        return x, x

    def _fill(self, x: "Tensor", block: "Tensor", source: int) -> None:
        """Write rows of one snapshot, preprocessed, where they belong."""
        if self.evaluation.preprocess == "none":
            x.copy_(block)
            return
        mean, scale = self._statistics[source]
        rows = _part_rows(block)
        for first in range(0, len(block), rows):
            part = block[first : first + rows].double()
            if self.evaluation.preprocess != "scale":
                part -= mean
            x[first : first + rows] = part if scale is None else part.mul_(scale)


def _identity(snapshot: Snapshot) -> tuple[int, ...]:
    """Return which file it is now: what is remembered is of that one alone."""
    status = snapshot.path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4096)
def _sha256_of(snapshot: Snapshot, identity: tuple[int, ...]) -> str:
    """Return the digest of a matrix; remembered, as many dictionaries are measured on it."""
    del identity
    digest = hashlib.sha256()
    for block in _blocks(snapshot):
        digest.update(bytes_of(block))
    return digest.hexdigest()


def bytes_of(block: "Tensor") -> memoryview:
    """Return the bytes of rows as digests take them: row by row, little-endian, in the stored type."""
    import torch

    found: memoryview = block.contiguous().view(torch.uint8).numpy().data
    return found


@lru_cache(maxsize=4096)
def _statistics_of(snapshot: Snapshot, identity: tuple[int, ...]) -> Statistics:
    """Return the statistics of a matrix, of one pass in float64.

    Parts are merged as in Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for computing
    sample variances", so that a mean far from 0 costs no digits.
    """
    import torch

    del identity
    rows, square, mean = 0, 0.0, torch.zeros(1, dtype=torch.float64)
    for block in _blocks(snapshot):
        for first in range(0, len(block), _part_rows(block)):
            x = block[first : first + _part_rows(block)].double()
            centre = x.mean(0)
            x -= centre
            total, step = rows + len(x), centre - mean
            square += float(x.square_().sum()) + float(step.square().sum()) * rows * len(x) / total
            mean, rows = mean + step * (len(x) / total), total
    if not math.isfinite(square):
        where = f"{snapshot.revision}/{snapshot.path.name}"
        raise WeightsError(where, "holds numbers that are not finite", snapshot.tensor)
    return Statistics(mean, square / rows)


def _part_rows(block: "Tensor") -> int:
    return max(1, PART_VALUES // block.shape[1])


def _blocks(snapshot: Snapshot) -> "Iterator[Tensor]":
    file = opened(snapshot.path, any_kind=True)
    entry = file.entries[snapshot.tensor]
    rows, width = entry.shape
    step = max(1, BLOCK_BYTES // (width * ITEMS[entry.dtype]))
    for first in range(0, rows, step):
        yield file.box(snapshot.tensor, ((first, min(rows, first + step)), (0, width)))
