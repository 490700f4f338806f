"""dictionary_learning's own classes make the files; their own forward is what a reading must compute."""

import json
from pathlib import Path

import pytest
import sae_lens
import torch
from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from dictionary_learning.utils import load_dictionary

from saereg.registry.formats import dictionary_learning
from saereg.registry.loading import detect, read
from tests.upstream import (
    D,
    F,
    K,
    assert_converts,
    assert_golden_catches,
    assert_same,
    random,
    refusal,
    relative,
    rows,
)

THRESHOLD = 0.75
"""Of BatchTopK: some pre-activations are below, some above."""

MADE = {
    "AutoEncoder": lambda: AutoEncoder(D, F),
    "AutoEncoderNew": lambda: AutoEncoderNew(D, F),
    "AutoEncoderTopK": lambda: AutoEncoderTopK(D, F, K),
    "BatchTopKSAE": lambda: BatchTopKSAE(D, F, K),
    "MatryoshkaBatchTopKSAE": lambda: MatryoshkaBatchTopKSAE(D, F, K, [8, 16, 24]),
    "GatedAutoEncoder": lambda: GatedAutoEncoder(D, F),
    "JumpReluAutoEncoder": lambda: JumpReluAutoEncoder(D, F),
}
RANKED = ("AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE")
THRESHOLDED = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")


def made(name: str, threshold: float = THRESHOLD):
    """Return a dictionary with weights that hide no mistake."""
    ae = MADE[name]()
    with torch.no_grad():
        for seed, parameter in enumerate(ae.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed))
        if name == "JumpReluAutoEncoder":
            ae.threshold.copy_(random(F, seed=77).abs())
        if name in THRESHOLDED:
            ae.threshold.fill_(threshold)
    return ae


def settings(name: str, **more) -> dict:
    """Return config.json as the library writes it."""
    k = {"k": K} if name in RANKED else {}
    trainer = {"dict_class": name, "activation_dim": D, "dict_size": F, "lm_name": "EleutherAI/pythia-70m", **k, **more}
    trainer |= {"layer": 3, "submodule_name": "resid_post_layer_3"}
    return {"trainer": trainer, "buffer": {"d_submodule": D, "io": "out", "ctx_len": 128}}


def saved(folder: Path, ae, config: dict | None, file: str = "ae.pt") -> Path:
    """Write a folder as `trainSAE` does."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    torch.save(ae if isinstance(ae, dict) else ae.state_dict(), folder / file)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config, indent=4))
    return folder


def forward(ae, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the library's (f, x_hat)."""
    with torch.no_grad():
        return ae.encode(x), ae(x)


def near_threshold(ae, x: torch.Tensor) -> torch.Tensor:
    """Return x with rows whose first latent lies at its threshold, a hair above it and a hair below it."""
    with torch.no_grad():
        cut = ae.threshold[0] if ae.threshold.ndim else ae.threshold
        linear = hasattr(ae, "encoder")
        direction = ae.encoder.weight[0] if linear else ae.W_enc[:, 0]
        shift, bias = (ae.b_dec, ae.encoder.bias[0]) if linear else (0, ae.b_enc[0])
        if isinstance(ae, MatryoshkaBatchTopKSAE):
            shift = ae.b_dec
        for row, off in enumerate((0.0, 8e-7, -8e-7)):
            pre = (x[row] - shift) @ direction + bias
            x[row] += (cut + off - pre) * direction / direction.square().sum()
    return x


@pytest.mark.parametrize("name", MADE)
def test_it_computes_what_the_library_computes(tmp_path, name):
    """Equal active sets, and x_hat to rounding."""
    ae, x = made(name), rows(D)
    dictionary = assert_same(saved(tmp_path / "a", ae, settings(name)), x, *forward(ae, x))
    facts = dictionary.cfg.metadata
    assert (facts.model_name, facts.context_size, facts.hook_name) == ("EleutherAI/pythia-70m", 128, None)
    assert facts.model_extra["dictionary_learning_submodule_name"] == "resid_post_layer_3"
    assert detect(tmp_path / "a") == ("dictionary_learning",)


