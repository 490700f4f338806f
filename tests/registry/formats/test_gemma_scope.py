"""Gemma Scope 1: numpy writes the archives; the tutorial's JumpReLU SAE is what the reading must compute."""

import numpy
import pytest
import torch
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders
from safetensors.torch import save_file

from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import detect, read
from tests.upstream import D, F, O, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows


def params(d_out: int = D) -> dict[str, torch.Tensor]:
    """Return weights as in params.npz, with thresholds that some rows pass and some do not."""
    return {
        "W_enc": random(D, F, seed=1),
        "W_dec": random(F, d_out, seed=2),
        "b_enc": random(F, seed=3),
        "b_dec": random(d_out, seed=4),
        "threshold": random(F, seed=5).abs() + 0.1,
    }


def save(folder, tensors):
    """Write params.npz as numpy does and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    numpy.savez(folder / "params.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    return folder


def forward(p, x):
    """JumpReLUSAE of the publisher's tutorial: the mask is pre > threshold, applied to relu(pre)."""
    pre = x @ p["W_enc"] + p["b_enc"]
    f = (pre > p["threshold"]) * pre.relu()
    return f, f @ p["W_dec"] + p["b_dec"]


@pytest.mark.parametrize("d_out", [D, O])
def test_it_computes_what_the_tutorial_computes(tmp_path, d_out):
    """SAE where the widths are equal, transcoder where they are not."""
    p, x = params(d_out), rows(D)
    dictionary = assert_same(save(tmp_path, p), x, *forward(p, x))
    assert dictionary.cfg.kind == ("sae" if d_out == D else "transcoder")
    assert [note.field for note in dictionary.cfg.assumptions] == (["kind", "site"] if d_out == D else [])


def test_a_pre_activation_at_its_threshold_is_not_active(tmp_path):
    """Strictly above: at the threshold it is 0, one ulp above it is not."""
    p = params()
    p["W_enc"].zero_()
    p["b_enc"][:] = p["threshold"]
    p["b_enc"][7] = torch.nextafter(p["threshold"][7], torch.tensor(9.0))
    f = Dictionary(read(save(tmp_path, p)).checkpoint()).encode(rows(D))
    assert (f != 0).nonzero()[:, 1].unique().tolist() == [7]


def test_a_transcoder_of_one_width_is_labelled_when_it_is_said(tmp_path):
    """The function is the same; the label is not."""
    reading = read(save(tmp_path, params()), {"kind": "transcoder"})
    assert reading.cfg.kind == "transcoder"
    assert reading.cfg.semantics == read(tmp_path).cfg.semantics


def test_saelens_computes_the_same_of_its_export(tmp_path):
    """In SAELens' own class, without b_dec subtracted."""
    p, x = params(), rows(D)
    assert_converts(save(tmp_path / "a", p), tmp_path / "b", "saelens")
    sae = SAE.load_from_disk(tmp_path / "b")
    f, x_hat = forward(p, x)
    assert torch.equal(sae.encode(x) != 0, f != 0)
    assert relative(sae(x), x_hat) <= 1e-5


def test_a_transcoder_exports_to_saelens(tmp_path):
    """With its own output width."""
    p, x = params(O), rows(D)
    assert_converts(save(tmp_path / "a", p), tmp_path / "b", "saelens")
    assert relative(SAE.load_from_disk(tmp_path / "b")(x), forward(p, x)[1]) <= 1e-5


def test_it_goes_to_our_layout_and_back_and_numpy_reads_it(tmp_path):
    """Every array is the one that numpy had written."""
    p = params()
    assert_converts(save(tmp_path / "a", p), tmp_path / "b", "saereg")
    assert_converts(tmp_path / "b", tmp_path / "c", "gemma_scope")
    with numpy.load(tmp_path / "c/params.npz") as found:
        assert {name: found[name].tobytes() for name in found} == {name: p[name].numpy().tobytes() for name in p}
    assert detect(tmp_path / "c") == ("gemma_scope",)


def test_at_the_embedding_it_reads_the_stream(tmp_path):
    """Trained on rows of the embedding matrix e; the stream holds √D·e, and so must what comes back."""
    p, x = params(), rows(D)
    f, x_hat = forward(p, x / D**0.5)
    assert_same(save(tmp_path / "a", p), x, f, x_hat * D**0.5, given={"site": "embedding"})
    assert_converts(tmp_path / "a", tmp_path / "b", "saelens", given={"site": "embedding"})


