"""saereg's own layout: read and write are inverse to the byte, it computes its definition, odd files are refused."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from saereg.errors import DocumentError, FormatError, WeightsError
from saereg.registry.checkpoint import Checkpoint, first_difference
from saereg.registry.conversion.write import write_checkpoint
from saereg.registry.dictionary import Dictionary
from saereg.registry.files.header import read_header
from saereg.registry.formats.native import to_native
from saereg.registry.loading import detect, read_checkpoint
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import parse_config
from saereg.schemas.cfg import INFERENCE
from tests.registry.einsum import forward
from tests.registry.factories import (
    CROSSCODERS,
    D_IN,
    PREPROCESS,
    ROWS,
    SOURCES,
    checkpoint,
    config,
    cross_layer_config,
    crosscoder_config,
    native_config,
    rows,
    rows_for,
    write,
)
from tests.upstream import assert_converts, refusal

WEIGHTS = "weights.safetensors"
DTYPES = ("float32", "bfloat16", "float16", "float64")
KINDS = {
    "sae": lambda: native_config("groupmax", preprocess="center_scale"),
    "transcoder": lambda: native_config("topk", "transcoder"),
    "crosscoder": lambda: crosscoder_config("jumprelu", "center_scale"),
    "cross_layer": lambda: cross_layer_config("jumprelu", skip=True),
}


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a good crosscoder."""
    write(checkpoint(KINDS["crosscoder"]()), tmp_path)
    return tmp_path


def survives(source: Checkpoint, folder: Path) -> None:
    """Assert that a dictionary is the same after writing and reading, and its files after writing again."""
    write(source, folder)
    again = read_checkpoint(folder)

    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"cfg.json", WEIGHTS}
    assert detect(folder) == ("saereg",)
    assert first_difference(source, again) is None
    assert again.cfg.text() == source.cfg.text() == files["cfg.json"].decode()
    assert parse_config(again.cfg.text()) == source.cfg
    write(again, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


@pytest.mark.parametrize(("name", "preprocess", "dtype"), product(CROSSCODERS, PREPROCESS, DTYPES))
def test_reading_a_crosscoder_that_was_written_gives_the_same_bytes(name, preprocess, dtype, tmp_path):
    """Every architecture, gate, bias reduction, statistic and type."""
    survives(checkpoint(crosscoder_config(name, preprocess, dtype=dtype)), tmp_path)


def numbers(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


@st.composite
def switches(draw, activations, d_sae: int) -> dict:
    """Draw an activation with a k that fits and a threshold."""
    activation = draw(st.sampled_from(activations))
    rules = {"activation": activation, "gate_quantity": "pre_activation", "pre_encoder_subtraction": "none"}
    rules["rectified"] = activation != "abstopk" and (activation in ("relu", "gated") or draw(st.booleans()))
    if activation in ("topk", "abstopk"):
        rules["k"] = float(draw(numbers(1, d_sae)))
    if activation == "groupmax":
        rules["k"] = float(draw(st.sampled_from([k for k in range(1, d_sae + 1) if d_sae % k == 0])))
    if activation in ("jumprelu", "batchtopk"):
        shapes = ("per_latent", "scalar") if activation == "jumprelu" else ("scalar",)
        rules |= {"threshold": draw(st.sampled_from(shapes)), "threshold_units": "gate_quantity"}
    return rules


@st.composite
def common(draw) -> dict:
    """Draw types, facts and assumptions."""
    assumption = st.fixed_dictionaries({name: st.text(max_size=9) for name in ("field", "value", "because")})
    return {
        "dtype": draw(st.sampled_from(DTYPES)),
        "dtypes": draw(st.sampled_from([{}, {"W_dec": "float32"}])),
        "metadata": draw(
            st.dictionaries(st.sampled_from(("model_name", "hook_name", "source_k")), st.text(max_size=9))
        ),
        "assumptions": draw(st.lists(assumption, max_size=2)),
    }


@st.composite
def dictionaries(draw) -> dict:
    """Draw an SAE or a transcoder."""
    kind, d_in, d_sae = draw(st.sampled_from(("sae", "transcoder"))), draw(numbers(2, 5)), draw(numbers(1, 12))
    d_out = d_in if kind == "sae" else draw(numbers(1, 5))
    activations = ("relu", "topk", "abstopk", "groupmax", "batchtopk", "jumprelu", "gated")
    rules = draw(switches(activations, d_sae)) | {"output_bias": draw(st.sampled_from(("b_dec", "none")))}
    if rules["activation"] == "gated":
        rules["gate_quantity"] = "gate_pre_activation"
    elif rules["activation"] != "groupmax" and draw(st.booleans()):
        rules |= {"gate_quantity": "pre_times_decoder_norm", "latents_scaled_by_decoder_norm": draw(st.booleans())}
    if d_out == d_in and draw(st.booleans()):
        rules["pre_encoder_subtraction"] = "b_dec"
    if draw(st.booleans()):
        rules["skip"] = "x_times_W_skip_transposed"
    maps = {"layer_norm": "per_row", "constant_norm_rescale": "per_row"}
    maps |= dict.fromkeys(("center", "scale", "center_scale"), "stored")
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(maps)))
        inverted = kind == "sae" and draw(st.booleans())
        rules["normalization"] = {"kind": name, "statistics": maps[name], "inverted_on_output": inverted}
    value = {"kind": kind, "d_in": d_in, "d_out": d_out, "d_sae": d_sae, "semantics": rules}
    return value | draw(common())


