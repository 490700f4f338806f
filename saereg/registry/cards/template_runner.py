"""Render a user's templates in a process of their own, so that none of them can hang the tool or fill the machine."""

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import IO, Any

from saereg.errors import UsageError
from saereg.registry.cards.card import MAX_CARD_BYTES

SECONDS = 20.0
"""Longest time that one rendering takes."""

MEMORY = 2 << 30
"""Address space of the process, in bytes, where the system has such a limit."""

_RUNNING: "dict[Path, subprocess.Popen[bytes]]" = {}
_LOCK = threading.Lock()


def rendered_apart(name: str, templates: Path, values: Mapping[str, object]) -> str:
    """Return what a template of a user makes of some values.

    Args:
        name: file below the folder.
        templates: the folder.
        values: what it can name; dataclasses become mappings, tuples lists.

    Raises:
        UsageError: when it fails, writes more than a card may hold, or takes too much time or memory.
    """
    request = json.dumps({"name": name, "values": values}, default=_plain, ensure_ascii=True).encode() + b"\n"
    place = templates.absolute()
    with _LOCK:
        process = _process(place)
        late = threading.Event()
        timer = threading.Timer(SECONDS, _too_late, (process, late))
        timer.start()
        try:
            line = _asked(process, request)
        finally:
            timer.cancel()
        if not line:
            _end(place)
    if not line:
        why = f"took more than {SECONDS:g} s" if late.is_set() else f"took more than {MEMORY >> 30} GiB of memory"
        raise UsageError(f"{templates / name}: the template {why}; it was stopped")
    answer = json.loads(line)
    if "error" in answer:
        raise UsageError(answer["error"])
    return str(answer["text"])


def _plain(value: object) -> object:
    """Return a value that JSON does not know as one that it does."""
    dump: Any = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    return str(value)


def _process(place: Path) -> "subprocess.Popen[bytes]":
    """Return the process that renders the templates of a folder; it stays for the next one."""
    running = _RUNNING.get(place)
    if running is not None and running.poll() is None:
        return running
    _end(place)
    command = [
        sys.executable,
        "-m",
        "saereg.registry.cards.template_child",
        str(place),
        str(MEMORY),
        str(MAX_CARD_BYTES),
    ]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "ignore"}
    _RUNNING[place] = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    return _RUNNING[place]


def _asked(process: "subprocess.Popen[bytes]", request: bytes) -> bytes:
    """Return the answer, or nothing where the process ended."""
    stdin, stdout = _pipes(process)
    try:
        stdin.write(request)
        stdin.flush()
    except OSError:
        return b""
    line = stdout.readline()
    return line if line.endswith(b"\n") else b""


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
    return process.stdin, process.stdout


def _too_late(process: "subprocess.Popen[bytes]", late: threading.Event) -> None:
    late.set()
    process.kill()


def _end(place: Path) -> None:
    """End the process of a folder, if there is one."""
    process = _RUNNING.pop(place, None)
    if process is not None:
        process.kill()
        process.wait()
        for pipe in _pipes(process):
            try:
                pipe.close()
            except OSError:  # what was not sent is not needed any more
                continue


def _end_all(places: Sequence[Path] | None = None) -> None:
    for place in list(places or _RUNNING):
        _end(place)


atexit.register(_end_all)
