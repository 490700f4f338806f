"""The line of a file that a finding means, and the part of it that a caret marks."""

import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from saereg.cli.render.context import Context
from saereg.cli.render.text import visible
from saereg.registry.files.leaks import holds_secret
from saereg.schemas.names import path_problem
from saereg.schemas.report import Finding, Report

WIDEST_LINE = 160
"""Columns of a quoted source line; weights pasted into JSON are cut."""

BEFORE = 40
"""Columns that are kept before what is meant when a line is cut at its beginning."""

LARGEST = 32 * 1024 * 1024
"""Largest file, in bytes, that is read for its lines."""

_ENTRY = re.compile(r'"(?:[^"\\]|\\.)*"(?:\s*:\s*(?:"(?:[^"\\]|\\.)*"|[^\s,\[\]{}"]+))?|[^\s,]+')
"""A key of JSON with its value where that is no list or object, or one value."""


@dataclass(frozen=True)
class Quote:
    """One line of a file: its number, its text, and which part of the text is meant."""

    number: int
    text: str
    start: int
    width: int


class Source:
    """The lines of the files of a release; findings are sorted by file, so each file is read once."""

    def __init__(self, report: Report, context: Context) -> None:
        self.context = context
        self.hidden = {(f.path, f.line) for f in report.findings if f.line and not context.shows_source(f)}
        self._read = lru_cache(maxsize=4)(_lines)

    def quote(self, finding: Finding) -> Quote | None:
        """Return the line of a finding; None when there is none, or it may hold a secret."""
        root = self.context.root
        if root is None or finding.path is None or finding.line is None:
            return None
        if (finding.path, finding.line) in self.hidden:
            return None
        lines = self._read(root, finding.path)
        line = lines[finding.line - 1] if finding.line <= len(lines) else ""
        return None if holds_secret(line) else _quote(line, finding)


def _quote(line: str, finding: Finding) -> Quote | None:
    line = line.rstrip()
    if not line:
        return None
    first = len(line) - len(line.lstrip())
    start = finding.column - 1 if finding.column and finding.column <= len(line) else first
    meant = _ENTRY.match(line, start) if finding.pointer else None
    end = meant.end() if meant else len(line)
    shift = 0
    if end > WIDEST_LINE:
        shift = max(0, start - BEFORE)
    before, marked, after = line[shift:start], line[start:end], line[end : shift + WIDEST_LINE]
    shown = ("…" if shift else "") + _flat(before)
    marked = _flat(marked[: WIDEST_LINE - BEFORE]) + ("…" if len(marked) > WIDEST_LINE - BEFORE else "")
    cut = "…" if shift + WIDEST_LINE < len(line) and after else ""
    return Quote(finding.line or 1, shown + marked + _flat(after) + cut, len(shown), max(1, len(marked)))


def _flat(text: str) -> str:
    return visible(text.replace("\t", "    "))


def _lines(root: Path, name: str) -> list[str]:
    """Return the lines of a file of the release; none when it is no file of it, or cannot be read."""
    path = root / name
    try:
        status = path.stat()
        outside = path_problem(name) or not _belongs(path.resolve(), root)
        if outside or not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            return []
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError, RuntimeError):
        return []


def _belongs(path: Path, root: Path) -> bool:
    """Whether a file lies in the release, or in the blob store of the cache of which it is a snapshot."""
    blobs = root.absolute().parent.parent / "blobs"
    return path.is_relative_to(root.resolve()) or (blobs.is_dir() and path.is_relative_to(blobs.resolve()))
