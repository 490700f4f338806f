"""Llama Scope of 2024: the publisher's loader and forward, written from its source, are what the reading must compute.

Source: OpenMOSS/Language-Model-SAEs 05887d39, `lm_saes/sae.py`: `standardize_parameters_of_dataset_activation_scaling`,
`transform_to_unit_decoder_norm`, `encode`, `decode` and `activation_function_factory`.
"""

import json

import pytest
import torch
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders
from safetensors.torch import save_file

from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import detect, read
from tests.upstream import D, F, K, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

HYPER = {
    "hook_point_in": "blocks.3.hook_resid_post",
    "hook_point_out": "blocks.3.hook_resid_post",
    "d_model": D,
    "d_sae": F,
    "expansion_factor": 3,
    "use_decoder_bias": True,
    "apply_decoder_bias_to_pre_encoder": False,
    "act_fn": "jumprelu",
    "jump_relu_threshold": 2.5,
    "norm_activation": "dataset-wise",
    "dataset_average_activation_norm": {"in": 6.3125, "out": 6.3125},
    "decoder_exactly_fixed_norm": False,
    "sparsity_include_decoder_norm": True,
    "use_glu_encoder": False,
    "top_k": K,
    "dtype": "torch.bfloat16",
}

TRANSCODER = {
    "hook_point_in": "blocks.3.ln2.hook_normalized",
    "hook_point_out": "blocks.3.hook_mlp_out",
    "dataset_average_activation_norm": {"in": 64.0, "out": 3.390625},
}

VARIANTS = {
    "jumprelu": {},
    "transcoder": TRANSCODER,
    "without decoder norms": {"sparsity_include_decoder_norm": False},
    "topk": {"act_fn": "topk", "jump_relu_threshold": 0.0},
    "topk without decoder norms": {
        "act_fn": "TopK",
        "jump_relu_threshold": 0.0,
        "sparsity_include_decoder_norm": False,
    },
    "relu": {"act_fn": "relu"},
    "b_dec subtracted": {"apply_decoder_bias_to_pre_encoder": True},
    "no decoder bias": {"use_decoder_bias": False, "apply_decoder_bias_to_pre_encoder": True},
    "for raw inputs": {"norm_activation": "inference"},
    "negative threshold": {"jump_relu_threshold": -1.0},
}


def weights(dtype=torch.float32):
    """Return the four tensors; decoder columns are far from norm 1."""
    p = {
        "encoder.weight": random(F, D, seed=1),
        "encoder.bias": random(F, seed=2),
        "decoder.weight": random(D, F, seed=3),
        "decoder.bias": random(D, seed=4),
    }
    return {name: tensor.to(dtype) for name, tensor in p.items()}


