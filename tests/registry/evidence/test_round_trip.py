"""An export against its source: bytes for what was moved, a tolerance for what was folded."""

import pytest
import torch
from safetensors.torch import save_file

from saereg.errors import WeightsError
from saereg.registry.evidence import round_trip, stream
from saereg.registry.evidence.inspection import inspect
from saereg.registry.evidence.operations import apply, export_tensors
from saereg.registry.evidence.round_trip import FOLD_TOLERANCE, compare_with_source, disagreements
from saereg.registry.files.blocks import row_blocks
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.header import read_header
from saereg.schemas.manifest import SourceCheckpoint, SourceTensor

D, F = 5, 8


@pytest.fixture(params=[1, 50, 10**7], autouse=True, ids=["a row", "50 bytes", "whole"])
def block_bytes(request, monkeypatch):
    """Blocks of one row, of some rows, and of all rows."""
    for module in (round_trip, stream):
        monkeypatch.setattr(module, "row_blocks", lambda path, entry: row_blocks(path, entry, request.param))


def compared(folder, exported, source, plan):
    """Return (comparison, what is wrong) of two files."""
    save_file({name: tensor.contiguous() for name, tensor in exported.items()}, folder / "exported")
    save_file({name: tensor.contiguous() for name, tensor in source.items()}, folder / "source")
    tensors = {name: SourceTensor.model_validate(how) for name, how in plan.items()}
    checkpoint = SourceCheckpoint(path="source", sha256=sha256_of(folder / "source"), tensors=tensors)
    header = read_header(folder / "exported")
    found = compare_with_source(folder / "exported", header, folder / "source", checkpoint)
    return found, disagreements(found, checkpoint, inspect(folder / "exported", header).largest)


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
    plan = {"W_enc": {"key": "encoder.weight", "operation": "transpose"}}
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

    _, wrong = compared(tmp_path, {"W": square}, {"W": square}, {"W": {"key": "W", "operation": "transpose"}})

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
    }
    plan = {
        "transposed": {"key": "encoder", "operation": "transpose"},
        "tied": {"key": "W_dec", "operation": "copy_of_tied"},
        "W_enc": {"key": "W_enc", "operation": "times_decoder_norm"},
        "b_enc": {"key": "b_enc", "operation": "times_decoder_norm"},
        "W_dec": {"key": "W_dec", "operation": "unit_decoder_norm", "scale": 2.5},
        "threshold": {"key": "log_threshold", "operation": "exp"},
        "wide": {"key": "topk_threshold", "operation": "broadcast"},
        "scaled": {"key": "b_enc", "scale": 0.25},
        "short": {"key": "b_enc", "dtype_change": "float32->bfloat16"},
        "scalar": {"key": "topk_threshold"},
    }
    specs = {name: SourceTensor.model_validate(how) for name, how in plan.items()}
    exported = export_tensors(specs, source, {"wide": (F,)})

    found, wrong = compared(tmp_path, exported, source, plan)

    assert wrong == {}
    assert {name for name, tensor in found.tensors.items() if tensor.bitwise} == {"transposed", "tied", "scalar"}
    assert all(tensor.max_abs_diff < 1e-6 for tensor in found.tensors.values())


@pytest.mark.parametrize(("factor", "agrees"), [(0.5, True), (5.0, False)])
def test_a_fold_agrees_within_rounding_of_its_largest_value(tmp_path, factor, agrees):
    """Relative to the tensor: a scale of 1000 rounds a thousand times as much."""
    source = torch.linspace(-1, 1, F)
    exported = source * 1000.0
    exported[2] += 1000 * FOLD_TOLERANCE * factor

    _, wrong = compared(tmp_path, {"b": exported}, {"b": source}, {"b": {"key": "b", "scale": 1000.0}})

    assert (wrong == {}) == agrees
    assert agrees or wrong["b"].endswith(" from identity of b")


def test_a_change_of_type_must_be_declared(tmp_path):
    """Rounded in silence it is no longer the source."""
    source = torch.randn(F)
    rounded = source.bfloat16()

    _, declared = compared(
        tmp_path, {"b": rounded}, {"b": source}, {"b": {"key": "b", "dtype_change": "float32->bfloat16"}}
    )
    _, undeclared = compared(tmp_path, {"b": rounded}, {"b": source}, {"b": {"key": "b"}})
    _, lossless = compared(tmp_path, {"b": source.double()}, {"b": source}, {"b": {"key": "b"}})

    assert declared == {}
    assert list(undeclared) == list(lossless) == ["b"]


REFUSED = {
    "source tensor": ({"b": {"key": "c"}}, "source: c: missing; the checkpoint holds W, b, n"),
    "exported tensor": ({"x": {"key": "b"}}, "exported: x: is in source_checkpoint.tensors but not in the file"),
    "shape": ({"b": {"key": "W"}}, f"exported: b: shape ({F},), but W in the source is ({F}, {D})"),
    "transposed vector": (
        {"b": {"key": "b", "operation": "transpose"}},
        f"exported: b: shape ({F},), but b in the source is ({F},)",
    ),
    "whole numbers": ({"b": {"key": "n", "operation": "exp"}}, "exported: b: cannot compute exp of n, which is I64"),
    "no decoder": (
        {"b": {"key": "b", "operation": "times_decoder_norm"}},
        "source: b: times_decoder_norm needs to know which tensor of the source W_dec is",
    ),
    "decoder is a vector": (
        {"b": {"key": "b", "operation": "times_decoder_norm"}, "W_dec": {"key": "b"}},
        f"source: b: F32 ({F},) has no decoder norms",
    ),
    "other latents": (
        {"d": {"key": "d", "operation": "times_decoder_norm"}, "W_dec": {"key": "W"}},
        f"exported: d: shape ({D},), but W_dec in the source has {F} rows: cannot redo times_decoder_norm",
    ),
    "broadcast of many": (
        {"b": {"key": "b", "operation": "broadcast"}},
        f"source checkpoint: cannot apply 'broadcast' to a tensor of shape ({F},)",
    ),
    "cast from another type": (
        {"b": {"key": "b", "dtype_change": "float16->float32"}},
        "source checkpoint: is torch.float32, and cannot be cast float16->float32",
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


def test_an_unknown_operation_is_refused():
    """The schema knows none, neither does the code."""
    with pytest.raises(WeightsError, match=r"^source checkpoint: cannot apply 'rotate' to a tensor of shape \(2,\)$"):
        apply("rotate", torch.ones(2))
