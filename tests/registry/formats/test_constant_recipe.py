"""Tensors that a source has not: zeros, or one number that a document gives."""

from pathlib import Path

import pytest
import torch

from saereg.registry.files.tensors import MemoryFile
from saereg.registry.readings.recipes import Recipes, composed, shape_after
from saereg.schemas.recipe import ZEROS, SourceTensor, Step, cast_to, constant, moved, scaled, transposed


def recipes(recipe, shape, dtype="float32"):
    """Return recipes of one tensor."""
    return Recipes({"": MemoryFile({}, Path("a"))}, {"t": recipe}, {"t": shape}, dtype)


@pytest.mark.parametrize(("recipe", "number"), [(ZEROS, 0.0), (constant(0.25), 0.25)])
def test_one_number_fills_every_box(recipe, number):
    """Whole, in part, and as a scalar."""
    assert recipes(recipe, (3, 2)).whole("t").tolist() == [[number] * 2] * 3
    assert recipes(recipe, (3, 2)).box("t", ((1, 2), (0, 2))).tolist() == [[number] * 2]
    assert recipes(recipe, ()).whole("t").shape == ()
    assert [first for first, _ in recipes(recipe, (3, 2)).blocks("t")] == [0]


def test_its_arithmetic_is_done_in_order():
    """A cast gives the type, and it is not rounded to a narrower one before."""
    made = recipes(SourceTensor(fill=0.1, steps=(cast_to("float32"), scaled(3.0))), (2,), "bfloat16")
    assert made.entry("t").dtype == "float32"
    assert torch.equal(made.whole("t"), torch.full((2,), 0.1) * 3)


def test_it_is_not_moved_and_says_what_it_is():
    """Nothing of it is in the source, so no bytes can be compared with it."""
    assert (ZEROS.operation, constant(0.25).operation) == ("zeros", "0.25 everywhere")
    assert SourceTensor(fill=2.0, steps=(scaled(0.5),)).operation == "2.0 everywhere, scale by 0.5"
    assert not ZEROS.is_movement
    assert not constant(1.0).is_movement


def test_a_key_and_a_number_exclude_each_other():
    """One of the two says where a tensor is from."""
    with pytest.raises(ValueError, match="`key` and `fill` exclude each other"):
        SourceTensor(key="a", fill=1.0)


def test_composed_it_keeps_arithmetic_and_loses_movements():
    """One number everywhere is the same transposed."""
    outer = {
        "a": moved("t", Step(do="broadcast", shape=(4,)), scaled(2.0)),
        "b": transposed("t", cast_to("float64")),
    }
    plan = composed(outer, {"t": constant(0.5)})
    assert plan["a"] == SourceTensor(fill=0.5, steps=(scaled(2.0),))
    assert plan["b"] == SourceTensor(fill=0.5, steps=(cast_to("float64"),))


def test_the_shape_after_steps_is_told_without_values():
    """Also where it becomes that of a scalar."""
    assert shape_after((Step(do="squeeze", axis=0),), (1,)) == ()
    assert shape_after((Step(do="broadcast", shape=(4,)), scaled(2.0)), ()) == (4,)
