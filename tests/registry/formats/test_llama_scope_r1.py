"""Llama Scope of 2025: the publisher's forward, written from lm_saes' source, is what the reading must compute.

Source: OpenMOSS/Language-Model-SAEs b5c5bb22, `lm_saes/sae.py`: `compute_norm_factor`, `encode`, `forward`, and
`reconstructed / label_norm_factor` of `compute_loss`.
"""

import json

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import save_file

from saereg.registry.loading import detect, read
from tests.upstream import D, F, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

SITE, OUT = "blocks.5.hook_resid_post", "blocks.5.hook_mlp_out"

CONFIG = {
    "sae_type": "sae",
    "hook_point_in": SITE,
    "hook_point_out": SITE,
    "d_model": D,
    "expansion_factor": 3,
    "use_decoder_bias": True,
    "use_glu_encoder": False,
    "act_fn": "jumprelu",
    "apply_decoder_bias_to_pre_encoder": False,
    "norm_activation": "dataset-wise",
    "sparsity_include_decoder_norm": True,
    "force_unit_decoder_norm": False,
    "top_k": 50,
}

NORMS = {SITE: 4.65, OUT: 1.5}

VARIANTS = {
    "sae": {},
    "transcoder": {"hook_point_out": OUT},
    "without decoder norms": {"sparsity_include_decoder_norm": False},
    "transcoder without decoder norms": {"hook_point_out": OUT, "sparsity_include_decoder_norm": False},
    "b_dec subtracted": {"apply_decoder_bias_to_pre_encoder": True},
    "for raw inputs": {"norm_activation": "inference"},
    "no decoder bias": {"use_decoder_bias": False},
}


def weights():
    """Return the five tensors; thresholds are stored as logarithms."""
    return {
        "encoder.weight": random(F, D, seed=1),
        "encoder.bias": random(F, seed=2),
        "decoder.weight": random(D, F, seed=3),
        "decoder.bias": random(D, seed=4),
        "log_jumprelu_threshold": random(F, seed=5) - 0.5,
    }


