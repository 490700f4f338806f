"""One pass over a weight file finds its digest, what is not finite, and how long its directions are."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from saereg.registry.evidence.inspection import inspect
from saereg.registry.files import spans
from saereg.registry.files.blocks import torch_dtype
from saereg.registry.files.header import ITEM_BYTES, read_header


def inspected(path, tensors):
    save_file(tensors, path)
    return inspect(path, read_header(path))


@pytest.fixture(params=[1, 100, 10**7], autouse=True, ids=["a row", "100 bytes", "whole"])
def block_bytes(request, monkeypatch):
    """Blocks of one row, of some rows, and of all rows."""
    monkeypatch.setattr(spans, "BLOCK_BYTES", request.param)


def test_the_digest_is_that_of_the_file(tmp_path):
    """Header, scalars, empty tensors and all."""
    tensors = {
        "W_dec": torch.randn(7, 5),
        "threshold": torch.tensor(0.5),
        "none": torch.zeros(0, 2),
        "b": torch.ones(3),
    }

    found = inspected(tmp_path / "x", tensors | {"half": torch.ones(5, 3, dtype=torch.bfloat16)})

    assert found.sha256 == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()


def test_an_empty_file_of_tensors_is_inspected(tmp_path):
    """It has a digest and nothing else."""
    found = inspected(tmp_path / "x", {})

    assert found.sha256 == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()
    assert (found.first_bad, found.largest, found.decoder_norm) == ({}, {}, None)


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_tensors_of_any_type_are_inspected(tmp_path, dtype):
    """Whole numbers are finite, floating-point ones have a largest magnitude."""
    tensor = torch.tensor([[0.0, 1.0], [4.0, 2.0]]).to(torch_dtype(dtype))

    found = inspected(tmp_path / "x", {"x": tensor})

    assert found.first_bad == {}
    assert found.largest["x"] == (4.0 if tensor.is_floating_point() else 0.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("position", [(), (4,), (6, 3), (2, 1, 3)])
def test_the_first_value_that_is_not_finite_is_named(tmp_path, position, bad):
    """By its position in the whole tensor; a later one does not matter."""
    shape = tuple(n + 3 for n in position)
    tensor = torch.zeros(shape)
    tensor[position] = bad
    if position:
        tensor[tuple(n - 1 for n in shape)] = bad

    found = inspected(tmp_path / "x", {"x": tensor, "y": torch.ones(2)})

    assert found.first_bad == {"x": position}


def test_the_largest_float64_is_finite(tmp_path):
    """Of either sign, and together they are still no infinity."""
    largest = torch.finfo(torch.float64).max

    found = inspected(tmp_path / "x", {"W_dec": torch.tensor([[largest, -largest]], dtype=torch.float64)})

    assert found.first_bad == {}
    assert found.largest == {"W_dec": largest}
    assert found.decoder_norm is None


@pytest.mark.parametrize("shape", [(9, 4), (9, 3, 4)])
def test_decoder_norms_are_those_of_the_rows(tmp_path, shape):
    """For a crosscoder over all sources together; rows of norm zero are counted."""
    W_dec = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    W_dec[2] = W_dec[5] = 0

    found = inspected(tmp_path / "x", {"W_dec": W_dec})

    norms = W_dec.double().flatten(1).norm(dim=1)
    assert found.zero_directions == 2
    assert found.decoder_norm.minimum == 0
    assert found.decoder_norm.maximum == pytest.approx(float(norms.max()), rel=1e-12)
    assert not found.decoder_norm.unit


def test_unit_norms_are_recognized_within_rounding(tmp_path):
    """To one part in a thousand."""
    W_dec = torch.nn.functional.normalize(torch.randn(9, 4), dim=1)

    assert inspected(tmp_path / "x", {"W_dec": W_dec * 1.0005}).decoder_norm.unit
    assert not inspected(tmp_path / "y", {"W_dec": W_dec * 1.01}).decoder_norm.unit


def test_negative_values_are_noted(tmp_path):
    """-0.0 is none."""
    found = inspected(tmp_path / "x", {"a": torch.tensor([0.0, -0.0]), "b": torch.tensor([1.0, -1e-30])})

    assert found.negative == {"b"}
