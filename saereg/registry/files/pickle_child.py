"""The process that opens pickles: started by `saereg.registry.files.pickles`, with a limit on its memory.

Requests and answers are JSON behind its length in eight bytes; after the answer to a box come the bytes of the box.
Pickles are opened by `torch.load(weights_only=True)` alone, mapped where the file can be, so no code in them runs.

This file is run by its path, in isolated mode: it imports nothing of saereg, and neither the folder that the user works
in nor PYTHONPATH decide what `import torch` means here.
"""

import json
import math
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

HEADROOM = 1024**3
"""Bytes beyond what torch itself and the file take."""

FAILURES = (
    pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError,
    ImportError, IndexError, AssertionError, OSError, OverflowError, struct.error,
)  # fmt: skip
"""What opening a damaged or hostile file can raise."""

MAX_DEPTH, MAX_ITEMS, MAX_NAME = 8, 100_000, 1000
"""How deep, how many and how long-named the values of a checkpoint may be."""

LONGEST_LIST, LONGEST_TEXT = 1000, 10_000
"""A longer list of plain values, or a longer text, is told as a phrase."""

MOST_TEXT = 8 * 1024**2
"""Most characters in all names and texts together."""

MOST_OPEN = 8
"""Mapped files that stay open: one dictionary may be spread over several."""


TOO_MUCH = "needs more memory than its size warrants; it is damaged, or made to do harm"


class RefusedError(Exception):
    """A file that asks for more than it is."""


@dataclass(frozen=True)
class Opened:
    """An open checkpoint.

    Attributes:
        tensors: name → tensor.
        mapped: whether the tensors are pages of a file.
        mapping: device and inode by which Linux calls the pages that hold the very bytes of the file; None where none
            do, or nothing says so.
    """

    tensors: dict[str, Any]
    mapped: bool
    mapping: tuple[str, str] | None = None


def main() -> None:
    """Answer requests until the input ends."""
    out = _own_output()
    sys.path.extend(path for path in json.loads(sys.argv[2]) if path not in sys.path)
    import torch

    torch.set_num_threads(1)
    out.write(f"{sys.argv[1]}\n".encode())  # whatever stands before it, a start-up script has printed
    out.flush()
    opened: dict[tuple[object, ...], Opened] = {}
    while head := sys.stdin.buffer.read(8):
        request = json.loads(sys.stdin.buffer.read(int.from_bytes(head, "little")))
        _alarm(request["seconds"])
        _answer(out, *_respond(request, opened))
        _alarm(0)


def _own_output() -> IO[bytes]:
    """Return standard output for answers alone: what a library prints goes where its errors go."""
    sys.stdout.flush()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return out


def _alarm(seconds: float) -> None:
    """End this process when a request takes too long, even where nobody waits for it any more."""
    import signal

    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
        signal.alarm(math.ceil(seconds))


def _respond(
    request: Mapping[str, Any], opened: dict[tuple[object, ...], Opened]
) -> tuple[dict[str, object], memoryview | None]:
    try:
        key = (request["path"], *request["identity"])
        facts: dict[str, Any] = {}
        if key not in opened or "box" not in request:
            opened.pop(key, None)
            opened[key], facts = _open(os.fsdecode(bytes.fromhex(request["path"])), request["identity"], opened)
        tensors = opened[key].tensors
        if "box" in request:
            raw = _bytes_of(tensors[request["name"]], request["box"])
            return {"bytes": raw.nbytes}, raw
        entries = {n: [str(t.dtype).removeprefix("torch."), list(t.shape)] for n, t in tensors.items()}
        places = _places(tensors, opened[key].mapping)
        return {"entries": entries, "facts": facts, "places": places}, None
    except (MemoryError, RefusedError, RecursionError) as error:
        opened.clear()
        return {"error": str(error) if isinstance(error, RefusedError) else TOO_MUCH}, None
    except FAILURES as error:
        return {"error": _sentence(error)}, None


def _bytes_of(tensor: Any, box: list[list[int]]) -> memoryview:  # noqa: ANN401
    import torch

    part = tensor[tuple(slice(*span) for span in box)].resolve_neg()
    # torch calls one number contiguous whatever its strides
    part = part.contiguous() if part.numel() > 1 else part.clone(memory_format=torch.contiguous_format)
    return memoryview(part.reshape(-1).view(torch.uint8).numpy())


