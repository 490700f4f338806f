"""Gemma Scope 2: the tutorial's JumpReLUSAE and JumpReLUMultiLayerSAE are what the reading must compute."""

import json

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file, save_file

from saereg.registry.loading import detect, read
from tests.upstream import D, F, O, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

LAYERS = 3

SITE = "model.layers.7.output"
BEFORE, BEHIND = (f"model.layers.7.{side}_feedforward_layernorm.output" for side in ("pre", "post"))


def params(d_out=D, affine=False, layers=0, seed=0):
    """Return the tensors of one file; with `layers` that of a layer of several."""
    p = {
        "w_enc": random(D, F, seed=seed + 1),
        "w_dec": random(F, layers, d_out, seed=seed + 2) if layers else random(F, d_out, seed=seed + 2),
        "b_enc": random(F, seed=seed + 3),
        "b_dec": random(d_out, seed=seed + 4),
        "threshold": random(F, seed=seed + 5).abs() + 0.1,
    }
    return p | ({"affine_skip_connection": random(D, d_out, seed=seed + 6)} if affine else {})


def save(folder, d_out=D, affine=False, config=True, **changes):
    """Write one dictionary with the configuration that the publisher writes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(params(d_out, affine), folder / "params.safetensors")
    transcodes = affine or d_out != D
    cfg = {
        "hf_hook_point_in": BEFORE if transcodes else SITE,
        "hf_hook_point_out": BEHIND if transcodes else SITE,
        "width": F,
        "model_name": "google/gemma-3-1b-pt",
        "architecture": "jump_relu",
        "l0": 60,
        "affine_connection": affine,
        "type": "transcoder" if transcodes else "sae",
    } | changes
    if config:
        (folder / "config.json").write_text(json.dumps({k: v for k, v in cfg.items() if v is not None}))
    return folder


def forward(p, x):
    """JumpReLUSAE of the publisher's tutorial; the skip connection is x·A."""
    pre = x @ p["w_enc"] + p["b_enc"]
    f = (pre > p["threshold"]) * pre.relu()
    skip = x @ p["affine_skip_connection"] if "affine_skip_connection" in p else 0
    return f, f @ p["w_dec"] + p["b_dec"] + skip


def save_several(folder, affine=False, layers=LAYERS):
    """Write a file for each layer."""
    folder.mkdir(parents=True, exist_ok=True)
    for layer in range(layers):
        p = params(affine=affine, layers=layers, seed=10 * layer)
        save_file(p, folder / f"params_layer_{layer}.safetensors")
    return folder


def forward_several(folder, x):
    """JumpReLUMultiLayerSAE of the tutorial: per-layer codes, each decoded to every layer, x·A of a layer."""
    files = [load_file(folder / f"params_layer_{layer}.safetensors") for layer in range(LAYERS)]
    p = {key: torch.stack([file[key] for file in files]) for key in files[0]}
    pre = torch.einsum("nld,ldf->nlf", x, p["w_enc"]) + p["b_enc"]
    f = (pre > p["threshold"]) * pre.relu()
    x_hat = torch.einsum("nif,ifod->nod", f, p["w_dec"]) + p["b_dec"]
    if "affine_skip_connection" in p:
        x_hat = x_hat + torch.einsum("nld,lde->nle", x, p["affine_skip_connection"])
    return f, x_hat


CASES = {"sae": (D, False), "transcoder": (O, False), "affine transcoder": (D, True), "affine, two widths": (O, True)}


@pytest.mark.parametrize(("d_out", "affine"), CASES.values(), ids=CASES)
def test_it_computes_what_the_tutorial_computes(tmp_path, d_out, affine):
    """And says model and sites as config.json does."""
    x = rows(D)
    dictionary = assert_same(save(tmp_path, d_out, affine), x, *forward(params(d_out, affine), x))
    facts, kind = dictionary.cfg.metadata, dictionary.cfg.kind
    assert kind == ("transcoder" if affine or d_out != D else "sae")
    assert (facts.model_name, facts.hf_hook_name) == ("google/gemma-3-1b-pt", SITE if kind == "sae" else BEFORE)
    assert facts.hf_hook_name_out == (None if kind == "sae" else BEHIND)
    assert dictionary.cfg.assumptions == ()


