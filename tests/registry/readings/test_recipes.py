"""A part of what a recipe gives is the same part of the whole, for any shape and any steps."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from saereg.errors import WeightsError
from saereg.registry.files.flat import open_safetensors
from saereg.registry.files.tensors import MemoryFile, full_box
from saereg.registry.readings import recipes as module
from saereg.registry.readings.recipes import SMALLEST_NORM, Recipes, composed, with_decoder_norms
from saereg.schemas.recipe import (
    EXP,
    SWAP_AXES,
    TRANSPOSE,
    ZEROS,
    SourceTensor,
    Step,
    cast_to,
    divided_by_decoder_norm,
    moved,
    scaled,
    times_decoder_norm,
    transposed,
)

FLOATS = ("float64", "float32", "bfloat16", "float16")


def expected_of(step: Step, x: Tensor) -> Tensor:
    """Return what a step gives, on a whole tensor; written apart from the recipes."""
    dtype, axis = x.dtype, step.axis or 0
    return {
        "transpose": lambda: x.mT,
        "swap_axes": lambda: x.movedim(0, 1),
        "take": lambda: x.select(axis, step.index or 0),
        "squeeze": lambda: x.select(axis, 0),
        "merge_first_axes": lambda: x.flatten(0, 1),
        "merge_last_axes": lambda: x.flatten(-2),
        "exp": lambda: x.exp(),
        "scale": lambda: x * step.by,
        "cast": lambda: x.to(getattr(torch, str(step.to))),
        "broadcast": lambda: x.reshape(()).repeat(*(step.shape or ()), 1)[..., 0],
        "sum_first_axis": lambda: x.double().sum(0).to(dtype),
    }[step.do]()


@dataclass(frozen=True)
class Chain:
    """A tensor and steps that fit it."""

    start: Tensor
    steps: tuple[Step, ...]
    expected: Tensor


def possible(x: Tensor, *, only_moving: bool) -> list[st.SearchStrategy[Step]]:
    """Return the steps that fit a tensor."""
    found = []
    if x.ndim == 2:
        found.append(st.just(TRANSPOSE))
    if x.ndim > 1:
        found += [st.just(SWAP_AXES), st.just(Step(do="merge_first_axes")), st.just(Step(do="merge_last_axes"))]
    for axis, size in enumerate(x.shape):
        if size:
            found.append(st.integers(0, size - 1).map(lambda index, axis=axis: Step(do="take", axis=axis, index=index)))
        if size == 1:
            found.append(st.just(Step(do="squeeze", axis=axis)))
    if only_moving:
        return found or [st.nothing()]
    if x.ndim > 1 and x.shape[0]:
        found.append(st.just(Step(do="sum_first_axis")))
    if x.numel() == 1:
        found.append(
            st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda shape: Step(do="broadcast", shape=shape))
        )
    return [*found, st.just(EXP), st.just(scaled(-0.5)), st.sampled_from(FLOATS).map(cast_to)]


@st.composite
def chains(draw, *, only_moving: bool = False, least: int = 0) -> Chain:
    """Draw a tensor and some steps."""
    shape = draw(st.lists(st.integers(least, 5), min_size=0, max_size=4))
    dtype = getattr(torch, draw(st.sampled_from(FLOATS)))
    start = (torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))) * 0.3).to(dtype)
    x, steps = start, []
    for _ in range(draw(st.integers(0, 5))):
        options = possible(x, only_moving=only_moving)
        if options == [st.nothing()]:
            break
        step = draw(st.one_of(*options))
        steps.append(step)
        x = expected_of(step, x)
    return Chain(start, tuple(steps), x)


@st.composite
def boxes(draw, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Draw a box, empty ones included."""
    spans = []
    for size in shape:
        start = draw(st.integers(0, size))
        spans.append((start, draw(st.integers(start, size))))
    return tuple(spans)


