"""Writes that a reader never sees half done."""

import os
from pathlib import Path


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text under a temporary name in the same folder, then rename: a reader sees the old or the new file.

    Raises:
        OSError: when the folder cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
