"""The state of a run as files: numbers and words in JSON, tensors in safetensors, no pickle."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saereg.errors import UsageError, WeightsError
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.blocks import write_tensors
from saereg.registry.files.digest import sha256_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

Tree = dict[str, Any]
"""Nested dicts and lists of tensors, numbers, words, truth values and None."""

STATE_FILE, TENSORS_FILE = "state.json", "state.safetensors"

FORMAT = 1
"""Version of the two files; raised when a reader of an older one could misread them."""

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps of each parameter."""

TENSOR, KEYS = "$tensor", "$keys"
"""How a tensor, and a dict whose keys are whole numbers, are marked in JSON."""


def write_state(folder: Path, tree: Tree) -> None:
    """Write a tree into a folder that exists; both files are on the disk when this returns.

    Numbers come back bit by bit: JSON has the shortest digits of a float that read back as the same one, and Python's
    words for those that are no numbers.

    Raises:
        OSError: when it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    plain = _plain(tree, "", tensors, set())
    write_tensors(folder / TENSORS_FILE, tensors)
    document = {"format": FORMAT, "sha256": sha256_of(folder / TENSORS_FILE), "tree": plain}
    write_text_atomically(folder / STATE_FILE, json.dumps(document))


def read_state(folder: Path) -> Tree:
    """Read a tree back, bit by bit as it was.

    Raises:
        WeightsError: when a file is missing or damaged.
        UsageError: when it was written in a newer format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        document = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        if document["format"] > FORMAT:
            raise UsageError(
                f"{folder} was written by a newer saereg (format {document['format']}, this one reads {FORMAT}); "
                "go on with that one, or remove the folder to begin anew"
            )
        if sha256_of(folder / TENSORS_FILE) != document["sha256"]:
            raise ValueError(f"{TENSORS_FILE} is not the file that was written")
        tree: Tree = _tree(document["tree"], load_file(folder / TENSORS_FILE))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as problem:
        raise WeightsError(str(folder), f"is no whole state of a run: {_words(problem)}") from None
    return tree


def _words(problem: Exception) -> str:
    if isinstance(problem, OSError):
        return f"{Path(str(problem.filename)).name}: {problem.strerror}"
    return f"{type(problem).__name__}: {problem}" if isinstance(problem, KeyError | TypeError) else str(problem)


def tensors_of(tree: object, path: str = "") -> "Iterator[tuple[str, Tensor]]":
    """Yield (path, tensor) of every tensor in a tree."""
    import torch

    if isinstance(tree, torch.Tensor):
        yield path.lstrip("/"), tree
    elif isinstance(tree, dict):
        for key, entry in tree.items():
            yield from tensors_of(entry, f"{path}/{key}")
    elif isinstance(tree, list | tuple):
        for number, entry in enumerate(tree):
            yield from tensors_of(entry, f"{path}/{number}")


def not_finite(tree: Tree) -> str | None:
    """Return the path of a tensor with a value that is no number or endless, or None; one pass over each, no copy."""
    for path, tensor in tensors_of(tree):
        if tensor.is_floating_point() and tensor.numel():
            low, high = tensor.aminmax()  # both are nan when one value is
            if not bool(low.isfinite() & high.isfinite()):
                return path
    return None


def check_moments(optimizer: "Optimizer") -> None:
    """Refuse what Adam loaded, where it does not fit its parameters: a fused kernel would read beyond its memory.

    Raises:
        ValueError: when a moment has another shape, or is missing.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            kept = optimizer.state.get(parameter, {})
            for name in MOMENTS if kept else ():
                wanted = () if name == "step" else tuple(parameter.shape)
                if (found := getattr(kept.get(name), "shape", None)) != wanted:
                    raise ValueError(f"{name} of Adam has shape {found and tuple(found)}, and its weights {wanted}")


def _plain(value: Any, path: str, tensors: "dict[str, Tensor]", seen: set[int]) -> Any:  # noqa: ANN401
    import torch

    if isinstance(value, torch.Tensor):
        name = f"{len(tensors)}{path}"  # ids hold slashes, so that paths alone could be the same
        tensors[name] = _own(value.detach().cpu().contiguous(), seen)
        return {TENSOR: name}
    if isinstance(value, dict):
        inner = {str(key): _plain(entry, f"{path}/{key}", tensors, seen) for key, entry in value.items()}
        return {KEYS: inner} if value and all(isinstance(key, int) for key in value) else inner
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{path}/{number}", tensors, seen) for number, entry in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path}: a {type(value).__name__} is no part of a state")


def _own(tensor: "Tensor", seen: set[int]) -> "Tensor":
    """Return a tensor whose memory is its own, which safetensors asks for: a copy only of what is shared."""
    storage = tensor.untyped_storage()
    whole = storage.nbytes() == tensor.numel() * tensor.element_size()
    if not whole or storage.data_ptr() in seen:
        return tensor.clone()
    seen.add(storage.data_ptr())
    return tensor


def _tree(value: Any, tensors: "dict[str, Tensor]") -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_tree(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        return tensors[value[TENSOR]]
    if KEYS in value:
        return {int(key): _tree(entry, tensors) for key, entry in value[KEYS].items()}
    return {key: _tree(entry, tensors) for key, entry in value.items()}