@st.composite
def crosscoders(draw) -> dict:
    """Draw a crosscoder."""
    n, d_sae = draw(numbers(1, 3)), draw(numbers(1, 12))
    architecture = draw(st.sampled_from(("standard", "topk", "batchtopk", "jumprelu", "gated")))
    norms = ["none"] if architecture == "gated" else ["none", "sum_of_norms", "joint_norm", "mixed"]
    norms += ["per_source_norm"] if architecture in ("topk", "batchtopk", "jumprelu") else []
    norm = draw(st.sampled_from(norms))
    value = {
        "kind": "crosscoder",
        "architecture": architecture,
        "sources": {"axis": "layer", "sites": [f"site-{i}" for i in range(n)]},
        "input": {"kind": "activations"},
        "n_sources": n,
        "d_in": draw(numbers(1, 5)),
        "d_sae": d_sae,
        "code_norm": norm,
        "gate": "per_source" if norm == "per_source_norm" else "shared",
        "bias_reduction": draw(st.sampled_from(("shared", "sum_over_sources"))),
        "statistics": {
            "preprocess": draw(st.sampled_from(PREPROCESS)),
            "inverted_on_output": draw(st.booleans()),
            "scale_per": draw(st.sampled_from(("source", "element"))),
        },
    }
    value |= {"k": float(draw(numbers(1, d_sae)))} if architecture == "topk" else {}
    value |= {"code_norm_weights": [0.25, 0.5]} if norm == "mixed" else {}
    return value | draw(common())


