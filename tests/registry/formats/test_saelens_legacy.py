"""Folders of SAELens 2.1 to 5: as SAELens 6 converts them where that is right, and as they were meant where not."""

import json
import pickle
import re
import sys
import types

import pytest
import torch
from sae_lens import SAE
from sae_lens.loading.pretrained_sae_loaders import handle_pre_6_0_config
from safetensors.torch import save_file

from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import detect, read
from tests.upstream import D, F, K, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

SCALE = 1.7

FLAT = {
    "d_in": D,
    "d_sae": F,
    "dtype": "torch.float32",
    "device": "cuda",
    "model_name": "gpt2-small",
    "hook_name": "blocks.3.hook_resid_pre",
    "hook_layer": 3,
    "hook_head_index": None,
    "activation_fn_str": "relu",
    "apply_b_dec_to_input": True,
    "finetuning_scaling_factor": False,
    "sae_lens_training_version": "5.9.0",
    "prepend_bos": True,
    "dataset_path": "Skylion007/openwebtext",
    "context_size": 128,
    "normalize_activations": "none",
}
"""cfg.json of 3 to 5."""

RUNNER = {
    "model_name": "gpt2-small",
    "hook_point": "blocks.3.hook_resid_pre",
    "hook_point_layer": 3,
    "hook_point_head_index": None,
    "dataset_path": "Skylion007/openwebtext",
    "is_dataset_tokenized": False,
    "context_size": 128,
    "d_in": D,
    "d_sae": F,
    "expansion_factor": 3,
    "activation_fn": "relu",
    "normalize_activations": False,
    "apply_b_dec_to_input": True,
    "device": "mps",
    "dtype": "torch.float32",
    "l1_coefficient": 8e-05,
    "lr": 0.0004,
    "noise_scale": 0.0,
    "sae_lens_version": "2.1.3",
    "sae_lens_training_version": "2.1.3",
}
"""cfg.json of 2.1: the options of the run."""

TOPK = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}

CASES = {
    "ReLU": {},
    "ReLU, nothing subtracted": {"apply_b_dec_to_input": False},
    "ReLU, layer norm": {"normalize_activations": "layer_norm"},
    "ReLU, norm": {"normalize_activations": "constant_norm_rescale"},
    "no normalization, as a bool": {"normalize_activations": False},
    "4.0 and later": {"architecture": "standard", "activation_fn_kwargs": {}, "seqpos_slice": [None]},
    "TopK": TOPK,
    "TopK, layer norm, architecture standard": TOPK
    | {"normalize_activations": "layer_norm", "architecture": "standard"},
    "TopK of 5.8": TOPK | {"architecture": "topk"},
    "gated": {"architecture": "gated"},
    "JumpReLU": {"architecture": "jumprelu"},
}


def weights(architecture: str = "standard") -> dict[str, torch.Tensor]:
    """Return tensors of one architecture."""
    made = {"W_enc": random(D, F, seed=1), "W_dec": random(F, D, seed=2), "b_dec": random(D, seed=3)}
    vectors = ("b_gate", "b_mag", "r_mag") if architecture == "gated" else ("b_enc",)
    made |= {name: random(F, seed=seed) for seed, name in enumerate(vectors, 4)}
    return made | ({"threshold": random(F, seed=9).abs()} if architecture == "jumprelu" else {})


def folder(path, cfg, tensors=None):
    """Write a folder of then."""
    path.mkdir()
    (path / "cfg.json").write_text(json.dumps(cfg))
    save_file(tensors or weights(cfg.get("architecture") or "standard"), path / "sae_weights.safetensors")
    return path


def theirs(path, x):
    """Return (f, x_hat) of SAELens 6."""
    sae = SAE.load_from_disk(path)
    with torch.no_grad():
        return sae.encode(x), sae(x)


@pytest.mark.parametrize("change", CASES.values(), ids=CASES)
def test_it_computes_what_saelens_6_computes_where_that_is_right(tmp_path, change):
    """Equal active sets, x_hat to rounding, and the same switches as SAELens' own conversion of cfg.json."""
    path, x = folder(tmp_path / "a", FLAT | change), rows(D)
    dictionary = assert_same(path, x, *theirs(path, x))

    modern, rules = handle_pre_6_0_config(FLAT | change), dictionary.cfg.semantics
    assert modern["apply_b_dec_to_input"] == (rules.pre_encoder_subtraction == "b_dec")
    assert modern["normalize_activations"] == rules.normalization.kind
    assert modern.get("k") == rules.k
    assert modern["reshape_activations"] == rules.reshape


