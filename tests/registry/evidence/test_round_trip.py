"""An export against its source: bytes for what was moved, a tolerance for what was folded."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file

from saereg.errors import WeightsError
from saereg.registry.evidence import comparing
from saereg.registry.evidence.inspection import inspect
from saereg.registry.evidence.round_trip import FOLD_TOLERANCE, disagreements, look
from saereg.registry.files import spans
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.header import read_header
from saereg.registry.files.tensors import MemoryFile
from saereg.registry.readings import recipes
from saereg.registry.readings.recipes import Recipes, with_decoder_norms
from saereg.schemas.manifest import SourceCheckpoint
from saereg.schemas.recipe import Operation, SourceTensor

D, F = 5, 8


@pytest.fixture(params=[1, 50, 10**7], autouse=True, ids=["a row", "50 bytes", "whole"])
def block_bytes(request, monkeypatch):
    """Blocks of one row, of some rows, and of all rows."""
    monkeypatch.setattr(spans, "BLOCK_BYTES", request.param)
    monkeypatch.setattr(comparing, "TILE_BYTES", request.param)
    monkeypatch.setattr(comparing, "LEAST_RUN", 3)
    monkeypatch.setattr(recipes, "BLOCK_BYTES", request.param)
    monkeypatch.setattr(recipes, "STRIDED_BLOCK_BYTES", request.param)
    monkeypatch.setattr(recipes, "MOST_PASSES", 10**9)


def parsed(plan):
    """Return the recipes of a plan as it stands in a manifest."""
    return {name: SourceTensor.model_validate_json(json.dumps(how)) for name, how in plan.items()}


def compared(folder, exported, source, plan):
    """Return (comparison, what is wrong) of two files."""
    save_file({name: tensor.contiguous() for name, tensor in exported.items()}, folder / "exported")
    save_file({name: tensor.contiguous() for name, tensor in source.items()}, folder / "source")
    tensors = parsed(plan)
    checkpoint = SourceCheckpoint(path="source", sha256=sha256_of(folder / "source"), tensors=tensors)
    looked = look(folder / "exported", read_header(folder / "exported"), folder / "source", checkpoint)
    found = looked.round_trip(checkpoint)
    return found, disagreements(found.tensors, tensors, looked.inspection.largest)


def made(plan, source):
    """Return what an exporter makes of tensors in memory."""
    tensors = parsed(plan)
    ready = with_decoder_norms(Recipes({"": MemoryFile(source)}, tensors, {"constant": (F,)}))
    return {name: ready.whole(name) for name in tensors}


def steps(*names, **arguments):
    """Return steps without arguments, and then one with."""
    plain = [{"do": name} for name in names]
    return [*plain[:-1], plain[-1] | arguments]


def with_bits(bits: int) -> torch.Tensor:
    tensor = torch.zeros(F, dtype=torch.int32)
    tensor[3] = bits - 2**32 if bits >= 2**31 else bits
    return tensor.view(torch.float32)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [(0x80000000, 0), (0x7FC00001, 0x7FC00000), (0xFFC00000, 0x7FC00000), (0x00000001, 0), (0x3F800001, 0x3F800000)],
    ids=["-0.0 and 0.0", "payloads of NaN", "signs of NaN", "the smallest number", "one unit in the last place"],
)
def test_moved_bytes_must_be_the_same_bytes(tmp_path, mine, theirs):
    """Also where both are zero, or both are no number."""
    plan = {"b_enc": {"key": "b"}}

    found, wrong = compared(tmp_path, {"b_enc": with_bits(mine)}, {"b": with_bits(theirs)}, plan)
    same, right = compared(tmp_path, {"b_enc": with_bits(mine)}, {"b": with_bits(mine)}, plan)

    assert not found.tensors["b_enc"].bitwise
    assert list(wrong) == ["b_enc"]
    assert wrong["b_enc"].endswith(", expected the same bytes (identity)")
    assert same.tensors["b_enc"].bitwise
    assert right == {}


def test_equal_infinities_differ_by_nothing(tmp_path):
    """And an infinity against a number by as much as JSON can hold."""
    plan = {"b": {"key": "b"}}
    infinite = torch.full((F,), float("inf"))

    same, _ = compared(tmp_path, {"b": infinite}, {"b": infinite}, plan)
    other, _ = compared(tmp_path, {"b": infinite}, {"b": torch.zeros(F)}, plan)

    assert same.tensors["b"].max_abs_diff == 0
    assert other.tensors["b"].max_abs_diff == torch.finfo(torch.float64).max


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_transposed_tensor_is_the_same_bytes_in_another_order(tmp_path, dtype):
    """One value changed anywhere is found."""
    encoder = torch.randn(F, D).to(dtype)
    plan = {"W_enc": {"key": "encoder.weight", "steps": steps("transpose")}}
    changed = encoder.T.clone()
    changed[D - 1, F - 1] += 1

    found, right = compared(tmp_path, {"W_enc": encoder.T}, {"encoder.weight": encoder}, plan)
    _, wrong = compared(tmp_path, {"W_enc": changed}, {"encoder.weight": encoder}, plan)

    assert found.tensors["W_enc"].bitwise
    assert found.tensors["W_enc"].max_abs_diff == 0
    assert right == {}
    assert list(wrong) == ["W_enc"]


def test_a_square_tensor_that_was_not_transposed_is_found(tmp_path):
    """Its shape says nothing; its values do."""
    square = torch.randn(F, F)

    _, wrong = compared(tmp_path, {"W": square}, {"W": square}, {"W": {"key": "W", "steps": steps("transpose")}})

    assert list(wrong) == ["W"]


def test_every_operation_is_redone(tmp_path):
    """What the exporter makes, the validator accepts; folds are never called bitwise."""
    source = {
        "encoder": torch.randn(F, D),
        "W_enc": torch.randn(D, F),
        "b_enc": torch.randn(F),
        "W_dec": torch.randn(F, D),
        "log_threshold": torch.randn(F),
        "topk_threshold": torch.tensor(0.7),
        "heads": torch.randn(2, 3, D),
        "row": torch.randn(1, F),
    }
    plan = {
        "transposed": {"key": "encoder", "steps": steps("transpose")},
        "tied": {"key": "W_dec"},
        "swapped": {"key": "heads", "steps": steps("swap_axes")},
        "head": {"key": "heads", "steps": steps("take", axis=1, index=2)},
        "vector": {"key": "row", "steps": steps("squeeze", axis=0)},
        "flat": {"key": "heads", "steps": steps("merge_first_axes")},
        "wide": {"key": "heads", "steps": steps("merge_last_axes")},
        "W_enc": {"key": "W_enc", "steps": steps("times", vector="decoder_norm", axis=1)},
        "b_enc": {"key": "b_enc", "steps": steps("times", vector="decoder_norm", axis=0)},
        "W_dec": {
            "key": "W_dec",
            "steps": [*steps("scale", by=2.5), *steps("divide", vector="decoder_norm", axis=0)],
        },
        "threshold": {"key": "log_threshold", "steps": steps("exp")},
        "scaled": {"key": "b_enc", "steps": steps("scale", by=0.25)},
        "short": {"key": "b_enc", "steps": steps("cast", to="bfloat16")},
        "summed": {"key": "heads", "steps": steps("sum_first_axis")},
        "row_sums": {"key": "encoder", "steps": steps("sum_last_axis")},
        "norms": {"key": "encoder", "steps": steps("norm_last_axis")},
        "logged": {"key": "log_threshold", "steps": steps("exp", "log")},
        "root": {"key": "log_threshold", "steps": steps("exp", "sqrt")},
        "inverse": {"key": "log_threshold", "steps": steps("exp", "reciprocal", by=0.5)},
        "shifted": {
            "key": "encoder",
            "steps": steps("plus", other={"key": "b_enc", "steps": steps("scale", by=-1.0)}, axis=0),
        },
        "constant": {"key": None, "fill": 0.5},
        "scalar": {"key": "topk_threshold"},
    }
    exported = made(plan, source)

    found, wrong = compared(tmp_path, exported, source, plan)

    assert wrong == {}
    moved = {"transposed", "tied", "swapped", "head", "vector", "flat", "wide", "scalar"}
    assert {name for name, tensor in found.tensors.items() if tensor.bitwise} == moved
    assert all(tensor.max_abs_diff < 1e-6 for tensor in found.tensors.values())
    done = {step["do"] for recipe in plan.values() for step in recipe.get("steps", ())}
    assert done | {"broadcast"} == set(get_args(Operation))
    norm = 2.5 * source["W_dec"].norm(dim=1)
    expected = {
        "transposed": source["encoder"].T,
        "swapped": source["heads"].transpose(0, 1),
        "head": source["heads"][:, 2],
        "vector": source["row"][0],
        "flat": source["heads"].flatten(0, 1),
        "wide": source["heads"].flatten(1, 2),
        "W_enc": source["W_enc"] * norm,
        "b_enc": source["b_enc"] * norm,
        "W_dec": 2.5 * source["W_dec"] / norm[:, None],
        "threshold": source["log_threshold"].exp(),
        "short": source["b_enc"].bfloat16(),
        "summed": source["heads"].sum(dim=0),
        "row_sums": source["encoder"].sum(dim=1),
        "norms": source["encoder"].norm(dim=1),
        "logged": source["log_threshold"],
        "root": (source["log_threshold"] / 2).exp(),
        "inverse": 1 / (source["log_threshold"].exp() + 0.5),
        "shifted": source["encoder"] - source["b_enc"][:, None],
        "constant": torch.full((F,), 0.5),
    }
    assert all(torch.allclose(exported[name], value, rtol=1e-6, atol=1e-7) for name, value in expected.items())


def test_one_number_for_all_latents_is_redone(tmp_path):
    """Also where a block, or the whole tensor, is one latent."""
    plan = {"threshold": {"key": "topk_threshold", "steps": steps("broadcast", shape=[F])}}
    source = {"topk_threshold": torch.tensor(0.7)}

    exported = made(plan, source)
    found, wrong = compared(tmp_path, exported, source, plan)

    assert exported["threshold"].tolist() == pytest.approx([0.7] * F)
    assert wrong == {}
    assert not found.tensors["threshold"].bitwise


def test_a_tensor_that_the_source_lacks_is_zeros(tmp_path):
    """And nothing else; it is never called moved."""
    plan = {"b_enc": {"key": None}, "W_dec": {"key": "W_dec"}}
    W_dec = torch.randn(F, D)

    found, right = compared(tmp_path, {"b_enc": torch.zeros(F), "W_dec": W_dec}, {"W_dec": W_dec}, plan)
    _, wrong = compared(tmp_path, {"b_enc": torch.full((F,), 1e-3), "W_dec": W_dec}, {"W_dec": W_dec}, plan)

    assert (found.tensors["b_enc"].operation, found.tensors["b_enc"].bitwise) == ("zeros", False)
    assert right == {}
    assert wrong == {"b_enc": "max_abs_diff 0.001 from zeros of "}


@pytest.mark.parametrize(("factor", "agrees"), [(0.5, True), (5.0, False)])
def test_a_fold_agrees_within_rounding_of_its_largest_value(tmp_path, factor, agrees):
    """Relative to the tensor: a scale of 1000 rounds a thousand times as much."""
    source = torch.linspace(-1, 1, F)
    exported = source * 1000.0
    exported[2] += 1000 * FOLD_TOLERANCE * factor

    _, wrong = compared(
        tmp_path, {"b": exported}, {"b": source}, {"b": {"key": "b", "steps": steps("scale", by=1000.0)}}
    )

    assert (wrong == {}) == agrees
    assert agrees or wrong["b"].endswith(" from scale by 1000.0 of b")


def test_a_change_of_type_must_be_declared(tmp_path):
    """Rounded in silence it is no longer the source."""
    source = torch.randn(F)
    rounded = source.bfloat16()

    _, declared = compared(
        tmp_path, {"b": rounded}, {"b": source}, {"b": {"key": "b", "steps": steps("cast", to="bfloat16")}}
    )
    _, undeclared = compared(tmp_path, {"b": rounded}, {"b": source}, {"b": {"key": "b"}})
    _, lossless = compared(tmp_path, {"b": source.double()}, {"b": source}, {"b": {"key": "b"}})

    assert declared == {}
    assert list(undeclared) == list(lossless) == ["b"]


NORM = {"vector": "decoder_norm", "axis": 0}

REFUSED = {
    "source tensor": ({"b": {"key": "c"}}, "source: c: missing; the file holds W, b, n"),
    "exported tensor": ({"x": {"key": "b"}}, "exported: x: is in source_checkpoint.tensors but not in the file"),
    "shape": (
        {"b": {"key": "W"}},
        f"exported: b: shape ({F},), but identity of W in the source, ({F}, {D}), is ({F}, {D})",
    ),
    "transposed vector": (
        {"b": {"key": "b", "steps": steps("transpose")}},
        f"source: b: cannot transpose a tensor of shape ({F},); expected ({F},)",
    ),
    "an index beyond the axis": (
        {"b": {"key": "W", "steps": steps("take", axis=1, index=D)}},
        f"source: W: cannot take axis 1 index {D} a tensor of shape ({F}, {D}); expected ({F},)",
    ),
    "whole numbers": (
        {"b": {"key": "n", "steps": steps("exp")}},
        "source: n: cannot exp whole numbers (int64); cast them to float32 first",
    ),
    "no decoder": (
        {"b": {"key": "b", "steps": steps("times", **NORM)}},
        "source: b: its recipe needs to know which tensor of the source W_dec is",
    ),
    "decoder is a vector": (
        {"b": {"key": "b", "steps": steps("times", **NORM)}, "W_dec": {"key": "b"}},
        f"source: b: float32 ({F},) has no decoder norms",
    ),
    "other latents": (
        {"d": {"key": "d", "steps": steps("times", **NORM)}, "W_dec": {"key": "W"}},
        f"source: d: cannot times decoder_norm axis 0 a tensor of shape ({D},); expected ({D},)",
    ),
    "broadcast of many": (
        {"b": {"key": "b", "steps": steps("broadcast", shape=[F])}},
        f"source: b: cannot broadcast shape ({F},) a tensor of shape ({F},); expected ({F},)",
    ),
    "another file": (
        {"b": {"key": "b", "file": "layer_3.safetensors"}},
        "layer_3.safetensors: b: this file of the source is missing",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_export_that_cannot_be_redone_is_refused(tmp_path, name):
    """With the tensor and the reason."""
    plan, message = REFUSED[name]
    exported = {"b": torch.ones(F), "W_dec": torch.ones(F, D)}
    source = {"b": torch.ones(F), "W": torch.ones(F, D), "n": torch.ones(F, dtype=torch.int64)}
    if "d" in plan:
        exported["d"], source["d"] = torch.ones(D), torch.ones(D)

    with pytest.raises(WeightsError) as caught:
        compared(tmp_path, exported, source, plan)

    assert str(caught.value) == message


def looked(folder, exported, source, plan):
    """Return what one pass finds, and what is wrong; the source as a pickle when its name ends so."""
    save_file({name: tensor.contiguous() for name, tensor in exported.items()}, folder / "exported")
    tensors = parsed(plan)
    if source:
        torch.save(source, folder / "source.pt")
    checkpoint = SourceCheckpoint(path="source.pt", sha256=sha256_of(folder / "source.pt"), tensors=tensors)
    found = look(folder / "exported", read_header(folder / "exported"), folder / "source.pt", checkpoint)
    assert found.problem is None
    return found, disagreements(found.tensors, tensors, found.inspection.largest, found.first)


TIED = {"W_enc": {"key": "W", "steps": [{"do": "transpose"}]}, "W_dec": {"key": "W"}, "b": {"key": "b"}}


@pytest.mark.parametrize(("name", "position"), [("W_enc", (4, 6)), ("W_dec", (7, 1)), ("b", (5,))])
def test_one_bit_is_found_and_named_in_moved_transposed_and_tied_tensors(tmp_path, name, position):
    """One source stands behind two exported tensors; one flipped bit in either is one finding, with its place."""
    W, b = torch.randn(F, D), torch.randn(F)
    exported = {"W_enc": W.T.contiguous(), "W_dec": W.clone(), "b": b.clone()}

    whole, right = looked(tmp_path, exported, {"W": W, "b": b}, TIED)
    exported[name].view(torch.int32)[position] ^= 1
    altered, wrong = looked(tmp_path, exported, None, TIED)

    assert right == {}
    assert all(tensor.bitwise for tensor in whole.tensors.values())
    assert list(wrong) == [name]
    assert f", first at {list(position)}, expected the same bytes" in wrong[name]
    assert altered.tensors[name].max_abs_diff > 0
    digest = hashlib.sha256((tmp_path / "exported").read_bytes()).hexdigest()
    assert altered.inspection == inspect(tmp_path / "exported", read_header(tmp_path / "exported"))
    assert altered.inspection.sha256 == digest != whole.inspection.sha256


@pytest.mark.parametrize("bits", [0x80000000, 0x7FC00001], ids=["-0.0", "another NaN"])
@pytest.mark.parametrize("name", ["W_enc", "W_dec"])
def test_a_transposed_and_a_tied_zero_keep_their_sign_and_a_nan_its_payload(tmp_path, name, bits):
    """Of values alone nothing would be seen: they are equal, or no numbers both."""
    W = torch.zeros(F, D) if bits == 0x80000000 else torch.full((F, D), float("nan"))
    exported = {"W_enc": W.T.contiguous(), "W_dec": W.clone(), "b": torch.zeros(F)}
    exported[name].view(torch.int32)[2, 3] = bits - 2**32 if bits >= 2**31 else bits

    found, wrong = looked(tmp_path, exported, {"W": W, "b": torch.zeros(F)}, TIED)

    assert {n: t.bitwise for n, t in found.tensors.items()} == {"W_enc": True, "W_dec": True, "b": True} | {name: False}
    assert wrong == {name: wrong[name]}
    assert wrong[name].startswith("max_abs_diff 0, first at [2, 3], expected the same bytes")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux tells which file a descriptor is")
def test_every_byte_of_the_export_is_read_once(tmp_path, monkeypatch):
    """Digest, values and comparison see the same block; a transposed tensor is read once more, in tiles."""
    W, b = torch.randn(F, D), torch.randn(F)
    looked(tmp_path, {"W_enc": W.T.contiguous(), "W_dec": W, "b": b}, {"W": W, "b": b}, TIED)
    read = Counter()

    def counting(descriptor, buffers, position):
        got = preadv(descriptor, buffers, position)
        read[os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2]] += got
        return got

    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", counting)
    looked(tmp_path, {"W_enc": W.T.contiguous(), "W_dec": W, "b": b}, None, TIED)

    assert read["source.pt"] == W.nbytes + W.nbytes + b.nbytes
    assert read["exported"] == W.nbytes + W.nbytes + b.nbytes + W.nbytes
