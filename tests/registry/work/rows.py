"""Rows that end the process that reads them, once."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.registry.metrics.sources.synthetic import GeneratedRows
from saereg.schemas.evaluation import SyntheticRows

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DeadlyRows:
    """Generated rows, of which one block is deadly to the first process that reads it.

    Attributes:
        count: rows.
        width: of each.
        folder: where every call of `read` leaves a trace, `ROW-TIME-PROCESS`.
        deadly: row whose reader dies by SIGKILL, unless one died already.
    """

    count: int
    width: int
    folder: Path
    deadly: int | None = None

    @property
    def _made(self) -> GeneratedRows:
        return GeneratedRows(SyntheticRows(source="synthetic", seed=3, rows=self.count), (self.width,))

    @property
    def name(self) -> str:
        return "deadly"

    @property
    def rows(self) -> int:
        return self.count

    @property
    def excluded(self) -> tuple[str, ...]:
        return ()

    @property
    def has_target(self) -> bool:
        return False

    @property
    def paths(self) -> tuple[Path, ...]:
        return ()

    def digest(self) -> str:
        return self._made.digest()

    def read(self, first: int, count: int) -> "tuple[Tensor, Tensor]":
        (self.folder / f"{first}-{time.monotonic_ns()}-{os.getpid()}").touch()
        is_deadly = self.deadly is not None and first <= self.deadly < first + count
        if is_deadly and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._made.read(first, count)

    def traces(self) -> list[tuple[int, int]]:
        """Return (first row, process) of every call of `read`."""
        names = [path.name.split("-") for path in self.folder.iterdir() if path.name != "died"]
        return sorted((int(first), int(process)) for first, _, process in names)