def save(folder, dtype=torch.float32, **changes):
    """Write the folder of one dictionary."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    hyper = HYPER | changes
    tensors = weights(dtype)
    if not hyper["use_decoder_bias"]:
        del tensors["decoder.bias"]
    save_file(tensors, folder / "checkpoints/final.safetensors")
    (folder / "hyperparams.json").write_text(json.dumps({k: v for k, v in hyper.items() if v is not None}))
    (folder / "lm_config.json").write_text(json.dumps({"model_name": "meta-llama/Llama-3.1-8B"}))
    return folder


def forward(p, hyper, x):
    """Load and run as lm_saes does: standardize, give decoder columns norm 1, then encode and decode."""
    p = {name: tensor.float() for name, tensor in p.items()}
    W_e, b_e, W_d = p["encoder.weight"], p["encoder.bias"], p["decoder.weight"]
    b_d = p["decoder.bias"] if hyper["use_decoder_bias"] else torch.zeros(D)
    if hyper["norm_activation"] == "dataset-wise":
        into, out = (D**0.5 / hyper["dataset_average_activation_norm"][side] for side in ("in", "out"))
        b_e, b_d, W_d = b_e / into, b_d / out, W_d * into / out
    if hyper["sparsity_include_decoder_norm"]:
        norm = W_d.norm(p=2, dim=0)
        W_d, W_e, b_e = W_d / norm, W_e * norm[:, None], b_e * norm
    inner = x - b_d if hyper["apply_decoder_bias_to_pre_encoder"] else x
    pre = inner @ W_e.T + b_e
    act = hyper["act_fn"].lower()
    if act == "jumprelu":
        f = pre.where(pre > hyper["jump_relu_threshold"], 0)
    elif act == "relu":
        f = pre.clamp(min=0)
    else:
        positive = pre.clamp(min=0)
        top = positive.topk(hyper["top_k"], dim=-1).indices
        f = torch.zeros_like(pre).scatter(-1, top, positive.gather(-1, top))
    return f, f @ W_d.T + b_d


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_it_computes_what_lm_saes_computes(tmp_path, changes):
    """Active sets, activations and reconstruction in raw units, whichever path is named."""
    x = rows(D) * 3
    f, x_hat = forward(weights(), HYPER | changes, x)
    assert_same(save(tmp_path, **changes), x, f, x_hat)
    assert_same(tmp_path / "checkpoints/final.safetensors", x, f, x_hat)
    assert 0 < (f != 0).float().mean() < 1
    assert detect(tmp_path) == ("llama_scope",)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_it_converts_to_our_layout(tmp_path, changes):
    """Without folding the norms of the decoder into the weights."""
    record = assert_converts(save(tmp_path / "a", **changes), tmp_path / "b", "saereg")
    by_norm = (HYPER | changes)["sparsity_include_decoder_norm"] and (HYPER | changes)["act_fn"] != "relu"
    assert record.semantics.latents_scaled_by_decoder_norm == by_norm
    assert not any(step.vector for recipe in record.plan.values() for step in recipe.steps) or not by_norm


SAYABLE = {name: changes for name, changes in VARIANTS.items() if name not in ("transcoder", "negative threshold")}


@pytest.mark.parametrize("changes", SAYABLE.values(), ids=SAYABLE)
def test_saelens_computes_the_same_of_its_export(tmp_path, changes):
    """The norms are folded there, so that thresholds and ranks are those of the publisher."""
    x = rows(D) * 3
    assert_converts(save(tmp_path / "a", **changes), tmp_path / "b", "saelens")
    sae = SAE.load_from_disk(tmp_path / "b")
    f, x_hat = forward(weights(), HYPER | changes, x)
    assert torch.equal(sae.encode(x) != 0, f != 0)
    assert relative(sae.encode(x), f) <= 1e-5
    assert relative(sae(x), x_hat) <= 1e-5


def test_a_transcoder_exports_with_the_scales_of_input_and_output(tmp_path):
    """One scale for both would make its output 19 times too large."""
    x = rows(D)
    assert_converts(save(tmp_path / "a", **TRANSCODER), tmp_path / "b", "saelens")
    transcoder = SAE.load_from_disk(tmp_path / "b")
    f, x_hat = forward(weights(), HYPER | TRANSCODER, x)
    assert torch.equal(transcoder.encode(x) != 0, f != 0)
    assert relative(transcoder(x), x_hat) <= 1e-5
    assert transcoder.cfg.metadata.hook_name_out == "blocks.3.hook_mlp_out"


def test_bfloat16_is_widened_before_it_is_scaled(tmp_path):
    """As the publisher stores it; the result is float32, and loses nothing to a second rounding."""
    x = rows(D) * 3
    path = save(tmp_path / "a", torch.bfloat16)
    dictionary = assert_same(path, x, *forward(weights(torch.bfloat16), HYPER, x))
    assert dictionary.cfg.dtype == "float32"
    assert_converts(path, tmp_path / "b", "saelens")


def test_saelens_own_loader_activates_other_latents(tmp_path, monkeypatch):
    """It compares pre with the threshold where the publisher compares pre·‖W_dec‖; nothing is reported."""
    path, x = save(tmp_path), rows(D) * 3
    monkeypatch.setattr(pretrained_sae_loaders, "hf_hub_download", lambda *a, **k: _local(path, *a, **k))
    cfg, theirs, _ = pretrained_sae_loaders.llama_scope_sae_huggingface_loader(
        "fnlp/a", "one", cfg_overrides={"dtype": "float32"}
    )
    scale = D**0.5 / HYPER["dataset_average_activation_norm"]["in"]
    assert cfg["jump_relu_threshold"] == pytest.approx(2.5 * scale)
    pre = (x * scale) @ theirs["W_enc"] + theirs["b_enc"]
    f, _ = forward(weights(), HYPER, x)
    assert ((pre > theirs["threshold"]) != (f != 0)).float().mean() > 0.02
    plain, _ = forward(weights(), HYPER | {"sparsity_include_decoder_norm": False}, x)
    assert torch.equal(pre > theirs["threshold"], plain != 0)


def _local(path, repo_id, filename, subfolder="", **_):
    return str(path / f"{subfolder}/{filename}".strip("/").removeprefix("one/"))


def _without_norms(dictionary):
    w, x = dictionary.weights, dictionary.golden_x
    pre = x @ w["W_enc"] + w["b_enc"]
    return (pre * (pre > w["threshold"])) @ w["W_dec"] + w["b_dec"]


def test_golden_vectors_catch_a_reading_without_norms_or_scales(tmp_path):
    """The two steps of the publisher's loader, each left out; and b_dec subtracted."""
    path = save(tmp_path)
    assert assert_golden_catches(path, _without_norms) > 0.05
    unscaled = HYPER | {"norm_activation": "inference"}
    assert assert_golden_catches(path, lambda d: forward(weights(), unscaled, d.golden_x)[1]) > 0.1
    assert assert_golden_catches(path, lambda d: d(d.golden_x - d.weights["b_dec"])) > 0.05


def test_the_threshold_is_strict(tmp_path):
    """A row whose pre·‖W_dec‖ is the threshold itself is not active, one just above it is."""
    changes = {"norm_activation": "inference", "jump_relu_threshold": 0.5, "sparsity_include_decoder_norm": False}
    path = save(tmp_path, **changes)
    p = weights() | {"encoder.weight": torch.zeros(F, D), "encoder.bias": torch.full((F,), 0.5)}
    p["encoder.bias"][9] = 0.5 + 1e-6
    save_file(p, path / "checkpoints/final.safetensors")
    f = Dictionary(read(path).checkpoint()).encode(rows(D))
    assert (f != 0).nonzero()[:, 1].unique().tolist() == [9]