def test_saelens_leaves_b_dec_of_the_embedding_in_other_units(tmp_path, monkeypatch):
    """Its matrices are ours; its output bias is not scaled with them."""
    p = params()
    path = save(tmp_path / "embedding/width_16k/average_l0_9", p)
    monkeypatch.setattr(pretrained_sae_loaders, "hf_hub_download", lambda **_: str(path / "params.npz"))
    cfg = {"d_in": D, "d_sae": F}
    _, theirs, _ = pretrained_sae_loaders.gemma_2_sae_huggingface_loader(
        "google/gemma-scope-2b-pt-res", "embedding/width_16k/average_l0_9", cfg_overrides=cfg
    )
    ours = read(path, {"site": "embedding"}).checkpoint().weights
    torch.testing.assert_close(ours["W_enc"], theirs["W_enc"])
    torch.testing.assert_close(ours["W_dec"], theirs["W_dec"])
    torch.testing.assert_close(ours["b_dec"], theirs["b_dec"] * D**0.5)


WRONG = {
    "b_dec subtracted": lambda d, x: d(x - d.weights["b_dec"]),
    "ReLU for JumpReLU": lambda d, x: d.decode((x @ d.weights["W_enc"] + d.weights["b_enc"]).relu()),
    "no encoder bias": lambda d, x: d(x) * 0 + d.decode(_jump(x @ d.weights["W_enc"], d)),
}


def _jump(pre, dictionary):
    return pre * (pre > dictionary.weights["threshold"])


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_golden_vectors_catch_a_wrong_reading(tmp_path, wrong):
    """Also the subtraction that is SAELens' default."""
    assert_golden_catches(save(tmp_path, params()), lambda dictionary: wrong(dictionary, dictionary.golden_x))


def test_what_the_archive_cannot_be_is_refused(tmp_path):
    """One line each: a negative threshold, a site of a transcoder, a missing tensor, an unknown site."""
    p = params()
    p["threshold"][3] = -0.5
    path = save(tmp_path / "a", p)
    assert refusal(path) == f"{path}: threshold is negative somewhere, which no Gemma Scope dictionary has"
    path = save(tmp_path / "b", params(O))
    message = "site=embedding is of SAEs, and this is a transcoder; leave site out"
    assert refusal(path, site="embedding") == f"{path}: {message}"
    assert refusal(path, site="embed") == "site=embed: choose from residual, attention, mlp, embedding"
    assert refusal(path, kind="sae").endswith("an SAE has d_out = d_in = 16; found 12: is it a transcoder?")
    del p["b_dec"]
    assert detect(save(tmp_path / "c", p)) == ()


def test_bfloat16_is_widened_for_numpy(tmp_path):
    """Which has no such type; no value changes."""
    p = {name: tensor.bfloat16() for name, tensor in params().items()}
    save_file({name.replace("W_", "w_"): tensor for name, tensor in p.items()}, tmp_path / "params.safetensors")
    assert_converts(tmp_path / "params.safetensors", tmp_path / "b", "gemma_scope")
    with numpy.load(tmp_path / "b/params.npz") as found:
        assert all(numpy.array_equal(found[name], p[name].float().numpy()) for name in p)


def test_what_another_layout_would_be_asked_for_is_one_line(tmp_path):
    """An archive that is said to be Gemma Scope's, and is not."""
    path = save(tmp_path, {"W_enc": random(D, F), "W_dec": random(F, D)})
    with pytest.raises(Exception, match="b_dec: missing; expected W_dec, W_enc, b_dec, b_enc, threshold"):
        read(path, layout="gemma_scope")


def test_what_gemma_scope_cannot_say_is_not_written(tmp_path):
    """A skip connection is not in its archives."""
    from tests.registry.formats.test_gemma_scope_2 import save as save_2

    path = save_2(tmp_path / "a", affine=True)
    with pytest.raises(Exception, match="it has no skip connection; use --to saereg"):
        assert_converts(path, tmp_path / "b", "gemma_scope")
