"""Pickled checkpoints (`.pt`, `.pth`), opened in a child process that can neither run their code nor eat memory.

One child serves all pickles of this process, one after the other: starting torch costs more than opening a file.
"""

import atexit
import json
import math
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from saereg.errors import WeightsError
from saereg.registry.files import pickle_child
from saereg.registry.files.blocks import require_torch
from saereg.registry.files.flat import ITEMS, FlatFile, Placed
from saereg.registry.files.memory import memory
from saereg.registry.files.tensors import Box, Entry
from saereg.schemas.jsontext import JsonValue

if TYPE_CHECKING:
    import mmap

    from torch import Tensor

SECONDS, SECONDS_PER_GIB = 120, 60
"""Time that a child has for one answer, and more for every GiB of its file."""

MOST_PRINTED = 1024 * 1024
"""Most bytes that start-up scripts of the child may print before it is ready."""


@dataclass(frozen=True)
class PickleFile:
    """A pickled checkpoint; its bytes come from the child.

    Attributes:
        path: the file.
        entries: keys joined by `/` → shape and type.
        facts: the numbers and strings in it, likewise; objects as a phrase.
        identity: which file it was when it was opened: a box of another one would mean nothing.
        places: tensor → where in the file it begins, of those that lie there in row-major order: these are read without
            the child.
    """

    path: Path
    entries: Mapping[str, Entry]
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    identity: tuple[int, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)

    def begin(self, name: str) -> int | None:
        """Return where in the file a tensor begins that lies there in row-major order, or None."""
        return self.places.get(name)

    def box(self, name: str, box: Box) -> "Tensor":
        """Return a part of a tensor, contiguous, in the stored type.

        Raises:
            WeightsError: when the file cannot be read any more, or is another one by now.
        """
        import torch

        if name in self.places and _identity(self.path) == self.identity:
            entry = self.entries[name]
            place = Placed(entry.dtype, entry.shape, self.places[name])
            return FlatFile(self.path, {name: place}).box(name, box)
        _, raw = _CHILD.ask(self.path, self.identity, {"name": name, "box": box})
        shape = tuple(stop - start for start, stop in box)
        dtype = getattr(torch, self.entries[name].dtype)
        return torch.frombuffer(raw, dtype=dtype).reshape(shape) if len(raw) else torch.empty(shape, dtype=dtype)


def open_pickle(path: Path) -> PickleFile:
    """Open a pickled checkpoint.

    Raises:
        WeightsError: naming the global that it asks for when that is neither tensor nor plain value, or saying what is
            wrong.
        OSError: when it cannot be read.
        MissingExtraError: without torch.
    """
    require_torch("opening a pickled checkpoint")
    identity = _identity(path)
    answer, _ = _CHILD.ask(path, identity, {})
    entries = {name: Entry(dtype, tuple(shape)) for name, (dtype, shape) in answer["entries"].items()}
    odd = {name: f"tensor of {entry.dtype}" for name, entry in entries.items() if entry.dtype not in ITEMS}
    plain = {name: entry for name, entry in entries.items() if name not in odd}
    size = identity[2]
    places = {
        name: begin
        for name, begin in answer["places"].items()
        if name in plain and 0 <= begin <= size - math.prod(plain[name].shape) * ITEMS[plain[name].dtype]
    }
    return PickleFile(path, plain, {**answer["facts"], **odd}, identity, places)


def _identity(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _Child:
    """The child, started on first use and again when it died or when this process was forked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(
        self, path: Path, identity: tuple[int, ...], request: Mapping[str, object]
    ) -> tuple[dict[str, Any], "bytearray | mmap.mmap"]:
        """Return the answer to a request and the bytes behind it.

        Raises:
            WeightsError: when the child refuses, dies, or takes too long.
        """
        seconds = SECONDS + SECONDS_PER_GIB * identity[2] / 2**30
        where = os.fsencode(path.resolve()).hex()
        full = {"path": where, "identity": identity, "seconds": seconds + 1, **request}
        with self._lock:
            head, raw = self._exchange(path, json.dumps(full).encode(), seconds)
        if "error" in head:
            raise WeightsError(path.name, head["error"])
        return head, raw

    def _exchange(self, path: Path, request: bytes, seconds: float) -> tuple[dict[str, Any], "bytearray | mmap.mmap"]:
        """Send one request and read its answer; whatever interrupts this ends the child, which would answer late."""
        expired, complete = threading.Event(), False
        timer = threading.Timer(seconds, self._expire, (expired,))
        timer.daemon = True
        timer.start()
        try:
            process = self._running(path)
            _write(process.stdin, len(request).to_bytes(8, "little") + request)
            length = int.from_bytes(bytes(_read(process.stdout, 8)), "little")
            head: dict[str, Any] = json.loads(bytes(_read(process.stdout, length)))
            raw = _read(process.stdout, int(head.get("bytes", 0)))
            complete = True
            return head, raw
        except (EOFError, BrokenPipeError):
            why = f"took more than {seconds:.0f} seconds" if expired.is_set() else "died"
            problem = f"the process that opened it {why}: it is damaged, made to do harm, or too large for this machine"
            raise WeightsError(path.name, problem) from None
        finally:
            timer.cancel()
            if not complete:
                self.stop()

    def _expire(self, expired: threading.Event) -> None:
        expired.set()
        if self._process is not None:
            self._process.kill()

    def _running(self, path: Path) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.stop()
            mark = secrets.token_hex(16)
            # isolated: the folder that the user works in may hold a torch.py
            command = [sys.executable, "-I", pickle_child.__file__, mark, json.dumps(_import_paths())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
            if not _skip_to(self._process.stdout, mark.encode() + b"\n"):
                problem = "the process that opens pickles does not start; python -I -c 'import torch' tells why"
                raise WeightsError(path.name, problem)
        return self._process

    def stop(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            _close(self._process)
        self._process = None

    def forget(self) -> None:
        """Leave the child to the process that this one was forked from."""
        self._lock = threading.Lock()
        if self._process is not None:
            _close(self._process)
            self._process.returncode = 0  # it is not ours to wait for
        self._process = None


def _import_paths() -> list[str]:
    """Return where this process finds modules, without the folder that it works in."""
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        here = ""
    return [path for path in sys.path if os.path.isabs(path) and path != here]


def _skip_to(stream: IO[bytes] | None, mark: bytes) -> bool:
    """Read what start-up scripts print, to the mark; return whether it came."""
    tail = b""
    for _ in range(MOST_PRINTED):
        byte = stream.read(1) if stream is not None else b""
        tail = (tail + byte)[-len(mark) :]
        if not byte or tail == mark:
            return tail == mark
    return False


def _write(stream: IO[bytes] | None, raw: bytes) -> None:
    while raw and stream is not None:
        raw = raw[stream.write(raw) :]


def _read(stream: IO[bytes] | None, size: int) -> "bytearray | mmap.mmap":
    raw = memory(size)
    view = memoryview(raw)
    while view:
        got = stream.readinto(view) if stream is not None else 0  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        view = view[got:]
    return raw


def _close(process: "subprocess.Popen[bytes]") -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


_CHILD = _Child()
atexit.register(_CHILD.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CHILD.forget)
