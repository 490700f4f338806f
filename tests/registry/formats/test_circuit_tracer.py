"""circuit-tracer's transcoders: its class, written from its source, is what the reading must compute.

Source: circuit-tracer 0.5.0, `transcoder/single_layer_transcoder.py` (`encode`, `decode`, `compute_skip`,
`load_relu_transcoder`) and `transcoder/activation_functions.py` (`jumprelu`, `TopK`).
"""

import json

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import save_file

from saereg.errors import FormatError
from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import detect, read
from tests.upstream import D, F, K, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

CONFIG = {
    "model_name": "Qwen/Qwen3-0.6B",
    "model_kind": "transcoder_set",
    "feature_input_hook": "mlp.hook_in",
    "feature_output_hook": "hook_mlp_out",
    "scan": "qwen3-0.6b",
}

THRESHOLD = "activation_function.threshold"

KINDS = {
    "relu": {},
    "relu and skip": {"skip": True},
    "jumprelu": {"threshold": random(F, seed=7).abs() + 0.1},
    "jumprelu and skip": {"threshold": random(F, seed=7).abs() + 0.1, "skip": True},
    "negative thresholds": {"threshold": random(F, seed=7)},
    "topk": {"k": 2 * K + 20},
    "topk and skip": {"k": K, "skip": True},
}


def weights(threshold=None, skip=False, k=None, latents=F):
    """Return the tensors of one file."""
    del k
    p = {
        "W_enc": random(latents, D, seed=1),
        "W_dec": random(latents, D, seed=2),
        "b_enc": random(latents, seed=3),
        "b_dec": random(D, seed=4),
    }
    p |= {} if threshold is None else {THRESHOLD: threshold}
    return p | ({"W_skip": random(D, D, seed=5)} if skip else {})


