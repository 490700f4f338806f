"""Layouts of a few repositories each, against the conversion that SAELens' own loaders do on the same local files."""

import json

import pytest
import torch
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.loading.pretrained_sae_loaders import handle_pre_6_0_config
from safetensors.torch import save_file

from saereg.errors import FormatError
from saereg.registry.conversion.convert import Order, convert
from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import detect, read
from tests.upstream import D, F, K, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

ENCODER, DECODER = random(F, D, seed=1), random(D, F, seed=2)
B_ENC, B_DEC = random(F, seed=3), random(D, seed=4)

QWEN = {"W_enc": ENCODER, "W_dec": DECODER, "b_enc": B_ENC, "b_dec": B_DEC}
KISSANE = {"W_enc": ENCODER.T.contiguous(), "W_dec": DECODER.T.contiguous(), "b_enc": B_ENC, "b_dec": B_DEC}
KISSANE_CFG = {
    "seed": 49,
    "batch_size": 4096,
    "l1_coeff": 1.8,
    "dict_mult": 3,
    "enc_dtype": "fp32",
    "model_name": "gpt2-small",
    "site": "z",
    "layer": 0,
    "device": "cuda",
    "head": "cat",
    "concat_heads": True,
    "act_name": "blocks.0.attn.hook_z",
    "act_size": D,
    "dict_size": F,
}


def linears(encoder: str, decoder: str) -> dict[str, torch.Tensor]:
    """Return two torch Linears."""
    return {
        f"{encoder}.weight": ENCODER,
        f"{encoder}.bias": B_ENC,
        f"{decoder}.weight": DECODER,
        f"{decoder}.bias": B_DEC,
    }


def theirs(monkeypatch, loader, path, repo: str, **overrides) -> SAE:
    """Return what SAELens' own loader makes of a local file; it asks for no other."""
    monkeypatch.setattr(loaders, "hf_hub_download", lambda repo_id, filename, **kw: str(path.parent / filename))
    widths = {"d_in": D, "d_sae": F, "dtype": "float32"} | overrides
    cfg, state, _ = loader(repo, path.name, "cpu", False, widths)
    cfg = handle_pre_6_0_config(cfg)
    sae_class, config_class = loaders.get_sae_class(cfg["architecture"])
    sae = sae_class(config_class.from_dict(cfg))
    sae.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return sae.float()


