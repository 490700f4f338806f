"""OpenAI's class is on no package index: its forward stands here, from `model.py` at commit 4965b94."""

from collections import OrderedDict
from pathlib import Path

import pytest
import sae_lens
import torch
from safetensors.torch import save_file

from saereg.registry.loading import detect, read
from tests.upstream import D, F, K, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows


def state(activation: str | None = "TopK", k: int = K, postact: str = "ReLU", tied: bool = False) -> OrderedDict:
    """Return what `Autoencoder.state_dict()` returns: tensors, and plain values among them."""
    encoder = random(F, D, seed=1)
    made = OrderedDict(pre_bias=random(D, seed=2), latent_bias=random(F, seed=3))
    made["stats_last_nonzero"] = torch.zeros(F, dtype=torch.long)
    made["latents_activation_frequency"] = torch.ones(F)
    made["latents_mean_square"] = torch.zeros(F)
    made["encoder.weight"] = encoder
    if activation == "TopK":
        made |= {"activation.k": k, "activation.postact_fn": postact}
    made |= {"decoder.linear.weight": encoder} if tied else {"decoder.weight": random(D, F, seed=4)}
    if activation is not None:
        made["activation"] = activation
        values = {"k": k, "postact_fn": postact} if activation == "TopK" else {}
        made["activation_state_dict"] = OrderedDict(values)
    return made


def saved(folder: Path, made: OrderedDict) -> Path:
    """Write one file, as `torch.save` does."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(made, folder / "6.pt")
    return folder / "6.pt"


def forward(made: OrderedDict, x: torch.Tensor, normalize: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (f, x_hat) as `Autoencoder.forward` does, with the decoder as `TiedTranspose` where it is tied."""
    mu, std = 0.0, 1.0
    if normalize:
        mu = x.mean(dim=-1, keepdim=True)
        std = (x - mu).std(dim=-1, keepdim=True)
        x = (x - mu) / (std + 1e-5)
    pre = (x - made["pre_bias"]) @ made["encoder.weight"].T + made["latent_bias"]
    f = pre.relu()
    if made.get("activation") == "TopK":
        kept = pre.topk(made["activation.k"], dim=-1)
        values = kept.values if made["activation.postact_fn"] == "Identity" else kept.values.relu()
        f = torch.zeros_like(pre).scatter(-1, kept.indices, values)
    decoded = f @ made["encoder.weight"] if "decoder.linear.weight" in made else f @ made["decoder.weight"].T
    return f, (decoded + made["pre_bias"]) * std + mu


CASES = {
    "topk": (state(), True),
    "topk, tied": (state(tied=True), True),
    "relu": (state("ReLU"), False),
    "relu, tied": (state("ReLU", tied=True), False),
    "no activation named": (state(None), False),
}


@pytest.mark.parametrize(("made", "normalize"), CASES.values(), ids=CASES)
def test_it_computes_what_the_class_computes(tmp_path, made, normalize):
    """Normalized where TopK and nowhere else; in SAELens as well."""
    x = rows(D) * 2 + 1
    path = saved(tmp_path / "a", made)
    f, x_hat = forward(made, x, normalize)
    dictionary = assert_same(path, x, f, x_hat)
    assert "normalize" in [note.field for note in dictionary.cfg.assumptions]
    assert detect(tmp_path / "a") == ("openai",)
    record = assert_converts(path, tmp_path / "b", "saereg")
    assert record.left_out == ("latents_activation_frequency", "latents_mean_square", "stats_last_nonzero")
    assert all(tensor.bitwise for tensor in record.tensors.values())
    assert_converts(path, tmp_path / "c", "saelens")
    sae = sae_lens.SAE.load_from_disk(str(tmp_path / "c"))
    with torch.no_grad():
        assert torch.equal(sae.encode(x) != 0, f != 0)
        assert relative(sae(x), x_hat) < 1e-5


