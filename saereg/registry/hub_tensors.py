"""One tensor of a model on the Hub: of its weight files only the header and that tensor are fetched, once."""

import os
import platform
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import DataUnavailableError
from saereg.registry import hub
from saereg.registry.files.atomic import is_running, write_text_atomically
from saereg.registry.files.blocks import torch_dtype
from saereg.registry.files.flat import SAFETENSORS_TYPES
from saereg.registry.files.header import Header, header_length, parse_header
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.shard_index import INDEXES, WHOLE, missing, shard_of
from saereg.registry.files.state import state_folder
from saereg.registry.files.streaming import write_safetensors
from saereg.registry.files.tensors import Entry
from saereg.registry.hub_progress import bar
from saereg.registry.remote import FIRST, HubPlace, open_repository

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_BYTES = 16 * 1024 * 1024
"""Bytes of one request."""

LEFT = re.compile(r"\..+\.(?P<machine>[^.]+)\.(?P<process>\d{1,9})\.(?:bin|tmp)")
"""Names of files that are gone when a fetch is over."""

DAY = 86_400
"""Seconds after which nobody writes to such a file any more, whoever did."""


def fetch_tensor(repo: str, revision: str, tensor: str) -> Path:
    """Return a safetensors file with one tensor of a model, from the cache when it is there.

    With HF_HUB_OFFLINE set the revision means what it meant when it was last fetched.

    Args:
        repo: repository on the Hub.
        revision: branch, tag or commit.
        tensor: its name in the checkpoint.

    Raises:
        DataUnavailableError: when the revision holds no checkpoint, or nothing was fetched and the Hub is off.
        WeightsError: when the checkpoint has no such tensor.
        PublishError: when the Hub cannot be asked.
        OSError: when the cache cannot be written.
    """
    offline = hub.is_offline()
    folder = state_folder() / "parameters" / repo.replace("/", "--")
    name = f"{tensor.replace('/', '--')}.safetensors"
    ref = folder / "refs" / revision.replace("/", "--")
    if offline or hub.is_commit(revision):
        known = revision if hub.is_commit(revision) else ref.read_text(encoding="utf-8") if ref.is_file() else ""
        if known and (folder / known / name).is_file():
            return folder / known / name
    if offline:
        raise DataUnavailableError(
            f"{hub.name_of(repo, revision)}: {tensor} was not fetched before, and HF_HUB_OFFLINE is set"
        )
    place = open_repository(repo, revision)
    path = folder / place.revision / name
    if not path.is_file():
        _fetch(place, tensor, path)
    write_text_atomically(ref, place.revision)
    return path


def _fetch(place: HubPlace, tensor: str, path: Path) -> None:
    sizes = {entry.path: entry.size for entry in place.entries()}
    where = hub.name_of(place.name, place.revision)
    file = _file_of(place, sizes, tensor, where)
    if file not in sizes:
        raise DataUnavailableError(f"{where} has no {file}, which its index names for {tensor}")
    if file.endswith(".safetensors"):
        _fetch_span(place, file, sizes[file], tensor, path)
    else:
        _fetch_pickle(place, file, sizes[file], tensor, path)


def _file_of(place: HubPlace, sizes: dict[str, int], tensor: str, where: str) -> str:
    for index, whole in zip(INDEXES, WHOLE, strict=True):
        if index in sizes:
            return shard_of(place.read(index), f"{where}: {index}", tensor)
        if whole in sizes:
            return whole
    raise DataUnavailableError(f"{where} holds none of {', '.join((*INDEXES, *WHOLE))}")


def _header(place: HubPlace, file: str, size: int) -> Header:
    raw = place.span(file, 0, FIRST)
    length = header_length(raw, size, file)
    if 8 + length > len(raw):
        raw += place.span(file, len(raw), 8 + length - len(raw))
    return parse_header(raw[8 : 8 + length], size, file)


def _fetch_span(place: HubPlace, file: str, size: int, tensor: str, path: Path) -> None:
    header = _header(place, file, size)
    if tensor not in header.tensors:
        raise missing(f"{hub.name_of(place.name, place.revision)}: {file}", tensor, header.tensors)
    entry = header.tensors[tensor]
    rows = entry.shape[0] if entry.shape else 1
    row = max(1, (entry.end - entry.begin) // max(1, rows))
    step = max(1, BLOCK_BYTES // row)

    def blocks(_: str) -> "Iterator[tuple[int, Tensor]]":
        import torch

        for first in range(0, rows, step):
            count = min(step, rows - first)
            raw = bytearray(place.span(file, entry.begin + first * row, count * row))
            yield first, torch.frombuffer(raw, dtype=torch_dtype(entry.dtype)).reshape(count, *entry.shape[1:])

    _write(path, tensor, Entry(SAFETENSORS_TYPES[entry.dtype], entry.shape), blocks)


def _fetch_pickle(place: HubPlace, file: str, size: int, tensor: str, path: Path) -> None:
    """Fetch a whole pickled checkpoint, whose tensors have no known places, and keep the one tensor of it."""
    sweep(path.parent.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    where = path.with_name(f".{path.stem}.{_here()}.{os.getpid()}.bin")
    try:
        with where.open("wb") as out, bar(f"{hub.name_of(place.name, place.revision)}: {file}", size) as heard:
            for begin in range(0, size, BLOCK_BYTES):
                heard(out.write(place.span(file, begin, BLOCK_BYTES)))
        opened = open_tensors(where)
        if tensor not in opened.entries:
            raise missing(f"{hub.name_of(place.name, place.revision)}: {file}", tensor, opened.entries)
        entry = opened.entries[tensor]
        step = max(1, BLOCK_BYTES // max(1, 4 * entry.shape[-1] if entry.shape else 1))

        def blocks(name: str) -> "Iterator[tuple[int, Tensor]]":
            for first in range(0, entry.shape[0], step):
                last = min(first + step, entry.shape[0])
                yield first, opened.box(name, ((first, last), *((0, n) for n in entry.shape[1:])))

        _write(path, tensor, entry, blocks)
    finally:
        where.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what fetches that were killed left behind: of processes of this machine that are gone, or a day old.

    Args:
        folder: what was fetched of one repository.
    """
    for path in folder.glob("*/.*"):
        match = LEFT.fullmatch(path.name)
        if match is None:
            continue
        is_gone = match["machine"] == _here() and not is_running(int(match["process"]))
        try:
            if is_gone or time.time() - path.stat().st_mtime > DAY:
                path.unlink()
        except OSError:
            continue  # somebody else was quicker, or it is not ours


def _here() -> str:
    """Return the name of this machine, as a part of the name of a file: the cache may be on a shared disk."""
    return re.sub(r"[^A-Za-z0-9_\-]", "-", platform.node())[:60] or "here"


def _write(path: Path, tensor: str, entry: Entry, blocks: object) -> None:
    write_safetensors(path, {tensor: entry}, blocks, see=lambda *_: None)  # type: ignore[arg-type]
