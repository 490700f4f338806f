"""An export against the checkpoint it came from, tensor by tensor, in the one pass that hashes and inspects it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from saereg.errors import WeightsError
from saereg.registry.evidence.comparing import MAX_FLOAT, Comparison, Difference, comparison
from saereg.registry.evidence.inspection import Inspection, inspect
from saereg.registry.files.flat import open_safetensors
from saereg.registry.files.header import Header
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.spans import Blocks, Reader, span_of
from saereg.registry.files.tensors import Entry, TensorFile
from saereg.registry.readings.recipes import Recipes, with_decoder_norms
from saereg.schemas.index import RoundTrip, RoundTripTensor
from saereg.schemas.manifest import SourceCheckpoint
from saereg.schemas.metrics import FLOATS
from saereg.schemas.recipe import SourceTensor, moved

FOLD_TOLERANCE = 1e-6
"""Largest difference of a redone fold, relative to the largest magnitude of the tensor: float32 rounding."""


@dataclass(frozen=True)
class Looked:
    """What one pass over an exported file found.

    Attributes:
        inspection: digest, finiteness, magnitudes and norms.
        tensors: exported tensor → what its bytes are against the source; None where there was no source.
        first: exported tensor → index of its first number whose bytes differ.
        problem: why there could be no comparison.
    """

    inspection: Inspection
    tensors: Mapping[str, RoundTripTensor] | None = None
    first: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    problem: WeightsError | OSError | None = None

    def round_trip(self, source: SourceCheckpoint) -> RoundTrip | None:
        """Return the comparison as an index records it; None where there was no source.

        Raises:
            WeightsError: when the source could not be opened or lacks a tensor, or a recipe cannot be redone.
            OSError: when it could not be read.
        """
        if self.problem is not None:
            raise self.problem
        return None if self.tensors is None else RoundTrip(against=source.sha256, tensors=dict(self.tensors))


def look(path: Path, header: Header, checkpoint: Path | None = None, source: SourceCheckpoint | None = None) -> Looked:
    """Read an exported file once: hash it, look at its values, and compare it with the checkpoint it came from.

    Args:
        path: the released weights.
        header: their header.
        checkpoint: the file that they came from; None: nothing is compared.
        source: what the manifest says of it.

    Raises:
        OSError: when the exported file cannot be read; what is wrong with the checkpoint is in what is returned.
    """
    if checkpoint is None or source is None:
        return Looked(inspect(path, header))
    exported = open_safetensors(path)
    try:
        compared = _Compared(exported, _recipes(exported, checkpoint, source))
    except (WeightsError, OSError) as problem:
        return Looked(inspect(path, header), problem=problem)
    inspection = inspect(path, header, compared)
    if compared.problem is not None:
        return Looked(inspection, problem=compared.problem)
    return Looked(inspection, compared.tensors(), compared.first())


def _recipes(exported: TensorFile, checkpoint: Path, source: SourceCheckpoint) -> Recipes:
    for name in source.tensors:
        if name not in exported.entries:
            raise WeightsError(exported.path.name, "is in source_checkpoint.tensors but not in the file", name)
    shapes = {name: entry.shape for name, entry in exported.entries.items()}
    dtype = exported.entries["W_dec"].dtype if "W_dec" in exported.entries else "float32"
    return with_decoder_norms(Recipes({"": open_tensors(checkpoint)}, source.tensors, shapes, dtype))


def compare_with_recipes(exported: TensorFile, recipes: Recipes) -> dict[str, RoundTripTensor]:
    """Return exported tensor → what its bytes are against those that its recipe gives.

    Raises:
        WeightsError: when a source lacks a tensor, or a recipe cannot be redone.
        OSError: when a file cannot be read.
    """
    compared = _Compared(exported, recipes)
    with Reader(exported.path) as reader:
        for name in sorted(recipes.plan):
            for start, block in _blocks(exported, name, reader):
                compared.see(name, start, block)
            compared.finish(name)
    if compared.problem is not None:
        raise compared.problem
    return compared.tensors()


def _blocks(exported: TensorFile, name: str, reader: Reader) -> Iterator[tuple[int, Tensor]]:
    """Yield (position of the first number, flat block) over a tensor, box by box where its bytes lie in no order."""
    span = span_of(exported, name)
    if span is not None:
        yield from Blocks().of(span, reader)
        return
    position = 0
    for _, block in Recipes({"": exported}, {name: moved(name)}).blocks(name):
        yield position, block.reshape(-1)
        position += block.numel()
        del block  # before the next one is read


class _Compared:
    """Every tensor of an export against its recipe, as its blocks pass; the first problem ends the comparison."""

    def __init__(self, exported: TensorFile, recipes: Recipes) -> None:
        self._exported, self._recipes = exported, recipes
        self._waiting: dict[str, Comparison] = {}
        self._found: dict[str, Difference] = {}
        self.problem: WeightsError | OSError | None = None
        for name in sorted(recipes.plan):
            _check_recipe(name, recipes.plan[name], exported.entries[name], recipes, exported.path.name)
            self._waiting[name] = comparison(name, span_of(exported, name), recipes)

    def see(self, name: str, start: int, block: Tensor) -> None:
        """Compare a flat block."""
        if name in self._waiting:
            self._try(lambda: self._waiting[name].see(start, block))

    def finish(self, name: str) -> None:
        """Take down how a tensor differs."""
        if name in self._waiting:
            self._try(self._waiting[name].finish)
            done = self._waiting.pop(name, None)
            if done is not None:
                self._found[name] = done.difference

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (WeightsError, OSError) as problem:  # of the source: the export is read on, for its digest
            self.problem = problem
            for waiting in self._waiting.values():
                waiting.close()
            self._waiting.clear()

    def tensors(self) -> dict[str, RoundTripTensor]:
        """Return exported tensor → what its bytes are."""
        found = {}
        for name in sorted(self._found):
            recipe, difference = self._recipes.plan[name], self._found[name]
            same_type = self._recipes.entry(name).dtype == self._exported.entries[name].dtype
            found[name] = RoundTripTensor(
                key=recipe.key or "",
                operation=recipe.operation,
                bitwise=difference.bitwise and same_type and recipe.is_movement,
                max_abs_diff=min(difference.largest, MAX_FLOAT),
            )
        return found

    def first(self) -> dict[str, tuple[int, ...]]:
        """Return exported tensor → index of its first number whose bytes differ."""
        shapes = {name: self._exported.entries[name].shape for name in self._found}
        return {
            name: tuple(int(i) for i in np.unravel_index(difference.first, shapes[name])) if shapes[name] else ()
            for name, difference in self._found.items()
            if difference.first is not None
        }


def disagreements(
    compared: Mapping[str, RoundTripTensor],
    plan: Mapping[str, SourceTensor],
    largest: Mapping[str, float],
    first: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, str]:
    """Return exported tensor → what is wrong, for every tensor that is not what its recipe gives.

    Args:
        compared: the comparison.
        plan: what is said to have been done.
        largest: tensor → its largest magnitude, the scale of a fold's rounding.
        first: tensor → index of its first number that differs, where that is known.
    """
    wrong = {}
    for name, tensor in compared.items():
        difference = f"max_abs_diff {tensor.max_abs_diff:.3g}"
        if plan[name].is_movement:
            if not tensor.bitwise:
                at = f", first at {list(first[name])}" if first and first.get(name) else ""
                wrong[name] = f"{difference}{at}, expected the same bytes ({tensor.operation})"
        elif tensor.max_abs_diff > FOLD_TOLERANCE * max(largest.get(name, 1.0), 1e-30):
            wrong[name] = f"{difference} from {tensor.operation} of {tensor.key}"
    return wrong


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
