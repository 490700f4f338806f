"""Sums as JSON text, so that a run that was ended goes on where it was. Every bit comes back."""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

from saereg.registry.metrics.batches import BatchSums
from saereg.registry.metrics.moments import Moments
from saereg.registry.metrics.sums import Sums
from saereg.registry.recompute.tasks import Part

if TYPE_CHECKING:
    from torch import Tensor

CLASSES: Mapping[str, type] = {kind.__name__: kind for kind in (Part, Sums, Moments, BatchSums)}
"""What sums are made of. Text is no pickle: whoever can write it cannot make us run anything."""


def part_text(part: Part) -> str:
    """Return one line of JSON."""
    return json.dumps(_plain(part), separators=(",", ":"))


def part_of(text: str) -> Part:
    """Return the part in a text.

    Raises:
        ValueError: when it is none.
    """
    try:
        part = _value(json.loads(text))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, zlib.error, RuntimeError) as error:
        raise ValueError(f"holds no sums: {error}") from None
    if not isinstance(part, Part):
        raise ValueError("holds no sums")
    return part


def _plain(value: object) -> object:
    """Return a value as JSON has it; floats are written so that they are read back exactly."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {"map": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if is_dataclass(value) and CLASSES.get(type(value).__name__) is type(value):
        return {"is": type(value).__name__, **{f.name: _plain(getattr(value, f.name)) for f in fields(value)}}
    return _plain_tensor(value)


def _plain_tensor(value: object) -> object:
    from torch import Tensor

    if not isinstance(value, Tensor):
        raise TypeError(f"sums hold a {type(value).__name__}")
    content = base64.b64encode(zlib.compress(value.contiguous().numpy().tobytes(), 1)).decode("ascii")
    return {"tensor": content, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}


def _value(plain: object) -> object:
    if isinstance(plain, list):
        return tuple(_value(item) for item in plain)
    if not isinstance(plain, dict):
        return plain
    if "tensor" in plain:
        return _tensor(plain)
    if "map" in plain:
        return {_value(key): _value(item) for key, item in plain["map"]}
    return CLASSES[plain["is"]](**{name: _value(item) for name, item in plain.items() if name != "is"})


def _tensor(plain: Mapping[str, object]) -> "Tensor":
    import torch

    names = {"float64": torch.float64, "int64": torch.int64, "float32": torch.float32, "bool": torch.bool}
    shape = tuple(int(size) for size in plain["shape"])  # type: ignore[attr-defined]
    content = bytearray(zlib.decompress(base64.b64decode(str(plain["tensor"]))))
    dtype = names[str(plain["dtype"])]
    return torch.frombuffer(content, dtype=dtype).reshape(shape) if content else torch.empty(shape, dtype=dtype)
