"""Files of text, document by document: memory stays at one document, or one slice of a long text, whatever they hold.

JSON lines, Parquet and plain text, the first and the last also packed with gzip. What is wrong with a file is one line
that names the file and the row.
"""

import codecs
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

from saereg.errors import DocumentError, UsageError
from saereg.registry.models.model import require

LONGEST_SLICE = 200_000
"""Characters that are tokenized at once, and of a text file read at once: a longer document is cut here."""

BLOCK_BYTES = 1 << 20
"""Bytes of a file that are read at once."""

LONGEST_LINE = 1 << 28
"""Bytes of the longest line of JSON: a file without line ends is not read into memory whole."""

PARQUET_ROWS = 64
"""Rows of a Parquet file that are in memory at once, beside one page of its column."""

LINES = (".jsonl", ".ndjson", ".json")
"""Ends of files with one JSON object per line; `.json` too, because that is what many data sets call such files."""

UNPACKING = (EOFError, zlib.error, gzip.BadGzipFile)
"""What a gzip file that is damaged or cut short raises."""

Text = str | Iterator[str]
"""A document; a long one as slices of LONGEST_SLICE characters, of which the last may be shorter."""

Rendering = Literal["contents", "roles"]
"""How a conversation becomes text: the contents of its messages with a blank line between them, or the same with the
role and a colon before each."""


@dataclass(frozen=True)
class Fields:
    """Where in a row the text stands.

    Attributes:
        columns: names; the first of them that a row (of Parquet: the file) has is taken.
        rendering: how a list of messages becomes text; None: a list is refused.
    """

    columns: tuple[str, ...] = ("text",)
    rendering: Rendering | None = None

    def pick(self, names: Iterable[str], where: object) -> str:
        """Return the column that is read of a table.

        Raises:
            UsageError: when the table has none of them.
        """
        known = list(names)
        for column in self.columns:
            if column in known:
                return column
        raise UsageError(f"corpus {where}: no column {self}; it has {', '.join(known)}: give --text-column")

    def text(self, value: object, where: str) -> str:
        """Return the text of a value: itself, or a conversation as it is rendered.

        Raises:
            DocumentError: when the value is no text and no conversation.
        """
        if isinstance(value, str):
            return value
        if not isinstance(value, list):
            raise DocumentError(where, "", f"{self} is {_kind(value)}, not text")
        if self.rendering is None:
            raise DocumentError(where, "", f"{self} is a list: if it is a conversation, give --render contents")
        return "\n\n".join(text for message in value if (text := self._message(message, where)))

    def _message(self, message: object, where: str) -> str:
        if not isinstance(message, Mapping):
            raise DocumentError(where, "", f"{self} holds {_kind(message)} where a message with a text is expected")
        content = message.get("content")
        if content is None:  # a call of a tool, which says nothing
            return ""
        if not isinstance(content, str):
            raise DocumentError(where, "", f"{self} holds a message whose `content` is {_kind(content)}, not text")
        return f"{message.get('role')}: {content}" if self.rendering == "roles" else content

    def __str__(self) -> str:
        return " or ".join(f"`{column}`" for column in self.columns)


def _kind(value: object) -> str:
    kinds = {type(None): "null", dict: "an object", list: "a list", bool: "a truth", int: "a number", float: "a number"}
    return kinds.get(type(value), type(value).__name__)


def read_file(path: Path, fields: Fields) -> Iterator[Text]:
    """Yield the documents of a file, by the end of its name; what has no known end is one text.

    Raises:
        UsageError: when it is damaged, not in UTF-8, or has no such column.
        DocumentError: when a row has no text.
        MissingExtraError: for Parquet, without the `train` extra.
        OSError: when it cannot be read.
    """
    kind = ends_of(path).removesuffix(".gz")
    if kind == ".parquet":
        return _parquet(path, fields)
    return _json_lines(path, fields) if kind in LINES else _whole(path)


def ends_of(path: Path) -> str:
    """Return how the name of a file ends, `.gz` with what stands before it."""
    ends = path.suffixes[-2:]
    return "".join(ends) if ends[1:] == [".gz"] else "".join(ends[-1:])


def _opened(path: Path) -> IO[bytes]:
    file: Any = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115 - whoever asks closes
    return cast(IO[bytes], file)


def _json_lines(path: Path, fields: Fields) -> Iterator[str]:
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
                if len(line) == LONGEST_LINE:
                    raise UsageError(f"corpus {path}:{number}: a line of more than {LONGEST_LINE} bytes")
                if line.strip():
                    yield _json_line(line, fields, path, number)
    except UNPACKING as problem:
        raise UsageError(f"corpus {path}:{number + 1}: damaged, or cut short: {problem}") from None


def _json_line(line: bytes, fields: Fields, path: Path, number: int) -> str:
    where = f"{path}:{number}"
    try:
        row = json.loads(line.removeprefix(codecs.BOM_UTF8).decode("utf-8"))
    except UnicodeDecodeError as problem:
        raise UsageError(f"corpus {where}: not UTF-8 text ({problem.reason} at byte {problem.start})") from None
    except (ValueError, RecursionError):
        row = None
    column = next((name for name in fields.columns if name in row), None) if isinstance(row, dict) else None
    if column is None:
        starts = number == 1 and line.lstrip().startswith(b"[")
        array = "; a JSON array is not read: write one object per line" if starts else ""
        raise DocumentError(where, "", f"not a JSON object with a key {fields}{array}")
    return fields.text(row[column], where)


def _whole(path: Path) -> Iterator[Text]:
    """Yield the one document of a text file."""
    slices = _slices(path)
    first, second = next(slices, ""), next(slices, None)
    yield first if second is None else itertools.chain((first, second), slices)


def _slices(path: Path) -> Iterator[str]:
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    waiting, at, block = "", 0, b""
    try:
        with _opened(path) as file:
            for block in itertools.chain(iter(lambda: file.read(BLOCK_BYTES), b""), (b"",)):
                waiting += decoder.decode(block, final=not block)
                at += len(block)
                while len(waiting) >= LONGEST_SLICE:
                    yield waiting[:LONGEST_SLICE]
                    waiting = waiting[LONGEST_SLICE:]
    except UnicodeDecodeError as problem:
        byte = at - (len(problem.object) - len(block)) + problem.start
        raise UsageError(f"corpus {path}: not UTF-8 text ({problem.reason} at byte {byte})") from None
    except UNPACKING as problem:
        raise UsageError(f"corpus {path}: damaged, or cut short, behind byte {at}: {problem}") from None
    if waiting:
        yield waiting


def _parquet(path: Path, fields: Fields) -> Iterator[str]:
    pyarrow, parquet = require("pyarrow", "reading Parquet"), require("pyarrow.parquet", "reading Parquet")
    number = 0
    try:
        with parquet.ParquetFile(path, buffer_size=BLOCK_BYTES, page_checksum_verification=True) as file:
            column = fields.pick(file.schema_arrow.names, path)
            for batch in file.iter_batches(PARQUET_ROWS, columns=[column], use_threads=False):
                for value in batch.column(0):
                    number += 1
                    yield fields.text(value.as_py(), f"{path}: row {number}")
    except UnicodeDecodeError as problem:
        raise UsageError(f"corpus {path}: row {number}: not UTF-8 text ({problem.reason})") from None
    except (pyarrow.ArrowException, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno is not None:
            raise
        said = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise UsageError(f"corpus {path}: row {number + 1}: damaged, or no Parquet: {said}") from None
