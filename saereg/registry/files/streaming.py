"""Weight files written block by block: memory stays at one block, and every byte is hashed on its way out."""

import hashlib
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.files.atomic import replacing
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.flat import ITEMS, NUMPY_TYPES, SAFETENSORS_TYPES
from saereg.registry.files.tensors import Entry

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage

Blocks = Callable[[str], Iterator[tuple[int, "Tensor"]]]
"""Tensor → (first row, block) over its first axis, in order."""

See = Callable[[str, int, "Tensor"], None]
"""Called with (tensor, first row, block) while a block is in memory."""

ORDER = (
    "BOOL",
    "U8",
    "I8",
    "F8_E5M2",
    "F8_E4M3",
    "I16",
    "U16",
    "F16",
    "BF16",
    "I32",
    "U32",
    "F32",
    "F64",
    "I64",
    "U64",
)
"""Types from narrow to wide, as the safetensors library orders them; it puts the widest first."""

NAMES = {torch_name: name for name, torch_name in SAFETENSORS_TYPES.items()}
NUMPY_NAMES = {torch_name: name for name, torch_name in NUMPY_TYPES.items()}


class _Hashing:
    """A file that digests what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, raw: "bytes | memoryview") -> None:
        self.digest.update(raw)
        self.file.write(raw)


def write_safetensors(
    path: Path, entries: Mapping[str, Entry], blocks: Blocks, *, metadata: Mapping[str, str] | None = None, see: See
) -> str:
    """Write a safetensors file and return its sha256; equal tensors give the bytes that the library itself writes.

    Args:
        path: the file; it appears when it is complete.
        entries: tensor → shape and type, all of which are known before.
        blocks: where the values come from.
        metadata: for the header.
        see: looks at every block that passes.

    Raises:
        WeightsError: when blocks are not of the announced shape and type.
        OSError: when the file cannot be written.
    """
    names = order_in_file(entries)
    with replacing(path) as temporary, temporary.open("wb") as file:
        out = _Hashing(file)
        out.write(_header(names, entries, metadata))
        for name in names:
            _write_blocks(out, path, name, entries[name], blocks, see)
        return out.digest.hexdigest()


def order_in_file(entries: Mapping[str, Entry]) -> list[str]:
    """Return the names of tensors in the order in which `write_safetensors` asks for their blocks."""
    return sorted(entries, key=lambda name: (-ORDER.index(NAMES[entries[name].dtype]), name))


def _header(names: list[str], entries: Mapping[str, Entry], metadata: Mapping[str, str] | None) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    position = 0
    for name in names:
        end = position + math.prod(entries[name].shape) * ITEMS[entries[name].dtype]
        header[name] = {
            "dtype": NAMES[entries[name].dtype],
            "shape": list(entries[name].shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _write_blocks(out: "_Hashing | IO[bytes]", path: Path, name: str, entry: Entry, blocks: Blocks, see: See) -> None:
    """Write the blocks of one tensor, each of which must follow the one before it."""
    import torch

    rows = 0
    for first, block in blocks(name):
        found = (str(block.dtype).removeprefix("torch."), tuple(block.shape)[1:])
        if first != rows or found != (entry.dtype, entry.shape[1:]):
            expected = f"{entry.dtype} {entry.shape} from row {rows}"
            raise WeightsError(
                path.name, f"a block is {found[0]} {tuple(block.shape)} at row {first}: {expected}", name
            )
        rows += len(block) if block.ndim else 0
        see(name, first, block)
        if block.numel():
            out.write(block.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    if entry.shape and rows != entry.shape[0]:
        raise WeightsError(path.name, f"{rows} of {entry.shape[0]} rows", name)


def write_npz(path: Path, entries: Mapping[str, Entry], blocks: Blocks, *, see: See) -> str:
    """Write an npz archive as `numpy.savez` does, and return its sha256.

    Raises:
        WeightsError: for a type that numpy has not, such as bfloat16.
        OSError: when the file cannot be written.
    """
    for name, entry in entries.items():
        if entry.dtype not in NUMPY_NAMES:
            raise WeightsError(path.name, f"numpy has no type {entry.dtype}; cast it to float32", name)
    with replacing(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, entry in entries.items():
                member = zipfile.ZipInfo(f"{name}.npy")
                with archive.open(member, "w", force_zip64=True) as file:
                    file.write(_npy_header(entry))
                    _write_blocks(file, path, name, entry, blocks, see)
        return sha256_of(temporary)


def _npy_header(entry: Entry) -> bytes:
    mark = "|" if ITEMS[entry.dtype] == 1 else "<"
    shape = str(tuple(entry.shape))
    text = f"{{'descr': '{mark}{NUMPY_NAMES[entry.dtype]}', 'fortran_order': False, 'shape': {shape}, }}".encode(
        "latin-1"
    )
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def write_pickle(path: Path, entries: Mapping[str, Entry], blocks: Blocks, *, see: See) -> str:
    """Write a state dict as `torch.save` does, and return its sha256.

    The tensors are written to a file first and saved from the mapping of that, so memory stays flat here too.

    Raises:
        OSError: when the file cannot be written.
    """
    import torch

    with replacing(path) as temporary:
        scratch = temporary.with_suffix(".scratch")
        try:
            with scratch.open("wb") as file:
                places = {}
                for name, entry in entries.items():
                    file.write(b"\0" * (-file.tell() % 64))
                    places[name] = file.tell()
                    _write_blocks(file, path, name, entry, blocks, see)
                file.write(b"\0")
            storage = torch.UntypedStorage.from_file(str(scratch), shared=True, nbytes=os.path.getsize(scratch))
            tensors = {
                name: _mapped(storage, places[name], entry)  # type: ignore[arg-type]
                for name, entry in entries.items()
            }
            with temporary.open("wb") as file:  # not by its name: torch tells of a full disk in words of its own
                torch.save(tensors, file)
        finally:
            scratch.unlink(missing_ok=True)
        return sha256_of(temporary)


def _mapped(storage: "UntypedStorage", place: int, entry: Entry) -> "Tensor":
    """Return a tensor on a part of a storage, which torch saves as a storage of its own."""
    import torch

    size, dtype = math.prod(entry.shape) * ITEMS[entry.dtype], getattr(torch, entry.dtype)
    if size == 0:  # torch would take it for the tensor at the same place
        return torch.empty(entry.shape, dtype=dtype)
    return torch.empty(0, dtype=dtype).set_(storage[place : place + size]).reshape(entry.shape)