def recipes_of(chain: Chain) -> Recipes:
    return Recipes({"": MemoryFile({"x": chain.start})}, {"y": SourceTensor(key="x", steps=chain.steps)})


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0.02 if found.itemsize == 2 else 1e-5, atol=1e-6, equal_nan=True)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_boxes_blocks_and_entries_are_those_of_the_whole(data):
    """For any steps, whatever the block size."""
    chain = data.draw(chains())
    recipes = recipes_of(chain)
    whole = recipes.whole("y")
    assert_close(whole, chain.expected)
    entry = recipes.entry("y")
    assert (entry.dtype, entry.shape) == (str(whole.dtype).removeprefix("torch."), tuple(whole.shape))
    box = data.draw(boxes(entry.shape))
    part = recipes.box("y", box)
    assert part.is_contiguous()
    assert_close(part, whole[tuple(slice(*span) for span in box)])
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BLOCK_BYTES", "STRIDED_BLOCK_BYTES", "PIECE_BYTES", "PART_NUMBERS"):
            patch.setattr(module, name, data.draw(st.integers(1, 64)))
        blocks = list(recipes.blocks("y"))
    if whole.ndim:
        assert_close(torch.cat([block for _, block in blocks]), whole)
        starts = [first for first, _ in blocks]
        assert starts == [sum(len(block) for _, block in blocks[:i]) for i in range(len(blocks))]
    else:
        assert [(first, tuple(block.shape)) for first, block in blocks] == [(0, ())]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_movements_move_bytes(data):
    """Exactly, NaN included, and only they are called bitwise."""
    chain = data.draw(chains(only_moving=True))
    recipes = recipes_of(chain)
    assert recipes.plan["y"].is_movement
    box = data.draw(boxes(tuple(chain.expected.shape)))
    expected = chain.expected[tuple(slice(*span) for span in box)].clone(memory_format=torch.contiguous_format)
    found = recipes.box("y", box)
    assert found.dtype == expected.dtype
    assert found.reshape(-1).view(torch.uint8).tolist() == expected.reshape(-1).view(torch.uint8).tolist()


@settings(max_examples=100, deadline=None)
@given(chains(least=1), st.data())
def test_a_composed_plan_does_one_after_the_other(inner, data):
    """`composed(outer, inner)` of the source is `outer` of what `inner` gives."""
    x, steps = inner.expected, []
    for _ in range(data.draw(st.integers(0, 4))):
        step = data.draw(st.one_of(*possible(x, only_moving=False)))
        steps.append(step)
        x = expected_of(step, x)
    plan = {"z": SourceTensor(key="y", steps=tuple(steps))}
    joined = composed(plan, {"y": SourceTensor(key="x", steps=inner.steps)})
    files = {"": MemoryFile({"x": inner.start})}
    assert_close(Recipes(files, joined).whole("z"), x)


def test_composing_undoes_what_undoes_itself():
    """So that writing and reading back leave nothing to compare."""
    inner = {"W_enc": transposed("encoder.weight"), "b": moved("bias", SWAP_AXES), "zeros": ZEROS}
    outer = {"e": transposed("W_enc"), "b2": moved("b", SWAP_AXES, SWAP_AXES), "z": transposed("zeros"), "n": ZEROS}
    assert composed(outer, inner) == {
        "e": moved("encoder.weight"), "b2": moved("bias", SWAP_AXES), "z": ZEROS, "n": ZEROS
    }  # fmt: skip


