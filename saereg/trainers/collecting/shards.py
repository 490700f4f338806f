"""Activations on disk: shards that appear whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UsageError
from saereg.registry.files.blocks import write_tensors
from saereg.registry.files.digest import sha256_of
from saereg.schemas.collection import Shard

if TYPE_CHECKING:
    from torch import Tensor

COLLECTION_FILE = "collection.json"
TENSOR = "x"
"""Name of the tensor in a shard, shape (rows, d_in)."""


class ShardBuffer:
    """One shard in the making, for every site.

    Args:
        folder: the collection.
        widths: site key → width of its activations.
        dtype: `float16` or `float32`.
        rows: rows per shard.
        finished: rows per site in finished shards.
    """

    def __init__(self, folder: Path, widths: Mapping[str, int], dtype: str, rows: int, finished: int) -> None:
        import torch

        kind = getattr(torch, dtype)
        self._folder, self._dtype, self._rows = folder, dtype, rows
        self._blocks = {key: torch.empty(rows, width, dtype=kind) for key, width in widths.items()}
        self.finished, self.filled = finished, 0

    @property
    def space(self) -> int:
        """Rows that still fit."""
        return self._rows - self.filled

    def add(self, rows: Mapping[str, "Tensor"]) -> None:
        """Append the same number of rows for every site.

        Raises:
            UsageError: when a value is not finite in the stored type.
        """
        count = 0
        for key, tensor in rows.items():
            count = len(tensor)
            place = self._blocks[key][self.filled : self.filled + count]
            place.copy_(tensor)
            self._check(key, place)
        self.filled += count

    def _check(self, key: str, stored: "Tensor") -> None:
        finite = stored.isfinite().all(dim=1)
        if not bool(finite.all()):
            row = self.finished + self.filled + int((~finite).int().argmax())
            hint = "collect with float32" if self._dtype == "float16" else "the model itself overflows"
            raise UsageError(f"site {key}, row {row}: a value is not finite in {self._dtype}; {hint}")

    def flush(self) -> dict[str, Shard]:
        """Write one shard per site and start the next; return site key → shard."""
        number, count = self.finished // self._rows, self.filled
        shards = {}
        for key, block in self._blocks.items():
            path = f"{key}/shard-{number:05d}.safetensors"
            write_rows(self._folder / path, block[:count])
            shards[key] = Shard(path=path, rows=count, sha256=sha256_of(self._folder / path))
        self.finished, self.filled = self.finished + count, 0
        return shards


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a run that was killed while it wrote."""
    for leftover in [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]:
        leftover.unlink()


def write_rows(path: Path, rows: "Tensor") -> None:
    """Write a file with the tensor `x` under a temporary name, then rename it."""
    write_tensors(path, {TENSOR: rows.contiguous()})
