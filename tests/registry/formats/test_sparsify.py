"""sparsify's own classes write the files; its own forward is what the reading must compute."""

import json

import pytest
import torch
from sparsify import SparseCoder, SparseCoderConfig

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
    assert dictionary.cfg.metadata.model_extra == {"sparsify_hookpoint": "layers.3.mlp"}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_it_converts_to_our_layout_and_back(tmp_path, config):
    """Bytes of weights included."""
    coder(**config).save_to_disk(tmp_path / "a")
    assert_converts(tmp_path / "a", tmp_path / "b", "saereg")
    assert_converts(tmp_path / "b", tmp_path / "c", "sparsify")
    assert (tmp_path / "c/sae.safetensors").read_bytes() == (tmp_path / "a/sae.safetensors").read_bytes()


def test_a_wrong_width_is_refused(tmp_path):
    """cfg.json against the tensors."""
    coder(num_latents=F, k=K).save_to_disk(tmp_path / "a")
    cfg = json.loads((tmp_path / "a/cfg.json").read_text()) | {"num_latents": 0}
    (tmp_path / "a/cfg.json").write_text(json.dumps(cfg))
    assert refusal(tmp_path / "a") == (
        f"{tmp_path}/a: cfg.json says d_in = 16 and 512 latents, but encoder.weight is (48, 16); correct cfg.json"
    )
