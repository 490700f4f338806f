"""The files of a transformers checkpoint, and the index that says which of them holds which tensor."""

from collections.abc import Iterable

from saereg.errors import WeightsError, did_you_mean
from saereg.schemas import jsontext

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""Files that say which shard holds which tensor, as transformers writes them."""

WHOLE = ("model.safetensors", "pytorch_model.bin")
"""Files that hold all tensors."""

ENDS = ("embed", "lm_head", "wte", "output.weight")
"""Parts of the names of matrices at the two ends of a model, which libraries name differently."""


def shard_of(raw: bytes, name: str, tensor: str) -> str:
    """Return the file that an index of shards names for a tensor.

    Raises:
        WeightsError: when the index cannot be read, or does not know the tensor.
    """
    files = _map(raw, name)
    if tensor not in files:
        raise missing(name, tensor, files)
    file = files[tensor]
    if not isinstance(file, str) or "/" in file or "\\" in file:
        raise WeightsError(name, "does not name a file in its own folder", tensor)
    return file


def names_of(raw: bytes, name: str) -> tuple[str, ...]:
    """Return the names of all tensors of an index of shards.

    Raises:
        WeightsError: when the index cannot be read.
    """
    return tuple(_map(raw, name))


def _map(raw: bytes, name: str) -> dict[str, jsontext.JsonValue]:
    try:
        value = jsontext.parse(jsontext.decode(raw))
    except jsontext.JsonError as problem:
        raise WeightsError(name, problem.problem) from None
    files = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(files, dict):
        raise WeightsError(name, "has no `weight_map`")
    return files


def missing(name: str, tensor: str, known: Iterable[str]) -> WeightsError:
    """Return what to say of a tensor that is not there."""
    names = list(known)
    guess = did_you_mean(tensor, names)
    ends = [name for name in names if any(part in name.lower() for part in ENDS)][:4]
    held = f"it holds {', '.join(ends)}" if ends else "a tied matrix is stored once, under the name of the embedding"
    return WeightsError(name, f"missing; {f'did you mean {guess!r}?' if guess else held}", tensor)