@pytest.mark.parametrize("change", CASES.values(), ids=CASES)
def test_it_converts_to_both_layouts(tmp_path, change):
    """SAELens 6 then loads it with metadata and all, and computes the same."""
    path, x = folder(tmp_path / "a", FLAT | change), rows(D)
    assert_converts(path, tmp_path / "b", "saereg")
    assert_converts(path, tmp_path / "c", "saelens")
    sae = SAE.load_from_disk(tmp_path / "c")
    assert relative(sae(x), theirs(path, x)[1]) < 1e-6
    assert (sae.cfg.metadata.model_name, sae.cfg.metadata.hook_layer) == ("gpt2-small", 3)
    assert sae.cfg.metadata.sae_lens_training_version == "5.9.0"
    assert_same(tmp_path / "c", x, *theirs(path, x))


def test_a_threshold_is_passed_strictly(tmp_path):
    """A pre-activation at the threshold is inactive, one float above it active."""
    x, tensors = rows(D), weights("jumprelu")
    pre = (x - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]
    on = int(pre[0].argmax())
    below = next(int(j) for j in pre[1].argsort(descending=True) if int(j) != on)
    tensors["threshold"][on] = pre[0, on]
    tensors["threshold"][below] = torch.nextafter(pre[1, below], torch.tensor(-torch.inf))
    path = folder(tmp_path / "a", FLAT | {"architecture": "jumprelu"}, tensors)
    dictionary = assert_same(path, x, *theirs(path, x))
    f = dictionary.encode(x)
    assert f[0, on] == 0
    assert f[1, below] > 0


def test_the_run_options_of_2_1_are_read(tmp_path):
    """hook_point, its layer, activation_fn, and a scaling factor that is 1 everywhere."""
    tensors = weights() | {"scaling_factor": torch.ones(F)}
    path, x = folder(tmp_path / "a", RUNNER, tensors), rows(D)
    dictionary = assert_same(path, x, *theirs(path, x))
    assert detect(path) == ("saelens_legacy",)
    assert read(path).left_out == ("scaling_factor",)
    assert dictionary.cfg.metadata.hook_name == "blocks.3.hook_resid_pre"
    assert dictionary.cfg.metadata.model_extra == {"hook_layer": 3, "source_sae_lens_version": "2.1.3"}
    assert_converts(path, tmp_path / "b", "saelens")
    assert SAE.load_from_disk(tmp_path / "b").cfg.metadata.hook_name == "blocks.3.hook_resid_pre"


