"""Recipes carried out box by box: what every step does, forwards on values and backwards on boxes.

transpose            y = xᵀ of a matrix
swap_axes            y[j, i, …] = x[i, j, …]
take                 y = x[…, index, …] along `axis`
squeeze              y = x without the axis `axis`, which has length 1
merge_first_axes     (a, b, …) seen as (a·b, …)
merge_last_axes      (…, a, b) seen as (…, a·b)
exp, log, sqrt       y = exp(x);  y = log(x);  y = √x
scale, cast          y = x·by;  y = x as `to`
broadcast            y = x everywhere, x a scalar
times, divide, plus  y = x·v;  y = x / v;  y = x + v, the vector v running along `axis`
reciprocal           y = 1 / (x + by)
sum_first_axis       y = Σ x[i, …], summed in float64
sum_last_axis        y = Σ x[…, i]
norm_last_axis       y = ‖x[…, :]‖, at least SMALLEST_NORM

The vector v is `decoder_norm`, the norm of each latent's decoder row, at least SMALLEST_NORM, as the recipe of `W_dec`
gives it before its first step that uses it; or it has a recipe of its own. Nothing is ever whole in memory but vectors.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from saereg.errors import WeightsError
from saereg.registry.files.flat import ITEMS
from saereg.registry.files.memory import contiguous, copied, empty
from saereg.registry.files.tensors import Box, Entry, TensorFile, full_box
from saereg.schemas.metrics import DType
from saereg.schemas.recipe import ZEROS, SourceTensor, Step

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_NORM = 1e-8
"""Floor of a decoder norm, as in SAELens' `get_W_dec_norm`: a dead latent must not become infinite."""

BLOCK_BYTES = 2 * 1024 * 1024
"""Bytes of a block that is read row by row."""

STRIDED_BLOCK_BYTES, MOST_PASSES = 40 * 1024 * 1024, 24
"""Bytes that are gathered from columns at once, more where a tensor would take more passes: each touches all pages."""

PIECE_BYTES = 4 * 1024 * 1024
"""Bytes of the blocks that they are given out in."""

PART_NUMBERS = 1024 * 1024
"""Numbers of the parts that a transposed block is put together from."""

SAME_SHAPE = frozenset({"exp", "log", "sqrt", "scale", "cast", "times", "divide", "plus", "reciprocal"})
COMPUTED = SAME_SHAPE - {"cast"} | {"sum_first_axis", "sum_last_axis", "norm_last_axis"}
STRIDED = frozenset({"transpose", "swap_axes", "take"})
UNDOES = {"transpose": "transpose", "swap_axes": "swap_axes", "exp": "log", "log": "exp"}
"""Step → the step before it that it undoes."""


