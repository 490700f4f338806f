"""Golden files, manifest drafts and recipes: what trainers leave in the registry's hands."""

from pathlib import Path

import pytest
import torch

from saereg.errors import UsageError, WeightsError
from saereg.registry.draft import References, add_to_manifest
from saereg.registry.evidence.golden_file import GoldenVectors, read_golden, write_golden
from saereg.registry.files.tensors import MemoryFile
from saereg.registry.readings.recipes import Recipes, with_decoder_norms
from saereg.schemas.evaluation import ParameterRows
from saereg.schemas.manifest import Manifest, ReleaseInfo, SaeArtifact
from saereg.schemas.recipe import (
    TRANSPOSE,
    SourceTensor,
    Step,
    cast_to,
    divided_by_decoder_norm,
    moved,
    scaled,
    times_decoder_norm,
)
from saereg.schemas.site import BaseModelRef, Site

INFO = ReleaseInfo(name="tiny", version="0.1.0", title="Tiny", license="mit")


def golden() -> GoldenVectors:
    active = torch.tensor([[0, 3], [2, -1]])
    return GoldenVectors(torch.ones(2, 4), active, torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.zeros(2, 4), "a test")


def test_golden_vectors_come_back(tmp_path):
    write_golden(tmp_path / "golden.safetensors", golden())
    found = read_golden(tmp_path / "golden.safetensors")
    assert found.made_by == "a test"
    for name in ("x", "active", "activations", "x_hat"):
        assert torch.equal(getattr(found, name), getattr(golden(), name))


def test_equal_golden_vectors_are_equal_bytes(tmp_path):
    contents = set()
    for number in range(20):  # the library itself would order the metadata at random
        write_golden(tmp_path / f"{number}", golden())
        contents.add((tmp_path / f"{number}").read_bytes())
    assert len(contents) == 1


def test_a_file_of_something_else_is_no_golden_file(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="its header does not say saereg_golden 1: no golden vectors"):
        read_golden(tmp_path / "x.safetensors")


def test_a_golden_file_of_uneven_rows_is_refused(tmp_path):
    bad = GoldenVectors(torch.ones(3, 4), golden().active, golden().activations, golden().x_hat, "a test")
    write_golden(tmp_path / "golden.safetensors", bad)
    with pytest.raises(WeightsError, match="do not have the same number of rows"):
        read_golden(tmp_path / "golden.safetensors")


MATRIX = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
DECODER = torch.tensor([[2.0, 0.0], [0.0, 4.0]])


def made(recipe: SourceTensor, **source: torch.Tensor) -> torch.Tensor:
    """Return what a recipe makes of tensors, with the norms of `W_dec` where there is one."""
    plan = {"t": recipe} | ({"W_dec": SourceTensor(key="W_dec")} if "W_dec" in source else {})
    return with_decoder_norms(Recipes({"": MemoryFile(source, Path("checkpoint"))}, plan)).whole("t")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), [[1.0, 2.0], [3.0, 4.0]]),
        ((TRANSPOSE,), [[1.0, 3.0], [2.0, 4.0]]),
        ((times_decoder_norm(axis=1),), [[2.0, 8.0], [6.0, 16.0]]),
        ((divided_by_decoder_norm(axis=0),), [[0.5, 1.0], [0.75, 1.0]]),
    ],
)
def test_steps_are_their_formulas(steps, expected):
    assert made(moved("t", *steps), t=MATRIX, W_dec=DECODER).tolist() == expected


def test_steps_are_done_in_their_order():
    scalar = torch.tensor(0.1, dtype=torch.float64)
    recipe = moved("t", scaled(2.0), Step(do="broadcast", shape=(3,)), cast_to("float32"))
    assert torch.equal(made(recipe, t=scalar), torch.full((3,), 0.2))


def test_a_dead_decoder_row_does_not_divide_by_zero():
    assert made(moved("t", divided_by_decoder_norm(axis=0)), t=torch.ones(2, 1), W_dec=torch.zeros(2, 3)).tolist() == [
        [pytest.approx(1e8)],
        [pytest.approx(1e8)],
    ]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (moved("b"), "checkpoint: b: missing; the file holds a"),
        (moved("a", TRANSPOSE), "checkpoint: a: cannot transpose a tensor of shape (2,); expected another"),
        (
            moved("a", Step(do="broadcast", shape=(4,))),
            "checkpoint: a: cannot broadcast shape (4,) a tensor of shape (2,); expected another",
        ),
        (
            moved("a", divided_by_decoder_norm(axis=0)),
            "source: t: its recipe needs to know which tensor of the source W_dec is",
        ),
    ],
)
def test_a_recipe_that_cannot_be_done_says_why(recipe, message):
    with pytest.raises(WeightsError) as caught:
        made(recipe, a=torch.ones(2))
    assert str(caught.value) == message


def references(**changes) -> References:
    site = Site(model="m", layer=1, module="layers.1", hidden_states_index=2)
    known = {"base_models": {"m": BaseModelRef(id="org/m")}, "sites": {"residual-1": site}}
    return References(**(known | changes))


def artifact(name: str) -> SaeArtifact:
    return SaeArtifact(kind="sae", id=name, path=name, architecture="standard", d_in=4, d_sae=8, site="residual-1")


def test_artifacts_are_added_one_by_one(tmp_path):
    add_to_manifest(tmp_path, artifact("a"), references(), info=INFO)
    add_to_manifest(tmp_path, artifact("b"), references())
    assert [a.id for a in Manifest.read(tmp_path / "manifest.json").artifacts] == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_another_site_under_the_same_key_is_refused_and_nothing_changes(tmp_path):
    add_to_manifest(tmp_path, artifact("a"), references(), info=INFO)
    before = (tmp_path / "manifest.json").read_bytes()
    other = Site(model="m", layer=1, module="layers.1", hidden_states_index=1)
    with pytest.raises(UsageError) as caught:
        add_to_manifest(tmp_path, artifact("b"), references(sites={"residual-1": other}))
    path = tmp_path / "manifest.json"
    assert str(caught.value) == (
        f"{path}: site 'residual-1' has another hidden_states_index; use another release folder"
    )
    assert path.read_bytes() == before


def test_pins_of_a_trajectory_are_added_to_a_record_that_has_none_and_never_changed_or_lost(tmp_path):
    bare = ParameterRows(source="parameters", tensor="W_U", steps=(0, 1), rows=8)
    pinned, others = (bare.model_copy(update={"sha256": (digit * 64, "2" * 64)}) for digit in "13")
    for record, kept in ((bare, bare), (pinned, pinned), (bare, pinned)):
        add_to_manifest(tmp_path, artifact("a"), references(evaluations={"rows": record}), info=INFO)
        assert Manifest.read(tmp_path / "manifest.json").evaluations["rows"] == kept
    with pytest.raises(UsageError, match="evaluation 'rows' has another sha256; "):
        add_to_manifest(tmp_path, artifact("a"), references(evaluations={"rows": others}))
