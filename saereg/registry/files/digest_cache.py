"""Digests of files, kept between runs: a file of which nothing has changed is not read again.

A file counts as unchanged while its size, mtime, ctime, inode and device are those of the moment when it was hashed.
Three hard cases:

* Written twice within one tick of the clock of its file system, once before and once after it was hashed, it looks the
  same. So a digest is not trusted, then or later, of a file whose mtime was less than two seconds ago when its reading
  began (git calls such an entry racy; two seconds are the tick of FAT, the coarsest). A file system on another machine
  whose clock is seconds behind ours defeats this.
* Where inodes are 0 (some FUSE and Windows file systems) a file put in the place of another with the same mtime cannot
  be told from it: nothing is kept of such files.
* A write that sets the mtime back shows in the ctime, unless the system has none (on Windows it is the time of birth).

What is sent is checked anyway: the Hub computes these digests itself.

Kept as one JSON file per release folder, replaced whole under a lock. A database would be one file less, but homes are
often on network file systems, where the locks of SQLite are not to be relied upon.
"""

import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from saereg.registry.files.atomic import exclusive, write_bytes_atomically
from saereg.registry.files.digest import BUFFER, sha256_text
from saereg.registry.files.state import DAY, KEPT_DAYS, Stamp, prune, state_folder

FOLDER = "digests"
"""Folder below the state folder."""

BOTH_BYTES = 10 * 1024 * 1024
"""Up to this size both digests are computed, whichever is asked for: the Hub keeps larger files as LFS, by SHA-256."""

MOST_FILES = 200_000
"""Entries of one folder that are kept, those used last."""

MOST_FOLDERS = 500
SAVE_SECONDS = 10.0
"""How often digests are kept while many files are hashed: a run that is killed loses no more than that."""

