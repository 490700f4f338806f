"""Files whose tensors lie in row-major order at known offsets: safetensors, and the arrays of an npz archive.

They are read with pread, not mapped: mapped pages would count as memory of the process.
"""

import ast
import math
import os
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.files.header import ITEM_BYTES, read_header
from saereg.registry.files.memory import memory
from saereg.registry.files.tensors import Box, Entry
from saereg.schemas.jsontext import JsonValue

if TYPE_CHECKING:
    import mmap

    from torch import Tensor

COPY_BYTES = 1024 * 1024
"""Bytes taken out of a compressed member at a time."""

MOST_RATIO, MOST_FOR_FREE = 100, 256 * 1024**2
"""An archive may unpack to so many times its size, or so many bytes if that is more: zeros pack a thousandfold."""

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

UNPACKING = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What a damaged archive can raise besides OSError."""

MOST_AXES = 32
"""More axes than any array has."""

SKIPPED_BYTES, CHUNK_BYTES = 16 * 1024, 4 * 1024 * 1024
"""A box whose runs lie closer together than this is read with what lies between, so many bytes at a time: copying
16 KB costs what one more call does."""

NUMPY_TYPES = {
    "f8": "float64", "f4": "float32", "f2": "float16", "i8": "int64", "i4": "int32", "i2": "int16", "i1": "int8",
    "u1": "uint8", "b1": "bool",
}  # fmt: skip
"""numpy's name of a type, without byte order → torch's."""

ITEMS = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1,
    "bool": 1, "uint16": 2, "uint32": 4, "uint64": 8, "float8_e5m2": 1, "float8_e4m3fn": 1,
}  # fmt: skip
"""torch's name of a type → bytes per element."""

SAFETENSORS_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn",
}  # fmt: skip
"""safetensors' name of a type → torch's."""


@dataclass(frozen=True)
class Placed(Entry):
    """A tensor with its place.

    Attributes:
        begin: offset of its first byte.
        column_major: whether the first axis runs fastest.
        unpacked: where the bytes are, when it is not the file itself.
    """

    begin: int = 0
    column_major: bool = False
    unpacked: "Unpacked | None" = None


class Unpacked:
    """A compressed member of an archive, unpacked into a temporary file without a name when it is first read."""

    def __init__(self, path: Path, member: str) -> None:
        self.path, self.member = path, member
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()

    def __del__(self) -> None:
        """Close the temporary file, which frees its bytes."""
        if self._file is not None:
            self._file.close()

    def descriptor(self) -> int:
        """Return the descriptor of the unpacked bytes.

        Raises:
            WeightsError: when the member is damaged.
            OSError: when there is no room for them.
        """
        with self._lock:
            if self._file is None:
                self._file = self._unpack()
            return self._file.fileno()

    def _unpack(self) -> IO[bytes]:
        file = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as this does
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as packed:
                while block := packed.read(COPY_BYTES):
                    file.write(block)
            file.flush()
        except UNPACKING as error:
            raise WeightsError(self.path.name, f"cannot be unpacked: {error}", self.member) from None
        except OSError as error:  # without the name of a file, because the temporary one has none
            where = f"{self.path}, unpacked into {tempfile.gettempdir()}"
            raise OSError(error.errno, error.strerror or str(error), where) from None
        return file


@dataclass(frozen=True)
class FlatFile:
    """A file with tensors at offsets.

    Attributes:
        path: the file.
        entries: name → tensor.
        facts: what else the file says.
    """

    path: Path
    entries: Mapping[str, Placed]
    facts: Mapping[str, JsonValue] = field(default_factory=dict)

    def begin(self, name: str) -> int | None:
        """Return where in the file a tensor begins that lies there in row-major order, or None."""
        entry = self.entries[name]
        aside = entry.unpacked is not None or (entry.column_major and len(entry.shape) > 1)
        return None if aside else entry.begin

    def box(self, name: str, box: Box) -> "Tensor":
        """Return a part of a tensor, contiguous, in the stored type.

        Raises:
            OSError: when the bytes are not there.
        """
        import torch

        entry = self.entries[name]
        shape, inner = (entry.shape[::-1], box[::-1]) if entry.column_major else (entry.shape, box)
        sizes, dtype = tuple(stop - start for start, stop in inner), getattr(torch, entry.dtype)
        if 0 in sizes:
            result = torch.empty(sizes, dtype=dtype)
        elif entry.unpacked is not None:
            result = self._read(entry.unpacked.descriptor(), entry, shape, inner).view(dtype).reshape(sizes)
        else:
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                result = self._read(descriptor, entry, shape, inner).view(dtype).reshape(sizes)
            finally:
                os.close(descriptor)
        return result.permute(*range(result.ndim)[::-1]).contiguous() if entry.column_major else result

    def _read(self, descriptor: int, entry: Placed, shape: tuple[int, ...], box: Box) -> "Tensor":
        """Return the bytes of a box of a row-major array: each run of neighbours is one read, or many are."""
        import torch

        item = ITEMS[entry.dtype]
        raw = memory(math.prod(stop - start for start, stop in box) * item)
        result, done = torch.frombuffer(raw, dtype=torch.uint8), 0
        strip = _strip(shape, box, item)
        if strip is not None:
            _fill_strip(descriptor, raw, entry.begin, strip, self.path)
            return result
        view = memoryview(raw)
        for first, count in _runs(shape, box):
            fill(descriptor, view[done : done + count * item], entry.begin + first * item, self.path)
            done += count * item
        return result


