"""Writes that a reader never sees half done."""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name in the same folder to write to, then rename it: a reader sees the old or the new file.

    The file ends up with the usual permissions, whatever the writer gave it: safetensors makes files that only their
    owner can read. On an error the old file stays and the temporary one goes.

    Raises:
        OSError: when the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # the name that the caller knows
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text in UTF-8, atomically.

    Raises:
        OSError: when the folder cannot be written; the old file is untouched.
    """
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write bytes atomically.

    Raises:
        OSError: when the folder cannot be written; the old file is untouched.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def exclusive(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Wait for a lock on a folder itself, so that no lock file is left behind.

    Args:
        folder: the folder.
        waiting: called once when somebody else holds it, before it is waited for.

    Yields:
        Whether the lock is held: some systems and network file systems have none.
    """
    if importlib.util.find_spec("fcntl") is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _locked(descriptor, waiting)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, waiting: Callable[[], None]) -> bool:
    """Lock what is open, and wait for it; return whether there are locks."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
    except OSError:
        return False
    else:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Hold a lock file, without waiting; the file stays, the lock goes with the process.

    Yields:
        Whether nobody else holds it; also where there are no locks, or the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError:
        yield True
        return
    with file:
        yield lock_at_once(file)


def lock_at_once(file: IO[Any]) -> bool:
    """Return whether nobody else has an open file; also where there are no locks, as on some network file systems."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True


def is_running(process: int) -> bool:
    """Whether there is such a process on this machine; also when it cannot be told.

    On Windows asking would end it, so that there any may be running.
    """
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
