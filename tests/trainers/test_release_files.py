"""Golden files, manifest drafts and round-trip operations: what trainers leave in the registry's hands."""

import pytest
import torch

from saereg.errors import UsageError, WeightsError
from saereg.registry.draft import References, add_to_manifest
from saereg.registry.evidence.golden_file import GoldenVectors, read_golden, write_golden
from saereg.registry.evidence.operations import apply, decoder_norm, export_tensors
from saereg.schemas.manifest import Manifest, ReleaseInfo, SaeArtifact, SourceTensor
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


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("identity", [[1.0, 2.0], [3.0, 4.0]]),
        ("copy_of_tied", [[1.0, 2.0], [3.0, 4.0]]),
        ("transpose", [[1.0, 3.0], [2.0, 4.0]]),
        ("times_decoder_norm", [[2.0, 8.0], [6.0, 16.0]]),
        ("unit_decoder_norm", [[0.5, 1.0], [0.75, 1.0]]),
    ],
)
def test_operations_are_their_formulas(operation, expected):
    source, norm = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([2.0, 4.0])
    assert apply(operation, source, decoder_norm=norm).tolist() == expected


def test_a_scalar_is_broadcast_scaled_and_cast_in_that_order():
    source = {"t": torch.tensor(0.1, dtype=torch.float64), "W_dec": torch.ones(3, 2)}
    spec = SourceTensor(key="t", operation="broadcast", scale=2.0, dtype_change="float64->float32")
    found = export_tensors({"threshold": spec}, source, {"threshold": (3,)})["threshold"]
    assert torch.equal(found, torch.full((3,), 0.2))


def test_a_dead_decoder_row_does_not_divide_by_zero():
    assert decoder_norm(torch.zeros(2, 3)).tolist() == pytest.approx([1e-8, 1e-8])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SourceTensor(key="b"), "source checkpoint: b: missing"),
        (SourceTensor(key="a", dtype_change="float64->float32"), "cannot be cast float64->float32"),
        (SourceTensor(key="a", operation="broadcast"), "cannot apply 'broadcast' to a tensor of shape (2,)"),
    ],
)
def test_an_operation_that_cannot_be_done_again_says_why(spec, message):
    with pytest.raises(WeightsError) as caught:
        export_tensors({"a": spec}, {"a": torch.ones(2)}, {"a": (2,)})
    assert message in str(caught.value)


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