@st.composite
def cross_layers(draw) -> dict:
    """Draw a dictionary across layers."""
    d_sae = draw(numbers(1, 12))
    rules = draw(switches(("relu", "topk", "jumprelu"), d_sae))
    if rules["activation"] == "jumprelu":
        rules["threshold"] = "per_latent"
    rules |= {"skip": "x_times_W_skip_transposed"} if draw(st.booleans()) else {}
    value = {"kind": "cross_layer", "d_in": draw(numbers(1, 5)), "d_out": draw(numbers(1, 5)), "d_sae": d_sae}
    writes = draw(st.sampled_from(("same_and_later", "all")))
    return (
        value | draw(common()) | {"dtypes": {}, "n_layers": draw(numbers(1, 3)), "writes": writes, "semantics": rules}
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=st.one_of(dictionaries(), crosscoders(), cross_layers()), seed=st.integers(0, 2**20))
def test_any_dictionary_survives_writing_and_reading_and_computes_its_definition(value, seed, tmp_path_factory):
    """Whatever the switches, widths, types, facts and assumptions."""
    source = checkpoint(parse_config(json.dumps(value)), seed=seed)
    folder = tmp_path_factory.mktemp("any")

    survives(source, folder)

    cfg = source.cfg
    several = getattr(cfg, "n_sources", None) or getattr(cfg, "n_layers", None)
    x = rows(ROWS, *((several,) if several else ()), cfg.d_in).double()
    f, x_hat = forward(cfg, source.weights, x)
    exact = {name: tensor.double() for name, tensor in source.weights.items()}
    plain = cfg.model_copy(update={"dtype": "float64", "dtypes": {}})
    dictionary = Dictionary(Checkpoint(plain, exact))
    assert torch.allclose(dictionary.encode(x), f, atol=1e-9)
    assert torch.allclose(dictionary(x), x_hat, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_converts_to_itself_with_proof(tmp_path, kind):
    """Its own reference agrees with its own maths, and every byte is moved."""
    write(checkpoint(KINDS[kind]()), tmp_path / "a")

    record = assert_converts(tmp_path / "a", tmp_path / "b", "saereg")

    assert all(recipe.operation == "identity" for recipe in record.plan.values())
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_dictionary_means_the_same_wherever_it_lies(tmp_path, kind):
    """The name of its folder, and of its weight file when that is given, say nothing."""
    source = checkpoint(KINDS[kind]())
    write(source, tmp_path / "layer_3" / "relu_k999")
    (tmp_path / "layer_3/relu_k999" / WEIGHTS).rename(tmp_path / "layer_3/relu_k999/foo.safetensors")

    for path in (tmp_path / "layer_3/relu_k999", tmp_path / "layer_3/relu_k999/foo.safetensors"):
        assert first_difference(source, read_checkpoint(path)) is None


SAID_BY_BOTH = [name for name in INFERENCE if name not in ("matching_pursuit", "temporal")]


@pytest.mark.parametrize("name", SAID_BY_BOTH)
def test_what_saelens_says_by_a_name_is_said_by_switches(tmp_path, name):
    """The same function and the same numbers, with the switches that the file left out as assumptions."""
    source = checkpoint(config(name, metadata={"sae_lens_version": "6.54.12", "model_name": "tiny"}))
    write(source, tmp_path / "saelens")
    cfg = json.loads((tmp_path / "saelens/cfg.json").read_text())
    (tmp_path / "saelens/cfg.json").write_text(json.dumps({k: v for k, v in cfg.items() if k != "reshape_activations"}))
    assert_converts(tmp_path / "saelens", tmp_path / "own", "saereg")

    again = read_checkpoint(tmp_path / "own")

    assert semantics_of(again.cfg) == semantics_of(source.cfg)
    assert again.cfg.metadata.model_name == "tiny"
    assert again.cfg.architecture == name
    assert [note.field for note in again.cfg.assumptions] == ["reshape_activations"]
    x = rows_for(source.cfg)
    assert torch.equal(Dictionary(again)(x), Dictionary(source)(x))


@pytest.mark.parametrize("name", ["matching_pursuit", "temporal"])
def test_what_has_no_switches_stays_in_the_words_of_saelens(name):
    """The reason and the layout to use."""
    with pytest.raises(FormatError) as error:
        to_native(config(name))

    assert str(error.value) == f"saereg: architecture {name!r} is said in SAELens' own words; use --to saelens"


@pytest.mark.parametrize("kind", KINDS)
def test_every_switch_stands_in_the_configuration(kind, tmp_path):
    """Whether or not it has its plain value: no reader has to know a default."""
    write(checkpoint(KINDS[kind]()), tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())

    if kind == "crosscoder":
        assert {"axes", "bias_reduction", "gate", "code_norm", "statistics", "sources", "input"} <= cfg.keys()
        assert cfg["axes"]["W_dec"] == ["d_sae", "source", "d_in"]
        assert cfg["statistics"].keys() == {"preprocess", "inverted_on_output", "scale_per"}
    else:
        assert cfg["semantics"].keys() == semantics_of(KINDS[kind]()).model_dump().keys()
    assert {"dtype", "dtypes", "metadata", "assumptions"} <= cfg.keys()


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_whose_length_looks_like_the_mark_of_a_pickle_is_read(folder, length):
    """640 is 80 02 in the file, with which pickles of protocol 2 begin."""
    raw = (folder / WEIGHTS).read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    (folder / WEIGHTS).write_bytes(length.to_bytes(8, "little") + raw[8:end].ljust(length) + raw[end:])

    assert first_difference(checkpoint(KINDS["crosscoder"]()), read_checkpoint(folder)) is None


def test_the_header_names_the_layout(folder):
    """A weight file that was separated from its folder still says what it is."""
    assert read_header(folder / WEIGHTS).metadata == {"format": "saereg"}


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_one_layout_recognizes_it(kind, tmp_path):
    """No folder is in two layouts, and an empty one in none."""
    write(checkpoint(KINDS[kind]()), tmp_path / "own")
    write(checkpoint(config("gated")), tmp_path / "sae")
    (tmp_path / "empty").mkdir()

    assert {path.name: detect(path) for path in tmp_path.iterdir()} == {
        "own": ("saereg",),
        "sae": ("saelens",),
        "empty": (),
    }


def test_it_is_recognized_by_keys_and_tensors(folder):
    """The names of the files are not enough."""
    text = (folder / "cfg.json").read_text()
    (folder / "cfg.json").write_text(text.replace('"crosscoder"', '"sparse thing"'))
    assert "saereg" not in detect(folder)

    (folder / "cfg.json").write_text(text)
    assert detect(folder) == ("saereg",)
    save_file({"W_E": torch.zeros(2)}, folder / WEIGHTS)
    assert "saereg" not in detect(folder)


def test_a_missing_configuration_is_named(folder):
    """Where the layout is known, as it is in a release."""
    (folder / "cfg.json").unlink()

    with pytest.raises(FormatError) as error:
        read_checkpoint(folder, layout="saereg")

    assert str(error.value) == f"{folder}: cfg.json is missing; this layout needs it beside the weights"


CHANGED_TENSORS = {
    "statistics that are declared are missing": (
        lambda w: w.pop("input_mean"),
        "input_mean: missing; expected shape (3, 6)",
    ),
    "a bias of the other reduction": (
        lambda w: w.update(b_enc=torch.zeros(1, 20)),
        "b_enc: shape (1, 20), expected (3, 20) by the configuration",
    ),
    "an encoder in another order": (
        lambda w: w.update(W_enc=w["W_enc"].transpose(0, 1).contiguous()),
        "W_enc: shape (6, 3, 20), expected (3, 6, 20) by the configuration",
    ),
    "one scale for every element": (
        lambda w: w.update(input_scale=torch.ones(3, 6)),
        "input_scale: shape (3, 6), expected (3,) by the configuration",
    ),
    "a tensor too many": (lambda w: w.update(b_gate=torch.ones(20)), "b_gate: not a tensor of this architecture"),
    "whole numbers": (
        lambda w: w.update(threshold=torch.ones(20, dtype=torch.int64)),
        "threshold: stored as int64, expected one of float64, float32, float16, bfloat16; "
        "convert it and write it again",
    ),
}


@pytest.mark.parametrize("what", CHANGED_TENSORS)
def test_tensors_that_do_not_fit_are_refused(folder, what):
    """Nothing passes by broadcasting."""
    change, message = CHANGED_TENSORS[what]
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)

    assert refusal(folder) == f"{folder / WEIGHTS}: {message}"


