"""What holds of every validation, whatever stands in the folder; and the folder that is damaged and mended again."""

import io
import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from jsonschema import Draft202012Validator

from saereg.cli import run
from saereg.cli.render.report import RENDERERS
from saereg.schemas.export import path_of
from saereg.schemas.report import Report
from tests.cases.tools import reindex
from tests.fuzz.damage import Edit

GUARD_SECONDS = 60
"""A case that has not ended by then is stopped, and fails."""

MOST_SECONDS, MOST_MEGABYTES = 1.0, 256
"""Processor time of one validation, and memory that one case may add to the process; looked at in the nightly run."""

SCHEMA = Draft202012Validator(json.loads(path_of("report").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Answer:
    """What `saereg validate` answered."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass
class Ledger:
    """How many cases ran, and the worst of them."""

    cases: dict[str, int] = field(default_factory=dict)
    codes: dict[int, int] = field(default_factory=dict)
    slowest: tuple[float, str, str] = (0.0, "", "")
    megabytes: float = 0.0

    def add(self, family: str, code: int, seconds: float, edits: list[Edit]) -> None:
        """Count one case."""
        self.cases[family] = self.cases.get(family, 0) + 1
        self.codes[code] = self.codes.get(code, 0) + 1
        if seconds > self.slowest[0]:
            self.slowest = (seconds, family, repr(edits)[:300])

    def lines(self) -> list[str]:
        """Return what the run is summed up in."""
        total = sum(self.cases.values())
        seconds, family, edits = self.slowest
        codes = ", ".join(f"{n} answered {code}" for code, n in sorted(self.codes.items()))
        return [
            f"{total} cases: {', '.join(f'{n} {family}' for family, n in sorted(self.cases.items()))}",
            f"exit codes: {codes}",
            f"slowest validation {seconds * 1000:.0f} ms of processor time ({family}): {edits}",
            f"most memory added by one case: {self.megabytes:.0f} MB",
        ]


class Folder:
    """A release folder that is damaged and mended again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}

    @contextmanager
    def damaged(self, edits: list[Edit], *, indexed: bool) -> Iterator[Path]:
        """Make the changes, and undo them; `indexed` brings the digests of the index up to date in between."""
        plain = all(edit.kind == "write" and edit.path in self.files for edit in edits)
        try:
            for edit in edits:
                self._make(edit)
            if indexed and plain and all(edit.path != "index.json" for edit in edits):
                self._reindex()
            yield self.root
        finally:
            if plain:
                for path in {"index.json", *(edit.path for edit in edits)}:
                    (self.root / path).write_bytes(self.files[path])
            else:
                self._mend()

    def _reindex(self) -> None:
        try:
            reindex(self.root)
        except UnicodeDecodeError:
            (self.root / "index.json").write_bytes(self.files["index.json"])

    def _mend(self) -> None:
        for path in [self.root, *self.root.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(self.root)
        for path, content in self.files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(content)

    def _make(self, edit: Edit) -> None:
        place = self.root / edit.path
        try:
            if edit.kind not in ("locked", "sparse", "many", "deep"):
                _remove(place)
            _MAKE[edit.kind](place, edit.content)
        except (OSError, ValueError):
            pass  # a name that this file system does not take, or a folder that an earlier edit took away


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _many(place: Path, content: bytes) -> None:
    folder = place if place.is_dir() else place.parent
    for number in range(150):
        (folder / f"extra-{number}").write_bytes(b"")


def _deep(place: Path, content: bytes) -> None:
    folder = place if place.is_dir() else place.parent
    (folder / "/".join(["d" * 20] * 60)).mkdir(parents=True)


def _sparse(place: Path, content: bytes) -> None:
    os.truncate(place, 300 * 1024**2)


_MAKE = {
    "write": lambda place, content: place.write_bytes(content),
    "remove": lambda place, content: None,
    "folder": lambda place, content: place.mkdir(),
    "link": lambda place, content: os.symlink(os.fsdecode(content), place),
    "pipe": lambda place, content: os.mkfifo(place),
    "sparse": _sparse,
    "locked": lambda place, content: place.chmod(0),
    "many": _many,
    "deep": _deep,
}


@contextmanager
def guarded() -> Iterator[None]:
    """Stop what has not ended in time; a system call that waits and a regular expression are interrupted too."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"a validation has not ended after {GUARD_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(GUARD_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answer(root: Path, level: str, *further: str) -> Answer:
    """Validate as the command line does. SAEREG_TRACEBACK is set, so a bug is raised and not answered with 3.

    Args:
        root: release folder.
        level: of the validation.
        *further: formats beside JSON; their files go beside the folder.
    """
    words = [word for form in further for word in ("--format", f"{form}:{root.with_name(f'report.{form}')}")]
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=mode) for mode in ("strict", "backslashreplace")
    )
    start = time.process_time()
    with redirect_stdout(out), redirect_stderr(err), guarded():
        code = run(["validate", str(root), "--level", level, "--format", "json", *words])
    seconds = time.process_time() - start
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return Answer(code, texts[0], texts[1], seconds)


def hold(root: Path, level: str, form: str) -> Answer:
    """Check every law on one folder, and return the slower of two equal answers."""
    first, second = answer(root, level), answer(root, level, form)
    assert first.code in (0, 1, 2, 5), first
    assert "internal error" not in first.err, first
    assert "Traceback" not in first.err, first
    assert (second.code, second.out) == (first.code, first.out), form
    if first.code in (0, 1):
        SCHEMA.validate(json.loads(first.out))
        report = Report.from_text(first.out)
        assert report.text() == first.out
        assert first.code == int(report.summary.errors > 0)
    else:
        assert first.out == "", first
        assert first.err.startswith("error: "), first
    return max(first, second, key=lambda one: one.seconds)


def peak() -> float:
    """Return the most memory this process ever held, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


FORMATS = tuple(sorted(set(RENDERERS) - {"json"}))
