"""SAELens' own TemporalSAE, with the authors' tensors in it, is what a reading of the authors' files must compute."""

import math
from pathlib import Path

import pytest
import sae_lens
import torch
import yaml
from sae_lens import MatchingPursuitSAE, MatchingPursuitSAEConfig, TemporalSAE, TemporalSAEConfig
from safetensors.torch import save_file

from saereg.errors import FormatError, WeightsError
from saereg.registry.conversion.convert import Order, convert
from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import detect, read
from tests.upstream import D, F, K, assert_converts, random, refusal, relative

FACTOR = 0.4
SAE = {"sae_type": "temporal", "sae_diff_type": "topk", "tied_weights": True, "exp_factor": 3, "kval_topk": K}
SAE |= {"n_heads": 2, "n_attn_layers": 2, "bottleneck_factor": 3, "scaling_factor": FACTOR}
CONF = {
    "data": {"dtype": "bfloat16", "context_length": 500, "hf_name": "monology/pile-uncopyrighted"},
    "llm": {"model_hf_name": "google/gemma-2-2b", "dimin": D},
    "sae": SAE,
}
TEXTS = torch.randn(3, 20, D, generator=torch.Generator().manual_seed(99)) * 5


def theirs(**settings) -> TemporalSAE:
    """Return SAELens' own, with weights that hide no mistake."""
    conf = SAE | settings
    names = ("n_heads", "n_attn_layers", "bottleneck_factor", "sae_diff_type", "kval_topk", "tied_weights")
    cfg = TemporalSAEConfig(
        d_in=D,
        d_sae=F,
        normalize_activations="constant_scalar_rescale",
        activation_normalization_factor=FACTOR,
        **{name: conf[name] for name in names},
    )
    made = TemporalSAE(cfg)
    with torch.no_grad():
        for seed, parameter in enumerate(made.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed))
    return made


def tensors(made: TemporalSAE) -> dict[str, torch.Tensor]:
    """Return the authors' names: `b` with an axis more."""
    state = {key: value.clone() for key, value in made.state_dict().items()}
    renamed = {"D": state.pop("W_dec"), "b": state.pop("b_dec")[None]}
    return renamed | ({"E": state.pop("W_enc")} if "W_enc" in state else {}) | state


def saved(folder: Path, weights: dict[str, torch.Tensor], conf: dict | None = CONF) -> Path:
    """Write a folder of the release."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "latest_ckpt.safetensors")
    if conf is not None:
        (folder / "conf.yaml").write_text(yaml.safe_dump(conf))
    return folder


def assert_computes(folder: Path, made: TemporalSAE, **given: float) -> Dictionary:
    """Assert equal novel codes and equal x_hat on texts."""
    dictionary = Dictionary(read(folder, given).checkpoint())
    with torch.no_grad():
        novel, _ = made.encode_with_predictions(TEXTS)
        assert torch.equal(dictionary.encode(TEXTS) != 0, novel != 0)
        assert relative(dictionary(TEXTS), made(TEXTS)) < 1e-5
    return dictionary


CASES = {
    "topk, tied": {},
    "topk, untied": {"tied_weights": False},
    "relu": {"sae_diff_type": "relu"},
    "one layer, no bottleneck": {"n_attn_layers": 1, "bottleneck_factor": 1},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_it_computes_what_saelens_computes(tmp_path, settings):
    """And the folder that is written loads there."""
    made = theirs(**settings)
    folder = saved(tmp_path / "layer_12", tensors(made), CONF | {"sae": SAE | settings})
    assert detect(folder) == ("temporal_sae",)
    facts = assert_computes(folder, made).cfg.metadata
    assert (facts.model_name, facts.context_size, facts.hook_name) == ("google/gemma-2-2b", 500, None)
    assert_converts(folder, tmp_path / "b", "saelens")
    again = sae_lens.SAE.load_from_disk(str(tmp_path / "b"))
    with torch.no_grad():
        assert relative(again(TEXTS), made(TEXTS)) < 1e-6


def test_a_checkpoint_with_its_optimizer_is_read(tmp_path):
    """The tensors lie under `sae`, as the authors' own loader knows it."""
    made = theirs()
    saved(tmp_path, tensors(made))
    (tmp_path / "latest_ckpt.safetensors").unlink()
    torch.save({"sae": tensors(made), "optimizer": {"state": {0: {"exp_avg": random(D)}}}}, tmp_path / "latest_ckpt.pt")
    assert_computes(tmp_path, made)
    assert read(tmp_path).left_out == ("optimizer/state/0/exp_avg",)


def test_it_is_said_in_saelens_words_alone(tmp_path):
    """saereg's own layout spells out switches, and these have none."""
    folder = saved(tmp_path / "a", tensors(theirs()))
    with pytest.raises(FormatError) as caught:
        convert(Order(folder, tmp_path / "b", "saereg"))
    assert str(caught.value) == "saereg: architecture 'temporal' is said in SAELens' own words; use --to saelens"