@pytest.mark.parametrize("name", [*THRESHOLDED, "JumpReluAutoEncoder"])
def test_latents_at_the_threshold_agree(tmp_path, name):
    """A latent is active above its threshold, strictly; a hair off, rounding may decide that latent and no other."""
    ae = made(name)
    x = near_threshold(ae, rows(D))
    dictionary = assert_same(saved(tmp_path, ae, settings(name)), x[3:], *forward(ae, x[3:]))
    f, found = forward(ae, x)[0], dictionary.encode(x)
    clear = torch.ones_like(f, dtype=torch.bool)
    clear[:3, 0] = False
    assert torch.equal((found != 0)[clear], (f != 0)[clear])
    with torch.no_grad():  # exactly at the threshold: of integers, so that nothing rounds
        for parameter in ae.parameters():
            parameter.copy_(parameter.mul(4).round())
        ae.threshold.copy_(ae.threshold.mul(4).round())
        x = x.mul(4).round()
        linear = hasattr(ae, "encoder")
        matrix, bias = (ae.encoder.weight.T, ae.encoder.bias) if linear else (ae.W_enc, ae.b_enc)
        pre = (x - (ae.b_dec if name in THRESHOLDED else 0)) @ matrix + bias
        assert (pre == ae.threshold).any()
    dictionary = assert_same(saved(tmp_path / "whole", ae, settings(name)), x, *forward(ae, x))
    assert relative(dictionary(x), forward(ae, x)[1]) < 1e-6


@pytest.mark.parametrize("name", MADE)
def test_it_converts_to_our_layout_and_to_saelens(tmp_path, name):
    """SAELens' own forward gives what the library's gives."""
    ae, x = made(name), rows(D)
    folder = saved(tmp_path / "a", ae, settings(name))
    assert_converts(folder, tmp_path / "b", "saereg")
    assert_converts(folder, tmp_path / "c", "saelens")
    f, x_hat = forward(ae, x)
    sae = sae_lens.SAE.load_from_disk(str(tmp_path / "c"))
    with torch.no_grad():
        assert torch.equal(sae.encode(x) != 0, f != 0)
        assert relative(sae(x), x_hat) < 1e-5


@pytest.mark.parametrize("name", [name for name in MADE if name != "MatryoshkaBatchTopKSAE"])
def test_what_is_written_loads_in_the_library(tmp_path, name):
    """`load_dictionary` and `from_pretrained`; and every tensor comes back bit by bit, k and its type included."""
    ae, x = made(name), rows(D)
    folder = saved(tmp_path / "a", ae, settings(name))
    assert_converts(folder, tmp_path / "b", "saereg")
    assert_converts(tmp_path / "b", tmp_path / "c", "dictionary_learning")
    written = torch.load(tmp_path / "c/ae.pt", weights_only=True)
    assert written.keys() == ae.state_dict().keys()
    for key, value in ae.state_dict().items():
        assert torch.equal(written[key], value)
        assert written[key].dtype == value.dtype
    again, config = load_dictionary(str(tmp_path / "c"), "cpu")
    assert type(again).__name__ == name
    assert config["trainer"]["lm_name"] == "EleutherAI/pythia-70m"
    assert relative(again(x), forward(ae, x)[1]) < 1e-5
    assert relative(type(ae).from_pretrained(tmp_path / "c/ae.pt")(x), forward(ae, x)[1]) < 1e-5


def test_a_matryoshka_is_written_as_the_batch_topk_that_it_is_at_inference(tmp_path):
    """Groups shape training alone."""
    ae, x = made("MatryoshkaBatchTopKSAE"), rows(D)
    folder = saved(tmp_path / "a", ae, settings("MatryoshkaBatchTopKSAE"))
    assert read(folder).cfg.metadata.model_extra["dictionary_learning_group_sizes"] == [8, 16, 24]
    assert_converts(folder, tmp_path / "b", "dictionary_learning")
    again, _ = load_dictionary(str(tmp_path / "b"), "cpu")
    assert relative(again(x), forward(ae, x)[1]) < 1e-5


