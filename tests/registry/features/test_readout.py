"""What latents write: decoder directions times the unembedding of real, tiny models, and why there is none."""

import json

import pytest
import torch
from safetensors.torch import save_file

from saereg.errors import DataUnavailableError
from saereg.registry.features import readout
from saereg.registry.features.readout import SHOWN, logits
from saereg.registry.release import open_release
from tests.releases import D_IN, tiny_release

WIDTH = D_IN


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return open_release(tiny_release(tmp_path_factory.mktemp("release"), built=False))


@pytest.fixture
def model(tmp_path):
    """Return a function that writes what a checkpoint holds of its unembedding and final norm."""

    def save(config, **shapes):
        generator = torch.Generator().manual_seed(0)
        tensors = {name.replace("__", "."): torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        save_file(tensors, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tensors, {"tiny": str(tmp_path)}

    return save


def directions():
    return torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(1))


def expected(W_U, folded):
    """Return the largest and the smallest logits, by the whole matrix."""
    found = folded.double() @ W_U.double().T
    return found.sort(dim=1, descending=True, stable=True), found.sort(dim=1, stable=True)


@pytest.mark.parametrize("block_bytes", [1, 1 << 25])
def test_logits_are_those_of_the_whole_matrix_with_the_gain_of_a_layer_norm(release, model, monkeypatch, block_bytes):
    """GPT-NeoX: the mean is taken off, the gain folded in; block by block, or all at once."""
    monkeypatch.setattr(readout, "BLOCK_BYTES", block_bytes)
    made, models = model(
        {"model_type": "gpt_neox"}, embed_out__weight=(50, WIDTH), gpt_neox__final_layer_norm__weight=(WIDTH,)
    )
    d = directions()
    found = logits(release["layer_1/topk"], d, models)
    folded = (d - d.mean(1, keepdim=True)) * made["gpt_neox.final_layer_norm.weight"]
    largest, smallest = expected(made["embed_out.weight"], folded)
    for place in range(len(d)):
        assert [entry for entry, _ in found.largest[place]] == largest.indices[place, :SHOWN].tolist()
        assert [entry for entry, _ in found.smallest[place]] == smallest.indices[place, :SHOWN].tolist()
        assert [value for _, value in found.largest[place]] == pytest.approx(largest.values[place, :SHOWN].tolist())
    assert "gain of the final norm folded in" in found.note


def test_a_tied_embedding_is_the_unembedding_and_gemma_has_one_more_than_its_gain(release, model):
    """Gemma: no lm_head in the file, an RMS norm of gain 1 + w, and nothing is centred."""
    config = {"model_type": "gemma", "architectures": ["GemmaForCausalLM"]}
    made, models = model(config, model__embed_tokens__weight=(50, WIDTH), model__norm__weight=(WIDTH,))
    d = directions()
    found = logits(release["layer_1/topk"], d, models)
    largest, _ = expected(made["model.embed_tokens.weight"], d * (1 + made["model.norm.weight"]))
    assert [entry for entry, _ in found.largest[0]] == largest.indices[0, :SHOWN].tolist()


def test_a_model_of_another_kind_is_read_out_without_its_norm(release, model):
    """Nothing that is not known is folded in, and the note says so."""
    made, models = model({"model_type": "new"}, lm_head__weight=(50, WIDTH), model__norm__weight=(WIDTH,))
    d = directions()
    found = logits(release["layer_1/topk"], d, models)
    largest, _ = expected(made["lm_head.weight"], d)
    assert [entry for entry, _ in found.largest[0]] == largest.indices[0, :SHOWN].tolist()
    assert "the final norm are left out" in found.note


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"architectures": ["BertModel"]}, "the model has no unembedding: it predicts no tokens"),
        ({"architectures": ["XForCausalLM"], "tie_word_embeddings": False}, "holds no unembedding"),
    ],
)
def test_a_model_without_an_unembedding_has_no_readout(config, why, release, model):
    """An encoder, and a checkpoint without its head: the embedding is of the right shape, and something else."""
    _, models = model(config, embeddings__wte__weight=(50, WIDTH))
    with pytest.raises(DataUnavailableError, match=why):
        logits(release["layer_1/topk"], directions(), models)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("GPTNeoX", {}),
        ("Llama", {}),
        ("Gemma", {"num_key_value_heads": 1, "head_dim": 4}),
        ("GPT2", {"n_embd": WIDTH, "n_layer": 1, "n_head": 1, "n_positions": 16}),
    ],
)
def test_checkpoints_of_transformers_are_read_out_as_the_model_computes(kind, settings, release, tmp_path):
    """A step along a direction behind the last layer moves the logits of the real model as it is said."""
    import transformers

    torch.manual_seed(0)
    common = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    common = {"vocab_size": 50} | (common | {"max_position_embeddings": 16} if kind != "GPT2" else {})
    config = getattr(transformers, f"{kind}Config")(**common, **settings)
    made = getattr(transformers, {"GPT2": "GPT2LMHeadModel"}.get(kind, f"{kind}ForCausalLM"))(config).double()
    norm = next(m for n, m in made.named_modules() if n.endswith((".norm", ".final_layer_norm", ".ln_f")))
    norm.weight.data.uniform_(0.5, 2.0)
    made.save_pretrained(tmp_path)
    d = directions().double()
    found = logits(release["layer_1/topk"], d, {"tiny": str(tmp_path)})
    with torch.no_grad():
        # far along a direction a norm divides by its length: what is left are logits up to one factor
        far = made.get_output_embeddings()(norm(d * 1e6))
        far -= made.get_output_embeddings()(norm(d * 0)) if kind in ("GPTNeoX", "GPT2") else 0
    for place in range(len(d)):
        order = far[place].argsort(descending=True)[:SHOWN].tolist()
        assert [entry for entry, _ in found.largest[place]] == order
    assert "gain of the final norm folded in" in found.note


@pytest.mark.parametrize(
    ("identifier", "models", "why"),
    [
        ("layer_1/topk", {}, "give --model tiny=FOLDER"),
        ("layer_1/topk", {"tiny": "no/such/folder"}, "neither a folder nor a repository"),
        ("layer_1/transcoder", {"tiny": "."}, "its outputs have width 3, the residual stream 4"),
        ("W_U/cross-snapshot-2", {"tiny": "."}, "a crosscoder writes to several sources"),
    ],
)
def test_what_cannot_be_read_out_says_why(identifier, models, why, release):
    """No model, another width, several sources."""
    with pytest.raises(DataUnavailableError, match=why):
        logits(release[identifier], directions(), models)


def test_a_folder_without_weights_says_so(release, tmp_path):
    """And names no folder of this machine: what is said is published."""
    with pytest.raises(DataUnavailableError, match="the checkpoint holds none of") as caught:
        logits(release["layer_1/topk"], directions(), {"tiny": str(tmp_path)})
    assert str(tmp_path) not in caught.value.why
