"""What is said of a site is proven on a probe, in the type that the model runs in; what is not proven is left out."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saereg.errors import UsageError
from saereg.registry.models.model import ModelSource, load_model
from saereg.registry.models.sites import describe, probe, resolve
from saereg.schemas.site import Site
from saereg.trainers.collecting.collect import collect
from tests.tiny_models import save_gemma


def records(folder: Path, dtype: str, *specs: str) -> list[Site]:
    loaded = load_model(ModelSource(str(folder), dtype=dtype))
    sites = [resolve(spec, loaded) for spec in specs]
    seen = probe(loaded, sites)
    return [describe(site, loaded, seen) for site in sites]


@pytest.fixture(scope="module")
def gemma(neox, tmp_path_factory) -> Path:
    """A model with norms behind its branches, whose padding has an embedding of zeros; it knows no word of English."""
    folder = save_gemma(tmp_path_factory.mktemp("models") / "tiny-gemma")
    for file in neox.glob("tokenizer*.json"):
        shutil.copy(file, folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_names_are_proven_in_the_type_that_the_model_runs_in(dtype, neox):
    specs = ("residual:0", "residual:2", "mlp:1", "attention:2", "module=gpt_neox.final_layer_norm")
    first, last, mlp, attention, norm = records(neox, dtype, *specs)
    assert (first.hidden_states_index, first.hook_name) == (1, "blocks.0.hook_resid_post")
    assert (last.hidden_states_index, last.hook_name) == (None, "blocks.2.hook_resid_post")
    assert last.reason == "hidden_states[3] is after the final norm"
    assert (mlp.hook_name, attention.hook_name) == ("blocks.1.hook_mlp_out", "blocks.2.hook_attn_out")
    assert (norm.hidden_states_index, norm.post_final_norm, norm.hook_name) == (3, True, None)
    assert not any(site.post_final_norm for site in (first, last, mlp, attention))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_norms_behind_the_branches_leave_no_hook_and_padding_misleads_nobody(dtype, gemma):
    first, last, mlp = records(gemma, dtype, "residual:0", "residual:2", "mlp:1")
    assert first.hidden_states_index == 1
    assert last.hidden_states_index is None
    assert last.reason == "hidden_states[3] is after the final norm"
    assert mlp.hook_name is None
    assert mlp.reason == "attention and MLP do not add up to the layer: a norm or scale stands behind them"


def test_tensors_that_are_alike_on_the_probe_prove_nothing(neox):
    loaded = load_model(ModelSource(str(neox)))
    site = resolve("residual:1", loaded)
    seen = probe(loaded, [site])
    same = replace(seen, hidden_states=(seen.hidden_states[2],) * 4)
    assert describe(site, loaded, same).hidden_states_index is None
    other = replace(seen, hidden_states=tuple(state.double() for state in seen.hidden_states))
    assert describe(site, loaded, other).hidden_states_index is None


def test_a_stream_too_long_for_its_type_proves_no_sum(neox):
    loaded = load_model(ModelSource(str(neox), dtype="bfloat16"))
    site = resolve("mlp:1", loaded)
    seen = probe(loaded, [site])
    far = {name: tensor + 1000 if name == "gpt_neox.layers.1" else tensor for name, tensor in seen.outputs.items()}
    states = tuple(state + 1000 for state in seen.hidden_states)
    found = describe(site, loaded, replace(seen, outputs=far, hidden_states=states))
    assert found.hook_name is None
    assert found.reason == "bfloat16 is too coarse to show that attention and MLP add up to the layer"


def test_a_bfloat16_model_gives_float16_rows_of_its_own_numbers(neox, collecting, tmp_path):
    settings = {"model_dtype": "bfloat16", "dtype": "float16", "rows": 96, "device": "auto", "batch_contexts": 4}
    found = collect(collecting(tmp_path / "c", sites=("residual:0", "residual:1"), **settings))
    assert (found.model_dtype, found.dtype) == ("bfloat16", "float16")
    x = load_file(tmp_path / "c/residual-1/shard-00000.safetensors")["x"]
    assert x.dtype == torch.float16
    assert torch.equal(x, x.bfloat16().half())
    plain = collect(collecting(tmp_path / "p", rows=96, batch_contexts=4))
    exact = load_file(tmp_path / "p" / plain.sites["residual-1"].shards[0].path)["x"]
    assert 0 < float((x.float() - exact).abs().max()) < 0.1 * float(exact.abs().max())
    with pytest.raises(UsageError, match="model_dtype is bfloat16 there and float16 here"):
        collect(collecting(tmp_path / "c", sites=("residual:0", "residual:1"), **settings | {"model_dtype": "float16"}))


def test_a_device_that_is_not_there_is_one_line(collecting, tmp_path):
    with pytest.raises(UsageError, match=r"^device 'nonsense' cannot be used: .*; choose auto or cpu$"):
        collect(collecting(tmp_path / "c", device="nonsense"))
