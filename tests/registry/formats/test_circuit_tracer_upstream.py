"""circuit-tracer's own loaders and classes, on the same files: its sets, its CLTs, and both Gemma Scopes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from circuit_tracer.transcoder.activation_functions import JumpReLU, TopK
from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder, load_clt, load_gemma_scope_2_clt
from circuit_tracer.transcoder.single_layer_transcoder import (
    SingleLayerTranscoder,
    load_gemma_scope_2_transcoder,
    load_gemma_scope_transcoder,
    load_relu_transcoder,
)
from safetensors.torch import save_file
from torch.nn import functional

from tests.upstream import D, F, K, assert_same, random, rows

CPU, LAYERS = torch.device("cpu"), 3

CONFIG = "model_name: tiny/model\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\n"

ACTIVATIONS = {
    "relu": lambda: functional.relu,
    "topk": lambda: TopK(K),
    "jumprelu": lambda: JumpReLU(random(F, seed=5).abs(), 0.1),
    "jumprelu with negative thresholds": lambda: JumpReLU(random(F, seed=5), 0.1),
}


def transcoder(activation, skip: bool) -> SingleLayerTranscoder:
    """Return its own class with weights that hide no mistake."""
    made = SingleLayerTranscoder(D, F, activation, 0, skip_connection=skip, device=CPU, dtype=torch.float32)
    with torch.no_grad():
        for seed, name in enumerate(["W_enc", "W_dec", "b_enc", "b_dec", *(["W_skip"] if skip else [])]):
            getattr(made, name).copy_(random(*getattr(made, name).shape, seed=seed))
    return made


def forward(made: SingleLayerTranscoder, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return its (f, x_hat)."""
    with torch.no_grad():
        f = made.encode(x)
        return f, made.decode(f, x)


@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_transcoder_of_a_set_computes_what_its_class_computes(tmp_path, name, skip):
    """Saved by the class itself, and for ReLU and JumpReLU loaded again by its own loader."""
    made, x = transcoder(ACTIVATIONS[name](), skip), rows(D)
    path = tmp_path / "layer_0.safetensors"
    save_file({key: value.detach().contiguous() for key, value in made.state_dict().items()}, path)
    (tmp_path / "config.yaml").write_text(CONFIG + (f"activation: topk\nk: {K}\n" if name == "topk" else ""))
    assert_same(tmp_path, x, *forward(made, x))
    if name != "topk":
        again = load_relu_transcoder(str(path), 0, device=CPU, lazy_encoder=False, lazy_decoder=False)
        assert_same(tmp_path, x, *forward(again, x))


@pytest.mark.parametrize("jumps", [False, True], ids=["relu", "jumprelu"])
def test_a_cross_layer_transcoder_computes_what_its_class_computes(tmp_path, jumps):
    """Loaded by its own loader, which stacks the layers; ours keeps them apart."""
    for i in range(LAYERS):
        encoder = {
            f"W_enc_{i}": random(F, D, seed=i),
            f"b_enc_{i}": random(F, seed=10 + i),
            f"b_dec_{i}": random(D, seed=20 + i),
        }
        if jumps:
            encoder[f"threshold_{i}"] = random(F, seed=30 + i).abs()
        save_file(encoder, tmp_path / f"W_enc_{i}.safetensors")
        save_file({f"W_dec_{i}": random(F, LAYERS - i, D, seed=40 + i)}, tmp_path / f"W_dec_{i}.safetensors")
    theirs = load_clt(str(tmp_path), dtype=torch.float32, lazy_decoder=False, device=CPU)
    _assert_same_across_layers(tmp_path, theirs)


def _assert_same_across_layers(path: Path, theirs: CrossLayerTranscoder, **given: str) -> None:
    x = rows(theirs.n_layers, D)
    with torch.no_grad():
        f = theirs.encode(x.transpose(0, 1))
        parts = theirs.select_decoder_vectors(f.to_sparse())
        x_hat = theirs.compute_reconstruction(*parts[:2], parts[3], x.transpose(0, 1))
    assert_same(path, x, f.transpose(0, 1), x_hat.transpose(0, 1), given=given)


def test_a_gemma_scope_transcoder_computes_what_its_loader_makes_of_it(tmp_path):
    """An npz file with one threshold a hair above and one a hair below a pre-activation."""
    arrays = {"W_enc": (D, F), "W_dec": (F, D), "b_enc": (F,), "b_dec": (D,)}
    weights = {name: random(*shape, seed=seed) for seed, (name, shape) in enumerate(arrays.items())}
    x = rows(D)
    pre = x[0] @ weights["W_enc"] + weights["b_enc"]
    cut = random(F, seed=7).abs()
    above, below = pre.argsort(descending=True)[:2].tolist()
    cut[above], cut[below] = pre[above] + 1e-6, pre[below] - 1e-6
    np.savez(tmp_path / "params.npz", **{n: t.numpy() for n, t in (weights | {"threshold": cut}).items()})
    theirs = load_gemma_scope_transcoder(str(tmp_path / "params.npz"), 0, device=CPU)
    assert_same(tmp_path, x, *forward(theirs, x))


@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
def test_a_gemma_scope_2_transcoder_computes_what_its_loader_makes_of_it(tmp_path, affine):
    """The affine connection is x·A in the file and x·Aᵀ of its transpose in the class."""
    tensors = {
        "w_enc": random(D, F, seed=0),
        "w_dec": random(F, D, seed=1),
        "b_enc": random(F, seed=2),
        "b_dec": random(D, seed=3),
        "threshold": random(F, seed=4).abs(),
    }
    if affine:
        tensors["affine_skip_connection"] = random(D, D, seed=5)
    save_file(tensors, tmp_path / "params.safetensors")
    config = {
        "architecture": "jump_relu",
        "model_name": "gemma-v3-1b-pt",
        "hf_hook_point_in": "model.layers.7.pre_feedforward_layernorm.output",
        "hf_hook_point_out": "model.layers.7.post_feedforward_layernorm.output",
        "affine_connection": affine,
        "width": F,
        "l0": 10,
        "type": "transcoder",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    theirs, x = load_gemma_scope_2_transcoder(str(tmp_path / "params.safetensors"), 7, device=CPU), rows(D)
    assert_same(tmp_path, x, *forward(theirs, x))


def test_a_gemma_scope_2_clt_computes_what_its_loader_makes_of_it(tmp_path):
    """Its loader leaves out the last layer, so it is given one more; and it drops decoders to earlier layers."""
    for i in range(LAYERS):
        tensors = {
            "w_enc": random(D, F, seed=i),
            "w_dec": random(F, LAYERS, D, seed=10 + i),
            "b_enc": random(F, seed=20 + i),
            "b_dec": random(D, seed=30 + i),
            "threshold": random(F, seed=40 + i).abs(),
        }
        save_file(tensors, tmp_path / f"params_layer_{i}.safetensors")
    paths = {i: str(tmp_path / f"params_layer_{i}.safetensors") for i in range(LAYERS)}
    theirs = load_gemma_scope_2_clt(paths | {LAYERS: ""}, dtype=torch.float32, device=CPU)
    _assert_same_across_layers(tmp_path, theirs, writes="same_and_later")
