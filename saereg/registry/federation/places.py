"""Where SAELens' registry is: found without importing SAELens, and its digest without parsing anything."""

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

from saereg.errors import MissingExtraError, UsageError

PACKAGE = "sae_lens"

FILE = "pretrained_saes.yaml"
"""Name of the registry in the package."""

MOST_BYTES = 32 * 1024 * 1024
"""Largest registry that is read; that of SAELens 6.54.12 has 1.4 MB."""


def package() -> Path:
    """Return the folder of the installed SAELens, which is not imported: that takes seconds.

    Raises:
        MissingExtraError: when it is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError("the registry of SAELens", "train", "sae-lens")
    return Path(next(iter(found.submodule_search_locations)))


def installed() -> tuple[Path, str]:
    """Return the registry of the installed SAELens, and its version.

    Raises:
        MissingExtraError: when it is not installed.
        UsageError: when the package has no such file.
    """
    path, version = package() / FILE, importlib.metadata.version("sae-lens")
    if not path.is_file():
        raise UsageError(f"sae-lens {version} has no {FILE}; name the file")
    return path, version


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a registry.

    Raises:
        UsageError: when there is no such file, or it is far too large.
        OSError: when it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"{path}: {'this is no regular file' if path.exists() else 'there is no such file'}")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UsageError(f"{path} has {size} bytes; at most {MOST_BYTES} are read")
    return path.read_bytes()


def digest(path: Path | None = None) -> str:
    """Return the sha256 of a registry: a file, or that of the installed SAELens.

    Raises:
        MissingExtraError: when SAELens is not installed.
        UsageError: when there is no such file, or it is far too large.
    """
    return hashlib.sha256(read_bytes(path or installed()[0])).hexdigest()
