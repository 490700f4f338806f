"""Tensors of a safetensors file, written, and read in blocks of rows: memory stays at one block whatever their size.

The file is read with pread, not mapped: mapped pages would count as memory of the process.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import MissingExtraError
from saereg.registry.files.atomic import replacing
from saereg.registry.files.header import ITEM_BYTES, Header, TensorEntry

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_BYTES = 2 * 1024 * 1024
"""Bytes of one block; a row that is larger is a block of its own."""


def require_torch(what: str) -> None:
    """Raise MissingExtraError unless torch and numpy can be imported."""
    try:
        import numpy  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(what, "torch", error.name or "torch") from None


def row_blocks(path: Path, entry: TensorEntry, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, "Tensor"]]:
    """Yield (first row, block) over the first axis of a tensor; a scalar is one block of shape ().

    Each block is a fresh tensor of the stored type, shape (rows, *rest).

    Raises:
        OSError: when the file cannot be read, or has become shorter.
    """
    if not entry.shape or 0 in entry.shape:
        yield 0, read_span(path, entry, 0, entry.shape[0] if entry.shape else 1)
        return
    row_bytes = (entry.end - entry.begin) // entry.shape[0]
    step = max(1, block_bytes // max(1, row_bytes))
    for first in range(0, entry.shape[0], step):
        yield first, read_span(path, entry, first, min(step, entry.shape[0] - first))


def read_span(path: Path, entry: TensorEntry, first: int, rows: int) -> "Tensor":
    """Return `rows` rows of a tensor from row `first`, in the stored type.

    Raises:
        OSError: when the bytes are not there.
    """
    import torch

    row = ITEM_BYTES[entry.dtype] * math.prod(entry.shape[1:])
    raw = bytearray(rows * row)
    view, position = memoryview(raw), entry.begin + first * row
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while view:
            got = os.preadv(descriptor, [view], position)
            if got == 0:
                raise OSError(f"{path.name} ends before byte {position}")
            view, position = view[got:], position + got
    finally:
        os.close(descriptor)
    shape = (rows, *entry.shape[1:]) if entry.shape else ()
    if not raw:
        return torch.empty(shape, dtype=torch_dtype(entry.dtype))
    return torch.frombuffer(raw, dtype=torch_dtype(entry.dtype)).reshape(shape)


def read_tensor(path: Path, header: Header, name: str) -> "Tensor":
    """Return one whole tensor, in the stored type."""
    entry = header.tensors[name]
    return read_span(path, entry, 0, entry.shape[0] if entry.shape else 1)


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file under a temporary name, then rename it.

    Raises:
        OSError: when it cannot be written; an old file stays whole.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=dict(metadata) if metadata else None)
        except SafetensorError as error:  # the library tells of a full disk in words alone
            code = re.search(r"\(os error (\d+)\)", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


def torch_dtype(dtype: str) -> "torch.dtype":  # type: ignore[name-defined]  # noqa: F821
    """Return torch's type of a safetensors type."""
    import torch

    names = {
        "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "U16": torch.uint16,
        "F16": torch.float16, "BF16": torch.bfloat16, "I32": torch.int32, "U32": torch.uint32, "F32": torch.float32,
        "I64": torch.int64, "U64": torch.uint64, "F64": torch.float64,
        "F8_E5M2": torch.float8_e5m2, "F8_E4M3": torch.float8_e4m3fn,
    }  # fmt: skip
    return names[dtype]