def test_the_scale_is_asked_for_where_it_is_not_said(tmp_path):
    """Without it, another function."""
    made = theirs()
    conf = CONF | {"sae": {key: value for key, value in SAE.items() if key != "scaling_factor"}}
    folder = saved(tmp_path, tensors(made), conf)
    assert refusal(folder) == (
        f"{tmp_path}: conf.yaml does not say scaling_factor, which inputs are multiplied by; say it: --set "
        "scaling_factor=0.00667"
    )
    dictionary = assert_computes(folder, made, scaling_factor=FACTOR)
    assert dictionary.cfg.metadata.model_extra["saereg_assumptions"][0]["field"] == "scaling_factor"
    wrong = Dictionary(read(folder, {"scaling_factor": 1}).checkpoint())
    with torch.no_grad():
        assert relative(wrong(TEXTS), made(TEXTS)) > 0.1


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"sae_diff_type": "nullify"}, "conf.yaml says sae_diff_type 'nullify'; expected relu or topk"),
        ({"sae_diff_type": "batchtopk"}, "conf.yaml says sae_diff_type 'batchtopk'; expected relu or topk"),
        ({"kval_topk": None}, "conf.yaml says kval_topk = None; expected a positive whole number"),
        ({"kval_topk": F + 1}, "conf.yaml says kval_topk = 49, of 48 latents"),
        ({"n_heads": "2"}, "conf.yaml says n_heads = '2'; expected a positive whole number"),
        ({"n_heads": 5}, "conf.yaml: bottleneck_factor times n_heads is 15, which does not divide the 48 latents"),
        ({"tied_weights": None}, "conf.yaml says tied_weights = None; expected true or false"),
        ({"exp_factor": 4}, "conf.yaml says exp_factor = 4, but D is (48, 16); correct conf.yaml"),
        ({"exp_factor": math.inf}, "conf.yaml says exp_factor = inf, but D is (48, 16); correct conf.yaml"),
        ({"exp_factor": math.nan}, "conf.yaml says exp_factor = nan, but D is (48, 16); correct conf.yaml"),
        ({"scaling_factor": math.nan}, "conf.yaml says scaling_factor = nan; expected a positive number"),
        ({"scaling_factor": "small"}, "conf.yaml says scaling_factor = 'small'; expected a positive number"),
    ],
)
def test_an_odd_conf_is_refused(tmp_path, wrong, expected):
    """In one line that says what to do."""
    folder = saved(tmp_path, tensors(theirs()), CONF | {"sae": SAE | wrong})
    assert refusal(folder) == f"{tmp_path}: {expected}"


@pytest.mark.parametrize("name", ["D", "b"])
def test_a_dictionary_without_its_tensors_is_refused(tmp_path, name):
    """Where the caller names the layout, since nothing else does."""
    folder = saved(tmp_path, {key: value for key, value in tensors(theirs()).items() if key != name})
    with pytest.raises(WeightsError, match=rf"{name}: missing; expected D \(F, D\), b \(D,\) and attention layers"):
        read(folder, layout="temporal_sae")


def test_tensors_and_conf_must_agree(tmp_path):
    """Ties, layers, and the file itself."""
    untied = tensors(theirs(tied_weights=False))
    assert refusal(saved(tmp_path / "a", untied)) == (
        f"{tmp_path}/a/latest_ckpt.safetensors: E: is no tensor of this layout; it would be lost"
    )
    conf = CONF | {"sae": SAE | {"tied_weights": False}}
    assert "W_enc: missing" in refusal(saved(tmp_path / "b", tensors(theirs()), conf))
    conf = CONF | {"sae": SAE | {"n_attn_layers": 3}}
    assert "attn_layers.2.k_ctx.weight: missing" in refusal(saved(tmp_path / "c", tensors(theirs()), conf))
    assert refusal(saved(tmp_path / "d", tensors(theirs()), None)) == (
        f"{tmp_path}/d: conf.yaml is missing or has no `sae`; it says heads, k and the scale of the inputs: put it "
        "beside latest_ckpt.safetensors"
    )


def test_a_temporal_folder_of_saelens_converts_to_saelens(tmp_path):
    """Golden vectors are then those of saereg's own forward, whose rows are one text."""
    made = theirs()
    made.save_model(str(tmp_path / "a"))
    record = assert_converts(tmp_path / "a", tmp_path / "b", "saelens")
    assert record.golden.made_by.endswith("forward of temporal")
    again = sae_lens.SAE.load_from_disk(str(tmp_path / "b"))
    with torch.no_grad():
        assert torch.equal(again(TEXTS), made(TEXTS))


def test_a_matching_pursuit_folder_of_saelens_converts_to_saelens(tmp_path):
    """To nothing else: the selection is no switch."""
    made = MatchingPursuitSAE(MatchingPursuitSAEConfig(d_in=D, d_sae=F, residual_threshold=0.1, max_iterations=6))
    with torch.no_grad():
        made.W_dec.copy_(torch.nn.functional.normalize(random(F, D), dim=1))
        made.b_dec.copy_(random(D, seed=1))
    made.save_model(str(tmp_path / "a"))
    record = assert_converts(tmp_path / "a", tmp_path / "b", "saelens")
    assert record.golden.made_by.endswith("forward of matching_pursuit")
    x = TEXTS.flatten(0, 1)
    dictionary, again = Dictionary(read(tmp_path / "b").checkpoint()), sae_lens.SAE.load_from_disk(str(tmp_path / "b"))
    with torch.no_grad():
        assert torch.equal(dictionary.encode(x) != 0, made.encode(x) != 0)
        assert relative(dictionary(x), made(x)) < 1e-5
        assert torch.equal(again(x), made(x))
    with pytest.raises(FormatError) as caught:
        convert(Order(tmp_path / "a", tmp_path / "c", "saereg"))
    assert (
        str(caught.value) == "saereg: architecture 'matching_pursuit' is said in SAELens' own words; use --to saelens"
    )
