"""The header of a safetensors file, read strictly, without torch and without mapping the file.

Layout (safetensors format description, 2022): 8 bytes little-endian header length N, N bytes of JSON, then the data.
Each entry has `dtype`, `shape` and `data_offsets` [begin, end) relative to the data; together the entries must tile it.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import WeightsError
from saereg.schemas import jsontext

MAX_HEADER = 100_000_000
"""Largest header in bytes, as in the safetensors library."""

ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}
"""safetensors type → bytes per element."""

TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
}
"""safetensors type → torch's (and SAELens') name of it."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a header.

    Attributes:
        dtype: safetensors type, e.g. `F32`.
        shape: its shape.
        begin: offset of its first byte in the file.
        end: offset behind its last byte in the file.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def torch_dtype(self) -> str:
        """Type as torch names it; the safetensors name where torch has another idea."""
        return TORCH_NAMES.get(self.dtype, self.dtype.lower())


@dataclass(frozen=True)
class Header:
    """A checked header: every entry lies inside the file and the entries tile the data."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]


def read_header(path: str | Path) -> Header:
    """Read and check the header of a safetensors file. Two reads, no more bytes than the header.

    Raises:
        WeightsError: saying what is wrong with the header.
        OSError: when the file cannot be read.
    """
    name = os.path.basename(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = header_length(file.read(8), size, name)
        text = file.read(length)
    return parse_header(text, size, name)


def header_length(start: bytes, size: int, name: str) -> int:
    """Return the bytes of JSON that follow the first eight bytes of a file.

    Args:
        start: those eight bytes, or more.
        size: bytes of the whole file.
        name: what to call the file.

    Raises:
        WeightsError: when the file is too short for what they say.
    """
    if len(start) < 8:
        raise WeightsError(name, f"{size} bytes are too few for a safetensors file")
    length = int.from_bytes(start[:8], "little")
    if length > MAX_HEADER or 8 + length > size:
        problem = f"its header claims {length} bytes, but the file has {size}: truncated, or not safetensors"
        raise WeightsError(name, problem)
    return length


def parse_header(raw: bytes, file_size: int, name: str) -> Header:
    """Check the JSON of a header against the size of its file.

    Raises:
        WeightsError: saying what is wrong.
    """
    try:
        value = jsontext.parse(raw.decode("utf-8"))
    except (UnicodeDecodeError, jsontext.JsonError) as problem:
        raise WeightsError(name, f"the safetensors header cannot be read: {problem}") from None
    if not isinstance(value, dict):
        raise WeightsError(name, "the safetensors header is not a JSON object")
    metadata = value.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise WeightsError(name, "`__metadata__` of the safetensors header is not a map of strings")
    data = 8 + len(raw)
    tensors = {tensor: _entry(name, tensor, raw_entry, data) for tensor, raw_entry in value.items()}
    _check_tiling(name, tensors, data, file_size)
    return Header(tensors, metadata)


def _entry(name: str, tensor: str, value: object, data: int) -> TensorEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(name, "its header entry needs exactly dtype, shape and data_offsets", tensor)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise WeightsError(name, f"unknown type {json.dumps(dtype)[:40]} in the header", tensor)
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise WeightsError(name, "shape and data_offsets must be lists of natural numbers", tensor)
    begin, end = offsets
    if math.prod(size for size in shape if size) * ITEM_BYTES[dtype] >= 2**60:
        raise WeightsError(name, f"shape {tuple(shape)} is larger than any file", tensor)
    needed = math.prod(shape) * ITEM_BYTES[dtype]
    if end - begin != needed:
        problem = f"its offsets span {end - begin} bytes, but {dtype} {tuple(shape)} takes {needed}"
        raise WeightsError(name, problem, tensor)
    return TensorEntry(dtype, tuple(shape), data + begin, data + end)


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_tiling(name: str, tensors: dict[str, TensorEntry], data: int, file_size: int) -> None:
    position = data
    for tensor, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            what = "overlaps the one before it" if entry.begin < position else "leaves a gap before it"
            raise WeightsError(name, f"its data {what} (offset {entry.begin}, expected {position})", tensor)
        position = entry.end
    if position > file_size:
        raise WeightsError(name, f"its tensors end at byte {position}, but the file has {file_size}: truncated")
    if position < file_size:
        raise WeightsError(name, f"{file_size - position} bytes stand behind the last tensor: oversized or damaged")