def computed(sae: SAE, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (f, x_hat)."""
    with torch.no_grad():
        return sae.encode(x), sae(x)


QWEN_REPO = "Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5"


@pytest.fixture
def qwen(tmp_path):
    """Return the file of a layer, in a folder of a name that says k."""
    folder = tmp_path / "SAE-Res-Qwen3-1.7B-Base-W32K-L0_5"
    folder.mkdir()
    torch.save(QWEN, folder / "layer7.sae.pt")
    return folder / "layer7.sae.pt"


def test_qwen_scope_is_what_saelens_reads(qwen, tmp_path, monkeypatch):
    """Transposed twice, TopK, nothing subtracted."""
    sae, x = theirs(monkeypatch, loaders.qwen_scope_sae_huggingface_loader, qwen, QWEN_REPO), rows(D)
    assert detect(qwen) == ("qwen_scope",)
    dictionary = assert_same(qwen, x, *computed(sae, x), given={"k": K})
    notes = {note.field: note.value for note in dictionary.cfg.assumptions}
    assert notes == {"k": "5", "rectified": "True", "pre_encoder_subtraction": "none"}
    assert dictionary.cfg.metadata.model_dump(exclude_none=True) == {}
    assert_converts(qwen, tmp_path / "b", "saereg", given={"k": K})
    assert_converts(qwen, tmp_path / "c", "saelens", given={"k": K})
    assert relative(SAE.load_from_disk(tmp_path / "c")(x), sae(x)) < 1e-6


def test_qwen_scope_may_keep_negative_latents(qwen, tmp_path):
    """As the example of the cards does; they only show where fewer than k are positive."""
    x, k = rows(D), F - 2
    pre = x @ ENCODER.T + B_ENC
    top = pre.topk(k)
    f = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
    assert (f < 0).any()
    assert_same(qwen, x, f, f @ DECODER.T + B_DEC, given={"k": k, "rectified": "false"})
    assert_converts(qwen, tmp_path / "b", "saereg", given={"k": k, "rectified": False})
    f = f.relu()
    assert_same(qwen, x, f, f @ DECODER.T + B_DEC, given={"k": k})


def test_qwen_scope_asks_for_k(qwen, tmp_path):
    """And says what the path suggests, without taking it."""
    assert refusal(qwen) == (
        f"{qwen}: a TopK dictionary, and the file does not hold k, which its path may name: L0_5; say it: --set k=5"
    )
    torch.save(QWEN, tmp_path / "layer7.sae.pt")
    assert refusal(tmp_path / "layer7.sae.pt").endswith(
        "does not hold k, which the name of its repository says; say it: --set k=50"
    )
    assert refusal(qwen, k=F + 1) == "k=49: there are only d_sae = 48 latents"
    assert refusal(qwen, k=2.5) == "k=2.5: expected a whole number"


def test_qwen_scope_is_told_by_shapes(tmp_path):
    """Square matrices, matrices as SAELens has them, other tensors and safetensors are not taken for it."""
    square = {name: random(D, D) if name.startswith("W") else random(D) for name in QWEN}
    for name, tensors in {"square": square, "ours": KISSANE, "more": QWEN | {"k": torch.tensor(5)}}.items():
        torch.save(tensors, tmp_path / f"{name}.pt")
        assert "qwen_scope" not in detect(tmp_path / f"{name}.pt")
    save_file(QWEN, tmp_path / "layer7.safetensors")
    assert "qwen_scope" not in detect(tmp_path / "layer7.safetensors")


def test_golden_vectors_catch_a_wrong_reading_of_qwen_scope(qwen):
    """k, what is subtracted, and dense activations."""

    def other(k, subtracted=0):
        def x_hat(d):
            pre = (d.golden_x - subtracted) @ ENCODER.T + B_ENC
            top = pre.topk(k)
            return torch.zeros_like(pre).scatter(-1, top.indices, top.values).relu() @ DECODER.T + B_DEC

        return x_hat

    assert_golden_catches(qwen, other(K + 1), k=K)
    assert_golden_catches(qwen, other(K, B_DEC), k=K)
    assert_golden_catches(qwen, other(F), k=K)


GOODFIRE = ("Goodfire/Llama-3.1-8B-Instruct-SAE-l19", "Llama-3.1-8B-Instruct-SAE-l19.pth")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_goodfire_is_what_saelens_reads(tmp_path, monkeypatch, dtype):
    """Two Linears and a ReLU; the type of the file is kept."""
    repo, name = GOODFIRE
    tensors = {key: t.to(getattr(torch, dtype)) for key, t in linears("encoder_linear", "decoder_linear").items()}
    torch.save(tensors, tmp_path / name)
    sae, x = theirs(monkeypatch, loaders.get_goodfire_huggingface_loader, tmp_path / name, repo), rows(D)
    assert detect(tmp_path / name) == ("goodfire",)
    if dtype == "float32":
        assert_same(tmp_path / name, x, *computed(sae, x))
    assert read(tmp_path / name).cfg.dtype == dtype
    record = assert_converts(tmp_path / name, tmp_path / "b", "saereg")
    assert all(tensor.bitwise for tensor in record.tensors.values())
    assert_converts(tmp_path / name, tmp_path / "c", "saelens")
    assert relative(SAE.load_from_disk(tmp_path / "c", dtype="float32")(x), sae(x)) < 1e-6


def test_golden_vectors_catch_a_subtraction_in_goodfire(tmp_path):
    """b_dec is only added."""
    torch.save(linears("encoder_linear", "decoder_linear"), tmp_path / "a.pth")
    assert_golden_catches(
        tmp_path / "a.pth", lambda d: ((d.golden_x - B_DEC) @ ENCODER.T + B_ENC).relu() @ DECODER.T + B_DEC
    )


R1 = ("qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19", "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt")


def test_deepseek_r1_is_what_saelens_reads(tmp_path, monkeypatch):
    """Two Linears and a ReLU."""
    repo, name = R1
    torch.save(linears("encoder", "decoder"), tmp_path / name)
    sae, x = theirs(monkeypatch, loaders.deepseek_r1_sae_huggingface_loader, tmp_path / name, repo), rows(D)
    assert "deepseek_r1" in detect(tmp_path / name)
    assert_same(tmp_path / name, x, *computed(sae, x), layout="deepseek_r1")


def test_deepseek_r1_in_its_own_type_converts_bitwise(tmp_path):
    """The published file is bfloat16."""
    torch.save({name: t.bfloat16() for name, t in linears("encoder", "decoder").items()}, tmp_path / "a.pt")
    record = convert(Order(tmp_path / "a.pt", tmp_path / "b", "saelens", layout="deepseek_r1"))
    assert all(tensor.bitwise for tensor in record.tensors.values())
    assert SAE.load_from_disk(tmp_path / "b").W_dec.dtype == torch.bfloat16


def test_what_dictionary_learning_could_have_written_too_is_never_read_as_one_of_the_two_in_silence(tmp_path):
    """Without a config.json nothing tells them apart; with one it is theirs."""
    torch.save(linears("encoder", "decoder"), tmp_path / "a.pt")
    found = detect(tmp_path / "a.pt")
    assert set(found) <= {"deepseek_r1", "dictionary_learning"}
    if len(found) > 1:
        assert "fits several layouts; say which with --from" in refusal(tmp_path / "a.pt")
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderNew"}}))
    assert "deepseek_r1" not in detect(tmp_path / "a.pt")


def test_a_checkpoint_of_dictionary_learning_is_not_taken_for_deepseek_r1(tmp_path):
    """Its config.json stands one level above `checkpoints`."""
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints/ae_10.pt"
    torch.save(linears("encoder", "decoder"), path)
    assert "deepseek_r1" in detect(path)
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderNew"}}))
    assert "deepseek_r1" not in detect(path)


@pytest.mark.parametrize(
    ("name", "names"), [("goodfire", ("encoder_linear", "decoder_linear")), ("deepseek_r1", ("encoder", "decoder"))]
)
def test_linears_that_do_not_fit_are_not_taken_for_it(tmp_path, name, names):
    """One more tensor, one less, a decoder that lies the other way, a bias of another width, no pickle."""
    good = linears(*names)
    odd = {
        "more": good | {"scale": torch.ones(1)},
        "less": {key: t for key, t in good.items() if key != f"{names[0]}.bias"},
        "transposed": good | {f"{names[1]}.weight": DECODER.T.contiguous()},
        "bias": good | {f"{names[1]}.bias": B_ENC},
        "flat": good | {f"{names[0]}.weight": B_ENC},
    }
    for file, tensors in odd.items():
        torch.save(tensors, tmp_path / f"{file}.pt")
        assert name not in detect(tmp_path / f"{file}.pt")
    save_file(good, tmp_path / "a.safetensors")
    assert name not in detect(tmp_path / "a.safetensors")


def kissane(folder, tensors=KISSANE, name="gpt2-small_L0_Hcat_z_v9", **change):
    """Write a file and its document; return the file."""
    torch.save(tensors, folder / f"{name}.pt")
    (folder / f"{name}_cfg.json").write_text(json.dumps(KISSANE_CFG | change))
    return folder / f"{name}.pt"


def test_hook_z_is_what_saelens_reads(tmp_path, monkeypatch):
    """Heads flattened, b_dec subtracted, ReLU; and what the document says of model and hook."""
    path, x = kissane(tmp_path), rows(4, D // 4)
    repo = "ckkissane/attn-saes-gpt2-small-all-layers"
    sae = theirs(monkeypatch, loaders.connor_rob_hook_z_huggingface_loader, path, repo)
    f, x_hat = computed(sae, x)
    assert detect(path) == ("hook_z",)
    dictionary = Dictionary(read(path).checkpoint())
    assert torch.equal(dictionary.encode(x) != 0, f != 0)
    assert relative(dictionary(x), x_hat) < 1e-6
    assert dictionary.cfg.metadata.model_dump(exclude_none=True) == {
        "model_name": "gpt2-small",
        "hook_name": "blocks.0.attn.hook_z",
        "hook_layer": 0,
    }
    assert {note.field for note in dictionary.cfg.assumptions} == {"activation", "pre_encoder_subtraction"}
    assert_converts(path, tmp_path / "b", "saereg")
    assert_converts(path, tmp_path / "c", "saelens")
    assert relative(SAE.load_from_disk(tmp_path / "c")(x), sae(x)) < 1e-6


def test_hook_z_finds_the_document_of_its_file_among_others(tmp_path):
    """A repository holds a file for each layer."""
    first = kissane(tmp_path)
    second = kissane(tmp_path, name="gpt2-small_L1_Hcat_z_v5", act_name="blocks.1.attn.hook_z", layer=1)
    assert read(first).cfg.metadata.hook_name == "blocks.0.attn.hook_z"
    assert read(second).cfg.metadata.hook_name == "blocks.1.attn.hook_z"
    assert "holds 2 weight files; name one" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("change", "reshape", "head"),
    [
        ({"act_name": "blocks.0.hook_mlp_out", "site": "mlp_out"}, "none", None),
        ({"head": 3, "concat_heads": False}, "none", 3),
        ({"concat_heads": False}, "none", None),
    ],
)
def test_other_sites_are_not_flattened(tmp_path, change, reshape, head):
    """Only concatenated heads are."""
    cfg = read(kissane(tmp_path, **change)).cfg
    assert cfg.semantics.reshape == reshape
    assert cfg.metadata.hook_head_index == head


def test_golden_vectors_catch_a_forgotten_subtraction_in_hook_z(tmp_path):
    """b_dec is subtracted before the encoder."""
    path = kissane(tmp_path, act_name="blocks.0.hook_attn_out")
    assert_golden_catches(path, lambda d: (d.golden_x @ ENCODER.T + B_ENC).relu() @ DECODER.T + B_DEC)


REFUSED = {
    "width": ({"act_size": 15}, "says act_size = 15 and dict_size = 48, but W_enc is (16, 48); correct it"),
    "width no number": ({"dict_size": "48"}, "says act_size = 16 and dict_size = '48', but W_enc is (16, 48)"),
    "name": ({"act_name": 3}, "says act_name 3 and concat_heads True; expected a name, and true or false"),
    "heads": ({"concat_heads": "yes"}, "and concat_heads 'yes'; expected a name, and true or false"),
}


@pytest.mark.parametrize(("change", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_document_that_does_not_fit_is_refused(tmp_path, change, sentence):
    """In one line."""
    path = kissane(tmp_path, **change)
    assert refusal(path).startswith(f"{path}: gpt2-small_L0_Hcat_z_v9_cfg.json says")
    assert sentence in refusal(path)


def test_a_document_without_a_hook_is_refused(tmp_path):
    """Where the caller names the layout, since nothing else does."""
    path = kissane(tmp_path)
    (tmp_path / f"{path.stem}_cfg.json").write_text(json.dumps({"act_size": D, "dict_size": F}))
    with pytest.raises(FormatError, match="says act_name None and concat_heads True; expected a name"):
        read(path, layout="hook_z")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".bin", ".ckpt"])
def test_a_pickle_may_end_in_anything_that_pickles_end_in(tmp_path, suffix):
    """Its content tells what it is."""
    contents = {"qwen_scope": QWEN, "goodfire": linears("encoder_linear", "decoder_linear")}
    for name, tensors in contents.items():
        torch.save(tensors, tmp_path / f"{name}{suffix}")
        assert name in detect(tmp_path / f"{name}{suffix}")


def test_what_else_is_there_is_not_passed_over(tmp_path):
    """A key that nobody knows is noted; a tensor that nobody knows is refused."""
    assert "my_key" in {note.field for note in read(kissane(tmp_path, my_key=1)).cfg.assumptions}
    path = kissane(tmp_path, KISSANE | {"threshold": B_ENC})
    assert refusal(path).endswith("threshold: is no tensor of this layout; it would be lost")
    assert detect(kissane(tmp_path, QWEN)) != ("hook_z",)
