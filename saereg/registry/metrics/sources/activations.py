"""Rows stored in a file, or one after another in the files of a folder."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.flat import open_safetensors
from saereg.registry.files.natural import natural_key
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.tensors import Entry, TensorFile
from saereg.registry.metrics.sources.shapes import check_regular, check_rows, check_shape
from saereg.schemas.evaluation import ActivationRows

if TYPE_CHECKING:
    from torch import Tensor

SHARDS = (".safetensors", ".npy", ".npz", ".pt", ".pth", ".bin")
"""Endings of files of rows; of a folder those with the first ending that occurs are its shards."""


@dataclass(frozen=True)
class _Part:
    """Some rows of one file.

    Attributes:
        path: the file.
        first: number of its first row.
        rows: how many it holds.
        entry: shape and type of its inputs.
    """

    path: Path
    first: int
    rows: int
    entry: Entry


@dataclass(frozen=True)
class StoredRows:
    """Rows in a file, or in the files of a folder.

    Attributes:
        path: the file or folder.
        evaluation: what is said of them.
        sha256: digest of the file, where it is known already.
        shape: shape of one row that the dictionary reads; None: whatever is there.
        files: the shards in their order; empty: of a folder those in it, in the natural order of their names.
        known: name of a shard → its digest, where it is known already.
        any_kind: whether anything that holds tensors is read: outside a release. In one it is safetensors alone.
    """

    path: Path
    evaluation: ActivationRows
    sha256: str | None = None
    shape: tuple[int, ...] | None = None
    files: tuple[str, ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)
    any_kind: bool = False

    @property
    def name(self) -> str:
        """Name of the file or folder."""
        return self.path.name

    @property
    def rows(self) -> int:
        """Rows, as the manifest says."""
        return self.evaluation.rows

    @property
    def excluded(self) -> tuple[str, ...]:
        """Tokens whose rows were left out."""
        return self.evaluation.excluded

    @property
    def has_target(self) -> bool:
        """Whether the file holds targets."""
        return self.evaluation.target is not None

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Names of the shards, in order; empty for one file."""
        return self.files or (shards_of(self.path, SHARDS if self.any_kind else SHARDS[:1]) if self._is_folder else ())

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file, or the shards."""
        return tuple(self.path / name for name in self._names) or (self.path,)

    @cached_property
    def _is_folder(self) -> bool:
        return bool(self.files) or self.path.is_dir()

    @cached_property
    def _parts(self) -> tuple[_Part, ...]:
        """The files, looked at and found to fit together."""
        parts: list[_Part] = []
        first = 0
        for name in self._names or ("",):
            path = self.path / name if name else self.path
            entry = self._entry(path, self.evaluation.tensor)
            rows = entry.shape[0]
            if self.evaluation.target is not None:
                target = self._entry(path, self.evaluation.target)
                if target.shape[0] != rows:
                    raise self._rows_problem(
                        path.name, self.evaluation.target, target.shape[0], rows, "its inputs have"
                    )
            if parts and (parts[0].entry.dtype, parts[0].entry.shape[1:]) != (entry.dtype, entry.shape[1:]):
                said = f"holds {entry.dtype} rows {entry.shape[1:]}, {parts[0].path.name} {parts[0].entry.dtype}"
                raise WeightsError(f"{self.name}/{name}", f"{said} rows {parts[0].entry.shape[1:]}")
            parts.append(_Part(path, first, rows, entry))
            first += rows
        if self.shape is not None:
            check_shape(parts[0].path.name, self.evaluation.tensor, parts[0].entry.shape[1:], self.shape)
        if first != self.evaluation.rows:
            said = "the manifest says" if not self.any_kind else "the record says"
            raise self._rows_problem(self.name, self.evaluation.tensor, first, self.evaluation.rows, said)
        return tuple(parts)

    def _entry(self, path: Path, tensor: str) -> Entry:
        entries = opened(path, any_kind=self.any_kind).entries
        if tensor not in entries:
            raise WeightsError(path.name, f"missing; the file holds {', '.join(entries) or 'no tensor'}", tensor)
        check_rows(path.name, tensor, entries[tensor])
        return entries[tensor]

    @staticmethod
    def _rows_problem(name: str, tensor: str, found: int, expected: int, who: str) -> WeightsError:
        return WeightsError(name, f"has {found} rows, {who} {expected}", tensor)

    def digest(self) -> str:
        """Return the SHA-256 of the file; of a folder, that of one line `sha256  name` per shard in order."""
        if self.sha256 is not None:
            return self.sha256
        if not self._is_folder:
            check_regular(self.path)
            return sha256_of(self.path)
        return folder_digest((name, self.known.get(name) or sha256_of(self.path / name)) for name in self._names)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row, as it is stored.

        Raises:
            WeightsError: when the file does not hold what the manifest says.
            OSError: when it cannot be read.
        """
        return self._parts[0].entry.shape[1:]

    def check(self) -> None:
        """Refuse a file that does not hold what the manifest says.

        Raises:
            WeightsError: naming what is missing.
        """
        _ = self._parts

    def read(self, first: int, count: int) -> "tuple[Tensor, Tensor]":
        """Return (inputs, targets) of some rows."""
        if not 0 <= first <= first + count <= self.evaluation.rows:
            raise WeightsError(self.name, f"rows {first} to {first + count} are not there; it has {self.rows}")
        x = self._read(self.evaluation.tensor, first, count)
        return x, x if self.evaluation.target is None else self._read(self.evaluation.target, first, count)

    def _read(self, tensor: str, first: int, count: int) -> "Tensor":
        import torch

        pieces: list[Tensor] = []
        for part in self._parts:
            begin, end = max(first, part.first), min(first + count, part.first + part.rows)
            if begin < end or (not count and not pieces):
                file = opened(part.path, any_kind=self.any_kind)
                inner = tuple((0, size) for size in file.entries[tensor].shape[1:])
                start = max(0, begin - part.first)
                pieces.append(file.box(tensor, ((start, start + max(0, end - begin)), *inner)))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def folder_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return the digest of (name, sha256) of files in an order: what `sha256sum FILES | sha256sum` prints."""
    lines = (f"{sha256}  {name}\n" for name, sha256 in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def shards_of(folder: Path, endings: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the shards in a folder, in natural order.

    Raises:
        WeightsError: when there are none.
        OSError: when it cannot be listed.
    """
    names = [entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith(".")]
    for ending in endings:
        if found := sorted((name for name in names if name.endswith(ending)), key=natural_key):
            return tuple(found)
    if any(name.endswith(".arrow") for name in names):
        raise WeightsError(folder.name, "holds an Arrow data set; save its column of activations as .npy first")
    raise WeightsError(folder.name, f"holds no file of rows ({', '.join(endings)})")


def opened(path: Path, *, any_kind: bool) -> TensorFile:
    """Return a file of tensors; one that did not change since is not opened twice.

    Raises:
        WeightsError: when it is damaged, holds no tensors, or is no ordinary file.
        OSError: when it cannot be read.
    """
    check_regular(path)
    status = path.stat()
    return _opened(path, any_kind, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=512)
def _opened(path: Path, any_kind: bool, identity: tuple[int, ...]) -> TensorFile:
    del identity
    return open_tensors(path) if any_kind else open_safetensors(path)
