"""cfg.json and a safetensors file side by side in a folder: read, checked and written. Imports torch late."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from saereg.errors import FormatError, WeightsError
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.blocks import read_tensor, require_torch, write_tensors
from saereg.registry.files.header import Header, read_header
from saereg.registry.formats.layout import CONFIG_FILE
from saereg.schemas import jsontext
from saereg.schemas.artifact_config import read_config
from saereg.schemas.metrics import DType

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = get_args(DType)
"""Types that weights may be stored in."""


def raw_config(folder: Path) -> dict[str, jsontext.JsonValue] | None:
    """Return cfg.json as a plain object, or None when there is none or it is no JSON object."""
    try:
        value = jsontext.parse(jsontext.decode((folder / CONFIG_FILE).read_bytes()))
    except (OSError, jsontext.JsonError):
        return None
    return value if isinstance(value, dict) else None


def tensor_names(path: Path) -> frozenset[str]:
    """Return the names in the header of a safetensors file; none when it cannot be read."""
    try:
        return frozenset(read_header(path).tensors)
    except (OSError, WeightsError):
        return frozenset()


def read_folder(folder: Path, weights_file: str, device: str) -> Checkpoint:
    """Read cfg.json and then every tensor, one after the other, so that the weights are in memory once.

    Raises:
        FormatError: when one of the two files is missing.
        DocumentError: when cfg.json does not fit its schema.
        WeightsError: when the weights are no safetensors, or are not what the configuration says.
        MissingExtraError: without torch.
    """
    require_torch("reading weights")
    for name in (CONFIG_FILE, weights_file):
        if not (folder / name).is_file():
            raise FormatError(folder, f"{name} is missing; this layout needs {CONFIG_FILE} and {weights_file}")
    path = folder / weights_file
    cfg = read_config(folder / CONFIG_FILE)
    header = read_header(path)
    _check_header(Checkpoint(cfg, {}, str(path)), header)
    weights = {name: read_tensor(path, header, name).to(device) for name in header.tensors}
    return Checkpoint(cfg, weights, str(path))


def _check_header(empty: Checkpoint, header: Header) -> None:
    """Refuse wrong tensors before their bytes are read."""
    import torch

    shapes = {name: torch.empty(entry.shape, device="meta") for name, entry in header.tensors.items()}
    replace(empty, weights=shapes).check()
    for name, entry in header.tensors.items():
        if entry.torch_dtype not in FLOATS:
            problem = f"stored as {entry.torch_dtype}, expected one of {', '.join(FLOATS)}"
            raise WeightsError(empty.source, f"{problem}; convert it and write it again", name)


def write_folder(checkpoint: Checkpoint, folder: Path, weights_file: str, metadata: dict[str, str] | None) -> None:
    """Write the weights and then cfg.json, each under a temporary name that is renamed when it is complete.

    Tensors are written from the CPU, contiguous, each in storage of its own.

    Raises:
        WeightsError: when a tensor is missing, extra, or not of the configuration's shape and type.
        OSError: when the folder cannot be written; whatever is there already stays whole.
    """
    weights = _storable(checkpoint.check())
    text = checkpoint.cfg.text()
    write_tensors(folder / weights_file, weights, metadata)
    write_text_atomically(folder / CONFIG_FILE, text)


def _storable(checkpoint: Checkpoint) -> dict[str, "Tensor"]:
    """Return the tensors as safetensors takes them: it refuses shared storage and strides."""
    specs = checkpoint.cfg.tensors()
    storable: dict[str, Tensor] = {}
    for name, tensor in checkpoint.weights.items():
        expected = specs[name].dtype or checkpoint.cfg.torch_dtype
        found = str(tensor.dtype).removeprefix("torch.")
        if found != expected:
            problem = f"is {found}, but the configuration says {expected}; cast it or correct `dtype`"
            raise WeightsError(checkpoint.source, problem, name)
        plain = tensor.detach().cpu().contiguous()
        storable[name] = plain.clone() if plain.untyped_storage().nbytes() != plain.nbytes else plain
    return _unshared(storable)


def _unshared(weights: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Return the tensors with copies of those whose memory another one before them already uses."""
    seen: set[int] = set()
    own = {}
    for name, tensor in weights.items():
        pointer = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return own
