"""Where a release stands: a folder of this machine, or a commit on the Hub. Checks read it through this alone."""

import os
from pathlib import Path
from typing import Protocol

from saereg.registry.files.digest import sha256_of
from saereg.registry.files.folder import Entry, scan
from saereg.registry.files.header import Header, read_header


class Place(Protocol):
    """What levels layout and header need of a release.

    Paths are POSIX paths relative to the release, and only ever those of regular files.
    """

    @property
    def name(self) -> str:
        """What to call it while no manifest can be read: the name of the folder, or of the repository."""

    @property
    def folder(self) -> Path | None:
        """The folder, or None when the release is not on this machine."""

    @property
    def revision(self) -> str | None:
        """The commit, or None for a folder."""

    def entries(self) -> tuple[Entry, ...]:
        """Return every entry, sorted by path."""

    def read(self, path: str) -> bytes:
        """Return the bytes of a file; the caller has looked at its size.

        Raises:
            OSError: when it cannot be read.
        """

    def start(self, path: str, count: int) -> bytes:
        """Return the first bytes of a file, at most `count`.

        Raises:
            OSError: when it cannot be read.
        """

    def header(self, path: str) -> Header:
        """Return the checked header of a safetensors file.

        Raises:
            WeightsError: when the header is not sound.
            OSError: when it cannot be read.
        """

    def sha256(self, path: str) -> str:
        """Return the digest of a file.

        Raises:
            OSError: when it cannot be read.
        """


class FolderPlace:
    """A release in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start = os.path.join(folder, "")

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._folder.resolve().name

    @property
    def folder(self) -> Path:
        """The folder."""
        return self._folder

    @property
    def revision(self) -> None:
        """None: a folder has no commit."""

    def entries(self) -> tuple[Entry, ...]:
        """Return every entry, sorted by path; see `saereg.registry.files.folder.scan`."""
        return scan(self._folder)

    def read(self, path: str) -> bytes:
        """Return the bytes of a file."""
        with open(self._start + path, "rb", buffering=0) as file:
            return file.read()

    def start(self, path: str, count: int) -> bytes:
        """Return the first bytes of a file."""
        with open(self._start + path, "rb") as file:
            return file.read(count)

    def header(self, path: str) -> Header:
        """Return the checked header of a safetensors file."""
        return read_header(self._start + path)

    def sha256(self, path: str) -> str:
        """Return the digest of a file."""
        return sha256_of(self._start + path)
