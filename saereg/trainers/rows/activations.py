"""Read a collection: any rows of any site, from as few bytes as they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UnknownNameError, UsageError, WeightsError
from saereg.registry.files.blocks import read_span
from saereg.registry.files.header import ITEM_BYTES, TensorEntry, read_header
from saereg.schemas.collection import Collection, Shard
from saereg.trainers.collecting.shards import COLLECTION_FILE, TENSOR

if TYPE_CHECKING:
    from torch import Tensor


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
    """One shard: its file, the row of the collection that it starts with, and the site."""

    path: Path
    entry: TensorEntry
    first: int
    site: str


class Activations:
    """The rows of one site.

    Args:
        folder: the collection.
        collection: its document.
        site: key of the site.

    Raises:
        UnknownNameError: when the collection has no such site.
        UsageError: when a shard is missing, damaged, or has another shape than the document says.
    """

    def __init__(self, folder: Path, collection: Collection, site: str) -> None:
        if site not in collection.sites:
            raise UnknownNameError(f"site in {folder}", site, collection.sites)
        self.width = collection.sites[site].d_in
        self._parts: list[_Part] = []
        self.rows = 0
        for shard in collection.sites[site].shards:
            self._parts.append(_Part(folder / shard.path, _entry(folder, shard, self.width), self.rows, site))
            self.rows += shard.rows

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, as it is stored."""
        return self.width * ITEM_BYTES[self._parts[0].entry.dtype]

    def read(self, first: int, last: int) -> "Tensor":
        """Return rows `first` to `last` (exclusive), as they are stored: (rows, d_in).

        Raises:
            UsageError: when a value is not finite.
        """
        import torch

        pieces = []
        for part in self._parts:
            begin, end = max(first, part.first), min(last, part.first + part.entry.shape[0])
            if begin < end:
                pieces.append(read_span(part.path, part.entry, begin - part.first, end - begin))
                _check_finite(pieces[-1], part, begin)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _check_finite(rows: "Tensor", part: _Part, first: int) -> None:
    """Refuse rows that would end every run: a collection that was made elsewhere, or was damaged, may hold some."""
    finite = rows.isfinite()
    if not bool(finite.all()):
        row = int((~finite.all(dim=1)).int().argmax())
        raise UsageError(
            f"{part.path}, row {first - part.first + row} (row {first + row} of site {part.site}) holds a value "
            "that is not finite; collect again in a new folder"
        )


def _entry(folder: Path, shard: Shard, width: int) -> TensorEntry:
    path = folder / shard.path
    if not path.is_file():
        raise UsageError(f"{path} is missing; run `saereg train collect` again in a new folder")
    try:
        entry = read_header(path).tensors.get(TENSOR)
    except WeightsError as problem:
        raise UsageError(f"{path}: {problem.problem}; run `saereg train collect` again in a new folder") from None
    if entry is None or entry.shape != (shard.rows, width):
        found = f"shape {entry.shape}" if entry else "none of that name"
        raise UsageError(
            f"{path}: expected a tensor {TENSOR!r} of shape {(shard.rows, width)}, found {found}; collect again in a "
            "new folder"
        )
    return entry