@dataclass(frozen=True)
class Recipes:
    """Source files, and how tensors are made from what is in them.

    Attributes:
        files: name → source file; a recipe without `file` means the only one, under the name "".
        plan: tensor → recipe.
        shapes: tensor → shape, for those made of one number.
        dtype: type of those before their steps.
        vectors: the vectors that steps name, computed before (`with_decoder_norms`).
    """

    files: Mapping[str, TensorFile]
    plan: Mapping[str, SourceTensor]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtype: str = "float32"
    vectors: Mapping[str, "Tensor"] = field(default_factory=dict)

    def source(self, recipe: SourceTensor) -> tuple[TensorFile, Entry]:
        """Return the file and the tensor that a recipe starts from.

        Raises:
            WeightsError: when either is missing.
        """
        name, key = recipe.file or "", str(recipe.key)
        if name not in self.files:
            raise WeightsError(name or "source", "this file of the source is missing", key)
        file = self.files[name]
        if key not in file.entries:
            listed = ", ".join(sorted(file.entries)[:20])
            raise WeightsError(file.path.name, f"missing; the file holds {listed}", key)
        return file, file.entries[key]

    def entry(self, name: str) -> Entry:
        """Return shape and type of what a recipe gives, without reading values.

        Raises:
            WeightsError: when the source is missing, or a step does not fit its shape.
        """
        recipe = self.plan[name]
        if recipe.key is None:
            casts = [step.to for step in recipe.steps if step.to is not None]
            said = [step.shape for step in recipe.steps if step.shape is not None]
            return Entry(casts[-1] if casts else self.dtype, said[-1] if said else self.shapes[name])
        return self._entry(recipe, self.shapes.get(name))

    def _entry(self, recipe: SourceTensor, expected: tuple[int, ...] | None) -> Entry:
        file, entry = self.source(recipe)
        for step in recipe.steps:
            shape = _shape_after(step, entry.shape)
            length = None if shape is None else self._length(step)
            if shape is not None and length is not None and length != shape[step.axis or 0]:
                shape = None
            if shape is None:
                problem = f"cannot {step} a tensor of shape {entry.shape}; expected {expected or 'another'}"
                raise WeightsError(file.path.name, problem, recipe.key)
            if step.do in COMPUTED and entry.dtype not in get_args(DType):
                problem = f"cannot {step} whole numbers ({entry.dtype}); cast them to float32 first"
                raise WeightsError(file.path.name, problem, recipe.key)
            entry = Entry(step.to or entry.dtype, shape)
        return entry

    def box(self, name: str, box: Box) -> "Tensor":
        """Return a part of what a recipe gives.

        Raises:
            WeightsError: when the source is missing, or a vector that a step needs.
            OSError: when it cannot be read.
        """
        recipe = self.plan[name]
        if recipe.key is None:
            return self._constant(recipe, box)
        return contiguous(self._box(recipe, box))

    def _length(self, step: Step) -> int | None:
        """Return the length of the vector that a step takes; None where it takes none or that is not known yet."""
        if step.other is None:
            return len(self.vectors[step.vector]) if step.vector is not None and step.vector in self.vectors else None
        if step.other.key is None:
            return len(step.other.fill) if isinstance(step.other.fill, tuple) else None
        made = self._entry(step.other, None).shape
        if len(made) != 1:
            raise WeightsError("source", f"shape {made}, expected a vector for {step}", step.other.key)
        return made[0]

    def _box(self, recipe: SourceTensor, box: Box) -> "Tensor":
        file, entry = self.source(recipe)
        shapes = [entry.shape]
        for step in recipe.steps:
            shapes.append(shape_after((step,), shapes[-1]))
        return self._after(file, recipe, len(recipe.steps), shapes, box)

    def blocks(self, name: str) -> Iterator[tuple[int, "Tensor"]]:
        """Yield (first row, block) over the first axis of what a recipe gives; a scalar is one block of shape ()."""
        entry = self.entry(name)
        if not entry.shape or 0 in entry.shape:
            yield 0, self.box(name, full_box(entry.shape))
            return
        strided = any(step.do in STRIDED for step in self.plan[name].steps)
        row, rest = max(1, math.prod(entry.shape[1:]) * ITEMS[entry.dtype]), full_box(entry.shape[1:])
        most = max(STRIDED_BLOCK_BYTES, -(-row * entry.shape[0] // MOST_PASSES)) if strided else BLOCK_BYTES
        rows, piece = max(1, most // row), max(1, PIECE_BYTES // row)
        for first in range(0, entry.shape[0], rows):
            strip = self.box(name, ((first, min(entry.shape[0], first + rows)), *rest))
            for begin in range(0, len(strip), piece):
                yield first + begin, copied(strip[begin : begin + piece]) if len(strip) > piece else strip
            del strip  # before the next one is made

    def whole(self, name: str) -> "Tensor":
        """Return all of what a recipe gives."""
        return self.box(name, full_box(self.entry(name).shape))

    def _constant(self, recipe: SourceTensor, box: Box) -> "Tensor":
        import torch

        shape, fill = tuple(stop - start for start, stop in box), recipe.fill
        if isinstance(fill, tuple):
            value = torch.tensor(fill, dtype=torch.float64)[slice(*box[0])]
        else:
            value = torch.full(shape, fill or 0.0, dtype=torch.float64)
        for step in recipe.steps:
            value = value if step.do == "broadcast" else self._computed(step, value, box, "source")
        typed = any(step.do == "cast" for step in recipe.steps)
        return value if typed else value.to(getattr(torch, self.dtype))

    def _after(
        self, file: TensorFile, recipe: SourceTensor, steps: int, shapes: list[tuple[int, ...]], box: Box
    ) -> "Tensor":
        """Return a box of what stands there after the first `steps` steps."""
        if steps == 0:
            return file.box(str(recipe.key), box)
        step, shape = recipe.steps[steps - 1], shapes[steps - 1]

        def before(inner: Box) -> "Tensor":
            return self._after(file, recipe, steps - 1, shapes, inner)

        if step.do in SAME_SHAPE:
            return self._computed(step, before(box), box, file.path.name)
        if step.do == "merge_first_axes":
            return _merged_first(before, shape, box)
        return _moved(step, before, shape, box)

    def _computed(self, step: Step, value: "Tensor", box: Box, where: str) -> "Tensor":
        import torch

        if step.do in ("exp", "log", "sqrt"):
            return {"exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt}[step.do](value)
        if step.do == "scale":
            return value * float(step.by or 0.0)
        if step.do == "cast":
            return value.to(getattr(torch, str(step.to)))
        if step.do == "reciprocal":
            return 1 / (value + float(step.by or 0.0))
        axis = int(step.axis or 0)
        part = self._vector(step, box[axis], where)
        if part.is_floating_point() and (part.itemsize < value.itemsize or step.other is not None):
            part = part.to(value.dtype)
        part = part.reshape(-1, *[1] * (value.ndim - axis - 1))
        if step.do == "plus":
            return (value + part).to(value.dtype)
        return (value * part if step.do == "times" else value / part).to(value.dtype)

    def _vector(self, step: Step, span: tuple[int, int], where: str) -> "Tensor":
        """Return a part of the vector that a step multiplies or divides by, or adds."""
        if step.other is not None:
            constant = step.other.key is None
            return self._constant(step.other, (span,)) if constant else self._box(step.other, (span,))
        if str(step.vector) not in self.vectors:
            raise WeightsError(where, f"{step}: these numbers are not known", None)
        return self.vectors[str(step.vector)][slice(*span)]


def with_decoder_norms(recipes: Recipes) -> Recipes:
    """Return the recipes with `decoder_norm` computed, if a step names it.

    Raises:
        WeightsError: when there is no `W_dec` to take norms of, or it is no matrix of floating-point numbers.
    """
    import torch

    users = [n for n, recipe in recipes.plan.items() if any(s.vector == "decoder_norm" for s in recipe.steps)]
    if not users or "decoder_norm" in recipes.vectors:
        return recipes
    if "W_dec" not in recipes.plan:
        raise WeightsError("source", "its recipe needs to know which tensor of the source W_dec is", users[0])
    recipe = recipes.plan["W_dec"]
    steps = [step.vector for step in recipe.steps]
    before = recipe.steps[: steps.index("decoder_norm")] if "decoder_norm" in steps else recipe.steps
    directions = Recipes(recipes.files, {"W_dec": recipe.model_copy(update={"steps": before})}, recipes.shapes)
    entry = directions.entry("W_dec")
    if len(entry.shape) != 2 or not getattr(torch, entry.dtype).is_floating_point:
        raise WeightsError("source", f"{entry.dtype} {entry.shape} has no decoder norms", recipe.key)
    # at least float32: the smallest norm is 0 in float16
    norms = torch.empty(entry.shape[0], dtype=torch.promote_types(getattr(torch, entry.dtype), torch.float32))
    for first, block in directions.blocks("W_dec"):
        norms[first : first + len(block)] = block.to(norms.dtype).norm(dim=-1).clamp(min=SMALLEST_NORM)
    return Recipes(
        recipes.files, recipes.plan, recipes.shapes, recipes.dtype, {**recipes.vectors, "decoder_norm": norms}
    )


def composed(outer: Mapping[str, SourceTensor], inner: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    """Return the plan that does `outer` on what `inner` gives; a step that undoes the one before it goes with it.

    Of one number everywhere only its arithmetic is left: whatever moves it leaves it as it is.
    """
    return {name: _joined(recipe, inner) for name, recipe in outer.items()}


def _joined(recipe: SourceTensor, inner: Mapping[str, SourceTensor]) -> SourceTensor:
    if recipe.key is None:
        return recipe
    made, steps = inner[recipe.key], list(inner[recipe.key].steps)
    for step in recipe.steps:
        other = None if step.other is None else _joined(step.other, inner)
        if step.do == "plus" and other is not None and ZEROS in (other, made):
            # zeros and a vector: the vector
            made, steps = (made, steps) if other == ZEROS else (other, list(other.steps))
            continue
        undone = steps and UNDOES.get(step.do) == steps[-1].do
        steps = steps[:-1] if undone else [*steps, step.model_copy(update={"other": other})]
    if made.key is None:
        steps = [step for step in steps if step.do in SAME_SHAPE]
    return SourceTensor(key=made.key, file=made.file, fill=made.fill, steps=tuple(steps))


def shape_after(steps: Iterable[Step], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that steps give; one that does not fit changes nothing."""
    for step in steps:
        after = _shape_after(step, shape)
        shape = shape if after is None else after
    return shape


def _shape_after(step: Step, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape that a step gives, or None where it does not fit."""
    ndim, axis = len(shape), step.axis or 0
    fits = {
        "transpose": ndim == 2,
        "swap_axes": ndim > 1,
        "take": axis < ndim and (step.index or 0) < shape[axis] if ndim > axis else False,
        "squeeze": ndim > axis and shape[axis] == 1,
        "merge_first_axes": ndim > 1,
        "merge_last_axes": ndim > 1,
        "broadcast": math.prod(shape) == 1,
        "times": ndim > axis,
        "divide": ndim > axis,
        "plus": ndim > axis,
        "sum_first_axis": ndim > 1 and shape[0] > 0,
        "sum_last_axis": ndim > 1 and shape[0] > 0,
        "norm_last_axis": ndim > 1 and shape[0] > 0,
    }
    if not fits.get(step.do, True):
        return None
    after: dict[str, tuple[int, ...]] = {
        "transpose": shape[::-1],
        "swap_axes": (*shape[:2][::-1], *shape[2:]),
        "take": shape[:axis] + shape[axis + 1 :],
        "squeeze": shape[:axis] + shape[axis + 1 :],
        "merge_first_axes": (math.prod(shape[:2]), *shape[2:]),
        "merge_last_axes": (*shape[:-2], math.prod(shape[-2:])),
        "broadcast": step.shape or (),
        "sum_first_axis": shape[1:],
        "sum_last_axis": shape[:-1],
        "norm_last_axis": shape[:-1],
    }
    return after.get(step.do, shape)


def _moved(step: Step, before: "Callable[[Box], Tensor]", shape: tuple[int, ...], box: Box) -> "Tensor":
    """Return a box of what a step gives that changes the shape; `shape` is that before it."""
    if step.do == "transpose":
        return _transposed(before, box)
    if step.do == "swap_axes":
        return before((box[1], box[0], *box[2:])).transpose(0, 1)
    axis = step.axis or 0
    if step.do in ("take", "squeeze"):
        index = step.index or 0
        return before((*box[:axis], (index, index + 1), *box[axis:])).squeeze(axis)
    if step.do == "broadcast":
        return before(full_box(shape)).reshape(()).expand(tuple(stop - start for start, stop in box))
    if step.do == "sum_first_axis":
        return _summed_first(before, shape, box)
    if step.do in ("sum_last_axis", "norm_last_axis"):
        return _reduced_last(step, before, shape, box)
    # merge_last_axes: the blocks that are asked for are whole along the last axis
    return before((*box[:-1], *full_box(shape[-2:]))).flatten(-2)[..., slice(*box[-1])]


def _transposed(before: "Callable[[Box], Tensor]", box: Box) -> "Tensor":
    """Return a box of a transposed matrix; a large one is put together from parts, so that memory holds it once."""
    columns, (start, stop) = box
    step = max(1, PART_NUMBERS // max(1, columns[1] - columns[0]))
    first = before(((start, min(stop, start + step)), columns)).T
    if stop - start <= step:
        return first
    result = empty((columns[1] - columns[0], stop - start), first.dtype)
    result[:, :step] = first
    for begin in range(start + step, stop, step):
        part = before(((begin, min(stop, begin + step)), columns))
        result[:, begin - start : begin - start + len(part)] = part.T
    return result


def _merged_first(before: "Callable[[Box], Tensor]", shape: tuple[int, ...], box: Box) -> "Tensor":
    """Return a box of (a·b, …) from boxes of (a, b, …)."""
    import torch

    (start, stop), rest, parts = box[0], box[1:], []
    if start == stop:
        return before(((0, 0), (0, 0), *rest)).flatten(0, 1)
    while start < stop:
        outer, inner = divmod(start, shape[1])
        end = min(shape[1], inner + stop - start)
        parts.append(before(((outer, outer + 1), (inner, end), *rest)).squeeze(0))
        start += end - inner
    return torch.cat(parts)


def _summed_first(before: "Callable[[Box], Tensor]", shape: tuple[int, ...], box: Box) -> "Tensor":
    """Return a box of Σ x[i, …], block by block."""
    rows = max(1, BLOCK_BYTES // max(1, 4 * math.prod(stop - start for start, stop in box)))
    block = before(((0, min(shape[0], rows)), *box))
    dtype, total = block.dtype, block.double().sum(dim=0)
    for first in range(rows, shape[0], rows):
        total += before(((first, min(shape[0], first + rows)), *box)).double().sum(dim=0)
    return total.to(dtype)


def _reduced_last(step: Step, before: "Callable[[Box], Tensor]", shape: tuple[int, ...], box: Box) -> "Tensor":
    """Return a box of Σ x[…, i] or ‖x[…, :]‖, block by block."""
    import torch

    (start, stop), rest, last = box[0], box[1:], shape[-1]
    rows = max(1, BLOCK_BYTES // max(1, 4 * last * math.prod(end - begin for begin, end in rest)))
    parts = []
    for first in range(start, stop, rows):
        block = before(((first, min(stop, first + rows)), *rest, (0, last)))
        is_norm = step.do == "norm_last_axis"
        parts.append(block.norm(dim=-1).clamp(min=SMALLEST_NORM) if is_norm else block.sum(dim=-1))
    return torch.cat(parts)