@pytest.mark.parametrize("cfg", [FLAT, RUNNER], ids=["3 to 5", "2.1"])
def test_heads_are_flattened_at_hook_z(tmp_path, cfg):
    """As SAELens does from the name of the hook; one named head has no axis of heads."""
    hook = "hook_name" if cfg is FLAT else "hook_point"
    path = folder(tmp_path / "a", cfg | {hook: "blocks.3.attn.hook_z"})
    x = rows(4, D // 4)
    f, x_hat = theirs(path, x)
    dictionary = Dictionary(read(path).checkpoint())
    assert dictionary(x).shape == x.shape
    assert relative(dictionary(x), x_hat) < 1e-6
    assert relative(dictionary.encode(x), f) < 1e-6
    assert_converts(path, tmp_path / "b", "saelens")

    head = "hook_head_index" if cfg is FLAT else "hook_point_head_index"
    one = folder(tmp_path / "one", cfg | {hook: "blocks.3.attn.hook_z", head: 5})
    assert read(one).cfg.semantics.reshape == "none"
    assert "reshape_activations" in {note.field for note in read(one).cfg.assumptions}


def test_what_is_missing_is_taken_as_every_version_takes_it_and_noted(tmp_path):
    """cfg.json of the earliest uploads has neither architecture nor normalization."""
    bare = {key: FLAT[key] for key in ("d_in", "d_sae", "dtype", "hook_name", "model_name")}
    path, x = folder(tmp_path / "a", bare), rows(D)
    dictionary = assert_same(path, x, *theirs(path, x))
    assert {note.field: note.value for note in dictionary.cfg.assumptions} == {
        "architecture": "standard",
        "activation_fn_str": "relu",
        "apply_b_dec_to_input": "True",
        "finetuning_scaling_factor": "False",
        "normalize_activations": "none",
    }


def test_a_key_that_nobody_knows_is_noted(tmp_path):
    """It changes nothing, and is not passed over in silence."""
    path = folder(tmp_path / "a", FLAT | {"architecture": "standard", "my_key": [1, 2], "noise_scale": 0.1})
    notes = {note.field: note.value for note in read(path).cfg.assumptions}
    assert notes == {"my_key": "[1, 2]", "noise_scale": "0"}


def test_a_topk_without_k_is_no_relu(tmp_path):
    """SAELens 6 makes a dense ReLU of it; here k must be said, and then it is a TopK."""
    path, x = folder(tmp_path / "a", FLAT | {"activation_fn_str": "topk"}), rows(D)
    assert refusal(path) == (
        f"{path}: cfg.json says activation topk, and no activation_fn_kwargs.k; say it: --set k=64"
    )
    dense, _ = theirs(path, x)
    assert int((dense != 0).sum(dim=1).max()) > K
    dictionary = Dictionary(read(path, {"k": K}).checkpoint())
    assert int((dictionary.encode(x) != 0).sum(dim=1).max()) <= K
    right = folder(tmp_path / "right", FLAT | TOPK)
    assert_same(path, x, *theirs(right, x), given={"k": K})
    assert relative(dictionary(x), theirs(path, x)[1]) > 1e-2


def test_tanh_relu_is_no_relu(tmp_path):
    """SAELens 6 reads it as ReLU without a word."""
    path = folder(tmp_path / "a", FLAT | {"activation_fn_str": "tanh-relu"})
    assert type(SAE.load_from_disk(path).activation_fn).__name__ == "ReLU"
    assert refusal(path) == (
        f"{path}: cfg.json says activation tanh-relu, tanh(max(pre, 0)), which is in no layout that saereg writes; "
        "SAELens 6 reads it as ReLU, which is wrong"
    )


def test_a_finetuning_factor_is_not_dropped(tmp_path):
    """Latents were multiplied by it before decoding; SAELens 6 ignores the flag, and cannot load the tensor."""
    flagged = folder(tmp_path / "a", FLAT | {"finetuning_scaling_factor": True})
    SAE.load_from_disk(flagged)
    assert refusal(flagged) == (
        f"{flagged}: cfg.json says finetuning_scaling_factor, and the weights hold no such tensor; say that there is "
        "none: --set finetuning_scaling_factor=false"
    )
    assert read(flagged, {"finetuning_scaling_factor": False}).cfg.assumptions[-1].value == "False"
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        stored = weights() | {name: torch.ones(F) * 0.5}
        path = folder(tmp_path / name, FLAT | {"finetuning_scaling_factor": True}, stored)
        with pytest.raises(RuntimeError, match="finetuning_scaling_factor"):
            SAE.load_from_disk(path)
        assert refusal(path) == (
            f"{path}: {name} multiplies each latent before decoding, and is not 1 everywhere; put it into W_dec, row "
            "by row, and leave it out"
        )


@pytest.mark.parametrize("normalize", ["expected_average_only_in", True])
@pytest.mark.parametrize("architecture", ["standard", "gated", "jumprelu", "topk"])
def test_scaled_inputs_are_folded_as_saelens_folds_them(tmp_path, normalize, architecture):
    """SAELens 6 scales nothing when it loads such a folder; with the factor it is its own fold."""
    change = TOPK if architecture == "topk" else {"architecture": architecture}
    path, x = folder(tmp_path / "a", FLAT | change | {"normalize_activations": normalize}), rows(D)
    sae = SAE.load_from_disk(path)
    unfolded = sae(x)
    sae.fold_activation_norm_scaling_factor(SCALE)
    with torch.no_grad():
        dictionary = assert_same(path, x, sae.encode(x), sae(x), given={"scaling_factor": SCALE})
    assert dictionary.cfg.semantics.normalization.kind == "none"
    assert relative(dictionary(x), unfolded) > 0.1
    assert_converts(path, tmp_path / "b", "saelens", given={"scaling_factor": SCALE})
    assert relative(SAE.load_from_disk(tmp_path / "b")(x), sae(x)) < 1e-6


def test_an_unknown_scale_is_asked_for(tmp_path):
    """Nothing is guessed; what is in the weights already can be said."""
    path, x = folder(tmp_path / "a", FLAT | {"normalize_activations": "expected_average_only_in"}), rows(D)
    assert refusal(path) == (
        f"{path}: its weights hold for inputs times a factor that no file here says; say it: --set scaling_factor=1.05"
        ", or --set already_folded=true if it is in them already"
    )
    assert_same(path, x, *theirs(path, x), given={"already_folded": True})
    assert "contradict each other" in refusal(path, already_folded=True, scaling_factor=2.0)


def test_half_precision_is_folded_in_float32(tmp_path):
    """Rounding to bfloat16 again would flip gates."""
    tensors = {name: tensor.bfloat16() for name, tensor in weights("jumprelu").items()}
    cfg = FLAT | {"architecture": "jumprelu", "normalize_activations": True, "dtype": "torch.bfloat16"}
    path, x = folder(tmp_path / "a", cfg, tensors), rows(D)
    assert read(path, {"already_folded": True}).cfg.dtype == "bfloat16"
    sae = SAE.load_from_disk(path, dtype="float32")
    sae.fold_activation_norm_scaling_factor(SCALE)
    with torch.no_grad():
        assert_same(path, x, sae.encode(x), sae(x), given={"scaling_factor": SCALE})
    assert_converts(path, tmp_path / "b", "saereg", given={"scaling_factor": SCALE})


def test_a_training_object_may_have_stored_the_logarithm_of_its_threshold(tmp_path):
    """Its exponential is the threshold."""
    tensors, x = weights("jumprelu"), rows(D)
    right = folder(tmp_path / "right", FLAT | {"architecture": "jumprelu"}, tensors)
    logarithm = {name: tensor for name, tensor in tensors.items() if name != "threshold"}
    logarithm["log_threshold"] = tensors["threshold"].log()
    path = folder(tmp_path / "a", FLAT | {"architecture": "jumprelu"}, logarithm)
    assert_same(path, x, *theirs(right, x))
    assert_converts(path, tmp_path / "b", "saelens")


def test_golden_vectors_catch_every_wrong_switch(tmp_path):
    """What is subtracted, which function, k, normalization and scale."""
    topk = folder(tmp_path / "topk", FLAT | TOPK)

    def other(**change):
        path = tmp_path / re.sub(r"\W", "", str(change))
        folder(path, FLAT | TOPK | change, None)
        return lambda d: Dictionary(read(path).checkpoint())(d.golden_x)

    assert_golden_catches(topk, other(apply_b_dec_to_input=False))
    assert_golden_catches(topk, other(activation_fn_kwargs={"k": K + 1}))
    assert_golden_catches(topk, other(activation_fn_str="relu", activation_fn_kwargs={}))
    assert_golden_catches(topk, other(normalize_activations="layer_norm"))
    scaled = folder(tmp_path / "scaled", FLAT | {"normalize_activations": True})
    assert_golden_catches(
        scaled,
        lambda d: Dictionary(read(scaled, {"already_folded": True}).checkpoint())(d.golden_x),
        scaling_factor=SCALE,
    )


REFUSED = {
    "k too large": (
        TOPK | {"activation_fn_kwargs": {"k": F + 1}},
        "k = 49; expected a whole number from 1 to d_sae = 48",
    ),
    "k no number": (
        TOPK | {"activation_fn_kwargs": {"k": "5"}},
        "k = '5'; expected a whole number from 1 to d_sae = 48",
    ),
    "k with more": (
        TOPK | {"activation_fn_kwargs": {"k": 5, "x": 1}},
        "says activation_fn_kwargs {'k': 5, 'x': 1}; expected k",
    ),
    "kwargs a list": (TOPK | {"activation_fn_kwargs": [5]}, "says activation_fn_kwargs [5]; expected k alone"),
    "width": (
        {"d_sae": 47},
        "cfg.json says d_in = 16 and d_sae = 47, but W_enc is (16, 48) and W_dec (48, 16); correct",
    ),
    "width no number": ({"d_in": "16"}, "says d_in '16'; expected a positive whole number"),
    "architecture": (
        {"architecture": "transformer"},
        "says architecture 'transformer'; expected standard, topk, jumprelu",
    ),
    "architecture a list": ({"architecture": ["x"]}, "says architecture ['x']; expected standard"),
    "contradiction": ({"architecture": "topk"}, "architecture topk with activation relu, which contradict each other"),
    "gated topk": (TOPK | {"architecture": "gated"}, "architecture gated with activation topk, which contradict"),
    "activation": ({"activation_fn_str": "gelu"}, "says activation 'gelu'; expected relu, tanh-relu or topk"),
    "normalization": ({"normalize_activations": "foo"}, "says normalize_activations 'foo'; expected none, layer_norm"),
    "normalization a list": ({"normalize_activations": []}, "says normalize_activations []; expected none"),
    "flag": ({"apply_b_dec_to_input": "false"}, "says apply_b_dec_to_input 'false'; expected true or false"),
    "reshape": ({"reshape_activations": "foo"}, "says reshape_activations 'foo'; expected none or hook_z"),
    "two names": (
        {"activation_fn": "topk"},
        "activation_fn 'topk' and activation_fn_str 'relu', which are two names of",
    ),
    "transcoder": ({"is_transcoder": True}, "says is_transcoder, which no SAELens of this time could load"),
}


@pytest.mark.parametrize(("change", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused(tmp_path, change, sentence):
    """In one line."""
    tensors = weights("gated") if change.get("architecture") == "gated" else weights()
    assert sentence in refusal(folder(tmp_path / "a", FLAT | change, tensors))


def test_tensors_that_do_not_fit_are_refused(tmp_path):
    """Missing, and extra."""
    tensors = weights()
    del tensors["b_enc"]
    assert "missing; the file holds" in refusal(folder(tmp_path / "a", FLAT, tensors))
    extra = weights() | {"b_gate": random(F)}
    assert refusal(folder(tmp_path / "b", FLAT, extra)).endswith(
        "b_gate: is no tensor of this layout; it would be lost"
    )
    whole_numbers = weights() | {"b_enc": torch.ones(F, dtype=torch.int32)}
    assert "stored as int32, expected one of float64" in refusal(folder(tmp_path / "c", FLAT, whole_numbers))


def test_version_6_is_not_mistaken_for_it(tmp_path):
    """A later version, in metadata or at the top, says so, whatever else stands there."""
    path = folder(tmp_path / "a", FLAT | {"architecture": "standard", "metadata": {"sae_lens_version": "6.1.0"}})
    assert detect(path) == ("saelens",)
    assert "unknown key" in refusal(path)
    assert detect(folder(tmp_path / "b", FLAT | {"metadata": {"sae_lens_version": "5.1.0"}})) == ("saelens_legacy",)


@pytest.mark.parametrize("name", ["final_sparse_autoencoder.pt", "final_sparse_autoencoder.pkl"])
def test_a_pickle_of_2_0_and_before_is_refused_by_the_name_of_its_object(tmp_path, monkeypatch, name):
    """It holds the options of the run as an object, and making that would run code."""
    module = types.ModuleType("sae_lens.training.config")
    options = type("LanguageModelSAERunnerConfig", (), {"__module__": module.__name__})
    module.LanguageModelSAERunnerConfig = options
    monkeypatch.setitem(sys.modules, module.__name__, module)
    made = options()
    made.d_in, made.d_sae = D, F
    checkpoint = {"cfg": made, "state_dict": weights()}
    if name.endswith(".pt"):
        torch.save(checkpoint, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(checkpoint, protocol=2))
    sentence = refusal(tmp_path / name)
    assert sentence.startswith(f"{name}: refused: it asks to run sae_lens.training.config.LanguageModelSAERunnerConfig")