@pytest.mark.parametrize(("d_out", "affine"), CASES.values(), ids=CASES)
def test_saelens_computes_the_same_of_its_export(tmp_path, d_out, affine):
    """W_skip is Aᵀ there."""
    x = rows(D)
    assert_converts(save(tmp_path / "a", d_out, affine), tmp_path / "b", "saelens")
    assert relative(SAE.load_from_disk(tmp_path / "b")(x), forward(params(d_out, affine), x)[1]) <= 1e-5


@pytest.mark.parametrize(("d_out", "affine"), CASES.values(), ids=CASES)
def test_it_goes_to_our_layout_and_back(tmp_path, d_out, affine):
    """Tensors and config.json come back as they were."""
    path = save(tmp_path / "a", d_out, affine)
    assert_converts(path, tmp_path / "b", "saereg")
    assert_converts(tmp_path / "b", tmp_path / "c", "gemma_scope_2")
    before, after = (load_file(folder / "params.safetensors") for folder in (path, tmp_path / "c"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert json.loads((tmp_path / "c/config.json").read_text()) == json.loads((path / "config.json").read_text())


def test_the_kind_is_told_by_the_hooks_where_there_is_no_type(tmp_path):
    """Where there is no config.json either, it is assumed, or given; it changes no number."""
    path = save(tmp_path / "a", type=None)
    assert read(path).cfg.kind == "sae"
    path = save(tmp_path / "b", type=None, hf_hook_point_out=BEHIND)
    assert read(path).cfg.kind == "transcoder"
    path = save(tmp_path / "c", config=False)
    assert [note.field for note in read(path).cfg.assumptions] == ["kind"]
    assert read(path, {"kind": "transcoder"}).cfg.kind == "transcoder"


def test_golden_vectors_catch_a_transposed_skip_connection(tmp_path):
    """A is square, so no shape tells."""
    path = save(tmp_path, affine=True)

    def wrong(dictionary):
        x, W_skip = dictionary.golden_x, dictionary.weights["W_skip"]
        return dictionary(x) - x @ W_skip.T + x @ W_skip

    assert assert_golden_catches(path, wrong) > 0.1


@pytest.mark.parametrize("affine", [False, True])
def test_several_layers_compute_what_the_tutorial_computes(tmp_path, affine):
    """Codes are per layer; each is decoded to all layers, those before its own too."""
    path, x = save_several(tmp_path / "a", affine), rows(LAYERS, D)
    dictionary = assert_same(path, x, *forward_several(path, x))
    assert dictionary.cfg.writes == "all"
    assert [note.field for note in dictionary.cfg.assumptions] == ["writes"]
    assert_converts(path, tmp_path / "b", "saereg")
    assert detect(path) == ("gemma_scope_2",)


def test_circuit_tracers_reading_of_several_layers_can_be_asked_for(tmp_path):
    """It takes w_dec[:, i:] of layer i (`load_gemma_scope_2_clt`), so earlier layers get nothing."""
    path, x = save_several(tmp_path / "a"), rows(LAYERS, D)
    files = [load_file(path / f"params_layer_{layer}.safetensors") for layer in range(LAYERS)]
    f, _ = forward_several(path, x)
    x_hat = torch.stack([file["b_dec"] for file in files]).repeat(len(x), 1, 1)
    for layer, file in enumerate(files):
        x_hat[:, layer:] += torch.einsum("nf,ftd->ntd", f[:, layer], file["w_dec"][:, layer:])
    assert_same(path, x, f, x_hat, given={"writes": "same_and_later"})
    assert_converts(path, tmp_path / "b", "saereg", given={"writes": "same_and_later"})


def test_golden_vectors_catch_dropped_targets_and_a_transposed_skip(tmp_path):
    """Both leave every shape as it is."""
    path = save_several(tmp_path, affine=True)

    def dropped(dictionary):
        w, x = dictionary.weights, dictionary.golden_x
        return dictionary(x) - torch.stack([x[:, 0] * 0 + dictionary.encode(x)[:, 1] @ w["W_dec.1.0"]] * 3, 1)

    def transposed(dictionary):
        x = dictionary.golden_x
        skips = [dictionary.weights[f"W_skip.{layer}"] for layer in range(LAYERS)]
        return dictionary(x) + torch.stack([x[:, i] @ (s - s.T) for i, s in enumerate(skips)], dim=1)

    assert_golden_catches(path, dropped)
    assert_golden_catches(path, transposed)


def test_several_layers_are_no_saelens_dictionary(tmp_path):
    """Refused with the reason."""
    with pytest.raises(
        Exception, match="a code for each layer, decoded by several, has no class there; use --to saereg"
    ):
        assert_converts(save_several(tmp_path / "a"), tmp_path / "b", "saelens")


def test_what_contradicts_itself_is_refused(tmp_path):
    """config.json against the tensors."""
    path = save(tmp_path / "a", affine_connection=True)
    message = "config.json says affine_connection true, but params.safetensors has none; correct config.json"
    assert refusal(path) == f"{path}: {message}"
    path = save(tmp_path / "b", architecture="topk")
    assert refusal(path) == f"{path}: config.json says architecture 'topk'; this layout has jump_relu"
    path = save(tmp_path / "c", type="crosscoder")
    assert refusal(path) == f"{path}: config.json says type 'crosscoder'; expected sae or transcoder"
    save_file(params() | {"threshold": -torch.ones(F)}, path / "params.safetensors")
    (path / "config.json").unlink()
    problem = "threshold of params.safetensors is negative somewhere, which none of these has"
    assert refusal(path) == f"{path}: {problem}"


def test_a_type_that_is_no_weight_is_refused(tmp_path):
    """Eight bits, in one line."""
    path = save(tmp_path)
    p = params()
    save_file(p | {"threshold": p["threshold"].to(torch.float8_e4m3fn)}, path / "params.safetensors")
    assert "threshold: stored as float8_e4m3fn, expected one of" in refusal(path)


def test_a_missing_layer_is_named(tmp_path):
    """In the middle by its number, at the end by the width of the decoders."""
    path = save_several(tmp_path / "a")
    (path / "params_layer_2.safetensors").unlink()
    expected = f"shape ({F}, 3, {D}); with 2 files expected (d_sae, 2, d_out): is a file of the last layers missing?"
    assert refusal(path) == f"{path}/params_layer_0.safetensors: w_dec: {expected}"
    path = save_several(tmp_path / "b")
    (path / "params_layer_1.safetensors").unlink()
    gap = "params_layer_1.safetensors is missing; there are files up to params_layer_2.safetensors"
    assert refusal(path) == f"{path}: {gap}"


def test_layers_that_differ_are_refused(tmp_path):
    """A skip connection in one layer alone."""
    path = save_several(tmp_path)
    save_file(params(affine=True, layers=LAYERS), path / "params_layer_1.safetensors")
    problem = "is no tensor of this layout, or not of its other layers"
    assert refusal(path) == f"{path}/params_layer_1.safetensors: affine_skip_connection: {problem}"


def test_a_key_that_is_not_known_is_noted(tmp_path):
    """And no key that the publisher writes."""
    notes = read(save(tmp_path, input_scale=2)).cfg.assumptions
    assert [(note.field, note.value) for note in notes] == [("input_scale", "2")]
    assert notes[0].because == "a key of config.json that this layout is not known to have; ignored"