@pytest.mark.parametrize("name", ["AutoEncoder", "GatedAutoEncoder", "MatryoshkaBatchTopKSAE"])
def test_without_config_the_tensors_tell_the_class(tmp_path, name):
    """Where only one class has them."""
    ae, x = made(name), rows(D)
    assert_same(saved(tmp_path, ae, None), x, *forward(ae, x))


@pytest.mark.parametrize("name", ["AutoEncoderTopK", "BatchTopKSAE"])
def test_without_config_two_classes_are_asked_for(tmp_path, name):
    """AutoEncoderTopK and BatchTopKSAE save the same tensors."""
    ae, x = made(name), rows(D)
    saved(tmp_path, ae, None)
    assert refusal(tmp_path) == (
        f"{tmp_path}: config.json does not say dict_class, and the tensors are those of AutoEncoderTopK and of "
        "BatchTopKSAE; say it: --set dict_class=BatchTopKSAE"
    )
    assert_same(tmp_path, x, *forward(ae, x), given={"dict_class": name})


@pytest.mark.parametrize("name", ["AutoEncoderNew", "JumpReluAutoEncoder"])
def test_tensors_that_anybody_could_have_are_read_when_named(tmp_path, name):
    """Two torch Linear layers are of many; so are SAELens' names."""
    ae, x = made(name), rows(D)
    saved(tmp_path, ae, None)
    assert "dictionary_learning" not in detect(tmp_path)
    assert_same(tmp_path, x, *forward(ae, x), given={"dict_class": name}, layout="dictionary_learning")


def test_a_checkpoint_finds_its_config_one_level_up(tmp_path):
    """`checkpoints/ae_<step>.pt` beside nothing."""
    ae, x = made("BatchTopKSAE"), rows(D)
    saved(tmp_path, ae, settings("BatchTopKSAE"), "checkpoints/ae_2000.pt")
    assert_same(tmp_path / "checkpoints/ae_2000.pt", x, *forward(ae, x))


@pytest.mark.parametrize("name", THRESHOLDED)
def test_a_threshold_that_was_never_set_is_refused_and_may_be_chosen(tmp_path, name):
    """−1 lets every positive latent pass in the library; nothing is chosen for the caller."""
    ae, x = made(name, threshold=-1.0), rows(D)
    saved(tmp_path / "a", ae, settings(name))
    assert refusal(tmp_path / "a") == (
        f"{tmp_path}/a: has threshold -1, which means never set; relu: as the library then runs it, every positive "
        "latent passes; topk: k of each row; say it: --set unset_threshold=relu"
    )
    assert_same(tmp_path / "a", x, *forward(ae, x), given={"unset_threshold": "relu"})
    assert_converts(tmp_path / "a", tmp_path / "b", "saelens", given={"unset_threshold": "relu"})
    f, x_hat = _topk(ae, x)
    assert_same(tmp_path / "a", x, f, x_hat, given={"unset_threshold": "topk"})
    assert_converts(tmp_path / "a", tmp_path / "c", "saereg", given={"unset_threshold": "topk"})


