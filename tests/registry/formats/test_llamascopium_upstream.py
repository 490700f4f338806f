"""llamascopium's own classes write the files; their own forward is what the reading must compute."""

import math
import warnings
from pathlib import Path

import pytest
import torch

pytest.importorskip("llamascopium")  # it has no build for Python 3.13 and newer
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks for CUDA when it is imported
    from llamascopium.models.clt import CLTConfig, CrossLayerTranscoder
    from llamascopium.models.crosscoder import Crosscoder, CrosscoderConfig
    from llamascopium.models.sae import SAEConfig, SparseAutoEncoder

from tests.upstream import D, F, K, assert_converts, assert_same, random, rows

IN, OUT, LAYERS = "blocks.3.hook_resid_post", "blocks.3.hook_mlp_out", 3

COMMON = {"d_model": D, "expansion_factor": F / D, "device": "cpu", "dtype": torch.float32, "top_k": K}

PLAIN = {"act_fn": "relu", "norm_activation": "inference", "hook_point_in": IN, "hook_point_out": IN}

CONFIGS = {
    "relu": {},
    "jumprelu": {"act_fn": "jumprelu"},
    "topk": {"act_fn": "topk"},
    "transcoder": {"act_fn": "topk", "hook_point_out": OUT},
    "no norm in the gate": {"act_fn": "jumprelu", "sparsity_include_decoder_norm": False},
    "no decoder bias": {"use_decoder_bias": False},
}


def filled(made):
    """Fill every parameter with numbers that hide no mistake."""
    with torch.no_grad():
        for seed, (name, parameter) in enumerate(made.named_parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed) - (1.0 if "threshold" in name else 0.0))
    return made


def saved(made, config, folder: Path) -> Path:
    """Save it the library's own way, and return the folder."""
    made.save_pretrained(folder)
    config.save_hyperparameters(folder)
    return folder


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_an_sae_computes_what_its_class_computes(tmp_path, changes):
    """Gates by the decoder norm, values without it."""
    config = SAEConfig(**COMMON, **(PLAIN | changes))
    made, x = filled(SparseAutoEncoder(config)), rows(D)
    with torch.no_grad():
        f = made.encode(x)
        x_hat = made.decode(f)
    assert_same(saved(made, config, tmp_path / "a"), x, f, x_hat)
    assert_converts(tmp_path / "a", tmp_path / "b", "saereg")


@pytest.mark.parametrize("act_fn", ["relu", "topk", "jumprelu"])
def test_a_scale_of_the_dataset_is_folded_threshold_included(tmp_path, act_fn):
    """The model in training units: scaled inputs in, scaled outputs out."""
    config = SAEConfig(
        **COMMON, **(PLAIN | {"act_fn": act_fn, "norm_activation": "dataset-wise", "hook_point_out": OUT})
    )
    made = filled(SparseAutoEncoder(config))
    made.set_dataset_average_activation_norm({IN: 7.0, OUT: 0.6})
    x = rows(D)
    scale_in, scale_out = math.sqrt(D) / 7.0, math.sqrt(D) / 0.6
    with torch.no_grad():
        f = made.encode(x * scale_in)
        x_hat = made.decode(f) / scale_out
    dictionary = assert_same(saved(made, config, tmp_path / "a"), x, None, x_hat)
    assert torch.equal(dictionary.encode(x) != 0, f != 0)


@pytest.mark.parametrize("act_fn", ["relu", "topk", "jumprelu"])
def test_a_crosscoder_decides_at_each_head(tmp_path, act_fn):
    """One pre-activation, a norm and so a decision of each head's own."""
    config = CrosscoderConfig(**COMMON, act_fn=act_fn, norm_activation="inference", hook_points=["a", "b", "c"])
    made, x = filled(Crosscoder(config)), rows(3, D)
    with torch.no_grad():
        f = made.encode(x)
        x_hat = made.decode(f)
    folder = saved(made, config, tmp_path / "a")
    # without a threshold all heads agree, and one code stands for all
    assert_same(folder, x, f[:, 0] if act_fn == "relu" else f, x_hat)


@pytest.mark.parametrize("act_fn", ["relu", "jumprelu"])
def test_a_cross_layer_transcoder_sums_over_earlier_layers(tmp_path, act_fn):
    """Decoders are stored by target, and ours by source."""
    config = CLTConfig(
        **COMMON,
        act_fn=act_fn,
        norm_activation="inference",
        hook_points_in=[f"blocks.{i}.hook_resid_mid" for i in range(LAYERS)],
        hook_points_out=[f"blocks.{i}.hook_mlp_out" for i in range(LAYERS)],
    )
    made, x = filled(CrossLayerTranscoder(config)), rows(LAYERS, D)
    with torch.no_grad():
        f = made.encode(x)
        x_hat = made.decode(f)
    x_hat = torch.stack(list(x_hat), dim=0) if isinstance(x_hat, list | tuple) else x_hat
    x_hat = x_hat if x_hat.shape == x.shape else x_hat.transpose(0, 1)
    assert_same(saved(made, config, tmp_path / "a"), x, f, x_hat)