TRIES = 3
"""How often a file is read that changes meanwhile."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class _Entry:
    """Digests of one state of a file.

    Attributes:
        stamp: that state.
        sha256: of the bytes.
        git_sha1: object id of git, or None while nobody asked for it.
        day: when it was last used, in days since 1970.
    """

    stamp: Stamp
    sha256: str
    git_sha1: str | None
    day: int


class Digests:
    """Digests of the files of a folder, those of unchanged files from an earlier run.

    Safe to use from several threads; several processes may keep theirs at once. As a context manager it saves at the
    end, also after an error: what was hashed is hashed.
    """

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        """Read what is kept of a folder.

        Args:
            root: the folder.
            cache: where digests are kept. Default: `digests` in the state folder.
        """
        self._root = os.path.realpath(root)
        self._folder = cache if cache is not None else state_folder() / FOLDER
        self._file = self._folder / f"{sha256_text(os.fsencode(self._root).hex())[:32]}.json"
        self._day = int(time.time()) // DAY
        self._entries = _read(self._file, self._root)
        self._changed: set[str] = set()
        self._lock = threading.Lock()
        self.hashed_bytes = 0
        """Bytes that were read in this process."""

    def __enter__(self) -> "Digests":
        return self

    def __exit__(self, *_: object) -> None:
        self.save()

    def sha256(self, path: str) -> str:
        """Return the SHA-256 of a file, as 64 hexadecimal digits.

        Args:
            path: POSIX path relative to the folder.

        Raises:
            OSError: when it cannot be read, or goes on changing while it is read.
        """
        return self._entry(path, False).sha256

    def git_sha1(self, path: str) -> str:
        """Return the id that git gives to a file, which the Hub shows for files that are not LFS.

        Args:
            path: POSIX path relative to the folder.

        Raises:
            OSError: when it cannot be read, or goes on changing while it is read.
        """
        return self.both(path)[1]

    def both(self, path: str) -> tuple[str, str]:
        """Return the SHA-256 and git's id of a file, from one reading.

        Raises:
            OSError: when it cannot be read, or goes on changing while it is read.
        """
        entry = self._entry(path, True)
        return entry.sha256, entry.git_sha1 or ""

    def known_sha256(self, path: str) -> str | None:
        """Return the SHA-256 of a file if it is known without reading the file, else None."""
        entry = self._known(path)
        return entry.sha256 if entry else None

    def ahead(self, paths: Iterable[str], jobs: int, git: bool = False) -> None:
        """Hash files with several threads, the largest first; those that cannot be read say so when asked for.

        Args:
            paths: POSIX paths relative to the folder.
            jobs: threads; each holds one buffer.
            git: whether git's id is wanted of large files too.
        """
        sizes = {path: self._size(path) for path in paths}
        ordered = sorted(sizes, key=lambda path: (-sizes[path], path))
        saved = time.monotonic()
        with ThreadPoolExecutor(max(1, jobs)) as pool:
            for _ in pool.map(lambda path: self._try(path, git), ordered):
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.save()
                    saved = time.monotonic()

    def stamps(self, paths: Iterable[str]) -> dict[str, Stamp]:
        """Return the state of files as it is now; those that are not there are left out."""
        found = {}
        for path in paths:
            with contextlib.suppress(OSError):
                found[path] = Stamp.of(os.stat(self._at(path)))
        return found

    def trust(self, known: Mapping[str, str], stamps: Mapping[str, Stamp], began: int) -> None:
        """Take over digests that somebody else has just computed, of files that are still what they were before that.

        Args:
            known: path → sha256.
            stamps: path → state of the file before it was read.
            began: time before the first was read, in nanoseconds.
        """
        now = self.stamps(stamps)
        for path, stamp in stamps.items():
            if path in known and now.get(path) == stamp and stamp.is_settled(began) and self._known(path) is None:
                self._keep(path, _Entry(stamp, known[path], None, self._day))

    def save(self) -> None:
        """Keep what was found out, together with what other processes kept meanwhile.

        A folder that cannot be written is no error: then nothing is kept.
        """
        with self._lock:
            changed = {path: self._entries[path] for path in self._changed}
            self._changed = set()
        if not changed:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with exclusive(self._folder):
                entries = _read(self._file, self._root) | changed
                write_bytes_atomically(self._file, _written(self._root, _pruned(entries, self._day)))
                prune(self._folder, MOST_FOLDERS)

    def _try(self, path: str, git: bool) -> None:
        with contextlib.suppress(OSError):
            self._entry(path, git)

    def _size(self, path: str) -> int:
        try:
            return os.stat(self._at(path)).st_size
        except OSError:
            return 0

    def _at(self, path: str) -> str:
        return os.path.join(self._root, path)

    def _known(self, path: str) -> _Entry | None:
        """Return what is known of a file as it is now."""
        entry = self._entries.get(path)
        if entry is None:
            return None
        try:
            if Stamp.of(os.stat(self._at(path))) != entry.stamp:
                return None
        except OSError:
            return None
        if entry.day != self._day:
            entry = replace(entry, day=self._day)
            self._keep(path, entry)
        return entry

    def _entry(self, path: str, git: bool) -> _Entry:
        entry = self._known(path)
        if entry is not None and (entry.git_sha1 is not None or not git):
            return entry
        for _ in range(TRIES):
            began = time.time_ns()
            entry = self._hashed(path, git)
            if entry is not None:
                # What later writes may not show is known to the caller alone.
                if entry.stamp.is_settled(began):
                    self._keep(path, entry)
                return entry
        raise OSError(errno.EBUSY, "it changes while it is read; wait until nothing writes to it", self._at(path))

    def _keep(self, path: str, entry: _Entry) -> None:
        with self._lock:
            self._entries[path] = entry
            self._changed.add(path)

    def _hashed(self, path: str, git: bool) -> _Entry | None:
        """Read a file once and return its digests, or None when it changed meanwhile."""
        name = self._at(path)
        with open(name, "rb", buffering=0) as file:
            before = Stamp.of(os.fstat(file.fileno()))
            sha256, sha1 = hashlib.sha256(), None
            if git or before.size <= BOTH_BYTES:
                sha1 = hashlib.sha1(b"blob %d\0" % before.size, usedforsecurity=False)
            block, count, total = memoryview(bytearray(min(BUFFER, before.size + 1))), -1, 0
            # At most one buffer beyond its size, so that a file which grows for ever is noticed.
            while count and total <= before.size:
                count = file.readinto(block)
                total += count
                sha256.update(block[:count])
                if sha1:
                    sha1.update(block[:count])
        with self._lock:
            self.hashed_bytes += total
        if total != before.size or Stamp.of(os.stat(name)) != before:
            return None
        return _Entry(before, sha256.hexdigest(), sha1.hexdigest() if sha1 else None, self._day)


def _read(file: Path, root: str) -> dict[str, _Entry]:
    """Return what a file holds; one that is damaged, or of another version, holds nothing."""
    try:
        kept = json.loads(file.read_bytes())
        if kept["format"] != _FORMAT or kept["root"] != root:
            return {}
        return {path: _entry_of(row) for path, row in kept["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _entry_of(row: list[object]) -> _Entry:
    *stamp, sha256, git_sha1, day = row
    if len(stamp) != 5 or not all(type(number) is int for number in (*stamp, day)):
        raise ValueError(row)
    if not _is_hex(sha256, 64) or not (git_sha1 is None or _is_hex(git_sha1, 40)):
        raise ValueError(row)
    return _Entry(Stamp(*stamp), sha256, git_sha1, day)  # type: ignore[arg-type]


def _is_hex(text: object, length: int) -> bool:
    return isinstance(text, str) and len(text) == length and text.isalnum() and text.isascii()


def _written(root: str, entries: dict[str, _Entry]) -> bytes:
    """Return the entries of a folder as JSON; names that are not UTF-8 are escaped and come back as they were."""
    rows = {
        path: (s.size, s.mtime, s.ctime, s.inode, s.device, entry.sha256, entry.git_sha1, entry.day)
        for path, entry in sorted(entries.items())
        for s in (entry.stamp,)
    }
    return json.dumps({"format": _FORMAT, "root": root, "files": rows}, separators=(",", ":")).encode("ascii")


def _pruned(entries: dict[str, _Entry], day: int) -> dict[str, _Entry]:
    """Return the entries that are kept: used of late, and not too many."""
    recent = {path: entry for path, entry in entries.items() if entry.day > day - KEPT_DAYS}
    if len(recent) <= MOST_FILES:
        return recent
    latest = sorted(recent, key=lambda path: recent[path].day, reverse=True)[:MOST_FILES]
    return {path: recent[path] for path in latest}
