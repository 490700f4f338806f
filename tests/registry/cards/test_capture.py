"""How rows are captured again: the code of the cards is run, with transformers and models that are built here."""

import json

import pytest
import torch

from saereg.registry.cards.capture import capture
from saereg.registry.models.hooks import Place, run_at
from saereg.registry.models.model import load_model
from saereg.schemas.manifest import Manifest
from tests.tiny_models import LAYERS, save_bert, save_neox

TOKENS = {"bos": False, "separator": "eos", "excluded": ["special"], "context_size": 16}
STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000]


@pytest.fixture(scope="module")
def neox(tmp_path_factory):
    return save_neox(tmp_path_factory.mktemp("neox"))


def manifest(model, sites: dict, evaluations: dict | None = None, **facts) -> Manifest:
    """Return a manifest of one model with some sites."""
    value = {
        "schema_version": "1.0",
        "release": {"name": "r", "version": "1.0.0", "title": "R", "license": "mit"},
        "base_models": {"m": {"id": str(model), "n_layers": LAYERS, "d_model": 16} | facts},
        "sites": {name: {"model": "m"} | site for name, site in sites.items()},
        "evaluations": evaluations or {},
        "tokens": TOKENS,
        "artifacts": [],
    }
    return Manifest.from_text(json.dumps(value))


def run(code: str) -> dict:
    names: dict = {}
    exec(compile(code, "capture", "exec"), names)
    return names


@pytest.mark.parametrize(
    "site",
    [
        {"module": "gpt_neox.layers.2", "layer": 2},
        {"module": "gpt_neox.layers.1.mlp", "layer": 1, "stream": "mlp"},
        {"module": "gpt_neox.layers.1.mlp", "layer": 1, "stream": "mlp", "io": "input"},
        {"module": "gpt_neox.layers.1", "layer": 1, "io": "input"},
        {"module": "gpt_neox.final_layer_norm", "post_final_norm": True},
    ],
)
def test_the_code_captures_what_saereg_captures(neox, site):
    """Input and output of layers and of parts of them, in a model with a head; special tokens are left out."""
    words, code = capture("here", manifest(neox, {"here": site}))
    names = run(code)

    loaded = load_model(str(neox))
    place = Place(site["module"], site.get("io", "output"))
    found, _ = run_at(loaded.model, [place], {"input_ids": names["batch"]["input_ids"]})
    assert torch.equal(names["x"], found[place][~names["special"]])
    assert any(f"`{site['module']}`" in sentence for sentence in words)


def test_an_encoder_without_a_head_is_captured_too(tmp_path):
    """[CLS] and [SEP] stand around the tokens, and are left out."""
    site = {"module": "encoder.layer.1", "layer": 1, "hidden_states_index": 2}
    words, code = capture("here", manifest(save_bert(tmp_path / "bert"), {"here": site}, final_norm=False))
    names = run(code)

    output = names["model"](**names["batch"], output_hidden_states=True)
    assert torch.equal(names["x"], output.hidden_states[2][:, 1:-1].flatten(0, 1))
    assert "Of transformers' `hidden_states`, entry 2 is the same tensor." in words


def test_the_last_layer_has_its_warning_and_no_other_layer(neox):
    """Behind the last layer stands a norm, and `hidden_states` has what is behind that."""
    sites = {f"layer-{i}": {"module": f"gpt_neox.layers.{i}", "layer": i} for i in range(LAYERS)}
    warned = {key: any("**not** this tensor" in s for s in capture(key, manifest(neox, sites))[0]) for key in sites}

    assert warned == {"layer-0": False, "layer-1": False, "layer-2": True}
    names = run(capture("layer-2", manifest(neox, sites))[1])
    states = names["model"](**names["batch"], output_hidden_states=True).hidden_states
    assert not torch.allclose(names["x"], states[-1][~names["special"]], atol=1e-3)
    assert not any("**not**" in s for s in capture("layer-2", manifest(neox, sites, final_norm=False))[0])


def rows(**facts) -> dict:
    evaluation = {"source": "parameters", "tensor": "embed_out.weight", "rows": 64, "site": "W_U"}
    return {"vocabulary": evaluation | facts}


def test_the_code_of_a_parameter_stacks_its_snapshots_as_they_are_prepared(tmp_path):
    """Each snapshot is centred and scaled by itself; the list of steps is wrapped, and is all there."""
    for step in (0, 2000):
        save_neox(tmp_path / f"step{step}", rope_theta=10_000 + step)
    site = {"W_U": {"stream": "parameter", "parameter": "W_U"}}
    evaluations = rows(steps=[0, 2000], revision="step{step}", preprocess="center_scale")
    words, code = capture("W_U", manifest(tmp_path, site, evaluations))
    local = code.replace("(name, revision=at", '(f"{name}/{at}"')  # a folder stands for a revision

    x = run(local)["x"]
    assert x.shape == (64, 2, 16)
    assert x.mean(dim=0).abs().max() < 1e-6
    assert torch.allclose(x.square().sum(dim=-1).mean(dim=0), torch.tensor([16.0, 16.0]))
    assert any("the mean row is taken off" in sentence for sentence in words)
    _, code = capture("W_U", manifest(tmp_path, site, rows(steps=STEPS)))
    assert f"steps = {STEPS}".replace("\n", "") == code[code.index("steps") : code.index("x = []")].replace(
        "\n    ", " "
    ).replace("[ ", "[").replace(",\n]", "]").strip().replace(", 2000,", ", 2000")


def test_a_parameter_without_such_data_is_taken_by_what_it_does(neox):
    """The two matrices of the vocabulary have a name in every model; any other tensor is only described."""
    sites = {"W_E": {"stream": "parameter", "parameter": "W_E"}, "W_O": {"stream": "parameter", "parameter": "W_O"}}

    names = run(capture("W_E", manifest(neox, sites))[1])
    assert torch.equal(names["x"], load_model(str(neox)).model.get_input_embeddings().weight)
    words, code = capture("W_O", manifest(neox, sites))
    assert code is None
    assert any("`W_O`" in sentence for sentence in words)


def test_words_of_others_are_shown_and_do_nothing(tmp_path):
    """A reason with markup, a model whose name is code, a site that only TransformerLens names."""
    site = {"hook_name": "blocks.0.hook_resid_post", "reason": "<b>no</b> [link](x) `module`"}
    words, code = capture("here", manifest('x"); import os #`', {"here": site}))

    assert any("&lt;b" in sentence and "\\[link\\]" in sentence for sentence in words)
    assert 'name = "x\\"); import os #`"' in code
    assert compile(code, "capture", "exec")
    assert capture("nowhere", manifest("m", {})) == ([], None)