def _topk(ae, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        dense = ae.encode(x)  # every positive latent
        kept = dense.topk(K, dim=-1)
        f = torch.zeros_like(dense).scatter(-1, kept.indices, kept.values)
        return f, ae.decode(f)


def test_a_transcoder_is_told_by_the_buffer(tmp_path):
    """`in_and_out` predicts a module's output from its input."""
    ae, x = made("AutoEncoderNew"), rows(D)
    config = settings("AutoEncoderNew")
    config["buffer"]["io"] = "in_and_out"
    saved(tmp_path / "a", ae, config)
    assert assert_same(tmp_path / "a", x, *forward(ae, x)).cfg.kind == "transcoder"
    assert_converts(tmp_path / "a", tmp_path / "b", "saelens")
    assert_converts(tmp_path / "b", tmp_path / "c", "dictionary_learning")
    assert read(tmp_path / "c").cfg.kind == "transcoder"


def test_wrong_switches_are_caught(tmp_path):
    """The wrong subtraction, a forgotten sentinel and a wrong k, each with the class that invites it."""

    def flipped(centre: bool):
        def wrong(right) -> torch.Tensor:
            w = right.weights
            pre = (right.golden_x - w["b_dec"] if centre else right.golden_x) @ w["W_enc"] + w["b_enc"]
            return (pre * (pre > w.get("threshold", 0.0))).relu() @ w["W_dec"] + w["b_dec"]

        return wrong

    for name in ("AutoEncoder", "AutoEncoderNew", "JumpReluAutoEncoder", "BatchTopKSAE"):
        folder = saved(tmp_path / name, made(name), settings(name))
        assert assert_golden_catches(folder, flipped(name in ("AutoEncoderNew", "JumpReluAutoEncoder"))) > 0.01
    dense = lambda right: forward(made("BatchTopKSAE", threshold=-1.0), right.golden_x)[1]  # noqa: E731
    assert assert_golden_catches(tmp_path / "BatchTopKSAE", dense) > 0.01
    ranked = made("AutoEncoderTopK")
    folder = saved(tmp_path / "topk", ranked, settings("AutoEncoderTopK"))
    assert assert_golden_catches(folder, lambda right: _rescaled(ranked, right.golden_x)) > 0.01
    more = AutoEncoderTopK(D, F, K + 1)
    more.load_state_dict(ranked.state_dict() | {"k": torch.tensor(K + 1, dtype=torch.int)})
    assert assert_golden_catches(folder, lambda right: forward(more, right.golden_x)[1]) > 0.01


def _rescaled(ae, x: torch.Tensor) -> torch.Tensor:
    """Return x_hat as a reader gives it that ranks by pre·‖W_dec‖."""
    with torch.no_grad():
        dense = ae.encoder(x - ae.b_dec).relu()
        kept = (dense * ae.decoder.weight.norm(dim=0)).topk(K, dim=-1).indices
        return ae.decode(torch.zeros_like(dense).scatter(-1, kept, dense.gather(-1, kept)))


def test_contradictions_are_refused(tmp_path):
    """config.json against the tensors, each in one line."""
    topk = made("AutoEncoderTopK")
    config = settings("AutoEncoderTopK")
    config["trainer"]["k"] = 7
    assert refusal(saved(tmp_path / "k", topk, config)) == (
        f"{tmp_path}/k: config.json says k = 7, but the tensor k is 5; correct the one that is wrong"
    )
    config = settings("AutoEncoder", dict_size=2 * F)
    assert refusal(saved(tmp_path / "f", made("AutoEncoder"), config)) == (
        f"{tmp_path}/f: config.json says dict_size = 96, but encoder.weight is (48, 16); correct config.json"
    )
    assert refusal(saved(tmp_path / "c", made("AutoEncoder"), settings("GatedAutoEncoder"))) == (
        f"{tmp_path}/c/ae.pt: decoder_bias: missing; GatedAutoEncoder has it, the file holds bias, decoder.weight, "
        "encoder.bias, encoder.weight"
    )
    extra = made("AutoEncoder").state_dict() | {"scale": torch.ones(F)}
    assert refusal(saved(tmp_path / "x", extra, settings("AutoEncoder"))) == (
        f"{tmp_path}/x/ae.pt: scale: is no tensor of this layout; it would be lost"
    )
    groups = made("MatryoshkaBatchTopKSAE").state_dict() | {"group_sizes": torch.tensor([8, 16])}
    assert refusal(saved(tmp_path / "g", groups, settings("MatryoshkaBatchTopKSAE"))) == (
        f"{tmp_path}/g/ae.pt: group_sizes: its sizes do not add up to the 48 latents"
    )
    identity = {"trainer": {"dict_class": "IdentityDict"}}
    assert refusal(saved(tmp_path / "i", {"n": torch.ones(1)}, identity)) == (
        f"{tmp_path}/i: dict_class 'IdentityDict' is the identity: it has no latents to convert"
    )


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({"dict_class": ["AutoEncoder"]}, "in no layout"),
        ({"dict_class": "CrossCoder"}, "in no layout"),
        ({"dict_class": "AutoEncoderTopK", "k": "5"}, "config.json says k = '5', but the tensor k is 5"),
        ({"dict_class": "AutoEncoderTopK", "k": 5, "activation_dim": None}, ""),
    ],
)
def test_odd_settings_end_in_one_line(tmp_path, trainer, expected):
    """No traceback, whatever is in config.json."""
    saved(tmp_path, made("AutoEncoderTopK"), {"trainer": trainer, "buffer": []})
    if expected:
        assert expected in refusal(tmp_path)
    else:
        assert read(tmp_path).cfg.semantics.k == K


