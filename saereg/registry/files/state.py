"""Where saereg keeps what it may lose: digests of files, reports, journals of publishing."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "SAEREG_CACHE"
"""Environment variable that names the folder."""

RACY_NS = 2_000_000_000
"""How long ago, in nanoseconds, a file must have been written for a later write to be sure to show in its stamp."""

KEPT_DAYS = 90
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of a file from another without reading it; times in nanoseconds."""

    size: int
    mtime: int
    ctime: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Return the stamp in what `stat` says."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)

    def is_settled(self, began: int) -> bool:
        """Whether any later write must show in a new stamp.

        A second write within one tick of the clock of the file system does not; two seconds, that of FAT, are the
        coarsest. Without an inode a file that took the place of another with the same times does not either.

        Args:
            began: when reading the file began, after which the stamp was taken, in nanoseconds since 1970.
        """
        return self.inode != 0 and self.mtime < began - RACY_NS


def state_folder() -> Path:
    """Return the folder for what is kept between runs; it need not exist, and nothing is made.

    `$SAEREG_CACHE`, else `$XDG_CACHE_HOME/saereg`, else the user's cache folder of the system. Without a home (some
    containers) it is a path that cannot be written: what is only kept for speed is then not kept, and no name in a
    folder that everybody may write is guessed.
    """
    if own := os.environ.get(VARIABLE):
        return Path(os.path.abspath(os.path.expanduser(own)))
    common = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(common):  # the specification says to ignore a relative one
        return Path(common) / "saereg"
    try:
        return _of_system(Path.home())
    except RuntimeError:
        return Path(os.devnull) / "saereg"


def _of_system(home: Path) -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else home / "AppData" / "Local") / "saereg" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "saereg"
    return home / ".cache" / "saereg"


def prune(folder: Path, most: int) -> None:
    """Remove the files of a folder that were written too long ago, and the oldest when there are too many.

    Raises:
        OSError: when one cannot be removed.
    """
    aged = sorted(((os.stat(entry).st_mtime, entry.path) for entry in os.scandir(folder)), reverse=True)
    oldest = time.time() - KEPT_DAYS * DAY
    for position, (written, path) in enumerate(aged):
        if position >= most or written < oldest:
            os.unlink(path)
