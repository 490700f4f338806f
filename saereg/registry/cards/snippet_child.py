"""The process in which the Python blocks of a card are run: started by `saereg.registry.cards.snippet_run`.

All blocks run in one namespace, as in a notebook. What they do is refused where it leaves this process: connections,
other programs, and writing outside the folder made for them. That keeps mistakes from doing harm; code that is meant to
do harm finds ways around it, which is why blocks are run only when the user asks for it.

This file is run by its path: it imports nothing of saereg, and of other libraries nothing before the blocks do.
"""

import ast
import asyncio
import contextlib
import inspect
import json
import os
import signal
import struct
import sys
import types
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

PROGRAMS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
)
CONNECTIONS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")
CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.remove": ((0, 1),), "os.rename": ((0, 2), (1, 3)), "os.rmdir": ((0, 1),), "os.mkdir": ((0, 2),),
    "os.truncate": ((0, None),), "os.chmod": ((0, 2),), "os.chown": ((0, 3),), "os.link": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),), "os.utime": ((0, 3),), "os.setxattr": ((0, None),), "os.removexattr": ((0, None),),
    "shutil.rmtree": ((0, 1),), "shutil.move": ((0, None), (1, None)),
}  # fmt: skip
"""Event → which of its arguments are paths that it changes, and which says what folder each is relative to."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/tty", "/dev/shm", "/dev/nvidia", "/dev/fd", "/proc/self")

LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT, NO_NEW_PRIVILEGES = 444, 445, 446, 38
"""System calls of Landlock, and what prctl must be told before."""

LANDLOCK_ENOUGH = 3
"""Its first version that tells truncating from other changes."""

WRITE_FILE, MAKE_FILE, REFER, TRUNCATE = 1 << 1, 1 << 8, 1 << 13, 1 << 14

REPOSITORY_NAMES = ("repo_id", "path_or_repo_id", "pretrained_model_name_or_path", "repo")
"""Names under which libraries hold the repository that they are asked for."""

NO_DEVICE = ("Torch not compiled with CUDA", "No CUDA GPUs", "Found no NVIDIA driver", "No CUDA runtime", "CUDA driver")
NO_NETWORK = (
    "OfflineModeIsEnabled", "LocalEntryNotFoundError", "DatasetNotFoundError", "ConnectionError", "ConnectError",
    "ConnectTimeout",
)  # fmt: skip


class NoConnectionError(ConnectionError):
    """A block wanted to reach another machine."""


class NoProgramError(PermissionError):
    """A block wanted to start another program."""


class NotYoursError(PermissionError):
    """A block wanted to write outside its folder."""


def main() -> None:
    """Read the blocks from standard input, run them, and answer with one line of JSON each."""
    job = json.loads(sys.stdin.buffer.read())
    answers = os.fdopen(int(job["answers"]), "wb", buffering=0)
    sys.path[:] = [os.getcwd(), *(path for path in job["paths"])]
    _limit(job["memory"], job["file_size"], job["seconds"])
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    _lock(job["scratch"])
    sys.addaudithook(_Guard(os.path.realpath(job["scratch"])))
    _run(job["blocks"], frozenset(job["own"]), answers)
    sys.stdout.flush()
    os._exit(0)  # threads that are still running, and what they would do at the end, are nobody's business


def _limit(memory: int, file_size: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:
        return
    signal.alarm(seconds)  # an end also where the process that waits for this one was killed
    for kind, wanted in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, file_size), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (wanted if hard < 0 else min(wanted, hard), hard))


def _lock(scratch: str) -> None:
    """Have the system refuse writing outside the folder, where it can: libraries of C and Rust raise no audit events.

    This is Landlock, of Linux since 5.13; elsewhere nothing happens.
    """
    import ctypes

    try:
        libc = ctypes.CDLL(None)
        version = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1) if sys.platform == "linux" else 0
    except (OSError, TypeError, AttributeError):  # no library of C, or none that has system calls
        return
    if version < LANDLOCK_ENOUGH:
        return
    handled = struct.pack("=Q", WRITE_FILE | MAKE_FILE | REFER | TRUNCATE)
    rules = libc.syscall(LANDLOCK_CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    for path in (scratch, *DEVICES):
        with contextlib.suppress(OSError):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            inside = MAKE_FILE | REFER if os.path.isdir(path) else 0
            libc.syscall(LANDLOCK_ADD, rules, 1, struct.pack("=Qi", WRITE_FILE | TRUNCATE | inside, place), 0)
            os.close(place)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    libc.syscall(LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


class _Guard:
    """The audit hook that refuses what leaves this process."""

    def __init__(self, scratch: str) -> None:
        self.allowed = (os.path.join(scratch, ""), *DEVICES)
        self.scratch = scratch

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(arguments[2], int) and arguments[2] & WRITES:
                self._check(arguments[0])
        elif event in CHANGES:
            for place, folder in CHANGES[event]:
                self._check(arguments[place], None if folder is None else [*arguments, None, None][folder])
        elif event in PROGRAMS:
            raise NoProgramError("a block may not start other programs")
        elif event in CONNECTIONS and _leaves(event, arguments):
            raise NoConnectionError("a block has no network")

    def _check(self, path: object, folder: object = None) -> None:
        if isinstance(path, int) or path is None:
            return
        name = os.fsdecode(os.fspath(path))  # type: ignore[call-overload]
        if isinstance(folder, int) and folder >= 0:
            name = os.path.join(f"/proc/self/fd/{folder}", name)
        real = os.path.realpath(name)  # it may be a link to a file of the release
        if real != self.scratch and not real.startswith(self.allowed):
            raise NotYoursError(f"a block may not change {os.path.basename(real) or real}")


def _leaves(event: str, arguments: tuple[Any, ...]) -> bool:
    import socket

    family = getattr(arguments[0], "family", None)
    return not event.startswith(("socket.connect", "socket.send")) or family != getattr(socket, "AF_UNIX", None)


def _run(blocks: list[dict[str, Any]], own: frozenset[str], answers: IO[bytes]) -> None:
    notebook = types.ModuleType("__main__")  # what blocks define is found there, by pickle for one
    sys.modules["__main__"] = notebook
    namespace = notebook.__dict__
    complete = True
    for block in blocks:
        number, outcome = block["number"], {"outcome": "left out", "why": block["left_out"]}
        _answer(answers, {"block": number, "outcome": "begun"})
        if block["left_out"] is None:
            outcome = _outcome(number, block["code"], namespace, own, complete)
        complete = complete and outcome["outcome"] == "ran"
        _answer(answers, {"block": number, **outcome})


def _answer(answers: IO[bytes], value: dict[str, Any]) -> None:
    answers.write(json.dumps(value).encode() + b"\n")


def _outcome(number: int, code: str, namespace: dict[str, Any], own: frozenset[str], complete: bool) -> dict[str, Any]:
    name = f"<block {number}>"
    try:
        compiled = compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        value = eval(compiled, namespace)  # the purpose of this process
        if compiled.co_flags & inspect.CO_COROUTINE:
            asyncio.run(value)
    except SystemExit as error:
        if error.code in (None, 0):
            return {"outcome": "ran"}
        return {"outcome": "failed", **_where(error.__traceback__, number), "what": f"SystemExit: {error.code}"}
    except BaseException as error:  # noqa: BLE001 - whatever a block raises is told
        if isinstance(error, NameError) and not complete:
            return {"outcome": "missing", "why": f"it needs {error.name!r} of a block that did not run"}
        if why := _missing(error, own):
            return {"outcome": "missing", "why": why}
        return {"outcome": "failed", **_where(error.__traceback__, number), "what": _sentence(error, own)}
    return {"outcome": "ran"}


def _where(trace: TracebackType | None, number: int) -> dict[str, int]:
    """Return block and line of the innermost statement that stands in the card."""
    where = {"in_block": number, "line": 1}
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name.startswith("<block ") and name[7:-1].isdigit():
            where = {"in_block": int(name[7:-1]), "line": trace.tb_lineno or 1}
        trace = trace.tb_next
    return where


def _missing(error: BaseException, own: frozenset[str]) -> str | None:
    """Return what this machine lacks where that is why a block failed; None when the card is at fault."""
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, ModuleNotFoundError) and cause.name and not _is_installed(cause.name.split(".")[0]):
            return f"it needs {cause.name.split('.')[0]}, which is not installed here"
        if isinstance(cause, NoProgramError):
            return "it starts other programs, which is not done here"
        if isinstance(cause, MemoryError):
            return "it needs more memory than is given to it"
        if any(text in str(cause) for text in NO_DEVICE):
            return "it needs a CUDA device, and blocks are run without one"
    if isinstance(error, EOFError) and not sys.stdin.buffer.read(1):
        return "it asks for input"
    offline = [cause for cause in chain if any(base.__name__ in NO_NETWORK for base in type(cause).__mro__)]
    if not offline:
        return None
    repositories = [repository for cause in chain for repository, _ in _asked_for(cause)]
    if any(repository in own for repository in repositories):
        return None
    return f"it needs {repositories[-1]} of the Hub" if repositories else "it needs the network"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_installed(module: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _asked_for(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield the repositories, with the files of them, that the functions on the way to an error were asked for."""
    trace = error.__traceback__
    while trace is not None:
        names = trace.tb_frame.f_locals if not trace.tb_frame.f_code.co_filename.startswith("<block ") else {}
        repository = next(
            (v for n in REPOSITORY_NAMES if isinstance(v := names.get(n), str) and v.count("/") == 1), None
        )
        if repository is not None:
            file = names.get("filename")
            yield repository, file if isinstance(file, str) else ""
        trace = trace.tb_next


def _sentence(error: BaseException, own: frozenset[str]) -> str:
    for cause in _chain(error):
        if any(base.__name__ == "LocalEntryNotFoundError" for base in type(cause).__mro__):
            asked = [(repository, file) for repository, file in _asked_for(cause) if repository in own and file]
            if asked:
                return f"{asked[-1][1]} is not in the release ({asked[-1][0]})"
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text.strip()[:2000]}".removesuffix(": ")


if __name__ == "__main__":
    main()