def save(folder, norms=NORMS, **changes):
    """Write the folder of one dictionary."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg, tensors = CONFIG | changes, weights()
    if not cfg["use_decoder_bias"]:
        del tensors["decoder.bias"]
    tensors |= {f"dataset_average_activation_norm.{hook}": torch.tensor(norm) for hook, norm in norms.items()}
    save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "config.json").write_text(json.dumps({k: v for k, v in cfg.items() if v is not None}))
    return folder


def forward(cfg, x):
    """Scale, encode, mask pre by pre·‖W_D‖ > exp(log θ), decode, and scale back."""
    p = weights()
    scaled = cfg["norm_activation"] == "dataset-wise"
    into, out = ((D**0.5 / NORMS[cfg[f"hook_point_{side}"]]) if scaled else 1.0 for side in ("in", "out"))
    b_d = p["decoder.bias"] if cfg["use_decoder_bias"] else torch.zeros(D)
    x = x * into
    if cfg["apply_decoder_bias_to_pre_encoder"]:
        x = x - b_d
    pre = x @ p["encoder.weight"].T + p["encoder.bias"]
    scores = pre * p["decoder.weight"].norm(p=2, dim=0) if cfg["sparsity_include_decoder_norm"] else pre
    f = pre * scores.gt(p["log_jumprelu_threshold"].exp())
    return f, (f @ p["decoder.weight"].T + b_d) / out


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_it_computes_what_lm_saes_computes(tmp_path, changes):
    """Active sets, activations in the units of training, reconstruction in raw units."""
    x = rows(D)
    f, x_hat = forward(CONFIG | changes, x)
    dictionary = assert_same(save(tmp_path, **changes), x, f, x_hat)
    assert 0 < (f != 0).float().mean() < 1
    assert dictionary.cfg.kind == ("transcoder" if "hook_point_out" in changes else "sae")
    assert detect(tmp_path) == ("llama_scope_r1",)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_saelens_computes_the_same_of_its_export(tmp_path, changes):
    """Thresholds are divided by the norms of the decoder there."""
    x = rows(D)
    assert_converts(save(tmp_path / "a", **changes), tmp_path / "b", "saelens")
    sae = SAE.load_from_disk(tmp_path / "b")
    f, x_hat = forward(CONFIG | changes, x)
    assert torch.equal(sae.encode(x) != 0, f != 0)
    assert relative(sae(x), x_hat) <= 1e-5


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_it_converts_to_our_layout(tmp_path, changes):
    """The mean norms are left out by name."""
    record = assert_converts(save(tmp_path / "a", **changes), tmp_path / "b", "saereg")
    assert record.left_out == tuple(sorted(f"dataset_average_activation_norm.{hook}" for hook in NORMS))


def test_golden_vectors_catch_wrong_thresholds_and_scales(tmp_path):
    """A threshold taken as it is stored, pre compared without the norms, inputs that are not scaled."""
    path, p = save(tmp_path), weights()
    into = D**0.5 / NORMS[SITE]

    def run(dictionary, scale=into, cut=None, norms=True):
        x = dictionary.golden_x
        pre = (x * scale) @ p["encoder.weight"].T + p["encoder.bias"]
        scores = pre * p["decoder.weight"].norm(dim=0) if norms else pre
        cut = p["log_jumprelu_threshold"].exp() if cut is None else cut
        return ((pre * (scores > cut)) @ p["decoder.weight"].T + p["decoder.bias"]) / into

    assert_golden_catches(path, lambda d: run(d, cut=p["log_jumprelu_threshold"]))
    assert_golden_catches(path, lambda d: run(d, norms=False))
    assert_golden_catches(path, lambda d: run(d, scale=1.0))


def test_the_mean_norm_can_be_given(tmp_path):
    """Where neither file has it, it must be."""
    path, x = save(tmp_path, norms={}), rows(D)
    key = f"dataset_average_activation_norm.{SITE}"
    expected = f"{path}: the inputs were scaled, and there is no {key}; say it: --set activation_norm=4.65"
    assert refusal(path) == expected
    assert_same(path, x, *forward(CONFIG, x), given={"activation_norm": 4.65})


REFUSED = {
    "config.json says d_model = 16 and 64 latents, but encoder.weight is (48, 16); correct config.json": {
        "expansion_factor": 4
    },
    "config.json says act_fn 'topk', but there is a log_jumprelu_threshold; correct config.json to jumprelu, or remove "
    "the tensor": {"act_fn": "topk"},
    "config.json says use_glu_encoder: a gated linear unit cannot be expressed": {"use_glu_encoder": True},
    "config.json says norm_activation 'token-wise'; only dataset-wise and inference are read": {
        "norm_activation": "token-wise"
    },
    "config.json says apply_decoder_bias_to_pre_encoder subtracts b_dec in the units of the output, and those of the "
    "input are others": {"apply_decoder_bias_to_pre_encoder": True, "hook_point_out": OUT},
    "config.json says use_decoder_bias = 1; expected a value like True": {"use_decoder_bias": 1},
}


@pytest.mark.parametrize(("message", "changes"), REFUSED.items())
def test_what_config_json_cannot_say_is_refused(tmp_path, message, changes):
    """One line, with what was found and what is expected."""
    assert refusal(save(tmp_path, **changes)) == f"{tmp_path}: {message}"


def test_a_mean_norm_that_is_none_is_refused(tmp_path):
    """Uninitialised memory, for example."""
    path = save(tmp_path, norms={SITE: -1.0})
    assert refusal(path) == f"{path}: dataset_average_activation_norm.{SITE} is -1.0; expected one positive number"


def test_a_key_that_is_not_known_is_noted(tmp_path):
    """And no key that the publisher writes."""
    notes = read(save(tmp_path, jumprelu_threshold_window=2.0, input_scale=2)).cfg.assumptions
    assert [(note.field, note.value) for note in notes] == [("input_scale", "2")]
    assert notes[0].because == "a key of config.json that this layout is not known to have; ignored"
