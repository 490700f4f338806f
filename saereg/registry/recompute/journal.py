"""What is finished, in a file that a run which was ended goes on with.

`FILE` has one line per dictionary and evaluation: while the run lasts in the order in which they are finished, at its
end in the order in which they were named. `FILE.part` has the sums of chunks of those that are not finished yet, and is
gone at the end. A line that was being written when the process was killed is left out.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from saereg.errors import UsageError
from saereg.registry.files.atomic import lock_at_once, write_text_atomically
from saereg.registry.recompute.sums_text import part_of, part_text
from saereg.registry.recompute.tasks import Part
from saereg.schemas.document import check_text
from saereg.schemas.recomputed import Recomputed

LINE_STARTS, PART_STARTS = ('{"artifact":', '{"data_sha256":'), ('{"part":',)
"""How lines begin: of the file, and of the one with chunks."""

NOT_OURS = "this is no file of saereg metrics recompute: choose another --out"


class Journal:
    """An open journal; without a path it only keeps what it is given, for the time of the run."""

    def __init__(self, path: Path | None) -> None:
        """Read what is there.

        Raises:
            UsageError: when the file is no journal, or another run writes it.
            OSError: when it cannot be read or written.
        """
        self._path = path
        self._lines: dict[str, Recomputed] = {}
        self._parts: dict[tuple[str, int], str] = {}
        self._files: list[IO[str]] = []
        self._is_theirs = False
        if path is None:
            return
        self._part_path = path.with_name(path.name + ".part")
        try:
            self._open(path)
        except BaseException:
            self.release()
            raise

    def _open(self, path: Path) -> None:
        parts = _opened(self._part_path)
        self._files.append(parts)
        if not lock_at_once(parts):
            self._is_theirs = True
            raise UsageError(f"{path}: another run writes it at this moment")
        for number, line in enumerate(_whole_lines(parts, PART_STARTS), 1):
            self._read_part(number, line)
        lines = _opened(path)
        self._files.append(lines)
        for number, line in enumerate(_whole_lines(lines, LINE_STARTS), 1):
            record, problems = check_text(Recomputed, line)
            if record is None:
                raise UsageError(f"{path}:{number}: {problems[0].sentence}; {NOT_OURS}")
            self._lines[record.key] = record

    def _read_part(self, number: int, line: str) -> None:
        try:
            value = json.loads(line)
            self._parts[str(value["part"]), int(value["first"])] = str(value["sums"])
        except (ValueError, KeyError, TypeError):
            said = f"{self._part_path}:{number}: holds no sums"
            raise UsageError(f"{said}; it is what a run left that was ended: remove it to begin anew") from None

    def finished(self, key: str) -> Recomputed | None:
        """Return what is known already."""
        return self._lines.get(key)

    def part(self, key: str, first: int) -> Part | None:
        """Return the sums of a chunk, where they are known already."""
        text = self._parts.get((key, first))
        try:
            return part_of(text) if text is not None else None
        except ValueError:
            return None  # of another version: it is computed again

    def keep_part(self, key: str, first: int, part: Part) -> None:
        """Keep the sums of a chunk."""
        if self._files:
            _append(self._files[0], json.dumps({"part": key, "first": first, "sums": part_text(part)}))

    def keep(self, record: Recomputed) -> None:
        """Keep what is finished."""
        self._lines[record.key] = record
        if self._files:
            _append(self._files[1], line_of(record))

    def close(self, order: Iterable[Recomputed], *, complete: bool) -> None:
        """Put the lines in order, those of this run last, in place of older ones of the same dictionary and rows.

        Args:
            order: what this run found, as it was named.
            complete: whether nothing is missing, so that the sums of chunks are not needed any more.

        Raises:
            OSError: when it cannot be written.
        """
        if self._path is None or not self._files:
            return
        ours = tuple(order)
        names = {_name(record) for record in ours}
        kept = [record for record in self._lines.values() if _name(record) not in names]
        write_text_atomically(self._path, "".join(f"{line_of(record)}\n" for record in (*kept, *ours)))
        if complete:
            self._part_path.unlink(missing_ok=True)

    def release(self) -> None:
        """Close the files; nothing empty is left behind."""
        for file in self._files:
            file.close()
        self._files = []
        if self._path is not None and not self._is_theirs:
            for path in (self._path, self._part_path):
                if path.is_file() and not path.stat().st_size:
                    path.unlink()


def line_of(record: Recomputed) -> str:
    """Return the line of a record, without its end."""
    value = record.model_dump(mode="json", exclude_none=True)
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@contextlib.contextmanager
def open_journal(path: Path | None) -> Iterator[Journal]:
    """Have a journal while the block runs; raises what `Journal` raises."""
    journal = Journal(path)
    try:
        yield journal
    finally:
        journal.release()


def _name(record: Recomputed) -> tuple[str, str | None, str]:
    return record.target, record.artifact, record.evaluation


def _opened(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+", encoding="utf-8", newline="\n")


def _whole_lines(file: IO[str], starts: tuple[str, ...]) -> list[str]:
    """Return the lines that were written to their end, and cut off one of ours that was not.

    Raises:
        UsageError: when what stands at the end is no beginning of a line of ours.
    """
    file.seek(0)
    try:
        text = file.read()
    except UnicodeDecodeError:
        raise UsageError(f"{file.name} is no text; {NOT_OURS}") from None
    whole = text[: text.rfind("\n") + 1]
    if torn := text[len(whole) :]:
        if not any(torn.startswith(start) or start.startswith(torn) for start in starts):
            raise UsageError(f"{file.name}: its last line is none of ours; {NOT_OURS}")
        file.truncate(len(whole.encode("utf-8")))
    return whole.splitlines()


def _append(file: IO[str], line: str) -> None:
    file.write(line + "\n")
    file.flush()
