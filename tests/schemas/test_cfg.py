"""cfg.json: what each architecture of SAELens saves, no key more, no type converted in silence."""

import dataclasses
import json
from functools import cache

import pytest
import torch

from saereg.errors import DocumentError
from saereg.schemas.artifact_config import assumptions, check_config, is_training, parse_config
from saereg.schemas.cfg import INFERENCE
from saereg.schemas.cfg_training import TRAINING
from tests.registry.factories import D_IN, D_SAE, SETTINGS, TRAINING_SETTINGS, config, training_config

EVERY = [("inference", name) for name in INFERENCE] + [("training", name) for name in TRAINING]


@cache
def saved_by_saelens(form: str, name: str) -> tuple[str, dict]:
    """Return the text of cfg.json and the tensors that SAELens' own class of an architecture saves."""
    from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

    registry = SAE_CLASS_REGISTRY if form == "inference" else SAE_TRAINING_CLASS_REGISTRY
    settings = (SETTINGS if form == "inference" else TRAINING_SETTINGS).get(name, {})
    sae_class, config_class = registry[name]
    fields = {field.name for field in dataclasses.fields(config_class)}
    chosen = {key: value for key, value in settings.items() if key in fields}
    sae = sae_class(config_class(d_in=D_IN, d_sae=D_SAE, device="cpu", dtype="float32", **chosen))
    state = sae.state_dict()
    if form == "inference":
        sae.process_state_dict_for_saving(state)
    return json.dumps(sae.cfg.to_dict(), default=str), {name: tuple(t.shape) for name, t in state.items()}


def test_the_architectures_are_those_of_saelens():
    """No more and no fewer, for inference and for training."""
    from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

    assert set(INFERENCE) == set(SAE_CLASS_REGISTRY)
    assert set(TRAINING) <= set(SAE_TRAINING_CLASS_REGISTRY)


@pytest.mark.parametrize(("form", "name"), EVERY)
def test_the_tensor_table_is_what_saelens_saves(form, name):
    """Names and shapes, of d_in, d_sae and d_out that all differ."""
    text, tensors = saved_by_saelens(form, name)

    cfg = parse_config(text)

    assert {key: spec.shape for key, spec in cfg.tensors().items()} == tensors
    assert is_training(cfg) == (form == "training")


@pytest.mark.parametrize(("form", "name"), EVERY)
def test_every_key_that_saelens_writes_is_known(form, name):
    """And reading and writing it again changes nothing that SAELens said."""
    text, _ = saved_by_saelens(form, name)

    cfg, problems = check_config(text)

    assert problems == []
    again = json.loads(cfg.text())
    written = json.loads(text)
    assert {key: again[key] for key in written if key != "metadata"} == {
        key: value for key, value in written.items() if key != "metadata"
    }


@pytest.mark.parametrize(("form", "name"), EVERY)
def test_a_misspelt_switch_is_found_in_every_architecture(form, name):
    """SAELens would drop it in silence and take the default."""
    cfg = config(name) if form == "inference" else training_config(name)
    value = json.loads(cfg.text())
    value["aply_b_dec_to_input"] = value.pop("apply_b_dec_to_input")

    _, problems = check_config(json.dumps(value))

    assert "unknown key 'aply_b_dec_to_input', did you mean 'apply_b_dec_to_input'?" in {p.sentence for p in problems}


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("d_in", True, "input should be a valid integer"),
        ("d_in", 6.0, "input should be a valid integer"),
        ("d_in", "6", "input should be a valid integer"),
        ("d_in", 0, "input should be greater than 0"),
        ("k", 2.0, "input should be a valid integer"),
        ("k", False, "input should be a valid integer"),
        ("apply_b_dec_to_input", 1, "input should be a valid boolean"),
        ("apply_b_dec_to_input", "true", "input should be a valid boolean"),
        ("dtype", "float8", "string should match pattern '^(torch\\.)?(float64|float32|float16|bfloat16)$'"),
        ("metadata", None, "input should be an object"),
    ],
)
def test_a_value_of_another_type_is_refused(key, value, problem):
    """`true` is not 1, and 2.0 is not 2."""
    _, (first, *_) = check_config(json.dumps(json.loads(config("topk").text()) | {key: value}))

    assert (first.pointer, first.sentence) == (f"/{key}", problem)


@pytest.mark.parametrize(("name", "key"), [("topk", "k"), ("abstopk", "k"), ("transcoder", "d_out")])
def test_what_saelens_would_guess_must_be_said(name, key):
    """SAELens takes k = 100 and d_out = 768 where they are missing."""
    value = json.loads(config(name).text())
    del value[key]

    with pytest.raises(DocumentError) as caught:
        parse_config(json.dumps(value))

    assert str(caught.value) == f"cfg.json#/{key}: the required key {key!r} is missing"


def test_a_transcoder_never_subtracts_its_output_bias():
    """b_dec lives in the output space."""
    value = json.loads(config("transcoder").text()) | {"apply_b_dec_to_input": True}

    with pytest.raises(DocumentError, match=r"^cfg.json#/apply_b_dec_to_input: input should be False$"):
        parse_config(json.dumps(value))


def test_a_switch_that_is_left_out_is_an_assumption():
    """With the default that every reader takes; one that is written is none."""
    bare = {"architecture": "standard", "d_in": 4, "d_sae": 8, "dtype": "float32"}

    taken = {assumption.field: assumption.value for assumption in assumptions(parse_config(json.dumps(bare)))}

    assert taken == {"apply_b_dec_to_input": "True", "normalize_activations": "none", "reshape_activations": "none"}
    assert assumptions(parse_config(parse_config(json.dumps(bare)).text())) == ()


def test_metadata_keeps_what_it_does_not_know():
    """SAELens allows any key there."""
    cfg = config("standard", metadata={"sae_lens_version": "6.54.12", "wandb_run": {"id": 3}})

    assert json.loads(cfg.text())["metadata"] == {"sae_lens_version": "6.54.12", "wandb_run": {"id": 3}}


@pytest.mark.parametrize("dtype", ["float32", "torch.float32", "bfloat16"])
def test_the_type_may_carry_the_name_of_its_library(dtype):
    """SAELens writes both."""
    assert hasattr(torch, config("standard", dtype=dtype).torch_dtype)


@pytest.mark.parametrize("tied", [True, False])
def test_a_temporal_dictionary_has_an_encoder_unless_it_is_tied(tied):
    """And four projections per attention layer."""
    tensors = config("temporal", tied_weights=tied, n_attn_layers=3).tensors()

    assert ("W_enc" in tensors) is not tied
    assert sum(name.startswith("attn_layers.") for name in tensors) == 3 * 4 * 2