def save(folder, tensors, layer=4, **changes):
    """Write one file of a set; JSON is YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / f"layer_{layer}.safetensors")
    cfg = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    (folder / "config.yaml").write_text(json.dumps(cfg))
    return folder


def forward(p, x, k=None):
    """Linear; x·(x > θ), TopK without ReLU, or ReLU; decoder by rows; x·W_skipᵀ."""
    pre = x @ p["W_enc"].T + p["b_enc"]
    if THRESHOLD in p:
        f = pre * (pre > p[THRESHOLD])
    elif k is not None:
        f = pre * torch.zeros_like(pre).scatter(-1, pre.topk(k, dim=-1).indices, 1)
    else:
        f = pre.relu()
    skip = x @ p["W_skip"].T if "W_skip" in p else 0
    return f, f @ p["W_dec"] + p["b_dec"] + skip


def said(kind):
    """Return what config.yaml says of an activation that the tensors do not show."""
    return {"activation": "topk", "k": kind["k"]} if "k" in kind else {}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_it_computes_what_circuit_tracer_computes(tmp_path, kind):
    """With negative latents where they pass."""
    p, x = weights(**kind), rows(D)
    f, x_hat = forward(p, x, kind.get("k"))
    dictionary = assert_same(save(tmp_path, p, **said(kind)), x, f, x_hat)
    assert dictionary.semantics.rectified == (not bool((f < 0).any()) and "k" not in kind)
    facts = dictionary.cfg.metadata
    assert (facts.hook_name, facts.hook_name_out) == ("blocks.4.mlp.hook_in", "blocks.4.hook_mlp_out")
    assert detect(tmp_path) == ("circuit_tracer",)


@pytest.mark.parametrize("name", [name for name in KINDS if "topk" not in name])
def test_it_goes_to_our_layout_and_back(tmp_path, name):
    """Under the name of its layer, byte for byte."""
    kind = KINDS[name]
    save(tmp_path / "a", weights(**kind), **said(kind))
    assert_converts(tmp_path / "a", tmp_path / "b", "saereg")
    assert_converts(tmp_path / "b", tmp_path / "c", "circuit_tracer")
    name = "layer_4.safetensors"
    assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


@pytest.mark.parametrize("name", ["relu", "relu and skip", "jumprelu", "jumprelu and skip"])
def test_saelens_computes_the_same_of_its_export(tmp_path, name):
    """W_skip is used transposed there, too."""
    p, x = weights(**KINDS[name]), rows(D)
    assert_converts(save(tmp_path / "a", p), tmp_path / "b", "saelens")
    assert relative(SAE.load_from_disk(tmp_path / "b")(x), forward(p, x)[1]) <= 1e-5


def test_what_saelens_has_no_class_for_is_refused(tmp_path):
    """A TopK transcoder, and active latents that are negative."""
    save(tmp_path / "a", weights(), activation="topk", k=K)
    with pytest.raises(Exception, match="a transcoder with activation 'topk' has no class there; use --to saereg"):
        assert_converts(tmp_path / "a", tmp_path / "x", "saelens")
    save(tmp_path / "b", weights(**KINDS["negative thresholds"]))
    with pytest.raises(Exception, match="it keeps active latents that are negative, and SAELens sets them to 0"):
        assert_converts(tmp_path / "b", tmp_path / "x", "saelens")


def test_the_first_release_had_its_decoder_by_columns(tmp_path):
    """`load_relu_transcoder` of June 2025 transposed both matrices of the file; the shapes tell."""
    p, x = weights(skip=True), rows(D)
    f, x_hat = forward(p, x)
    assert_same(save(tmp_path / "a", p | {"W_dec": p["W_dec"].T}), x, f, x_hat)
    assert_converts(tmp_path / "a", tmp_path / "b", "circuit_tracer")
    assert_same(tmp_path / "b", x, f, x_hat)


def test_a_square_decoder_must_be_said(tmp_path):
    """No shape tells its rows from its columns."""
    p, x = weights(latents=D), rows(D)
    path = save(tmp_path, p)
    why = "W_dec is (16, 16), so its shape does not say whether its rows are latents"
    assert refusal(path) == f"{path}: {why}; say it: --set decoder_rows=latents"
    assert_same(path, x, *forward(p, x), given={"decoder_rows": "latents"})
    columns = forward(p | {"W_dec": p["W_dec"].T}, x)
    assert_same(path, x, *columns, given={"decoder_rows": "outputs"})
    assert_converts(path, tmp_path / "b", "saereg", given={"decoder_rows": "outputs"})


def test_bfloat16_stays_bfloat16(tmp_path):
    """As most sets are stored: tensors move, and nothing is rounded."""
    p = {name: tensor.bfloat16() for name, tensor in weights(skip=True).items()}
    record = assert_converts_bfloat16(save(tmp_path / "a", p), tmp_path / "b")
    assert all(tensor.bitwise for tensor in record.tensors.values())
    x = rows(D)
    wide = Dictionary(read(tmp_path / "b").checkpoint()).to(dtype=torch.float32)
    assert relative(wide(x), forward({name: tensor.float() for name, tensor in p.items()}, x)[1]) <= 1e-5


def assert_converts_bfloat16(path, target):
    """Convert to SAELens' layout, in the type of the source."""
    record = assert_converts(path, target, "saelens")
    assert SAE.load_from_disk(target).dtype == torch.bfloat16
    return record


def test_a_pre_activation_at_its_threshold_is_not_active(tmp_path):
    """Strictly above: x > θ."""
    p = weights(**KINDS["jumprelu"]) | {"W_enc": torch.zeros(F, D)}
    p["b_enc"] = p[THRESHOLD].clone()
    p["b_enc"][11] += 1e-6
    f = Dictionary(read(save(tmp_path, p)).checkpoint()).encode(rows(D))
    assert (f != 0).nonzero()[:, 1].unique().tolist() == [11]


def test_topk_may_be_said_by_the_caller(tmp_path):
    """Some publishers set it in code; a missing k is asked for."""
    p, x = weights(), rows(D)
    path = save(tmp_path, p)
    assert [note.field for note in read(path).cfg.assumptions] == ["activation"]
    assert_same(path, x, *forward(p, x, K), given={"activation": "topk", "k": K})
    expected = "the activation is topk, and config.yaml has no k; say it: --set k=128"
    assert refusal(path, activation="topk") == f"{path}: {expected}"
    assert refusal(path, activation="topk", k=49) == f"{path}: k = 49; expected a whole number from 1 to d_sae = 48"