def test_negative_latents_may_be_kept(tmp_path):
    """`postact_fn` Identity; SAELens has no words for it."""
    made, x = state(k=40, postact="Identity"), rows(D)
    path = saved(tmp_path, made)
    f, x_hat = forward(made, x, normalize=True)
    assert (f < 0).any()
    assert_same(path, x, f, x_hat)
    assert_converts(path, tmp_path / "b", "saereg")
    with pytest.raises(Exception, match="keeps active latents that are negative"):
        assert_converts(path, tmp_path / "c", "saelens")


def test_the_callers_word_on_normalization_counts(tmp_path):
    """A copy of the class may have run without."""
    made, x = state(), rows(D) * 2 + 1
    path = saved(tmp_path, made)
    dictionary = assert_same(path, x, *forward(made, x, normalize=False), given={"normalize": False})
    assert [(note.field, note.value) for note in dictionary.cfg.assumptions] == [("normalize", "False")]


def test_wrong_switches_are_caught(tmp_path):
    """Layer norm from the wrong rule, and ReLU where TopK was."""
    path = saved(tmp_path, state())
    assert assert_golden_catches(path, lambda right: forward(state(), right.golden_x, False)[1]) > 0.1
    assert assert_golden_catches(path, lambda right: forward(state("ReLU"), right.golden_x, True)[1]) > 0.1


def test_a_wrapped_model_is_read(tmp_path):
    """Data parallelism and compilation put something before the names."""
    made, x = state("ReLU"), rows(D)
    for number, wrapper in enumerate(("module.", "_orig_mod.")):
        path = saved(tmp_path / str(number), OrderedDict((wrapper + key, value) for key, value in made.items()))
        assert_same(path, x, *forward(made, x, normalize=False))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".bin", ".ckpt"])
def test_a_pickle_of_any_suffix_that_names_no_activation_is_relu(tmp_path, suffix):
    """It could have named one."""
    tensors = {key: value for key, value in state("ReLU").items() if isinstance(value, torch.Tensor)}
    torch.save(tensors, tmp_path / f"a{suffix}")
    notes = read(tmp_path / f"a{suffix}", layout="openai").cfg.assumptions
    assert [(note.field, note.value) for note in notes] == [("activation", "ReLU"), ("normalize", "False")]


def test_what_the_file_does_not_say_is_asked_for(tmp_path):
    """safetensors keeps no strings; a TopK without k is no TopK."""
    made, x = state(), rows(D)
    tensors = {key: value for key, value in made.items() if isinstance(value, torch.Tensor)}
    save_file(tensors, tmp_path / "a.safetensors")
    assert refusal(tmp_path / "a.safetensors") == (
        f"{tmp_path}/a.safetensors: the activation stands only in a pickled state dict, and this is none; say it: "
        "--set activation=TopK"
    )
    assert refusal(tmp_path / "a.safetensors", activation="TopK") == (
        f"{tmp_path}/a.safetensors: the activation is TopK, and the file does not say its k; say it: --set k=32"
    )
    given = {"activation": "TopK", "k": K}
    assert_same(tmp_path / "a.safetensors", x, *forward(made, x, normalize=True), given=given)


def test_odd_files_are_refused(tmp_path):
    """Each in one line that says what was found."""
    path = saved(tmp_path, state("Identity"))
    assert refusal(path) == f"{path}: its activation is Identity: every latent is always active, so nothing is sparse"
    saved(tmp_path, state("GELU"))
    assert refusal(path) == f"{path}: its activation is 'GELU'; this layout has ReLU and TopK"
    saved(tmp_path, state() | {"activation.k": 6})
    assert refusal(path) == f"{path}: its k is 5 and 6; expected one positive whole number"
    saved(tmp_path, state(k=F + 1))
    assert "k = 49 exceeds d_sae = 48" in refusal(path)
    saved(tmp_path, state(postact="Sigmoid"))
    assert refusal(path) == f"{path}: what TopK keeps goes through 'Sigmoid'; expected ReLU or Identity"
    saved(tmp_path, state() | {"scale": torch.ones(F)})
    assert refusal(path) == f"{path}: scale: is no tensor of this layout; it would be lost"
    saved(tmp_path, state() | {"latent_bias": random(D)})
    assert refusal(path) == f"{path}: b_enc: shape (16,), expected (48,) by the configuration"
