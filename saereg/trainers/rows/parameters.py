"""Read stored snapshots of a parameter: any rows of it at any step, from as few bytes as they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UsageError
from saereg.registry.files.blocks import read_span
from saereg.registry.files.header import ITEM_BYTES, read_header
from saereg.schemas.parameters import StoredParameter, StoredSnapshot
from saereg.trainers.collecting.snapshots import PARAMETERS_FILE

if TYPE_CHECKING:
    from torch import Tensor

TENSOR = "x"
"""Name of the one tensor in the file of a snapshot."""


def read_parameters(folder: Path) -> StoredParameter:
    """Read a finished folder of snapshots.

    Raises:
        UsageError: when there is none, or steps are missing.
        DocumentError: when its document does not fit.
    """
    path = folder / PARAMETERS_FILE
    if not path.is_file():
        raise UsageError(f"{folder} holds no {PARAMETERS_FILE}; make it with `saereg train snapshots`")
    stored = StoredParameter.read(path)
    missing = set(stored.target_steps) - {snapshot.step for snapshot in stored.snapshots}
    if missing:
        raise UsageError(
            f"{folder} is not finished: step {min(missing)} is missing, and {len(missing) - 1} more; "
            "run `saereg train snapshots` again with the same options"
        )
    return stored


def snapshots_at(folder: Path, stored: StoredParameter, steps: Sequence[int]) -> tuple[StoredSnapshot, ...]:
    """Return the snapshots of some steps; of all where none are named.

    Raises:
        UsageError: when there is none of a step.
    """
    known = {snapshot.step: snapshot for snapshot in stored.snapshots}
    for step in steps:
        if step not in known:
            there = ", ".join(str(one) for one in known)
            raise UsageError(f"{folder} has no step {step} of {stored.parameter}; it has {there}")
    return tuple(known[step] for step in steps) if steps else stored.snapshots


class ParameterRows:
    """The rows of a parameter at one step: row i is vocabulary entry i at every step.

    Args:
        folder: the snapshots.
        stored: their document.
        snapshot: the one.

    Raises:
        UsageError: when its file is missing or has another shape than the document says.
        WeightsError: when it is damaged.
    """

    def __init__(self, folder: Path, stored: StoredParameter, snapshot: StoredSnapshot) -> None:
        self.rows, self.width = stored.rows, stored.d_in
        self._path = folder / snapshot.path
        if not self._path.is_file():
            raise UsageError(f"{self._path} is missing; run `saereg train snapshots` again in a new folder")
        entry = read_header(self._path).tensors.get(TENSOR)
        if entry is None or entry.shape != (self.rows, self.width):
            raise UsageError(f"{self._path}: expected a tensor {TENSOR!r} of shape {(self.rows, self.width)}")
        self._entry = entry

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, as it is stored."""
        return self.width * ITEM_BYTES[self._entry.dtype]

    def read(self, first: int, last: int) -> "Tensor":
        """Return rows `first` to `last` (exclusive), as they are stored: (rows, d_in).

        Raises:
            UsageError: when a value is not finite.
        """
        rows = read_span(self._path, self._entry, first, last - first)
        bad = ~rows.isfinite().all(dim=1)
        if bool(bad.any()):
            row = first + int(bad.int().argmax())
            raise UsageError(f"{self._path}, row {row}, holds a value that is not finite; keep the snapshot again")
        return rows
