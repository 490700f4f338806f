"""A recipe says what is done to a tensor, step by step, with the arguments of each step and no others."""

import json
from typing import get_args

import pytest
from pydantic import ValidationError

from saereg.schemas.document import check_text
from saereg.schemas.metrics import DType
from saereg.schemas.recipe import (
    ARGUMENTS,
    EXP,
    MOVEMENTS,
    SWAP_AXES,
    TRANSPOSE,
    ZEROS,
    Operation,
    SourceTensor,
    Step,
    cast_to,
    constant,
    divided_by_decoder_norm,
    moved,
    scaled,
    times_decoder_norm,
    transposed,
)

VALUES = {
    "by": 0.5,
    "to": "bfloat16",
    "axis": 1,
    "index": 2,
    "shape": [3, 4],
    "vector": "decoder_norm",
    "other": {"key": "norm", "steps": [{"do": "exp"}]},
}
OPERATIONS = get_args(Operation)


def step(do: str, *names: str) -> dict:
    """Return a step as it stands in a manifest, with a value for each argument that is named."""
    return {"do": do} | {name: VALUES[name] for name in names}


def read(value: dict) -> Step:
    """Return a step that was read."""
    return Step.model_validate_json(json.dumps(value))


@pytest.mark.parametrize("do", OPERATIONS)
def test_a_step_takes_its_arguments_and_no_others(do):
    """One too many, one left out: refused, with what it takes and what was found."""
    needed = ARGUMENTS.get(do, ())
    assert read(step(do, *needed)).do == do

    takes, rest = ", ".join(sorted(needed)) or "no argument", [name for name in VALUES if name not in needed]
    rest = [name for name in rest if name != "other" or "vector" not in needed]
    for wrong in ([*needed, rest[0]], list(needed[1:])):
        if sorted(wrong) != sorted(needed):
            with pytest.raises(ValidationError) as caught:
                read(step(do, *wrong))
            found = ", ".join(sorted(wrong)) or "none"
            assert f"step {do!r} takes {takes}; found {found}" in str(caught.value)


@pytest.mark.parametrize("do", [do for do in OPERATIONS if "vector" in ARGUMENTS.get(do, ())])
def test_in_the_place_of_a_known_vector_may_stand_a_recipe(do):
    """One of the two, never both."""
    assert read(step(do, "axis", "other")).other == moved("norm", EXP)
    with pytest.raises(ValidationError, match="found axis, other, vector"):
        read(step(do, "axis", "other", "vector"))


@pytest.mark.parametrize(
    "value",
    [
        {"do": "scale", "by": "0.5"},
        {"do": "cast", "to": "float8"},
        {"do": "squeeze", "axis": -1},
        {"do": "take", "axis": 0, "index": -1},
        {"do": "broadcast", "shape": [1.5]},
        {"do": "times", "vector": "encoder_norm", "axis": 0},
        {"do": "rotate"},
        {"do": "transpose", "axes": [1, 0]},
        {},
    ],
    ids=str,
)
def test_a_value_that_no_step_has_is_refused(value):
    """By the schema, before any file is opened."""
    with pytest.raises(ValidationError):
        read(value)


@pytest.mark.parametrize("by", ["NaN", "Infinity", "-Infinity"])
def test_a_factor_is_a_number(by):
    """NaN and infinity would make every comparison pass, or none."""
    with pytest.raises(ValidationError):
        Step.model_validate_json(f'{{"do": "scale", "by": {by}}}')
    with pytest.raises(ValidationError):
        Step(do="scale", by=float(by.replace("Infinity", "inf")))


def test_only_movements_are_said_to_be_the_same_bytes():
    """Whatever computes, casts or fills has a tolerance instead."""
    computing = set(OPERATIONS) - MOVEMENTS
    assert {"exp", "scale", "cast", "broadcast", "times", "divide", "sum_first_axis"} <= computing
    for do in OPERATIONS:
        made = read(step(do, *ARGUMENTS.get(do, ())))
        assert made.is_movement == moved("a", made).is_movement == (do in MOVEMENTS)
    assert moved("a").is_movement
    assert moved("a", TRANSPOSE, SWAP_AXES).is_movement
    assert not moved("a", TRANSPOSE, scaled(1.0)).is_movement
    assert not ZEROS.is_movement
    assert not constant(0.5).is_movement


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (moved("a"), "identity"),
        (transposed("a"), "transpose"),
        (transposed("a", cast_to("float32"), scaled(0.5)), "transpose, cast to float32, scale by 0.5"),
        (moved("a", times_decoder_norm(axis=1)), "times decoder_norm axis 1"),
        (moved("a", divided_by_decoder_norm(axis=0)), "divide decoder_norm axis 0"),
        (moved("a", Step(do="take", axis=1, index=2)), "take axis 1 index 2"),
        (moved("a", Step(do="broadcast", shape=(3,))), "broadcast shape (3,)"),
        (moved("a", Step(do="plus", other=moved("b", EXP), axis=0)), "plus [b: exp] axis 0"),
        (ZEROS, "zeros"),
        (constant(0.5), "0.5 everywhere"),
    ],
)
def test_a_recipe_can_be_read_aloud(recipe, words):
    """As it stands in reports and in the index."""
    assert recipe.operation == words


def test_a_recipe_names_every_tensor_that_it_is_made_from():
    """Those of vectors with recipes of their own included, so that none is taken for unused."""
    inner = moved("b", Step(do="times", other=moved("c"), axis=0))
    assert moved("a", Step(do="plus", other=inner, axis=0)).keys == {"a", "b", "c"}
    assert ZEROS.keys == frozenset()


def test_a_tensor_of_the_source_is_no_number():
    """One of the two, never both."""
    with pytest.raises(ValidationError, match="`key` and `fill` exclude each other"):
        SourceTensor(key="a", fill=0.5)


@pytest.mark.parametrize(
    "recipe",
    [
        moved("layers/0/weight", TRANSPOSE, cast_to("bfloat16"), file="layer_0.pt"),
        moved("a", Step(do="times", other=moved("b", Step(do="squeeze", axis=0)), axis=1)),
        ZEROS,
        constant(0.25),
    ],
)
def test_a_recipe_survives_writing_and_reading(recipe):
    """In full, and with what is empty left out."""
    for text in (recipe.model_dump_json(), recipe.model_dump_json(exclude_none=True)):
        assert check_text(SourceTensor, text) == (recipe, [])


def test_types_are_those_that_weights_may_have():
    """A cast gives no other."""
    for name in get_args(DType):
        assert read({"do": "cast", "to": name}).to == name
