"""Kill a process at a chosen operation on files: not now and then, but before every one of them."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
"""Flags of an open that can change something."""


def changes(event: str, arguments: tuple, root: str) -> bool:
    """Whether an audit event is about to change a file under a folder."""
    if event == "open":
        path, _, flags = arguments
        return isinstance(path, str | bytes | Path) and os.fsdecode(path).startswith(root) and bool(flags & WRITING)
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod"):
        return isinstance(arguments[0], str | bytes | Path) and os.fsdecode(arguments[0]).startswith(root)
    return event == "shutil.rmtree" and os.fsdecode(arguments[0]).startswith(root)


def forked(call: Callable[[], object], root: Path, kill_before: int | None = None) -> tuple[bool, int]:
    """Run a call in a fork, killed before its n-th change of a file under a folder.

    The process that calls this must have no other threads.

    Returns:
        Whether it was killed; and its exit code otherwise.
    """
    child = os.fork()
    if child == 0:
        seen = 0

        def watch(event: str, arguments: tuple) -> None:
            nonlocal seen
            if changes(event, arguments, str(root)):
                seen += 1
                if seen == kill_before:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 70
        try:
            sys.addaudithook(watch)
            code = int(call() or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return (True, 0) if os.WIFSIGNALED(status) else (False, os.waitstatus_to_exitcode(status))


def tree(folder: Path) -> dict[str, bytes]:
    """Return path → content of every file under a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