def test_a_layer_that_is_missing_is_named(tmp_path):
    """By the tensor that is expected."""
    write(checkpoint(KINDS["cross_layer"]()), tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    del weights["W_dec.1.2"]
    save_file(weights, tmp_path / WEIGHTS)

    assert refusal(tmp_path) == f"{tmp_path / WEIGHTS}: W_dec.1.2: missing; expected shape (20, 5)"


CHANGED_CONFIGS = {
    "sources of another number": (
        "crosscoder",
        lambda cfg: cfg["sources"].update(steps=list(range(1, SOURCES))),
        ": n_sources is 3, but `sources` names 2",
    ),
    "a misspelt switch": (
        "sae",
        lambda cfg: cfg["semantics"].update(rectifed=cfg["semantics"].pop("rectified")),
        "#/semantics/rectifed: unknown key 'rectifed', did you mean 'rectified'?",
    ),
    "an SAE of two widths": (
        "sae",
        lambda cfg: cfg.update(d_out=5),
        ": an SAE has d_out = d_in = 6; found 5: is it a transcoder?",
    ),
    "groups that leave a rest": (
        "sae",
        lambda cfg: cfg["semantics"].update(k=6),
        ": groupmax splits d_sae = 20 latents into k = 6 equal groups, which leaves a rest",
    ),
    "no k": ("transcoder", lambda cfg: cfg["semantics"].update(k=None), ": activation 'topk' needs `k`"),
    "an output in the units of the input": (
        "transcoder",
        lambda cfg: cfg["semantics"].update(
            normalization={"kind": "layer_norm", "statistics": "per_row", "inverted_on_output": True}
        ),
        ": a transcoder's output lives in another space: its normalization cannot be inverted there",
    ),
    "a gated code across layers": (
        "cross_layer",
        lambda cfg: cfg["semantics"].update(activation="gated"),
        ": activation 'gated' is not defined across layers",
    ),
    "no layers": ("cross_layer", lambda cfg: cfg.update(n_layers=0), "#/n_layers: input should be greater than 0"),
}


@pytest.mark.parametrize("what", CHANGED_CONFIGS)
def test_a_configuration_that_contradicts_itself_is_refused(tmp_path, what):
    """Where, what was expected, what was found."""
    kind, change, message = CHANGED_CONFIGS[what]
    write(checkpoint(KINDS[kind]()), tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    change(cfg)
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))

    with pytest.raises(DocumentError) as error:
        read_checkpoint(tmp_path)

    assert str(error.value) == f"{tmp_path / 'cfg.json'}{message}"