def test_topk_of_config_yaml_is_read_with_a_note(tmp_path):
    """Its own library reads neither `activation` nor `k` there."""
    path = save(tmp_path / "a", weights(), activation="topk", k=K)
    assert [(note.field, note.value, note.because) for note in read(path).cfg.assumptions] == [
        (
            "activation",
            "topk",
            "config.yaml says it; its own library reads neither activation nor k there, and runs ReLU",
        )
    ]
    said = read(path, {"activation": "topk"}).cfg.assumptions
    assert [(note.field, note.because) for note in said] == [("activation", "given by the caller")]
    assert read(save(tmp_path / "b", weights(), activation="relu")).cfg.assumptions == ()


def test_topk_is_not_written(tmp_path):
    """The publisher's own loader would run it as ReLU."""
    save(tmp_path / "a", weights(), activation="topk", k=K)
    why = "its loader takes ReLU where there is no threshold, and reads no k"
    with pytest.raises(FormatError, match=f"cannot say this dictionary: {why}; use --to saereg"):
        assert_converts(tmp_path / "a", tmp_path / "b", "circuit_tracer")
    assert not (tmp_path / "b").exists()


def test_a_key_that_is_not_known_is_noted(tmp_path):
    """With its value."""
    notes = read(save(tmp_path, weights(), activation="relu", input_scale=2)).cfg.assumptions
    assert [(note.field, note.value) for note in notes] == [("input_scale", "2")]


def test_a_stored_threshold_wins_over_config_yaml(tmp_path):
    """As in the loader, which reads no activation there; it is noted."""
    p, x = weights(**KINDS["jumprelu"]), rows(D)
    dictionary = assert_same(save(tmp_path, p, activation="topk", k=K), x, *forward(p, x))
    assert [(note.field, note.value) for note in dictionary.cfg.assumptions] == [("activation", "jumprelu")]


WRONG = {
    "skip transposed": lambda d, x: d(x) - x @ d.weights["W_skip"].T + x @ d.weights["W_skip"],
    "skip left out": lambda d, x: d(x) - x @ d.weights["W_skip"].T,
    "b_dec subtracted": lambda d, x: d(x - d.weights["b_dec"]),
    "TopK turned dense": lambda d, x: (
        d(x) + ((x @ d.weights["W_enc"] + d.weights["b_enc"]) - d.encode(x)).relu() @ d.weights["W_dec"]
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_golden_vectors_catch_a_wrong_reading(tmp_path, wrong):
    """None of these changes a shape."""
    path = save(tmp_path, weights(skip=True), activation="topk", k=K)
    assert_golden_catches(path, lambda dictionary: wrong(dictionary, dictionary.golden_x))


def test_golden_vectors_catch_a_relu_after_topk(tmp_path):
    """With so large a k that negative latents are kept."""
    path = save(tmp_path, weights(), activation="topk", k=40)
    assert_golden_catches(path, lambda d: d.decode(d.encode(d.golden_x).relu(), d.golden_x))


def test_other_documents_and_tensors_are_refused(tmp_path):
    """A set of another kind, an unknown activation, a tensor that no class reads."""
    assert detect(save(tmp_path / "a", weights(), model_kind="cross_layer_transcoder")) == ()
    path = save(tmp_path / "b", weights(), activation="gelu")
    problem = f"config.yaml says activation 'gelu', and there is no {THRESHOLD}; expected relu or topk"
    assert refusal(path) == f"{path}: {problem}"
    path = save(tmp_path / "c", weights() | {"log_thresholds": random(F)})
    message = "log_thresholds: is no tensor of this layout; it would be lost"
    assert refusal(path) == f"{path}/layer_4.safetensors: {message}"


def test_a_dictionary_without_hooks_of_a_block_is_not_written(tmp_path):
    """circuit-tracer requires both in config.yaml."""
    from tests.registry.formats.test_gemma_scope_2 import save as save_gemma

    save_gemma(tmp_path / "a", affine=True)
    with pytest.raises(Exception, match=r"its config\.yaml needs both hooks"):
        assert_converts(tmp_path / "a", tmp_path / "b", "circuit_tracer")
