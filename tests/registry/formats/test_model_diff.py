"""Crosscoders between models, against a forward written from the replication's `crosscoder.py` and `buffer.py`."""

import json

import pytest
import torch
from sae_lens import SAE

from saereg.registry.loading import detect, read
from tests.upstream import D, F, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

SCALES = (0.25, 1.75)
GIVEN = {"input_scale": "0.25,1.75"}
SETTINGS = {
    "seed": 49,
    "d_in": D,
    "dict_size": F,
    "enc_dtype": "fp32",
    "model_name": "gemma-2-2b",
    "site": "resid_pre",
    "device": "cuda:0",
    "dec_init_norm": 0.08,
    "hook_point": "blocks.14.hook_resid_pre",
}


def tensors(count=2, dtype=torch.float32):
    """Return a state dict."""
    shapes = {"W_enc": (count, D, F), "W_dec": (F, count, D), "b_enc": (F,), "b_dec": (count, D)}
    return {name: random(*shape, seed=seed).to(dtype) for seed, (name, shape) in enumerate(shapes.items())}


def write(folder, weights=None, local=False, **changes):
    """Write the files of a release, or those that training saves."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors() if weights is None else weights, folder / ("7.pt" if local else "cc_weights.pt"))
    (folder / ("7_cfg.json" if local else "cfg.json")).write_text(json.dumps(SETTINGS | changes))
    return folder


def forward(weights, x, scales=(1.0,)):
    """Return (f, x_hat): x is multiplied by the factor of its source, and x_hat divided by it."""
    scale = torch.tensor(scales)[:, None]
    f = (torch.einsum("nkd,kdf->nf", x * scale, weights["W_enc"]) + weights["b_enc"]).relu()
    return f, (torch.einsum("nf,fkd->nkd", f, weights["W_dec"]) + weights["b_dec"]) / scale


@pytest.mark.parametrize("local", [False, True], ids=["released", "as training saves it"])
def test_factors_are_given(tmp_path, local):
    """One for each model."""
    path, x = write(tmp_path / "a", local=local), rows(2, D)
    assert detect(path) == ("model_diff",)
    dictionary = assert_same(path, x, *forward(tensors(), x, SCALES), given=GIVEN)

    assert dictionary.cfg.metadata.model_name == "gemma-2-2b"
    assert dictionary.cfg.metadata.hook_name == "blocks.14.hook_resid_pre"
    assert dictionary.cfg.sources.axis == "model"
    assert_converts(path, tmp_path / "b", "saereg", given=GIVEN)
    assert_same(tmp_path / "b", x, *forward(tensors(), x, SCALES))


def test_weights_may_be_folded(tmp_path):
    """Which the caller must say."""
    path, x = write(tmp_path / "a"), rows(2, D)
    assert_same(path, x, *forward(tensors(), x), given={"input_scale": "folded"})
    record = assert_converts(path, tmp_path / "b", "saereg", given={"input_scale": "folded"})
    assert all(tensor.bitwise for tensor in record.tensors.values())
    assert ("input_scale", "folded") in {(note.field, note.value) for note in record.assumptions}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saelens_reads_it_with_the_factors_folded(tmp_path, dtype):
    """As an SAE of width 2·D; of half types in float32."""
    weights, x = tensors(dtype=dtype), rows(2, D)
    f, x_hat = forward({name: tensor.float() for name, tensor in weights.items()}, x, SCALES)
    assert_converts(write(tmp_path / "a", weights), tmp_path / "b", "saelens", given=GIVEN)
    sae = SAE.load_from_disk(tmp_path / "b")
    with torch.no_grad():
        assert torch.equal(sae.encode(x.flatten(1)) != 0, f != 0)
        assert relative(sae(x.flatten(1)), x_hat.flatten(1)) <= 1e-6


def test_factors_are_not_rounded_to_the_type_of_the_weights(tmp_path):
    """They are float32 whatever the weights are."""
    path = write(tmp_path, tensors(dtype=torch.bfloat16))
    scale = read(path, {"input_scale": "0.2718281,0.5772156"}).recipes().whole("input_scale")
    assert torch.equal(scale, torch.tensor([0.2718281, 0.5772156]))


def test_more_sources_are_layers(tmp_path):
    """The acausal crosscoder reads every layer."""
    weights, x = tensors(3), rows(3, D)
    path = write(tmp_path, weights)
    dictionary = assert_same(path, x, *forward(weights, x, (1.0, 2.0, 0.5)), given={"input_scale": "1,2,0.5"})
    assert dictionary.cfg.sources.axis == "layer"
    assert read(path, {"input_scale": "1,2,0.5", "axis": "model"}).cfg.sources.axis == "model"


def test_factors_are_asked_for(tmp_path):
    """They are in no file, and without them nothing is right."""
    assert refusal(write(tmp_path)) == (
        f"{tmp_path}: in training the activations of each source were multiplied by √d_in over their mean norm, and "
        "the files do not say by what; say 2 factors with commas between them, or that it is folded into the weights; "
        "say it: --set input_scale=folded"
    )


@pytest.mark.parametrize("said", ["1", "1,2,3", "a,b", "1,-2", "1,inf", "1,nan", ""])
def test_odd_factors_are_refused(tmp_path, said):
    """One positive number for each source."""
    expected = f"input_scale={said}: expected 'folded', or 2 positive numbers with commas between them"
    assert refusal(write(tmp_path), input_scale=said) == expected


def test_golden_vectors_catch_forgotten_factors(tmp_path):
    """And factors in another order."""
    path, weights = write(tmp_path), tensors()
    assert_golden_catches(path, lambda d: forward(weights, d.golden_x)[1], **GIVEN)
    assert_golden_catches(path, lambda d: forward(weights, d.golden_x, SCALES[::-1])[1], **GIVEN)


@pytest.mark.parametrize(("key", "value"), [("dict_size", F + 1), ("d_in", "16"), ("dict_size", None)])
def test_settings_must_fit(tmp_path, key, value):
    """They are written beside other weights by mistake."""
    expected = f"{tmp_path}: the settings say {key} = {value!r}, but W_enc is (2, 16, 48)"
    assert refusal(write(tmp_path, **{key: value}), **GIVEN) == expected


def test_odd_tensors_are_refused(tmp_path):
    """None is dropped."""
    path = write(tmp_path / "a", tensors() | {"threshold": random(F)})
    assert "threshold: is no tensor of this layout; it would be lost" in refusal(path, **GIVEN)
    path = write(tmp_path / "b", tensors() | {"b_dec": random(D)})
    assert "b_dec: shape (16,), expected (2, 16) by the configuration" in refusal(path, **GIVEN)


def test_unknown_settings_are_noted(tmp_path):
    """None of those that training is known to save is."""
    known = {note.field for note in read(write(tmp_path / "a"), GIVEN).cfg.assumptions}
    assert known == {"input_scale", "sources", "axis"}
    notes = {note.field: note.value for note in read(write(tmp_path / "b", topk=32), GIVEN).cfg.assumptions}
    assert notes["topk"] == "32"


def test_float8_is_refused_in_one_line(tmp_path):
    """No reader computes with it."""
    path = write(tmp_path, tensors(dtype=torch.float8_e4m3fn))
    assert "stored as float8_e4m3fn, expected one of float64, float32, " in refusal(path, **GIVEN)
