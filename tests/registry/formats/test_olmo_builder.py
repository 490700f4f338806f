"""Raw checkpoints of the OLMo builder; its forward is that of OpenAI's class, with `normalize` as the file says."""

from pathlib import Path

import pytest
import sae_lens
import torch

from saereg.errors import WeightsError
from saereg.registry.loading import detect, read
from tests.registry.formats.test_openai import forward, state
from tests.upstream import D, F, K, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

RELEASED = 163_840
"""Latents of the widest dictionary of the release."""


def checkpoint(normalize: bool = False, **more) -> dict:
    """Return what `save_checkpoint` saves."""
    moments = {"step": torch.tensor(3.0), "exp_avg": random(F, D), "exp_avg_sq": random(F, D)}
    settings = {"epoch": 0, "file_index": 25, "global_step": 4000, "layer": 31, "n_inputs": D, "n_latents": F}
    settings |= {"top_k": K, "batch_size": 256, "lr": 3e-4, "normalize": normalize, "mean_loss": 0.25}
    optimizer = {"state": {0: moments}, "param_groups": [{"lr": 3e-4, "betas": (0.9, 0.999), "params": [0, 1, 2]}]}
    return settings | {"model": state(tied=True), "optimizer": optimizer} | more


def saved(folder: Path, made: dict) -> Path:
    """Write one file, as `torch.save` does: the tied matrix once."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(made, folder / "olmo_sae_layer31.pt")
    return folder / "olmo_sae_layer31.pt"


@pytest.mark.parametrize("normalize", [False, True])
def test_it_computes_what_the_builder_computes(tmp_path, normalize):
    """`normalize` decides, and not the activation; in SAELens as well."""
    x = rows(D) * 2 + 1
    path = saved(tmp_path / "a", checkpoint(normalize))
    f, x_hat = forward(state(tied=True), x, normalize)
    dictionary = assert_same(path, x, f, x_hat)
    assert dictionary.cfg.assumptions == ()
    assert dictionary.cfg.metadata.hook_name is None
    assert dictionary.cfg.metadata.model_extra["olmo_builder_layer"] == 31
    assert detect(tmp_path / "a") == ("olmo_builder",)
    record = assert_converts(path, tmp_path / "b", "saereg")
    assert {"optimizer/state/0/exp_avg", "model/stats_last_nonzero"} <= set(record.left_out)
    assert_converts(path, tmp_path / "c", "saelens")
    sae = sae_lens.SAE.load_from_disk(str(tmp_path / "c"))
    with torch.no_grad():
        assert torch.equal(sae.encode(x) != 0, f != 0)
        assert relative(sae(x), x_hat) < 1e-5


def test_openais_rule_would_be_caught(tmp_path):
    """Layer norm where TopK, for a checkpoint that ran without."""
    path = saved(tmp_path, checkpoint(normalize=False))
    assert assert_golden_catches(path, lambda right: forward(state(tied=True), right.golden_x, True)[1]) > 0.1


def test_a_compiled_model_is_read(tmp_path):
    """`_orig_mod.` and `module.` before the names."""
    x = rows(D)
    for number, wrapper in enumerate(("_orig_mod.", "module.")):
        model = {wrapper + key: value for key, value in state(tied=True).items()}
        path = saved(tmp_path / str(number), checkpoint(model=model))
        assert_same(path, x, *forward(state(tied=True), x, normalize=False))


def test_it_reads_as_many_latents_as_were_released(tmp_path):
    """Of few inputs here, so that the file is small."""
    encoder = random(RELEASED, 8, seed=1)
    model = {"pre_bias": random(8, seed=2), "latent_bias": random(RELEASED, seed=3), "encoder.weight": encoder}
    model |= {"decoder.linear.weight": encoder, "activation": "TopK"}
    path = saved(tmp_path, checkpoint(n_inputs=8, n_latents=RELEASED, model=model))
    assert read(path).cfg.d_sae == RELEASED
    wide = {**model, "activation.k": K, "activation.postact_fn": "ReLU"}
    x = rows(8)[:4]
    assert_same(path, x, *forward(wide, x, normalize=False))


def test_what_the_checkpoint_does_not_say_is_asked_for(tmp_path):
    """`normalize` and k decide the function."""
    x = rows(D)
    made = checkpoint()
    del made["normalize"]
    path = saved(tmp_path, made)
    assert refusal(path) == (
        f"{path}: the checkpoint does not say `normalize`, and the trainer runs with and without; say it: --set "
        "normalize=false"
    )
    assert_same(path, x, *forward(state(tied=True), x, normalize=True), given={"normalize": True})
    bare = {key: value for key, value in state(tied=True).items() if not key.startswith("activation")}
    made = checkpoint(model=bare)
    del made["top_k"]
    saved(tmp_path, made)
    assert refusal(path) == f"{path}: the checkpoint does not say `top_k`; say it: --set k=64"
    assert_same(path, x, *forward(state(tied=True), x, normalize=False), given={"k": K})


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"top_k": 6}, "says top_k = 6, but the autoencoder below `model` has k = 5"),
        ({"top_k": "5"}, "says top_k = '5'; expected a positive whole number"),
        ({"n_latents": 64}, "says n_latents = 64, but model/encoder.weight is (48, 16)"),
        ({"normalize": "no"}, "says normalize = 'no'; expected true or false"),
        ({"model": state("ReLU", tied=True)}, "its activation is 'ReLU'; this trainer has TopK alone"),
    ],
)
def test_contradictions_are_refused(tmp_path, wrong, expected):
    """Settings against the tensors, each in one line."""
    path = saved(tmp_path, checkpoint(**wrong))
    assert refusal(path) == f"{path}: {expected}"


def test_a_decoder_that_is_not_the_encoder_is_caught(tmp_path):
    """A file that says tied and is not: the publisher's forward disagrees, and nothing is written."""
    model = state(tied=True) | {"decoder.linear.weight": random(F, D, seed=9)}
    path = saved(tmp_path, checkpoint(model=model))
    with pytest.raises(Exception, match="the result does not compute what olmo_builder does"):
        assert_converts(path, tmp_path / "b", "saereg")
    assert not (tmp_path / "b").exists()


def test_a_model_without_its_encoder_is_refused(tmp_path):
    """Where the caller names the layout, since nothing else does."""
    model = {key: value for key, value in state(tied=True).items() if key != "encoder.weight"}
    path = saved(tmp_path, checkpoint(model=model))
    problem = "model/encoder.weight: missing; expected the tensors of OpenAI's class below `model`"
    with pytest.raises(WeightsError, match=problem):
        read(path, layout="olmo_builder")