def _open(path: str, identity: list[int], opened: dict[tuple[object, ...], Opened]) -> tuple[Opened, dict[str, Any]]:
    """Open a file, and let go of others: a limit on memory holds for one that is not mapped."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns] != identity:
            raise RefusedError("has changed since it was opened; read it again")
        is_zip = file.read(4) == b"PK\x03\x04"
        if not is_zip or len(opened) >= MOST_OPEN or not all(other.mapped for other in opened.values()):
            opened.clear()
        _limit(status.st_size)
        sizes, is_little = _records(file) if is_zip else (None, False)
        tensors, facts = _contents(_load(path, file.fileno(), is_zip), status.st_size, sizes)
        mapping = _mapping(file.fileno()) if is_little else None
    return Opened(tensors, is_zip, mapping), facts


def _maps() -> list[tuple[int, int, int, tuple[str, str]]]:
    """Return (start, stop, offset in its file, (device, inode)) of all mapped files; empty where it is not Linux."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            parts = [line.split(None, 5) for line in file]
    except OSError:
        return []
    return [
        (*(int(address, 16) for address in part[0].split("-")), int(part[2], 16), (part[3], part[4]))  # type: ignore[misc]
        for part in parts
        if part[4] != "0"
    ]


def _mapping(descriptor: int) -> tuple[str, str] | None:
    """Return what Linux calls the pages of an open file.

    On some file systems (overlayfs, btrfs) that is not the device that stat tells, so a page is mapped to see it.
    """
    import ctypes
    import mmap

    with mmap.mmap(descriptor, 1, access=mmap.ACCESS_COPY) as page:
        at = ctypes.addressof(ctypes.c_char.from_buffer(page))
        return next((name for start, stop, _, name in _maps() if start <= at < stop), None)


def _places(tensors: Mapping[str, Any], mapping: tuple[str, str] | None) -> dict[str, int]:
    """Return tensor → where in the mapped file it begins, of those that lie there in row-major order."""
    if mapping is None:
        return {}
    spans = [(start, stop, offset) for start, stop, offset, name in _maps() if name == mapping]
    places = {}
    for name, tensor in tensors.items():
        if tensor.is_contiguous() and not tensor.is_neg() and tensor.numel():
            at = tensor.data_ptr()
            found = [at - start + offset for start, stop, offset in spans if start <= at < stop]
            if found:
                places[name] = found[0]
    return places


def _limit(size: int) -> None:
    """Allow what the process has now, the file twice (mapped, or read once and unpacked), and some headroom.

    Where the system has no such limit, or does not say what a process has, there is none: that pickles run no code does
    not depend on it.
    """
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = now + 2 * size + HEADROOM
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    except (ImportError, OSError, ValueError):
        return


def _records(file: IO[bytes]) -> tuple[set[int], bool]:
    """Return the sizes of the records, and whether torch takes their bytes as they are."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise RefusedError("its records are compressed, which torch never does; save it again with torch.save")
        if len({member.filename for member in members}) < len(members):
            raise RefusedError("two of its records have the same name; save it again with torch.save")
        orders = [member for member in members if member.filename.rpartition("/")[2] == "byteorder"]
        is_little = sys.byteorder == "little" and all(_says_little(archive, member) for member in orders)
    return {member.file_size for member in members}, is_little


def _says_little(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Return whether a record of byte order says `little`; numbers of another order torch turns round in memory."""
    try:
        return member.file_size == len(b"little") and archive.read(member) == b"little"
    except zipfile.BadZipFile:  # torch.serialization.set_crc32_options(False) writes checksums that are none
        return False


