"""circuit-tracer's cross-layer transcoders: its class, written from its source, is what the reading must compute.

Source: circuit-tracer 0.5.0, `transcoder/cross_layer_transcoder.py`: `encode`, `apply_activation_function`,
`select_decoder_vectors`, `compute_reconstruction`, `compute_skip` and `to_safetensors`.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import detect, read
from tests.upstream import D, F, assert_converts, assert_golden_catches, assert_same, random, refusal, rows

LAYERS = 4

CONFIG = {
    "model_name": "meta-llama/Llama-3.2-1B",
    "model_kind": "cross_layer_transcoder",
    "feature_input_hook": "hook_resid_mid",
    "feature_output_hook": "hook_mlp_out",
}

KINDS = {
    "relu": {},
    "jumprelu": {"thresholds": 0.1},
    "negative thresholds": {"thresholds": -0.4},
    "skip": {"thresholds": 0.1, "skip": True},
}


def save(folder, thresholds=None, skip=False):
    """Write what `CrossLayerTranscoder.to_safetensors` writes; a skip connection beside the encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(LAYERS):
        p = {
            f"W_enc_{i}": random(F, D, seed=10 * i),
            f"b_enc_{i}": random(F, seed=10 * i + 1),
            f"b_dec_{i}": random(D, seed=10 * i + 2),
        }
        if thresholds is not None:
            p[f"threshold_{i}"] = random(F, seed=10 * i + 3).abs() + thresholds
        if skip:
            p[f"W_skip_{i}"] = random(D, D, seed=10 * i + 4)
        save_file(p, folder / f"W_enc_{i}.safetensors")
        decoder = {f"W_dec_{i}": random(F, LAYERS - i, D, seed=10 * i + 5)}
        save_file(decoder, folder / f"W_dec_{i}.safetensors")
    (folder / "config.yaml").write_text(json.dumps(CONFIG))
    return folder


def forward(folder, x):
    """features·(features > θ) or ReLU per layer; entry j of W_dec_i writes to layer i + j; x·W_skip, untransposed."""
    p = {}
    for i in range(LAYERS):
        p |= load_file(folder / f"W_enc_{i}.safetensors") | load_file(folder / f"W_dec_{i}.safetensors")
    f = torch.stack([x[:, i] @ p[f"W_enc_{i}"].T + p[f"b_enc_{i}"] for i in range(LAYERS)], dim=1)
    jumps = "threshold_0" in p
    f = f * (f > torch.stack([p[f"threshold_{i}"] for i in range(LAYERS)])) if jumps else f.relu()
    x_hat = torch.stack([p[f"b_dec_{i}"] for i in range(LAYERS)]).repeat(len(x), 1, 1)
    for i in range(LAYERS):
        x_hat[:, i:] += torch.einsum("nf,ftd->ntd", f[:, i], p[f"W_dec_{i}"])
        if "W_skip_0" in p:
            x_hat[:, i] += x[:, i] @ p[f"W_skip_{i}"]
    return f, x_hat


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_it_computes_what_circuit_tracer_computes(tmp_path, kind):
    """Codes are per layer, and each is written to its own layer and all behind it."""
    path, x = save(tmp_path / "a", **kind), rows(LAYERS, D)
    f, x_hat = forward(path, x)
    dictionary = assert_same(path, x, f, x_hat)
    assert dictionary.cfg.writes == "same_and_later"
    assert dictionary.semantics.rectified == (not bool((f < 0).any()))
    assert dictionary.cfg.metadata.model_name == "meta-llama/Llama-3.2-1B"
    assert detect(path) == ("circuit_tracer_clt",)
    record = assert_converts(path, tmp_path / "b", "saereg")
    assert all(tensor.bitwise for tensor in record.tensors.values())
    assert_same(tmp_path / "b", x, f, x_hat)


def test_a_skip_connection_is_untransposed_here_and_transposed_in_a_set(tmp_path):
    """The same bytes mean different functions in the two classes of one library."""
    from tests.registry.formats.test_circuit_tracer import save as save_one
    from tests.registry.formats.test_circuit_tracer import weights

    p = weights(skip=True)
    one = read(save_one(tmp_path / "one", p)).checkpoint().weights["W_skip"]
    assert torch.equal(one, p["W_skip"])
    path = save(tmp_path / "several", skip=True)
    several = read(path).checkpoint().weights["W_skip.2"]
    assert torch.equal(several, load_file(path / "W_enc_2.safetensors")["W_skip_2"].T)
    assert [note.field for note in read(path).cfg.assumptions] == ["W_skip"]


