"""An export against the checkpoint it came from, tensor by tensor, in blocks of rows."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from saereg.errors import WeightsError
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.tensors import Entry, TensorFile
from saereg.registry.readings.recipes import Recipes, with_decoder_norms
from saereg.schemas.index import RoundTrip, RoundTripTensor
from saereg.schemas.manifest import SourceCheckpoint
from saereg.schemas.metrics import FLOATS
from saereg.schemas.recipe import SourceTensor

MAX_FLOAT = float(torch.finfo(torch.float64).max)

PART_NUMBERS = 128 * 1024
"""Numbers of blocks that are subtracted at once."""

FOLD_TOLERANCE = 1e-6
"""Largest difference of a redone fold, relative to the largest magnitude of the tensor: float32 rounding."""


def compare_with_source(exported: TensorFile, checkpoint: Path, source: SourceCheckpoint) -> RoundTrip:
    """Redo every recipe of an export and compare with the exported bytes.

    Memory holds a few blocks, whatever the size of the tensors.

    Args:
        exported: the released weights.
        checkpoint: the file they came from, or the folder where there are several.
        source: what the manifest says of it.

    Raises:
        WeightsError: when the source cannot be opened or lacks a tensor, or a recipe cannot be redone.
        OSError: when a file cannot be read.
    """
    for name in source.tensors:
        if name not in exported.entries:
            raise WeightsError(exported.path.name, "is in source_checkpoint.tensors but not in the file", name)
    shapes = {name: entry.shape for name, entry in exported.entries.items()}
    dtype = exported.entries["W_dec"].dtype if "W_dec" in exported.entries else "float32"
    recipes = with_decoder_norms(Recipes({"": open_tensors(checkpoint)}, source.tensors, shapes, dtype))
    return RoundTrip(against=source.sha256, tensors=compare_with_recipes(exported, recipes))


def compare_with_recipes(exported: TensorFile, recipes: Recipes) -> dict[str, RoundTripTensor]:
    """Return exported tensor → what its bytes are against those that its recipe gives.

    Raises:
        WeightsError: when a source lacks a tensor, or a recipe cannot be redone.
        OSError: when a file cannot be read.
    """
    return {name: _compare(name, exported, recipes) for name in sorted(recipes.plan)}


def disagreements(
    compared: Mapping[str, RoundTripTensor], plan: Mapping[str, SourceTensor], largest: Mapping[str, float]
) -> dict[str, str]:
    """Return exported tensor → what is wrong, for every tensor that is not what its recipe gives.

    Args:
        compared: the comparison.
        plan: what is said to have been done.
        largest: tensor → its largest magnitude, the scale of a fold's rounding.
    """
    wrong = {}
    for name, tensor in compared.items():
        difference = f"max_abs_diff {tensor.max_abs_diff:.3g}"
        if plan[name].is_movement:
            if not tensor.bitwise:
                wrong[name] = f"{difference}, expected the same bytes ({tensor.operation})"
        elif tensor.max_abs_diff > FOLD_TOLERANCE * max(largest.get(name, 1.0), 1e-30):
            wrong[name] = f"{difference} from {tensor.operation} of {tensor.key}"
    return wrong


def _compare(name: str, exported: TensorFile, recipes: Recipes) -> RoundTripTensor:
    recipe, entry = recipes.plan[name], exported.entries[name]
    _check_recipe(name, recipe, entry, recipes, exported.path.name)
    bitwise, largest = True, 0.0
    for first, expected in recipes.blocks(name):
        rows = ((first, first + len(expected)),) if expected.ndim else ()
        block = exported.box(name, (*rows, *((0, size) for size in entry.shape[1:])))
        if not same_bytes(expected, block):
            bitwise, largest = False, max(largest, max_abs_diff(expected, block))
        del expected, block  # before the next pair is made
    return RoundTripTensor(
        key=recipe.key or "",
        operation=recipe.operation,
        bitwise=bitwise and recipe.is_movement,
        max_abs_diff=min(largest, MAX_FLOAT),
    )


def _check_recipe(name: str, recipe: SourceTensor, entry: Entry, recipes: Recipes, exported: str) -> None:
    """Refuse what cannot be redone: other shapes than the recipe gives, or arithmetic on whole numbers."""
    if recipe.key is None:
        return
    file, origin = recipes.source(recipe)
    if recipes.entry(name).shape != entry.shape:
        given = recipes.entry(name).shape
        made = f"{recipe.operation} of {recipe.key} in the source, {origin.shape}, is {given}"
        problem = f"shape {entry.shape}, but {made}"
        raise WeightsError(exported, problem, name)
    if not recipe.is_movement and origin.dtype not in FLOATS:
        raise WeightsError(
            file.path.name, f"cannot compute {recipe.operation} of {recipe.key}, which is {origin.dtype}", name
        )


def max_abs_diff(expected: Tensor, block: Tensor) -> float:
    """Return the largest absolute difference of two blocks, in float64; a part at a time, as that is wide."""
    if expected.shape != block.shape:
        return MAX_FLOAT
    left, right = expected.reshape(-1), block.reshape(-1)
    parts = (slice(first, first + PART_NUMBERS) for first in range(0, left.numel(), PART_NUMBERS))
    return max((_largest(left[part], right[part]) for part in parts), default=0.0)


def _largest(expected: Tensor, block: Tensor) -> float:
    expected, block = expected.double(), block.double()
    difference = (expected - block).abs()
    # Equal infinities and equal NaNs differ by nothing; whether their bytes agree is the business of `bitwise`.
    difference[(expected == block) | (expected.isnan() & block.isnan())] = 0.0
    return float(difference.nan_to_num(nan=MAX_FLOAT).max())


def same_bytes(a: Tensor, b: Tensor) -> bool:
    """Whether two blocks have one type, one shape and the same bytes."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    left, right = (t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(left, right)
