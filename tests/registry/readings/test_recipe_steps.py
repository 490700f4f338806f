"""Steps that compute with vectors of their own recipes, box by box, against the same on whole tensors."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from saereg.errors import WeightsError
from saereg.registry.files.tensors import MemoryFile
from saereg.registry.readings import recipes as module
from saereg.registry.readings.recipes import Recipes, composed
from saereg.schemas.recipe import (
    EXP,
    LOG,
    ZEROS,
    SourceTensor,
    Step,
    cast_to,
    constant,
    divided_by,
    moved,
    plus,
    scaled,
    times_by,
)
from tests.upstream import random

A, B, C = 7, 5, 3
CUBE, ROWS, COLUMNS = random(A, B, C, seed=1), random(A, seed=2), random(B, seed=3)
FILE = MemoryFile({"cube": CUBE, "rows": ROWS, "columns": COLUMNS, "pair": random(2, seed=4)}, Path("memory"))
SUM, SUM_LAST, NORM = Step(do="sum_first_axis"), Step(do="sum_last_axis"), Step(do="norm_last_axis")
CASES = {
    "times": (moved("cube", times_by(moved("columns"), axis=1)), CUBE * COLUMNS[:, None]),
    "divide": (moved("cube", divided_by(moved("rows", EXP), axis=0)), CUBE / ROWS.exp()[:, None, None]),
    "plus": (moved("columns", plus(moved("cube", SUM, SUM_LAST))), COLUMNS + CUBE.sum(0).sum(-1)),
    "plus a constant": (moved("columns", plus(constant((1.0, 2.0, 3.0, 4.0, 5.0)))), COLUMNS + torch.arange(1, 6)),
    "reciprocal": (moved("rows", EXP, Step(do="reciprocal", by=0.5)), 1 / (ROWS.exp() + 0.5)),
    "log": (moved("rows", EXP, scaled(2.0), LOG), ROWS + torch.tensor(2.0).log()),
    "sqrt": (moved("rows", EXP, Step(do="sqrt")), ROWS.exp().sqrt()),
    "sum of the first": (moved("cube", SUM), CUBE.sum(0)),
    "sum of the last": (moved("cube", SUM_LAST), CUBE.sum(-1)),
    "norm": (moved("cube", NORM), CUBE.norm(dim=-1)),
    "joint norm": (moved("cube", Step(do="merge_last_axes"), NORM), CUBE.flatten(1).norm(dim=-1)),
    "constant": (constant((0.5, 1.5)).model_copy(update={"steps": (cast_to("float32"),)}), torch.tensor([0.5, 1.5])),
}


@pytest.mark.parametrize("block_bytes", [4, 64, 2**20])
@pytest.mark.parametrize(("recipe", "expected"), CASES.values(), ids=CASES)
def test_blocks_of_any_size_give_the_same(monkeypatch, recipe, expected, block_bytes):
    """Values, shape and type; boxes of what is made agree with the whole."""
    monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
    recipes = Recipes({"": FILE}, {"made": recipe}, {"made": tuple(expected.shape)})
    whole = torch.cat([block for _, block in recipes.blocks("made")])

    assert recipes.entry("made").shape == whole.shape == expected.shape
    assert recipes.entry("made").dtype == "float32"
    assert torch.allclose(whole, expected, rtol=1e-6)
    part = tuple((size // 3, size) for size in expected.shape)
    assert torch.equal(recipes.box("made", part), whole[tuple(slice(*span) for span in part)])


def test_a_dead_row_has_the_smallest_norm():
    """What is divided by it stays finite."""
    recipes = Recipes({"": MemoryFile({"dead": torch.zeros(2, 3)})}, {"made": moved("dead", NORM)})
    assert torch.equal(recipes.whole("made"), torch.full((2,), 1e-8))


def test_a_vector_of_another_length_is_refused():
    """Before any value is read."""
    recipes = Recipes({"": FILE}, {"made": moved("cube", times_by(moved("pair"), axis=0))})
    with pytest.raises(WeightsError, match=r"cannot times \[pair: identity\] axis 0 a tensor of shape \(7, 5, 3\)"):
        recipes.entry("made")


def test_a_matrix_is_no_vector():
    """Nor is what a step makes of it."""
    recipes = Recipes({"": FILE}, {"made": moved("cube", times_by(moved("cube", SUM), axis=0))})
    with pytest.raises(WeightsError, match=r"cube: shape \(5, 3\), expected a vector for times"):
        recipes.entry("made")


def test_plans_are_composed_through_the_vectors():
    """A vector of a canonical tensor becomes one of the source."""
    inner = {"a": moved("cube"), "b": moved("columns", EXP), "none": ZEROS}
    outer = {"made": moved("a", times_by(moved("b", LOG), axis=1)), "bias": moved("none", plus(moved("b")))}
    assert composed(outer, inner) == {
        "made": moved("cube", times_by(moved("columns"), axis=1)),
        "bias": moved("columns", EXP),
    }
    assert composed({"made": moved("b", plus(moved("none")))}, inner) == {"made": moved("columns", EXP)}


def test_a_recipe_names_every_tensor_it_is_made_from():
    """None of them is left out."""
    recipe = moved("a", plus(moved("b", times_by(moved("c"), axis=0))), scaled(2.0))
    assert recipe.keys == {"a", "b", "c"}
    assert recipe.operation == "plus [b: times [c: identity] axis 0] axis 0, scale by 2.0"
    assert constant((1.0, 2.0)).operation == "numbers [1.0, 2.0]"


def test_recipes_survive_being_written_down():
    """They stand in conversion.json."""
    recipe = moved("a", divided_by(moved("b", NORM), axis=0))
    assert SourceTensor.model_validate_json(recipe.model_dump_json()) == recipe
    assert SourceTensor.model_validate_json(constant((1.0, 2.0)).model_dump_json()) == constant((1.0, 2.0))


@pytest.mark.parametrize(
    "arguments",
    [
        {"do": "plus"},
        {"do": "plus", "axis": 0},
        {"do": "times", "axis": 0, "vector": "decoder_norm", "other": moved("a")},
        {"do": "exp", "other": moved("a")},
        {"do": "reciprocal"},
    ],
)
def test_steps_take_their_own_arguments_and_no_others(arguments):
    """A vector comes from one place."""
    with pytest.raises(ValidationError, match="takes"):
        Step(**arguments)