def _transposed(dictionary, x):
    skips = [dictionary.weights[f"W_skip.{i}"] for i in range(LAYERS)]
    return dictionary(x) + torch.stack([x[:, i] @ (skip - skip.T) for i, skip in enumerate(skips)], dim=1)


def _by_target(dictionary, x):
    """Take entry j of W_dec_i as that of target L − 1 − j."""
    w, f = dictionary.weights, dictionary.encode(x)
    outputs = [w[f"b_dec.{t}"] + x[:, t] @ w[f"W_skip.{t}"].T for t in range(LAYERS)]
    for i in range(LAYERS):
        for t in range(i, LAYERS):
            outputs[t] = outputs[t] + f[:, i] @ w[f"W_dec.{i}.{LAYERS - 1 - (t - i)}"]
    return torch.stack(outputs, dim=1)


def _summed(dictionary, x):
    """Add the decoders of all targets, as SAELens' loader of one layer does."""
    w, f = dictionary.weights, dictionary.encode(x)
    sums = [sum(w[f"W_dec.{i}.{t}"] for t in range(i, LAYERS)) for i in range(LAYERS)]
    return torch.stack([f[:, i] @ sums[i] + w[f"b_dec.{i}"] for i in range(LAYERS)], dim=1)


WRONG = {"skip transposed": _transposed, "targets reversed": _by_target, "decoders added": _summed}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_golden_vectors_catch_a_wrong_reading(tmp_path, wrong):
    """None of these changes a shape."""
    path = save(tmp_path, thresholds=0.1, skip=True)
    assert_golden_catches(path, lambda dictionary: wrong(dictionary, dictionary.golden_x))


def test_a_pre_activation_at_its_threshold_is_not_active(tmp_path):
    """Strictly above."""
    path = save(tmp_path, thresholds=0.1)
    p = load_file(path / "W_enc_1.safetensors")
    p["W_enc_1"].zero_()
    p["b_enc_1"] = p["threshold_1"].clone()
    p["b_enc_1"][5] += 1e-6
    save_file(p, path / "W_enc_1.safetensors")
    f = Dictionary(read(path).checkpoint()).encode(rows(LAYERS, D))
    assert (f[:, 1] != 0).nonzero()[:, 1].unique().tolist() == [5]


def test_saelens_has_no_words_for_it(tmp_path):
    """Refused with the reason; and the layout itself is never written."""
    path = save(tmp_path / "a")
    with pytest.raises(
        Exception, match="a code for each layer, decoded by several, has no class there; use --to saereg"
    ):
        assert_converts(path, tmp_path / "b", "saelens")
    with pytest.raises(Exception, match="this layout is read and never written"):
        assert_converts(path, tmp_path / "b", "circuit_tracer_clt")


def test_a_missing_file_is_named(tmp_path):
    """Of an encoder in the middle, of a decoder, and of the last layer."""
    path = save(tmp_path / "a")
    (path / "W_enc_1.safetensors").unlink()
    gap = "W_enc_1.safetensors is missing; there are files up to W_enc_3.safetensors"
    assert refusal(path) == f"{path}: {gap}"
    path = save(tmp_path / "b")
    (path / "W_dec_2.safetensors").unlink()
    assert refusal(path) == f"{path}: W_dec_2.safetensors is missing; there are 4 encoders"
    path = save(tmp_path / "c")
    for side in ("enc", "dec"):
        (path / f"W_{side}_3.safetensors").unlink()
    expected = "shape (48, 4, 16); of 3 layers, layer 0 writes to 3: (d_sae, 3, d_out)"
    assert refusal(path) == f"{path}/W_dec_0.safetensors: W_dec_0: {expected}"


def test_tensors_that_do_not_fit_are_refused(tmp_path):
    """One that is not used, one that only a layer has, one that is missing."""
    path = save(tmp_path / "a")
    save_file(load_file(path / "W_enc_2.safetensors") | {"b_gate_2": random(F)}, path / "W_enc_2.safetensors")
    message = "b_gate_2: is no tensor of this layout; it would be lost"
    assert refusal(path) == f"{path}/W_enc_2.safetensors: {message}"
    path = save(tmp_path / "b", thresholds=0.1)
    p = load_file(path / "W_enc_3.safetensors")
    del p["threshold_3"]
    save_file(p, path / "W_enc_3.safetensors")
    assert refusal(path) == "W_enc_3.safetensors: threshold_3: missing; the file holds W_enc_3, b_dec_3, b_enc_3"