def test_a_k_that_is_not_there_is_asked_for(tmp_path):
    """The fork's AutoEncoderTopK saves neither k nor a threshold."""
    ae, x = made("AutoEncoderTopK"), rows(D)
    state = {key: value for key, value in ae.state_dict().items() if key not in ("k", "threshold")}
    config = settings("AutoEncoderTopK")
    del config["trainer"]["k"]
    saved(tmp_path, state, config)
    assert refusal(tmp_path) == f"{tmp_path}: neither config.json nor the weights say k; say it: --set k=32"
    assert "exceeds d_sae = 48" in refusal(tmp_path, k=49)
    assert_same(tmp_path, x, *forward(ae, x), given={"k": K})


def test_what_the_library_has_no_class_for_is_refused(tmp_path):
    """With the reason, and what to write instead."""
    from saereg.errors import FormatError
    from saereg.registry.conversion.convert import Order, convert

    sae_lens.SAE.from_dict(
        sae_lens.TopKSAEConfig(d_in=D, d_sae=F, k=K, normalize_activations="layer_norm").to_dict()
    ).save_model(str(tmp_path / "a"))
    with pytest.raises(FormatError) as caught:
        convert(Order(tmp_path / "a", tmp_path / "b", "dictionary_learning"))
    assert str(caught.value) == (
        "dictionary_learning: cannot say this dictionary: it has no input normalization 'layer_norm'; use --to saereg"
    )


def test_unknown_settings_are_noted(tmp_path):
    """None of those that the library is known to save is."""
    config = settings("AutoEncoder", steps=5, l1_penalty=0.1)
    assert not read(saved(tmp_path / "a", made("AutoEncoder"), config)).cfg.assumptions
    config["trainer"]["post_scale"], config["buffer"]["rescale"], config["version"] = 2.0, True, 3
    notes = read(saved(tmp_path / "b", made("AutoEncoder"), config)).cfg.assumptions
    assert [(note.field, note.value) for note in notes] == [
        ("version", "3"),
        ("post_scale", "2.0"),
        ("rescale", "True"),
    ]
    assert notes[1].because.startswith("a key of `trainer` in config.json that")
    (note,) = read(saved(tmp_path / "c", made("AutoEncoder"), {"rescale": 2.0})).cfg.assumptions
    assert (note.field, note.value) == ("rescale", "2.0")


def test_the_documentation_says_which_latents_are_read():
    """The fork returns those of Gated and JumpReLU times the decoder norms."""
    assert (
        "Gated and JumpReLU times ‖W_dec‖; latents here are those of the main library"
        in dictionary_learning.ABOUT.assumed
    )


@pytest.mark.parametrize("name", ["threshold", "encoder.weight", "b_dec"])
def test_float8_is_refused_in_one_line(tmp_path, name):
    """No reader computes with it."""
    state = made("BatchTopKSAE").state_dict()
    state[name] = state[name].to(torch.float8_e4m3fn)
    path = saved(tmp_path, state, settings("BatchTopKSAE"))
    assert "stored as float8_e4m3fn, expected one of float64, float32, " in refusal(path)
