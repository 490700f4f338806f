"""mlsae is on no package index: its forward stands here, from its `model/autoencoder.py` at commit ba90c51."""

import json
from pathlib import Path

import pytest
import sae_lens
import torch
from safetensors.torch import save_file

from saereg.registry.loading import detect, read
from tests.upstream import D, F, K, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

WEIGHTS = {
    "encoder.weight": random(F, D, seed=1),
    "decoder.weight": random(D, F, seed=2),
    "pre_encoder_bias": random(D, seed=3),
    "last_nonzero": torch.arange(F),
}

CONFIG = {
    "n_inputs": D,
    "n_latents": F,
    "k": K,
    "dead_steps_threshold": 76,
    "dead_threshold": 1e-3,
    "auxk": 256,
    "standardize": True,
}


def saved(folder: Path, config: dict | None = CONFIG, weights: dict = WEIGHTS) -> Path:
    """Write what `push_to_hub` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def forward(x: torch.Tensor, standardize: bool = True, k: int = K) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (f, x_hat) as `MLSAE.forward` does: select first, ReLU after; σ unbiased, ε added to it."""
    mean, std = 0.0, 1.0
    inputs = x
    if standardize:
        mean = x.mean(dim=-1, keepdim=True)
        inputs = x - mean
        std = inputs.std(dim=-1, keepdim=True)
        inputs = inputs / (std + 1e-5)
    latents = (inputs - WEIGHTS["pre_encoder_bias"]) @ WEIGHTS["encoder.weight"].T
    topk = latents.topk(k, dim=-1)
    f = torch.zeros_like(latents).scatter(-1, topk.indices, topk.values.relu())
    return f, (f @ WEIGHTS["decoder.weight"].T + WEIGHTS["pre_encoder_bias"]) * std + mean


@pytest.mark.parametrize("standardize", [True, False])
def test_it_computes_what_mlsae_computes(tmp_path, standardize):
    """With and without standardized inputs; in SAELens as well."""
    x = rows(D) * 3 + 1
    folder = saved(tmp_path / "a", CONFIG | {"standardize": standardize})
    f, x_hat = forward(x, standardize)
    assert_same(folder, x, f, x_hat)
    assert detect(folder) == ("mlsae",)
    record = assert_converts(folder, tmp_path / "b", "saereg")
    assert record.left_out == ("last_nonzero",)
    assert_converts(folder, tmp_path / "c", "saelens")
    sae = sae_lens.SAE.load_from_disk(str(tmp_path / "c"))
    with torch.no_grad():
        assert torch.equal(sae.encode(x) != 0, f != 0)
        assert relative(sae(x), x_hat) < 1e-5


def test_fewer_than_k_positive_latents_leave_fewer_active(tmp_path):
    """The k largest may be negative, and become 0."""
    x = rows(D)
    folder = saved(tmp_path, CONFIG | {"k": 40})
    f, x_hat = forward(x, k=40)
    assert int((f != 0).sum(dim=-1).min()) < 40
    assert_same(folder, x, f, x_hat)


def test_the_transformer_beside_it_is_left_out(tmp_path):
    """Below `autoencoder.`; config.json is then that of both."""
    weights = {f"autoencoder.{name}": value for name, value in WEIGHTS.items()}
    weights |= {"transformer.model.gpt_neox.embed_in.weight": random(7, D), "loss_true": random(6)}
    config = {"model_name": "EleutherAI/pythia-70m-deduped", "layers": None, "expansion_factor": 3, "k": K}
    config |= {"standardize": True, "tuned_lens": False, "max_length": 2048}
    folder = saved(tmp_path / "a", config, weights)
    x = rows(D)
    dictionary = assert_same(folder, x, *forward(x))
    assert dictionary.cfg.metadata.model_name == "EleutherAI/pythia-70m-deduped"
    assert dictionary.cfg.metadata.hook_name is None
    record = assert_converts(folder, tmp_path / "b", "saereg")
    assert record.left_out == (
        "autoencoder.last_nonzero",
        "loss_true",
        "transformer.model.gpt_neox.embed_in.weight",
    )


def test_wrong_switches_are_caught(tmp_path):
    """No layer norm, and a k from elsewhere."""
    folder = saved(tmp_path)
    assert assert_golden_catches(folder, lambda right: forward(right.golden_x, standardize=False)[1]) > 0.1
    assert assert_golden_catches(folder, lambda right: forward(right.golden_x, k=K + 1)[1]) > 0.01


def test_what_config_does_not_say_is_asked_for_or_assumed(tmp_path):
    """k is asked for; `standardize` has the default of the class."""
    x = rows(D)
    assert refusal(saved(tmp_path / "a", None)) == (
        f"{tmp_path}/a: config.json is missing, or does not say k; say it: --set k=32"
    )
    dictionary = assert_same(tmp_path / "a", x, *forward(x), given={"k": K})
    assert [note.field for note in dictionary.cfg.assumptions] == ["standardize", "k"]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"k": None}, "config.json is missing, or does not say k; say it: --set k=32"),
        ({"k": "5"}, "config.json says k = '5'; expected a positive whole number"),
        ({"k": 0}, "config.json says k = 0; expected a positive whole number"),
        ({"n_latents": 64}, "config.json says n_latents = 64, but encoder.weight is (48, 16); correct config.json"),
        ({"n_inputs": "16"}, "config.json says n_inputs = '16', but encoder.weight is (48, 16); correct config.json"),
        ({"standardize": 1}, "config.json says standardize = 1; expected true or false"),
    ],
)
def test_an_odd_config_is_refused(tmp_path, wrong, expected):
    """In one line that says what to do."""
    assert refusal(saved(tmp_path, CONFIG | wrong)) == f"{tmp_path}: {expected}"


def test_a_k_above_the_number_of_latents_is_refused(tmp_path):
    """By the schema."""
    assert "k = 49 exceeds d_sae = 48" in refusal(saved(tmp_path, CONFIG | {"k": 49}))


def test_a_tensor_that_is_not_known_is_refused(tmp_path):
    """It may mean something."""
    folder = saved(tmp_path, weights=WEIGHTS | {"latent_scale": random(F)})
    assert refusal(folder) == (
        f"{tmp_path}/model.safetensors: latent_scale: is no tensor of this layout; it would be lost"
    )


def test_a_tuned_lens_is_noted(tmp_path):
    """Rows and x_hat are those after it; without one there is nothing to note."""
    for said, expected in ((True, [("tuned_lens", "True")]), (False, [])):
        notes = read(saved(tmp_path / str(said), CONFIG | {"tuned_lens": said})).cfg.assumptions
        assert [(note.field, note.value) for note in notes] == expected
    assert "rows and x_hat are those after the lens" in read(tmp_path / "True").cfg.assumptions[0].because
    problem = "config.json says tuned_lens = 'yes'; expected true or false"
    assert refusal(saved(tmp_path / "odd", CONFIG | {"tuned_lens": "yes"})) == f"{tmp_path}/odd: {problem}"


def test_a_key_that_is_not_known_is_noted(tmp_path):
    """What its classes take is known."""
    lightning = {"model_name": "EleutherAI/pythia-70m", "layers": [1], "auxk_coef": 0.03, "lr": 1e-4, "batch_size": 1}
    notes = read(saved(tmp_path, CONFIG | lightning | {"whiten": "zca"})).cfg.assumptions
    assert [(note.field, note.value) for note in notes] == [("whiten", "zca")]
