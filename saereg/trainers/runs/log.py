"""The training log: one JSON object a line; of a run that goes on, as if it had never stopped."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


class Log:
    """A log that is being written.

    Args:
        path: the file.
        length: bytes that belong to the steps before a checkpoint; what stands behind them is dropped.

    Raises:
        OSError: when it cannot be written.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("r+b" if length else "wb")
        self._file.truncate(length)
        self._file.seek(length)

    def write(self, line: Mapping[str, object]) -> None:
        """Append one line; a number that JSON has no word for is null."""
        plain = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()
        }
        with self._named():
            self._file.write(json.dumps(plain).encode() + b"\n")

    def flushed(self) -> int:
        """Bring everything to the disk; return the length of the file."""
        with self._named():
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file; what no checkpoint counts need not reach it."""
        with contextlib.suppress(OSError):
            self._file.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:  # an open file does not say which one it is
            raise OSError(problem.errno, problem.strerror, str(self._path)) from None
