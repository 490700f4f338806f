"""Open a file of tensors by what is in it, never by its name."""

import zipfile
from pathlib import Path

from saereg.errors import WeightsError
from saereg.registry.files.flat import open_npy, open_npz, open_safetensors
from saereg.registry.files.pickles import open_pickle
from saereg.registry.files.tensors import TensorFile

PICKLE_MARKS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of a pickle, protocols 2 to 5."""


def open_tensors(path: Path) -> TensorFile:
    """Open safetensors, an npy array, an npz archive, or a pickled checkpoint.

    Raises:
        WeightsError: when it is none of them, or damaged.
        OSError: when it cannot be read.
        MissingExtraError: for a pickle, without torch.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if start[:4] == b"PK\x03\x04":
        return open_npz(path) if _is_npz(path) else open_pickle(path)
    if start[:6] == b"\x93NUMPY":
        return open_npy(path)
    # the length of a safetensors header comes first and may look like any mark: 640 is 80 02
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size:
        return open_safetensors(path)
    if start[:2] in PICKLE_MARKS:
        return open_pickle(path)
    if start[:2] == b"\x1f\x8b":
        raise WeightsError(path.name, "is compressed with gzip; unpack it first")
    return open_safetensors(path)


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise WeightsError(path.name, f"is a damaged archive: {error}") from None
    return bool(names) and all(name.endswith(".npy") for name in names)