@dataclass(frozen=True)
class Strip:
    """A box that is columns of a matrix, in bytes.

    Attributes:
        first: offset of its first byte in the array.
        rows: number of rows.
        width: bytes of it in each row.
        row: bytes from one row to the next.
    """

    first: int
    rows: int
    width: int
    row: int


def _strip(shape: tuple[int, ...], box: Box, item: int) -> Strip | None:
    """Return a box as columns of a matrix whose rows are better read whole, or None when it is something else."""
    axis = len(shape)  # from here on the box takes everything
    while axis and box[axis - 1] == (0, shape[axis - 1]):
        axis -= 1
    rows = axis - 2  # the one axis before that may be cut, too; those before it must be of one index
    if rows < 0 or any(stop - start != 1 for start, stop in box[:rows]):
        return None
    inner = math.prod(shape[axis:]) * item
    (start, stop), row = box[axis - 1], shape[axis - 1] * inner
    width = (stop - start) * inner
    first = sum(box[i][0] * math.prod(shape[i + 1 :]) for i in range(axis)) * item
    count = box[rows][1] - box[rows][0]
    return Strip(first, count, width, row) if row - width <= SKIPPED_BYTES and count > 1 else None


def _fill_strip(descriptor: int, raw: "bytearray | mmap.mmap", begin: int, strip: Strip, path: Path) -> None:
    import numpy as np

    step = max(1, CHUNK_BYTES // strip.row)
    buffer = memory(min(step, strip.rows) * strip.row)
    # numpy, because torch would start threads for every chunk
    chunk, view = np.frombuffer(buffer, np.uint8).reshape(-1, strip.row), memoryview(buffer)
    result = np.frombuffer(raw, np.uint8).reshape(strip.rows, strip.width)
    for first in range(0, strip.rows, step):
        rows = min(step, strip.rows - first)
        wanted = (rows - 1) * strip.row + strip.width
        fill(descriptor, view[:wanted], begin + strip.first + first * strip.row, path)
        result[first : first + rows] = chunk[:rows, : strip.width]


def fill(descriptor: int, part: memoryview, position: int, path: Path) -> None:
    """Read the bytes of an open file from `position` into memory, all of it.

    Raises:
        OSError: when the file ends before.
    """
    while part:
        got = os.preadv(descriptor, [part], position)
        if got == 0:
            raise OSError(0, f"the file ends before byte {position}", str(path))
        part, position = part[got:], position + got


def _runs(shape: tuple[int, ...], box: Box) -> Iterator[tuple[int, int]]:
    """Yield (first element, number of elements) of every contiguous run of a box."""
    axis = len(shape)  # from here on the box takes everything
    while axis and box[axis - 1] == (0, shape[axis - 1]):
        axis -= 1
    if axis == 0:
        yield 0, math.prod(shape)
        return
    inner = math.prod(shape[axis:])
    start, stop = box[axis - 1]
    run, offset = (stop - start) * inner, start * inner
    strides = [math.prod(shape[i + 1 :]) for i in range(axis - 1)]

    def outer(depth: int, base: int) -> Iterator[int]:
        if depth == axis - 1:
            yield base
            return
        for index in range(*box[depth]):
            yield from outer(depth + 1, base + index * strides[depth])

    for base in outer(0, 0):
        yield base + offset, run


def open_safetensors(path: Path) -> FlatFile:
    """Open a safetensors file.

    Raises:
        WeightsError: when its header is not right.
        OSError: when it cannot be read.
    """
    header = read_header(path)
    entries = {
        name: Placed(SAFETENSORS_TYPES[entry.dtype], entry.shape, entry.begin) for name, entry in header.tensors.items()
    }
    assert set(ITEM_BYTES) == set(SAFETENSORS_TYPES)  # noqa: S101
    return FlatFile(path, entries, dict(header.metadata))


def open_npy(path: Path) -> FlatFile:
    """Open one array in numpy's own format, under the name `x`.

    Raises:
        WeightsError: when its header is not right, or it holds Python objects.
        OSError: when it cannot be read.
    """
    with path.open("rb") as file:
        return FlatFile(path, {"x": _array(path, "x", file, 0, path.stat().st_size, None)})


def open_npz(path: Path) -> FlatFile:
    """Open an npz archive; no pickled object in it is ever looked at.

    Members that are stored as they are, which numpy does by default, are read in place. Of compressed ones only the
    header is unpacked until they are read.

    Raises:
        WeightsError: when it is no archive of arrays, is damaged, holds Python objects, or unpacks to far more than it
            is.
        OSError: when it cannot be read.
    """
    entries: dict[str, Placed] = {}
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            _check_members(path, archive.infolist())
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                entries[name] = _member(path, file, archive, member, name)
    except UNPACKING as error:
        raise WeightsError(path.name, f"is a damaged archive: {error}") from None
    return FlatFile(path, entries)


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        name = member.filename
        if not name.endswith(".npy"):
            raise WeightsError(path.name, f"member {name!r} is no array (.npy)")
        if name in seen:
            raise WeightsError(path.name, f"two members are named {name!r}; save it again")
        if member.flag_bits & 1 or member.compress_type not in COMPRESSIONS:
            raise WeightsError(path.name, f"member {name!r} is encrypted or packed in an unknown way; save it again")
        seen.add(name)
    size = path.stat().st_size
    unpacked = sum(member.file_size for member in members if member.compress_type != zipfile.ZIP_STORED)
    if unpacked > max(MOST_RATIO * size, MOST_FOR_FREE):
        raise WeightsError(path.name, f"claims to unpack {size} bytes to {unpacked}; it is damaged, or made to do harm")


def _member(path: Path, file: IO[bytes], archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Placed:
    if member.compress_type != zipfile.ZIP_STORED:
        with archive.open(member) as packed:
            return _array(path, name, packed, 0, member.file_size, Unpacked(path, member.filename))
    file.seek(member.header_offset)
    local = file.read(30)
    start = member.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    if local[:4] != b"PK\3\4" or start + member.file_size > path.stat().st_size:
        raise WeightsError(path.name, "is not where the archive says: truncated or damaged", name)
    file.seek(start)
    return _array(path, name, file, start, member.file_size, None)


def _array(path: Path, name: str, file: IO[bytes], start: int, size: int, unpacked: Unpacked | None) -> Placed:
    """Read the header of an array in numpy's own format (version 1 to 3)."""
    magic = file.read(8)
    if len(magic) < 8 or magic[:6] != b"\x93NUMPY" or magic[6] not in (1, 2, 3):
        raise WeightsError(path.name, "is no array in numpy's format", name)
    width = 2 if magic[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > 65536:
        raise WeightsError(path.name, f"its header claims {length} bytes", name)
    try:
        header = ast.literal_eval(file.read(length).decode("latin-1").strip())
        kind, column_major, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
        raise WeightsError(path.name, "its header cannot be read", name) from None
    if not isinstance(kind, str) or kind[1:] not in NUMPY_TYPES or kind[0] not in "<|=":
        raise WeightsError(path.name, f"holds {str(kind)[:40]!r}: only plain little-endian numbers are read", name)
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise WeightsError(path.name, "its shape is no tuple of natural numbers", name)
    if type(column_major) is not bool or len(shape) > MOST_AXES or math.prod(n for n in shape if n) >= 2**60:
        raise WeightsError(path.name, "its header describes no array", name)
    begin, dtype = start + 8 + width + length, NUMPY_TYPES[kind[1:]]
    if begin + math.prod(shape) * ITEMS[dtype] > start + size:
        raise WeightsError(path.name, f"shape {shape} needs more bytes than it has", name)
    return Placed(dtype, shape, begin, column_major, unpacked)