def test_statistics_of_another_type_are_refused_on_writing(tmp_path):
    """They are float32 whatever the type of the weights."""
    source = checkpoint(crosscoder_config("standard", "center", dtype="bfloat16"))
    weights = dict(source.weights)
    weights["input_mean"] = weights["input_mean"].bfloat16()

    with pytest.raises(WeightsError) as error:
        write(Checkpoint(source.cfg, weights, "here"), tmp_path)

    assert str(error.value) == (
        "here: input_mean: is bfloat16, but the configuration says float32; cast it or correct `dtype`"
    )
    assert not list(tmp_path.iterdir())


def test_a_dictionary_in_the_words_of_saelens_is_told_from_one_in_ours(tmp_path):
    """On reading, the message names the layout to use; on writing, its words are translated."""
    source = checkpoint(config("standard"))
    write(source, tmp_path / "theirs")
    (tmp_path / "theirs/sae_weights.safetensors").rename(tmp_path / "theirs" / WEIGHTS)
    with pytest.raises(FormatError) as error:
        read_checkpoint(tmp_path / "theirs", layout="saereg")
    assert str(error.value) == f"{tmp_path / 'theirs'}: cfg.json says no `kind`, so its layout is 'saelens'"

    write_checkpoint(source, tmp_path / "ours", "saereg")
    assert torch.equal(Dictionary(read_checkpoint(tmp_path / "ours"))(rows(2, D_IN)), Dictionary(source)(rows(2, D_IN)))


def test_the_configuration_decides_and_not_the_name_of_the_weight_file(folder):
    """A crosscoder under SAELens' file name is still one."""
    (folder / WEIGHTS).rename(folder / "sae_weights.safetensors")

    assert detect(folder) == ("saereg",)
    with pytest.raises(FormatError) as error:
        read_checkpoint(folder, layout="saelens")
    assert str(error.value) == f"{folder}: cfg.json says kind 'crosscoder', so its layout is 'saereg'"