def test_blocks_of_a_large_transpose_are_those_of_the_tensor(tmp_path):
    """Over several passes and several parts, from a file."""
    x = torch.arange(3000 * 700, dtype=torch.float32).reshape(3000, 700)
    save_file({"x": x}, tmp_path / "x.safetensors")
    recipes = Recipes({"": open_safetensors(tmp_path / "x.safetensors")}, {"y": transposed("x")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STRIDED_BLOCK_BYTES", 100_000)
        patch.setattr(module, "PIECE_BYTES", 30_000)
        patch.setattr(module, "PART_NUMBERS", 5000)
        blocks = list(recipes.blocks("y"))
    assert 200 < len(blocks) <= 700
    assert torch.equal(torch.cat([block for _, block in blocks]), x.T)


@pytest.mark.parametrize("dtype", FLOATS)
def test_decoder_norms_are_those_of_the_rows_of_w_dec(dtype):
    """Before the first step that uses them; a dead row has the smallest norm, not zero."""
    decoder = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).to(getattr(torch, dtype))
    decoder[:, 2] = 0
    files = {"": MemoryFile({"dec": decoder, "enc": torch.ones(4, 5), "b": torch.ones(5)})}
    plan = {
        "W_dec": transposed("dec", divided_by_decoder_norm(0), scaled(3.0)),
        "W_enc": moved("enc", times_decoder_norm(1)),
        "b_enc": moved("b", times_decoder_norm(0)),
    }
    recipes = with_decoder_norms(Recipes(files, plan))
    exact = torch.float64 if dtype == "float64" else torch.float32
    norms = decoder.to(exact).norm(dim=0).clamp(min=SMALLEST_NORM)
    assert_close(recipes.vectors["decoder_norm"], norms)
    assert_close(recipes.whole("W_dec"), ((decoder.T.to(exact) / norms[:, None]) * 3.0).to(decoder.dtype))
    assert_close(recipes.whole("W_enc"), norms.float().expand(4, 5).contiguous())
    assert_close(recipes.box("b_enc", ((1, 3),)), norms[1:3].float())
    assert with_decoder_norms(recipes) is recipes
    assert {name: recipes.entry(name).dtype for name in plan} == {
        "W_dec": dtype,
        "W_enc": "float32",
        "b_enc": "float32",
    }


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_arithmetic_keeps_the_type_of_the_tensor(dtype):
    """Also with norms of a wider type: only `cast` changes it, as the entry says."""
    files = {"": MemoryFile({"dec": torch.randn(5, 3), "enc": torch.ones(4, 5).to(getattr(torch, dtype))})}
    plan = {"W_dec": moved("dec"), "W_enc": moved("enc", times_decoder_norm(1))}
    recipes = with_decoder_norms(Recipes(files, plan))
    assert str(recipes.whole("W_enc").dtype) == f"torch.{dtype}"
    assert recipes.entry("W_enc").dtype == dtype


FILES = {"": MemoryFile({"m": torch.ones(3, 4), "v": torch.ones(5), "n": torch.ones(2, 2, dtype=torch.int64)})}

WRONG = {
    "transpose of a vector": (transposed("v"), "memory: v: cannot transpose a tensor of shape (5,); expected another"),
    "take behind the end": (
        moved("m", Step(do="take", axis=1, index=4)),
        "memory: m: cannot take axis 1 index 4 a tensor of shape (3, 4); expected another",
    ),
    "take of a missing axis": (
        moved("m", Step(do="take", axis=2, index=0)),
        "memory: m: cannot take axis 2 index 0 a tensor of shape (3, 4); expected another",
    ),
    "squeeze of a long axis": (
        moved("m", Step(do="squeeze", axis=0)),
        "memory: m: cannot squeeze axis 0 a tensor of shape (3, 4); expected another",
    ),
    "broadcast of a vector": (
        moved("v", Step(do="broadcast", shape=(2, 2))),
        "memory: v: cannot broadcast shape (2, 2) a tensor of shape (5,); expected another",
    ),
    "missing tensor": (moved("x"), "memory: x: missing; the file holds m, n, v"),
    "missing file": (moved("m", file="b.pt"), "b.pt: m: this file of the source is missing"),
    "arithmetic on whole numbers": (
        moved("n", EXP),
        "memory: n: cannot exp whole numbers (int64); cast them to float32 first",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_recipe_that_does_not_fit_is_refused(name):
    """Before anything is read."""
    recipe, expected = WRONG[name]
    with pytest.raises(WeightsError) as caught:
        Recipes(FILES, {"y": recipe}).entry("y")
    assert str(caught.value) == expected


def test_norms_that_are_not_known_are_refused():
    """A plan that was not prepared, a missing W_dec, and one that has no rows."""
    user = {"b": moved("v", times_decoder_norm(0))}
    with pytest.raises(WeightsError, match="memory: times decoder_norm axis 0: these numbers are not known"):
        Recipes(FILES, user).whole("b")
    with pytest.raises(WeightsError, match="source: b: its recipe needs to know which tensor of the source W_dec is"):
        with_decoder_norms(Recipes(FILES, user))
    for key, problem in (("v", r"float32 \(5,\) has no decoder norms"), ("n", r"int64 \(2, 2\) has no decoder norms")):
        with pytest.raises(WeightsError, match=problem):
            with_decoder_norms(Recipes(FILES, {**user, "W_dec": moved(key)}))


def test_zeros_are_made_of_nothing():
    """With the shape that the configuration says."""
    recipes = Recipes({}, {"b_enc": ZEROS, "s": ZEROS}, {"b_enc": (7,), "s": ()}, "bfloat16")
    assert torch.equal(recipes.whole("b_enc"), torch.zeros(7, dtype=torch.bfloat16))
    assert [(first, block.shape) for first, block in recipes.blocks("s")] == [(0, ())]
    assert recipes.box("b_enc", full_box((3,))).shape == (3,)
