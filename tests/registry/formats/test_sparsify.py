"""sparsify's own classes write the files; its own forward is what the reading must compute."""

import json
import shutil

import pytest
import torch
from sparsify import SparseCoder, SparseCoderConfig

from saereg.registry.loading import read
from tests.upstream import D, F, K, assert_converts, assert_same, random, refusal, rows

CONFIGS = {
    "topk": {"num_latents": F, "k": K},
    "groupmax": {"num_latents": F, "k": 6, "activation": "groupmax"},
    "by expansion factor": {"expansion_factor": 3, "k": K},
    "transcoder": {"num_latents": F, "k": K, "transcode": True},
    "skip transcoder": {"num_latents": F, "k": K, "transcode": True, "skip_connection": True},
    "groupmax skip transcoder": {
        "num_latents": F,
        "k": 6,
        "activation": "groupmax",
        "transcode": True,
        "skip_connection": True,
    },
    "SAE with a skip": {"num_latents": F, "k": K, "skip_connection": True},
}


def coder(**config) -> SparseCoder:
    """Return a coder with weights that hide no mistake."""
    made = SparseCoder(D, SparseCoderConfig(**config))
    with torch.no_grad():
        for seed, parameter in enumerate(made.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed))
    return made


def forward(made: SparseCoder, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sparsify's (f, x_hat)."""
    with torch.no_grad():
        acts, indices, _ = made.encode(x)
        f = torch.zeros(len(x), F).scatter(-1, indices, acts)
        return f, made(x).sae_out


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_it_computes_what_sparsify_computes(tmp_path, config):
    """Equal active sets, and x_hat to rounding."""
    made, x = coder(**config), rows(D)
    made.save_to_disk(tmp_path / "layers.3.mlp")
    dictionary = assert_same(tmp_path / "layers.3.mlp", x, *forward(made, x))
    assert dictionary.cfg.assumptions == ()
    assert dictionary.cfg.metadata.model_dump(exclude_none=True) == {}  # a folder's name is no statement


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_it_converts_to_our_layout_and_back(tmp_path, config):
    """Bytes of weights included."""
    coder(**config).save_to_disk(tmp_path / "a")
    assert_converts(tmp_path / "a", tmp_path / "b", "saereg")
    assert_converts(tmp_path / "b", tmp_path / "c", "sparsify")
    assert (tmp_path / "c/sae.safetensors").read_bytes() == (tmp_path / "a/sae.safetensors").read_bytes()


WRONG = {
    "k is missing": (lambda cfg: cfg.pop("k"), "cfg.json has no k; add the one that it was trained with"),
    "k exceeds d_sae": (
        lambda cfg: cfg.update(k=F + 1),
        "cfg.json says k = 49; expected a whole number from",
    ),
    "a switch as a word": (
        lambda cfg: cfg.update(transcode="false"),
        "cfg.json says transcode = 'false'; expected",
    ),
    "a misspelt switch": (
        lambda cfg: cfg.update(trancode=cfg.pop("transcode")),
        "cfg.json: unknown key 'trancode', did you mean 'transcode'?",
    ),
    "another activation": (lambda cfg: cfg.update(activation="relu"), "sparsify has topk and groupmax"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_configuration_that_says_nothing_clear_is_refused(tmp_path, name):
    """In one line."""
    coder(num_latents=F, k=K).save_to_disk(tmp_path / "a")
    cfg = json.loads((tmp_path / "a/cfg.json").read_text())
    WRONG[name][0](cfg)
    (tmp_path / "a/cfg.json").write_text(json.dumps(cfg))
    assert WRONG[name][1] in refusal(tmp_path / "a")


def test_a_key_that_nobody_knows_is_noted(tmp_path):
    """It may mean something; it never vanishes."""
    coder(num_latents=F, k=K).save_to_disk(tmp_path / "a")
    cfg = json.loads((tmp_path / "a/cfg.json").read_text())
    (tmp_path / "a/cfg.json").write_text(json.dumps(cfg | {"frobnicate": 3}))
    record = assert_converts(tmp_path / "a", tmp_path / "b", "saelens")
    assert [(note.field, note.value) for note in record.assumptions] == [("frobnicate", "3")]


def test_another_weight_file_beside_is_not_taken_for_its_own(tmp_path):
    """Whatever its name: sparsify never reads sae_weights.safetensors."""
    coder(num_latents=F, k=K).save_to_disk(tmp_path / "a")
    shutil.copy(tmp_path / "a/sae.safetensors", tmp_path / "a/sae_weights.safetensors")
    assert "holds 2 weight files; name one" in refusal(tmp_path / "a")


def test_a_wrong_width_is_refused(tmp_path):
    """cfg.json against the tensors."""
    coder(num_latents=F, k=K).save_to_disk(tmp_path / "a")
    cfg = json.loads((tmp_path / "a/cfg.json").read_text()) | {"num_latents": 0}
    (tmp_path / "a/cfg.json").write_text(json.dumps(cfg))
    assert refusal(tmp_path / "a") == (
        f"{tmp_path}/a: cfg.json says d_in = 16 and 512 latents, but encoder.weight is (48, 16); correct cfg.json"
    )


def test_a_key_that_is_not_known_is_noted(tmp_path):
    """With its value in short; `signed` of old files is known."""
    coder(num_latents=F, k=K).save_to_disk(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text()) | {"signed": False, "jumprelu": [True] * 99}
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))
    (note,) = read(tmp_path).cfg.assumptions
    assert (note.field, note.value) == ("jumprelu", str([True] * 99)[:200])
    assert note.because == "a key of cfg.json that this layout is not known to have; ignored"
