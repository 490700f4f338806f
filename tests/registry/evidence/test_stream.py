"""A dictionary run from its file gives what the dictionary in memory gives."""

import pytest
import torch

from saereg.registry.architectures.linear import decoder_norm
from saereg.registry.dictionary import Dictionary
from saereg.registry.evidence import stream
from saereg.registry.evidence.stream import decoder_norms
from saereg.registry.files.flat import open_safetensors
from saereg.registry.readings import recipes
from saereg.schemas.cfg import INFERENCE
from tests.registry.factories import (
    CROSS_LAYERS,
    CROSSCODERS,
    NATIVE,
    PREPROCESS,
    ROWS,
    checkpoint,
    config,
    cross_layer_config,
    crosscoder_config,
    native_config,
    relative,
    rows,
    write,
)

LINEAR = [name for name in INFERENCE if name not in ("temporal", "matching_pursuit")]
NORMALIZATIONS = ("none", "layer_norm", "constant_norm_rescale")
SAELENS = [
    (name, norm, False) for name in INFERENCE for norm in NORMALIZATIONS if "transcoder" not in name or norm == "none"
]
SAELENS += [(name, "none", True) for name in ("topk", "abstopk")]


def streamed(source, folder):
    """Write a checkpoint and return it as a stream."""
    write(source, folder)
    (path,) = folder.glob("*.safetensors")
    return stream.streamed(source.cfg, open_safetensors(path))


@pytest.fixture(params=[1, 100, 10**7], ids=["a row", "100 bytes", "whole"])
def block_bytes(request, monkeypatch):
    """Blocks of one row, of some rows, and of all rows."""
    monkeypatch.setattr(recipes, "BLOCK_BYTES", request.param)
    monkeypatch.setattr(recipes, "STRIDED_BLOCK_BYTES", request.param)
    monkeypatch.setattr(recipes, "MOST_PASSES", 10**9)
    return request.param


@pytest.mark.parametrize(("name", "norm", "rescaled"), SAELENS)
def test_every_saelens_architecture_streams(tmp_path, block_bytes, name, norm, rescaled):
    """The same active latents, and reconstructions equal to float32 rounding."""
    more = {"rescale_acts_by_decoder_norm": True} if rescaled else {}
    source = checkpoint(config(name, normalize_activations=norm, **more))
    x = rows(ROWS, source.cfg.d_in)
    whole = Dictionary(source)
    shaped = x[None] if name == "temporal" else x

    f, x_hat = streamed(source, tmp_path).run(x)

    expected, reconstruction = whole.encode(shaped).reshape(f.shape), whole(shaped).reshape(x_hat.shape)
    assert (f != 0).any()
    assert torch.equal(f != 0, expected != 0)
    assert relative(f, expected) < 1e-5
    assert relative(x_hat, reconstruction) < 1e-5


@pytest.mark.parametrize("preprocess", PREPROCESS)
@pytest.mark.parametrize("name", CROSSCODERS)
def test_every_crosscoder_streams(tmp_path, block_bytes, name, preprocess):
    """Every gate, code norm, bias reduction and input statistic."""
    source = checkpoint(crosscoder_config(name, preprocess))
    x = rows(ROWS, source.cfg.n_sources, source.cfg.d_in)

    f, x_hat = streamed(source, tmp_path).run(x)

    assert torch.equal(f != 0, Dictionary(source).encode(x) != 0)
    assert relative(f, Dictionary(source).encode(x)) < 1e-5
    assert relative(x_hat, Dictionary(source)(x)) < 1e-5


OWN = {
    **{
        f"{name} {kind}": native_config(name, kind, "center_scale") for name in NATIVE for kind in ("sae", "transcoder")
    },
    **{f"{name} across layers": cross_layer_config(name, skip=True) for name in CROSS_LAYERS},
}


@pytest.mark.parametrize("name", OWN)
def test_every_dictionary_in_our_own_dialect_streams(tmp_path, block_bytes, name):
    """Every activation, with statistics, skip connections and codes across layers."""
    source = checkpoint(OWN[name])
    x = rows(ROWS, source.cfg.n_layers, source.cfg.d_in) if "layers" in name else rows(ROWS, source.cfg.d_in)

    f, x_hat = streamed(source, tmp_path).run(x)

    assert torch.equal(f != 0, Dictionary(source).encode(x) != 0)
    assert relative(f, Dictionary(source).encode(x)) < 1e-5
    assert relative(x_hat, Dictionary(source)(x)) < 1e-5


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_sums_are_in_float64_whatever_the_file_holds(tmp_path, dtype):
    """So a replay is as exact as the weights allow."""
    source = checkpoint(config("standard", dtype=dtype))
    x = rows(ROWS, source.cfg.d_in)
    exact = Dictionary(checkpoint(config("standard", dtype=dtype))).to(dtype=torch.float64)

    f, x_hat = streamed(source, tmp_path).run(x)

    assert f.dtype == x_hat.dtype == torch.float64
    assert relative(x_hat, exact(x.double())) < 1e-12


@pytest.mark.parametrize("name", CROSSCODERS)
def test_decoder_norms_join_along_the_latents(tmp_path, block_bytes, name):
    """Whatever the block, also where each source has its own."""
    source = checkpoint(crosscoder_config(name))
    opened = streamed(source, tmp_path)

    norms = decoder_norms(opened.recipes, lambda block: decoder_norm(block, source.cfg))

    assert torch.allclose(norms, decoder_norm(source.weights["W_dec"], source.cfg))