def test_the_threshold_is_a_number_of_the_document(tmp_path):
    """In both layouts; the proof redoes it like any tensor."""
    record = assert_converts(save(tmp_path / "a"), tmp_path / "b", "saereg")
    assert record.plan["threshold"].key is None
    assert record.tensors["threshold"].operation == "2.5 everywhere"
    assert not record.tensors["threshold"].bitwise
    record = assert_converts(save(tmp_path / "c", sparsity_include_decoder_norm=False), tmp_path / "d", "saelens")
    assert record.tensors["threshold"].operation == "2.5 everywhere"
    assert SAE.load_from_disk(tmp_path / "d").threshold.tolist() == [2.5] * F


def test_missing_keys_are_what_the_loader_takes_and_are_noted(tmp_path):
    """Including a subtraction that is on by default."""
    path = save(tmp_path, apply_decoder_bias_to_pre_encoder=None, sparsity_include_decoder_norm=None)
    cfg = read(path).cfg
    assert cfg.semantics.pre_encoder_subtraction == "b_dec"
    assert {note.field: note.value for note in cfg.assumptions} == {
        "apply_decoder_bias_to_pre_encoder": "True",
        "sparsity_include_decoder_norm": "True",
    }


def test_token_wise_norms_are_taken_per_row(tmp_path):
    """The encoder reads x·√D/‖x‖, and the reconstruction is mapped back."""
    path, x = save(tmp_path, norm_activation="token-wise"), rows(D) * 3
    scale = D**0.5 / x.norm(dim=1, keepdim=True)
    f, x_hat = forward(weights(), HYPER | {"norm_activation": "token-wise"}, x * scale)
    assert_same(path, x, f, x_hat / scale)
    assert_converts(path, tmp_path / "b", "saelens")


def test_topk_with_a_threshold_must_be_decided(tmp_path):
    """The publisher's loader says one thing and does the other."""
    path, x = save(tmp_path, act_fn="topk"), rows(D)
    why = "hyperparams.json says act_fn topk and a jump_relu_threshold above 0, and the publisher's loader announces "
    assert refusal(path) == f"{path}: {why}jumprelu but runs topk; say it: --set activation=topk"
    for said in ("topk", "jumprelu"):
        assert_same(path, x, *forward(weights(), HYPER | {"act_fn": said}, x), given={"activation": said})


REFUSED = {
    "hyperparams.json says d_model = 16 and 50 latents, but encoder.weight is (48, 16); correct hyperparams.json": {
        "d_sae": 50
    },
    "hyperparams.json says act_fn 'gelu'; expected relu, topk or jumprelu": {"act_fn": "gelu"},
    "hyperparams.json says top_k = 49; expected 1 to d_sae = 48": {
        "act_fn": "topk",
        "top_k": 49,
        "jump_relu_threshold": 0,
    },
    "hyperparams.json says top_k = '5'; expected a value like 50": {"top_k": "5"},
    "hyperparams.json says jump_relu_threshold = 'a'; expected a number": {"jump_relu_threshold": "a"},
    "hyperparams.json says use_glu_encoder: a gated linear unit cannot be expressed": {"use_glu_encoder": True},
    "hyperparams.json says norm_activation 'batch-wise', which depends on the batch or on the output; only dataset-wise"
    ", inference and, of an SAE, token-wise are read": {"norm_activation": "batch-wise"},
    "hyperparams.json says norm_activation dataset-wise, but dataset_average_activation_norm is {'in': 0}; expected an "
    "object with positive numbers `in` and `out`": {"dataset_average_activation_norm": {"in": 0}},
}


@pytest.mark.parametrize(("message", "changes"), REFUSED.items())
def test_what_hyperparams_cannot_say_is_refused(tmp_path, message, changes):
    """One line, with what was found and what is expected."""
    assert refusal(save(tmp_path, **changes)) == f"{tmp_path}: {message}"


def test_a_tensor_that_would_be_lost_is_refused(tmp_path):
    """Such as a GLU of which hyperparams.json says nothing."""
    path = save(tmp_path)
    save_file(weights() | {"encoder_glu.weight": random(F, D)}, path / "checkpoints/final.safetensors")
    file = path / "checkpoints/final.safetensors"
    assert refusal(path) == f"{file}: encoder_glu.weight: is no tensor of this layout; it would be lost"


def test_a_key_that_is_not_known_is_noted(tmp_path):
    """And no key that the publisher writes."""
    notes = read(save(tmp_path, lp=1, bias_init_method="all_zero", input_scale=2)).cfg.assumptions
    assert [(note.field, note.value) for note in notes] == [("input_scale", "2")]
    assert notes[0].because == "a key of hyperparams.json that this layout is not known to have; ignored"
