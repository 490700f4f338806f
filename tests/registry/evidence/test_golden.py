"""Golden vectors: written, read and replayed, and what a disagreement says."""

from pathlib import Path

import pytest
import torch

from saereg.errors import WeightsError
from saereg.registry.dictionary import Dictionary
from saereg.registry.evidence.golden import compare, replay
from saereg.registry.evidence.golden_file import MAX_REL_ERROR, GoldenVectors, read_golden, tensor_bytes, write_golden
from saereg.registry.evidence.stream import streamed
from saereg.registry.files.flat import FlatFile, open_safetensors
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg import INFERENCE
from tests.registry.factories import (
    CROSS_LAYERS,
    CROSSCODERS,
    NATIVE,
    ROWS,
    checkpoint,
    config,
    cross_layer_config,
    crosscoder_config,
    native_config,
    rows,
    write,
)
from tests.releases import golden_of


def released(source, folder) -> tuple[ArtifactConfig, FlatFile, Path]:
    """Write a checkpoint and golden vectors of it; return (cfg, file of the weights, golden path)."""
    several = getattr(source.cfg, "n_sources", None) or getattr(source.cfg, "n_layers", None)
    write(source, folder)
    (path,) = folder.glob("*weights.safetensors")
    shape = (several, source.cfg.d_in) if several else (source.cfg.d_in,)
    x = rows(ROWS, *shape)
    dictionary = Dictionary(source)
    if source.cfg.architecture == "temporal":
        f, x_hat = dictionary.encode(x[None])[0], dictionary(x[None])[0]
        dictionary = type("Fixed", (), {"encode": lambda self, _: f, "__call__": lambda self, _: x_hat})()
    write_golden(folder / "golden.safetensors", golden_of(dictionary, x))
    return source.cfg, open_safetensors(path), folder / "golden.safetensors"


EVERY = (
    {name: lambda name=name: config(name) for name in INFERENCE}
    | {f"crosscoder {name}": lambda name=name: crosscoder_config(name, "center_scale") for name in CROSSCODERS}
    | {f"native {name}": lambda name=name: native_config(name, "transcoder") for name in NATIVE}
    | {f"across layers {name}": lambda name=name: cross_layer_config(name) for name in CROSS_LAYERS}
)


@pytest.mark.parametrize("name", EVERY)
def test_every_architecture_replays_its_own_vectors(tmp_path, name):
    """Equal active sets, an error within that of the type."""
    cfg, file, path = released(checkpoint(EVERY[name]()), tmp_path)

    replayed = replay(streamed(cfg, file), path)

    assert replayed.agrees("float32")
    assert replayed.replay.active_sets_equal
    assert replayed.replay.max_rel_error < 1e-6
    assert replayed.replay.reader.startswith("saereg ")


@pytest.mark.parametrize("switch", [{"apply_b_dec_to_input": False}, {"normalize_activations": "layer_norm"}])
def test_a_wrong_switch_does_not_replay(tmp_path, switch):
    """That is what golden vectors are for."""
    _, file, path = released(checkpoint(config("standard")), tmp_path)

    replayed = replay(streamed(config("standard", **switch), file), path)

    assert not replayed.agrees("float32")


def golden(**changes) -> GoldenVectors:
    values = {
        "x": torch.ones(2, 3),
        "active": torch.tensor([[0, 2], [1, -1]]),
        "activations": torch.tensor([[1.0, 2.0], [3.0, 0.0]]),
        "x_hat": torch.ones(2, 3),
        "made_by": "test",
    }
    return GoldenVectors(**values | changes)


F = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])


def test_a_comparison_names_the_row_and_the_latents():
    """At most ten of them."""
    f = F.clone()
    f[1, 0], f[0, 2] = 5.0, 0.0
    x_hat = torch.ones(2, 3)
    x_hat[1] *= 1.5

    replayed = compare(golden(), f, x_hat, "test 1")

    assert replayed.differing == ((0, 2), (1, 0))
    assert replayed.worst_row == 1
    assert replayed.replay.max_rel_error == pytest.approx(0.5)
    assert not replayed.replay.active_sets_equal


