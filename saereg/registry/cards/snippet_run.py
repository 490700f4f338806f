"""Run the Python blocks of a card against its release: offline, in one child, in a folder that is thrown away."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saereg.registry.cards import snippet_child
from saereg.registry.cards.snippet_stage import Known, Stage, make_stage, state_of
from saereg.registry.cards.snippets import Snippet

SECONDS = 120.0
"""Time for all blocks of a card."""

HEADROOM = 16 * 1024**3
"""Address space beyond the memory of the machine: libraries reserve more than they use."""

LARGEST_FILE = 2 * 1024**3
"""Largest file that a block may write, in bytes."""

MOST_ANSWERED = 4 * 1024 * 1024
"""Bytes of answers that are read; a block may write into them too."""

LONGEST = 240
"""Characters of what went wrong."""

KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "OMP_NUM_THREADS")
"""Variables of the environment that blocks see; no token is among them."""

FIXED = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_SYMLINKS_WARNING": "1",
    "WANDB_MODE": "disabled",
    "CUDA_VISIBLE_DEVICES": "",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "Agg",
    "PYTHONHASHSEED": "0",
}
"""Variables that are set: nothing is fetched, nothing is shown, and the same blocks do the same on every machine."""


@dataclass(frozen=True)
class Failure:
    """A block that does not run, by its own fault.

    Attributes:
        number: which block.
        line: line of the card with the statement.
        what: the exception in one line.
    """

    number: int
    line: int
    what: str


@dataclass(frozen=True)
class Outcome:
    """What became of the blocks of a card.

    Attributes:
        failures: blocks that do not run.
        skipped: block → why it was not, or could not be, run here.
        changed: files of the release that are not as they were; none unless a block went out of its way.
    """

    failures: tuple[Failure, ...]
    skipped: Mapping[int, str]
    changed: tuple[str, ...] = ()


def run_snippets(root: Path, snippets: Sequence[Snippet], known: Known, seconds: float = SECONDS) -> Outcome:
    """Run the blocks of a card in their order, in one namespace.

    Args:
        root: the release.
        snippets: its blocks; those that cannot be compiled are left out.
        known: names of the manifest.
        seconds: time for all of them.

    Raises:
        OSError: when the release cannot be read, or there is no room for its small files.
    """
    runnable = [snippet for snippet in snippets if snippet.problem is None]
    if not any(snippet.left_out is None for snippet in runnable):
        return Outcome((), {snippet.number: snippet.left_out or "" for snippet in runnable})
    before = state_of(root)
    with tempfile.TemporaryDirectory(prefix="saereg-", ignore_cleanup_errors=True) as scratch:
        stage = make_stage(Path(scratch).resolve(), root, snippets, known)
        answers, end = _in_child(stage, snippets, seconds)
        outcome = _read(answers, end, snippets, _Paths(root, stage.scratch))
    after = state_of(root)
    changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    return Outcome(outcome.failures, outcome.skipped, tuple(changed))


def _in_child(stage: Stage, snippets: Sequence[Snippet], seconds: float) -> tuple[list[dict[str, Any]], str]:
    """Return the answers of the child, and how it ended."""
    reading, writing = os.pipe()
    job = {
        "answers": writing,
        "paths": [path for path in sys.path if os.path.isabs(path)],
        "scratch": str(stage.scratch),
        "memory": _memory() + HEADROOM,
        "file_size": LARGEST_FILE,
        "seconds": int(seconds) + 10,
        "own": sorted(stage.own),
        "blocks": [
            {"number": s.number, "code": s.code, "left_out": s.left_out or ("it does not parse" if s.problem else None)}
            for s in snippets
        ],
    }
    command = [sys.executable, "-s", "-P", "-B", snippet_child.__file__]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=stage.work,
        env=environment(stage), pass_fds=(writing,), start_new_session=True,
    )  # fmt: skip
    os.close(writing)
    answers: list[dict[str, Any]] = []
    reader = threading.Thread(target=_read_answers, args=(reading, answers), daemon=True)
    reader.start()
    expired = threading.Event()
    timer = threading.Timer(seconds, _end, (process, expired))
    timer.daemon = True
    timer.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            process.communicate(json.dumps(job).encode())
    finally:
        timer.cancel()
        _end(process)
        process.wait()
    reader.join(seconds)
    if expired.is_set():
        return answers, f"it was still running after {seconds:g} seconds"
    return answers, "" if process.returncode == 0 else f"ended with code {process.returncode}"


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def environment(stage: Stage) -> dict[str, str]:
    """Return the environment of the blocks: a few variables of this one, and folders of their own."""
    home = str(stage.scratch / "home")
    folders = {"HOME": home, "USERPROFILE": home, "HF_HOME": str(stage.hub), "XDG_CACHE_HOME": f"{home}/.cache"}
    folders |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(stage.scratch / "tmp"))
    return {name: os.environ[name] for name in KEPT if name in os.environ} | FIXED | folders


def _end(process: "subprocess.Popen[bytes]", expired: threading.Event | None = None) -> None:
    """Kill the child and all that it started."""
    if expired is not None:
        expired.set()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _read_answers(descriptor: int, found: list[dict[str, Any]]) -> None:
    with os.fdopen(descriptor, "rb") as pipe:
        raw = pipe.read(MOST_ANSWERED)
    for line in raw.split(b"\n"):
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)


@dataclass(frozen=True)
class _Paths:
    """Folders of this machine that no finding names."""

    root: Path
    scratch: Path

    def without(self, text: str) -> str:
        """Return a text with the names of files in the place of their paths, and no addresses of memory."""
        text = text.replace(f"{self.scratch / 'work'}{os.sep}", "")
        for folder in (self.scratch, self.root.resolve(), self.root.absolute()):
            text = text.replace(str(folder), "…")
        text = re.sub(r"(?<![\w.:/…-])(?:/|[A-Za-z]:\\)(?:[\w.@+ -]{1,100}[/\\]){1,40}", "…/", text)
        text = re.sub(r"0x[0-9a-fA-F]{6,16}", "0x…", text)
        text = "".join(c if c.isprintable() else " " for c in text)
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _read(answers: Sequence[Mapping[str, Any]], end: str, snippets: Sequence[Snippet], paths: _Paths) -> Outcome:
    by_number = {snippet.number: snippet for snippet in snippets}
    failures, skipped, begun = [], {}, 0
    for answer in answers:
        number, outcome = answer.get("block"), answer.get("outcome")
        snippet = by_number.get(number) if isinstance(number, int) else None
        if snippet is None or snippet.problem is not None:
            continue
        begun = snippet.number if outcome == "begun" else 0
        if outcome in ("missing", "left out"):
            skipped[snippet.number] = paths.without(str(answer.get("why")))
        elif outcome == "failed":
            inner = by_number.get(answer.get("in_block", 0), snippet)
            failures.append(
                Failure(snippet.number, inner.line + int(answer["line"]), paths.without(str(answer["what"])))
            )
    if begun and end:
        if "still running" in end or "-9" in end:
            skipped[begun] = end if "still" in end else "it was killed, for want of memory it seems"
        else:
            snippet = by_number[begun]
            failures.append(Failure(begun, snippet.line + 1, f"it ends the process ({end})"))
        rest = f"it comes after block {begun}, which did not end"
        skipped |= {n: rest for n, s in by_number.items() if n > begun and s.problem is None}
    return Outcome(tuple(failures), skipped)