def _load(path: str, descriptor: int, is_zip: bool) -> object:
    """Load tensors and plain values; mapped, unless the file is from before torch 1.6."""
    import torch

    if path.endswith(".safetensors") or not _is_text(path):  # torch goes by that end, and maps no other names
        path = f"/dev/fd/{descriptor}"
    return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _contents(value: object, size: int, records: set[int] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors and the plain values of a nested dictionary, by keys joined with `/`."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    facts: dict[str, Any] = {}
    written = 0
    for name, item in _walk(value):
        if name in tensors or name in facts:
            raise RefusedError(f"two of its values are named {name!r} when keys are joined by /")
        if not isinstance(item, torch.Tensor):
            facts[name] = fact = _fact(item)
            written += len(fact) if isinstance(fact, str) else 0
        elif _is_plain(item):
            tensors[name] = item.detach()
            _check_size(name, item, size, records)
        else:
            facts[name] = f"tensor of {item.layout} {item.dtype} on {item.device}"
        written += len(name)
        if written > MOST_TEXT:
            raise RefusedError(f"its names and texts have more than {MOST_TEXT} characters")
    return tensors, facts


def _is_plain(tensor: Any) -> bool:  # noqa: ANN401
    import torch

    strided = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
    return strided and not tensor.is_quantized and not tensor.dtype.is_complex


def _check_size(name: str, tensor: Any, size: int, records: set[int] | None) -> None:  # noqa: ANN401
    if math.prod(tensor.shape) * tensor.itemsize > size:
        raise RefusedError(f"{name!r}: shape {tuple(tensor.shape)} needs more bytes than the file has")
    # a storage is a record, or all of it but a broken last item; torch does not compare where it maps
    stored = tensor.untyped_storage().nbytes()
    if records is not None and not any(stored + rest in records for rest in range(16)):
        raise RefusedError(
            f"{name!r}: no record of the file has the {stored} bytes of its storage: truncated or damaged"
        )


def _fact(item: object) -> object:
    if isinstance(item, str):
        return item if len(item) <= LONGEST_TEXT else f"text of {len(item)} characters"
    if isinstance(item, int) and not -(2**63) <= item < 2**64:
        return f"number of {item.bit_length()} bits"
    if isinstance(item, float) and not math.isfinite(item):
        return str(item)
    if isinstance(item, int | float | None):
        return item
    if isinstance(item, list | tuple):
        return f"{type(item).__name__} of {len(item)} values"
    return f"object of type {type(item).__name__}"


def _walk(value: object) -> Iterator[tuple[str, object]]:
    """Yield (keys joined by /, value) of everything that is no container, in order."""
    waiting: list[tuple[str, object, int]] = [("", value, 0)]
    for _ in range(MAX_ITEMS):
        if not waiting:
            return
        name, item, depth = waiting.pop()
        if isinstance(item, Mapping) and depth < MAX_DEPTH:
            inner = [(_key(key), part) for key, part in item.items()]
        elif isinstance(item, list | tuple) and depth < MAX_DEPTH and not _is_long(item):
            inner = [(str(index), part) for index, part in enumerate(item)]
        else:
            yield name, item
            continue
        if len(waiting) + len(inner) > MAX_ITEMS:
            break
        waiting += [(_joined(name, key), part, depth + 1) for key, part in reversed(inner)]
    raise RefusedError(f"holds more than {MAX_ITEMS} values; it is no checkpoint of one dictionary")


def _is_long(item: list[object] | tuple[object, ...]) -> bool:
    return len(item) > LONGEST_LIST and all(isinstance(part, int | float | str | None) for part in item)


def _key(key: object) -> str:
    if isinstance(key, tuple):
        return f"({', '.join(_key(part) if not isinstance(part, tuple) else '(…)' for part in key[:20])})"
    if isinstance(key, str) or key is None or (isinstance(key, int | float) and abs(key) < 2**64):
        return str(key)
    return f"<{type(key).__name__}>"


def _joined(name: str, key: str) -> str:
    joined = f"{name}/{key}" if name else key
    if len(joined) > MAX_NAME:
        raise RefusedError(f"has a name of more than {MAX_NAME} characters, which begins {joined[:40]!r}")
    return joined


def _sentence(error: BaseException) -> str:
    """Return what is wrong, with the name of a refused global where it is that."""
    import re

    text = "".join(c if c.isprintable() else " " for c in str(error))
    text = " ".join(
        text.split("WeightsUnpickler error: ")[-1].split(" Check the documentation of torch.load")[0].split()
    )
    found = re.search(r"GLOBAL (.{1,120}?) (?:was not an allowed|whose module)", text)
    if found:
        asks = f"refused: it asks to run {found[1]}, which is no tensor and no plain value"
        return f"{asks}; where you trust it, save its tensors as safetensors"
    if "can't allocate" in text or "Cannot allocate memory" in text:
        return TOO_MUCH
    return f"cannot be opened as tensors and plain values: {type(error).__name__}: {text[:200]}".removesuffix(": ")


def _answer(out: IO[bytes], head: Mapping[str, object], payload: memoryview | None = None) -> None:
    raw = json.dumps(head).encode()
    out.write(len(raw).to_bytes(8, "little") + raw)
    if payload is not None:
        out.write(payload)
    out.flush()


if __name__ == "__main__":
    main()
