"""SHA-256 of files, streamed. The Hub's LFS object ids are the same, so remote files compare without a download."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

BLOCK = 1024 * 1024

BUFFER = 256 * 1024
"""Bytes hashed at a time: they stay in the cache of the processor while they are."""


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits; memory stays at one buffer.

    Raises:
        OSError: when the file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        block = memoryview(bytearray(min(BUFFER, os.fstat(file.fileno()).st_size + 1)))
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def release_digest(manifest: str, index: str) -> str:
    """Return the one digest by which a report, a plan and a receipt name the same manifest and index."""
    return sha256_text(manifest + "\0" + index)


def tree_digest(files: Iterable[tuple[str, int, str]]) -> str:
    """Return one digest over (path, size, sha256) of every file, whatever their order."""
    lines = (f"{path}\0{size}\0{sha256}\n" for path, size, sha256 in sorted(files))
    return sha256_text("".join(lines))
