"""Crosscoders with one code as SAEs of width K·D: SAELens' own forward on the folder must be the crosscoder's."""

import itertools
import json

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import save_file

from saereg.errors import FormatError
from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import read
from saereg.schemas.artifact_config import parse_config
from tests.upstream import D, F, assert_converts, random, relative, rows

SOURCES, K = 3, 5
ARCHITECTURES = ("standard", "topk", "batchtopk", "jumprelu", "gated")
PREPROCESS = ("none", "center", "scale", "center_scale")
NORMS = ("none", "sum_of_norms", "joint_norm", "mixed")


def write(folder, architecture, count=SOURCES, dtype="float32", **changes):
    """Write a crosscoder in saereg's own layout, with numbers that hide no mistake."""
    cfg = {
        "kind": "crosscoder",
        "architecture": architecture,
        "sources": {"axis": "model", "sites": [f"model-{index}" for index in range(count)]},
        "input": {"kind": "activations"},
        "n_sources": count,
        "d_in": D,
        "d_sae": F,
        "dtype": dtype,
        "metadata": {"model_name": "pythia", "hook_name": "blocks.3.hook_resid_post"},
    }
    cfg |= {"k": K} if architecture in ("topk", "batchtopk") else {}
    cfg |= {"code_norm_weights": [1.0, 0.1]} if changes.get("code_norm") == "mixed" else {}
    config = parse_config(json.dumps(cfg | changes))
    weights = {
        name: random(*spec.shape, seed=seed).to(getattr(torch, spec.dtype or dtype))
        for seed, (name, spec) in enumerate(sorted(config.tensors().items()))
    }
    if "threshold" in weights:
        weights["threshold"] = weights["threshold"].abs() + 1
    if "input_scale" in weights:
        weights["input_scale"] = weights["input_scale"].abs() + 0.5
    folder.mkdir(parents=True)
    save_file(weights, folder / "weights.safetensors")
    (folder / "cfg.json").write_text(config.text())
    return folder


def check(tmp_path, tolerance=1e-6, **what):
    """Convert, and compare saereg's crosscoder with SAELens' own forward on what was written."""
    source, x = write(tmp_path / "a", **what), rows(what.get("count", SOURCES), D)
    record = assert_converts(source, tmp_path / "b", "saelens")
    crosscoder = Dictionary(read(source).checkpoint())
    if crosscoder.dtype != torch.float32:
        crosscoder = crosscoder.to(dtype=torch.float32)
    sae = SAE.load_from_disk(tmp_path / "b").to(dtype=torch.float32)
    with torch.no_grad():
        f, x_hat = sae.encode(x.flatten(1)), sae(x.flatten(1))
    expected = crosscoder.encode(x).flatten(1)
    assert torch.equal(f != 0, expected != 0)
    assert 0 < (f != 0).float().mean() < 1
    assert relative(f, expected) <= tolerance
    assert relative(x_hat.unflatten(1, (-1, D)), crosscoder(x)) <= tolerance
    return record, sae


@pytest.mark.parametrize(
    ("architecture", "norm"),
    [*itertools.product(("jumprelu", "batchtopk"), NORMS), ("standard", "none"), ("topk", "none"), ("gated", "none")],
)
@pytest.mark.parametrize("preprocess", PREPROCESS)
def test_saelens_computes_what_the_crosscoder_computes(tmp_path, architecture, norm, preprocess):
    """Every architecture, code norm and input normalization, to float32 rounding."""
    check(tmp_path, architecture=architecture, code_norm=norm, statistics={"preprocess": preprocess})


@pytest.mark.parametrize(
    "statistics",
    [
        {"preprocess": "center_scale", "scale_per": "element"},
        {"preprocess": "scale", "scale_per": "element"},
        {"preprocess": "center_scale", "inverted_on_output": False},
    ],
)
def test_other_statistics_are_folded(tmp_path, statistics):
    """A factor for each element; and a reconstruction that is not mapped back."""
    check(tmp_path, architecture="jumprelu", statistics=statistics)


@pytest.mark.parametrize("preprocess", ["none", "center"])
def test_biases_of_the_sources_are_summed(tmp_path, preprocess):
    """`b_enc` (K, F) becomes one (F,)."""
    how = {"bias_reduction": "sum_over_sources", "statistics": {"preprocess": preprocess}}
    record, _ = check(tmp_path, architecture="standard", **how)
    assert record.plan["b_enc"].steps[0].do == "sum_first_axis"


def test_what_is_only_moved_is_the_same_to_the_bit(tmp_path):
    """Without statistics, code norm and summed bias nothing is computed, and the type stays."""
    record, sae = check(tmp_path, architecture="standard", dtype="bfloat16")
    assert all(tensor.bitwise for tensor in record.tensors.values())
    assert json.loads((tmp_path / "b/cfg.json").read_text())["dtype"] == "bfloat16"
    assert sae.W_enc.shape == (SOURCES * D, F)


def test_half_types_are_widened_where_something_is_computed(tmp_path):
    """Sums and quotients of bfloat16 numbers are float32."""
    check(tmp_path, architecture="batchtopk", dtype="bfloat16", code_norm="sum_of_norms")
    assert json.loads((tmp_path / "b/cfg.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("architecture", ["jumprelu", "batchtopk"])
def test_a_gate_of_the_only_source_is_a_threshold_over_its_norm(tmp_path, architecture):
    """One source has one code, whatever its gate is called."""
    how = {"gate": "per_source", "code_norm": "per_source_norm", "statistics": {"preprocess": "center_scale"}}
    check(tmp_path, architecture=architecture, count=1, **how)


def test_the_folder_says_how_to_use_it(tmp_path):
    """In the metadata that SAELens keeps, and in words; a hook of one site is not left where readers look for it."""
    _, sae = check(tmp_path, architecture="standard")
    metadata = json.loads((tmp_path / "b/cfg.json").read_text())["metadata"]
    assert metadata["saereg_flattened"] == {
        "axis": "model",
        "sources": ["model-0", "model-1", "model-2"],
        "d_in": D,
        "hook_name": "blocks.3.hook_resid_post",
    }
    assert "hook_name" not in metadata
    assert sae.cfg.metadata.saereg_flattened == metadata["saereg_flattened"]
    readme = (tmp_path / "b/README.md").read_text()
    assert "concatenate the sources in this order on the last axis" in readme
    assert "1. model-0\n2. model-1\n3. model-2\n" in readme


def test_snapshots_are_named_by_their_steps(tmp_path):
    """The site alone would name them all alike."""
    sources = {"axis": "snapshot", "site": "W_U", "steps": [0, 512, 143000]}
    check(tmp_path, architecture="standard", sources=sources, input={"kind": "parameters", "parameter": "W_U"})
    assert "2. W_U at step 512\n" in (tmp_path / "b/README.md").read_text()


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (
            {"architecture": "jumprelu", "gate": "per_source", "code_norm": "per_source_norm"},
            "each source has a gate of its own, so that the sources have different codes",
        ),
        (
            {"architecture": "topk", "code_norm": "sum_of_norms"},
            "where SAELens ranks by a norm it also stores latents times that norm, and here they are not",
        ),
    ],
)
def test_what_no_sae_computes_is_refused(tmp_path, what, why):
    """With the reason, and before anything is written."""
    source = write(tmp_path / "a", **what)
    with pytest.raises(FormatError) as caught:
        assert_converts(source, tmp_path / "b", "saelens")
    expected = f"SAELens: cannot say this crosscoder, not even as a wide SAE: {why}; use --to saereg"
    assert str(caught.value) == expected
    assert not (tmp_path / "b").exists()