@pytest.mark.parametrize(
    ("factor", "agrees"), [(1 + 1e-6, True), (1 + 1e-4, False), (2.0, False), (float("inf"), False)]
)
def test_latents_of_another_scale_do_not_agree(factor, agrees):
    """Though x_hat is the same: an encoder and a decoder may be scaled against each other."""
    replayed = compare(golden(), F * factor if factor < 3 else F.where(F == 0, factor), torch.ones(2, 3), "test 1")

    assert (replayed.replay.active_sets_equal, replayed.replay.max_rel_error) == (True, 0.0)
    assert replayed.agrees("float32") is agrees


def test_rows_without_a_latent_agree():
    """There is no scale to be wrong."""
    empty = golden(active=torch.full((2, 1), -1), activations=torch.zeros(2, 1))

    assert compare(empty, torch.zeros(2, 3), torch.ones(2, 3), "test 1").agrees("float32")


@pytest.mark.parametrize(("value", "agrees"), [(1e-7, True), (1e-4, False), (float("nan"), False)])
def test_a_latent_that_is_active_by_rounding_is_no_difference(value, agrees):
    """In float32 one of millions of sums that are zero is a little more than that."""
    found = F.clone()
    found[0, (F[0] == 0).nonzero()[0, 0]] = value

    assert compare(golden(), found, torch.ones(2, 3), "test 1").agrees("float32") is agrees


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reconstruction_that_is_not_finite_never_agrees(bad):
    """And its error is still a number that JSON can hold."""
    x_hat = torch.ones(2, 3)
    x_hat[1, 1] = bad

    replayed = compare(golden(), F, x_hat, "test 1")

    assert not replayed.agrees("bfloat16")
    assert replayed.worst_row == 1
    assert replayed.replay.max_rel_error == torch.finfo(torch.float64).max


@pytest.mark.parametrize("dtype", MAX_REL_ERROR)
def test_the_tolerance_is_that_of_the_type(dtype):
    """Half precision rounds more."""
    just, over = (compare(golden(), F, torch.ones(2, 3) * (1 + MAX_REL_ERROR[dtype] * s), "t") for s in (0.9, 1.2))

    assert just.agrees(dtype)
    assert not over.agrees(dtype)


def test_vectors_survive_writing_and_reading(tmp_path):
    """And equal vectors are equal bytes."""
    write_golden(tmp_path / "a", golden())
    write_golden(tmp_path / "b", golden())

    again = read_golden(tmp_path / "a")

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert again.made_by == "test"
    for name in ("x", "active", "activations", "x_hat"):
        assert torch.equal(getattr(again, name), getattr(golden(), name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


REFUSED = {
    "no rows": ({name: torch.zeros(0, 3) for name in ("x", "x_hat", "activations")}
                | {"active": torch.zeros(0, 3, dtype=torch.int64)}, "x: it holds no rows"),
    "other rows": ({"x_hat": torch.ones(3, 3)}, "its tensors do not have the same number of rows"),
    "a vector": ({"x_hat": torch.ones(2)}, "its tensors do not have the same number of rows"),
    "other slots": ({"activations": torch.ones(2, 3)}, "activations: shape (2, 3), expected that of `active`"),
    "other type": ({"active": torch.ones(2, 2)}, "active: missing, or not int64"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_vectors_that_do_not_fit_each_other_are_refused(tmp_path, name):
    """When they are read, before anything is computed."""
    changes, message = REFUSED[name]
    write_golden(tmp_path / "golden", golden(**changes))

    with pytest.raises(WeightsError) as caught:
        read_golden(tmp_path / "golden")

    assert str(caught.value) == f"golden: {message}"


def test_a_file_of_other_tensors_is_no_golden_file(tmp_path):
    """Its header does not say so."""
    (tmp_path / "x").write_bytes(tensor_bytes({"x": torch.ones(2, 3)}))

    with pytest.raises(WeightsError, match=r"^x: its header does not say saereg_golden 1: no golden vectors$"):
        read_golden(tmp_path / "x")


def test_metadata_is_written_in_order():
    """The library itself leaves it to chance, and then equal files have unequal digests."""
    forwards, backwards = {str(i): "x" for i in range(20)}, {str(i): "x" for i in reversed(range(20))}

    assert tensor_bytes({"x": torch.ones(1)}, forwards) == tensor_bytes({"x": torch.ones(1)}, backwards)
