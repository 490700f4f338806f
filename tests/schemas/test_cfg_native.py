"""A configuration in saereg's own dialect contradicts itself nowhere, and its switches decide its tensors."""

import json

import pytest

from saereg.errors import DocumentError
from saereg.schemas.artifact_config import assumptions, parse_config
from saereg.schemas.semantics import Assumption
from tests.registry.factories import (
    CROSS_LAYERS,
    D_IN,
    D_OUT,
    D_SAE,
    NATIVE,
    PREPROCESS,
    SOURCES,
    cross_layer_config,
    native_config,
)


def changed(cfg, **changes):
    """Return the text of a configuration with other values; those of `semantics` are put into it."""
    value = json.loads(cfg.text())
    switches = changes.pop("semantics", {})
    return json.dumps(value | changes | {"semantics": value["semantics"] | switches})


def refusal(cfg, **changes) -> str:
    """Return the sentence with which a changed configuration is refused."""
    with pytest.raises(DocumentError) as caught:
        parse_config(changed(cfg, **changes))
    return str(caught.value)


SAE, TRANSCODER, ACROSS = native_config("topk"), native_config("topk", "transcoder"), cross_layer_config("jumprelu")
INVERTED = {"kind": "center", "statistics": "stored", "inverted_on_output": True}

UNFIT = {
    "an activation of SAELens alone": (
        SAE,
        {"semantics": {"activation": "temporal"}},
        "activation 'temporal' is said in SAELens' dialect; use architecture there",
    ),
    "an SAE of two widths": (SAE, {"d_out": 5}, "an SAE has d_out = d_in = 6; found 5: is it a transcoder?"),
    "a bias that has another width": (
        TRANSCODER,
        {"semantics": {"pre_encoder_subtraction": "b_dec"}},
        "b_dec has the width of the output, 5, and cannot be subtracted from the input",
    ),
    "an output in the units of the input": (
        TRANSCODER,
        {"semantics": {"normalization": INVERTED}},
        "a transcoder's output lives in another space: its normalization cannot be inverted there",
    ),
    "topk without k": (SAE, {"semantics": {"k": None}}, "activation 'topk' needs `k`"),
    "abstopk without k": (
        native_config("abstopk"),
        {"semantics": {"k": None}},
        "activation 'abstopk' needs `k`",
    ),
    "groupmax without k": (native_config("groupmax"), {"semantics": {"k": None}}, "activation 'groupmax' needs `k`"),
    "topk with half a latent": (
        SAE,
        {"semantics": {"k": 2.5}},
        "activation 'topk' needs a whole number `k`; found 2.5",
    ),
    "more than there are": (SAE, {"semantics": {"k": 21}}, "k = 21 exceeds d_sae = 20"),
    "groups that leave a rest": (
        native_config("groupmax"),
        {"semantics": {"k": 6}},
        "groupmax splits d_sae = 20 latents into k = 6 equal groups, which leaves a rest",
    ),
    "a threshold that nothing is compared with": (
        SAE,
        {"semantics": {"threshold": "scalar"}},
        "activation 'topk' has a threshold none",
    ),
    "jumprelu without threshold": (
        native_config("jumprelu"),
        {"semantics": {"threshold": "none"}},
        "activation 'jumprelu' has a threshold per_latent or scalar",
    ),
    "batchtopk with many thresholds": (
        native_config("batchtopk"),
        {"semantics": {"threshold": "per_latent"}},
        "activation 'batchtopk' has a threshold scalar",
    ),
    "a gate without gated": (
        SAE,
        {"semantics": {"gate_quantity": "gate_pre_activation"}},
        "gate_quantity 'gate_pre_activation' and activation 'gated' go together",
    ),
    "gated without gate": (
        native_config("gated"),
        {"semantics": {"gate_quantity": "pre_activation"}},
        "gate_quantity 'gate_pre_activation' and activation 'gated' go together",
    ),
    "a code norm": (
        SAE,
        {"semantics": {"gate_quantity": "pre_times_code_norm"}},
        "code norms and gates per source are of crosscoders",
    ),
    "a gate per source": (
        SAE,
        {"semantics": {"gate": "per_source"}},
        "code norms and gates per source are of crosscoders",
    ),
    "a type of a tensor that is not there": (
        SAE,
        {"dtypes": {"threshold": "float32"}},
        "`dtypes` names threshold, which this dictionary has not",
    ),
    "gated across layers": (
        ACROSS,
        {"semantics": {"activation": "gated"}},
        "activation 'gated' is not defined across layers",
    ),
    "one threshold across layers": (
        ACROSS,
        {"semantics": {"threshold": "scalar"}},
        "activation 'jumprelu', and no other, has a threshold per latent",
    ),
    "a threshold across layers that nothing is compared with": (
        cross_layer_config("relu"),
        {"semantics": {"threshold": "per_latent"}},
        "activation 'jumprelu', and no other, has a threshold per latent",
    ),
    "normalization across layers": (
        ACROSS,
        {"semantics": {"normalization": INVERTED}},
        "normalization and pre-encoder subtraction are not defined across layers",
    ),
    "a subtraction across layers": (
        ACROSS,
        {"semantics": {"pre_encoder_subtraction": "b_dec"}},
        "normalization and pre-encoder subtraction are not defined across layers",
    ),
    "norms across layers": (
        ACROSS,
        {"semantics": {"gate_quantity": "pre_times_decoder_norm"}},
        "the gate quantity across layers is 'pre_activation'",
    ),
    "topk across layers without k": (
        cross_layer_config("topk"),
        {"semantics": {"k": None}},
        "activation 'topk' needs `k`",
    ),
    "a type of a layer that is not there": (
        ACROSS,
        {"dtypes": {"W_enc.3": "float32"}},
        "`dtypes` names W_enc.3, which this dictionary has not",
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_a_contradiction_is_refused(what):
    """In one sentence that says what goes together."""
    cfg, changes, sentence = UNFIT[what]

    assert refusal(cfg, **changes) == f"cfg.json: {sentence}"


SILENT = {
    "latents scaled by norms that are nowhere": (SAE, {"semantics": {"latents_scaled_by_decoder_norm": True}}),
    "biases that are summed over no sources": (SAE, {"semantics": {"bias_reduction": "sum_over_sources"}}),
    "a normalization whose numbers are nowhere": (SAE, {"semantics": {"normalization": {"kind": "layer_norm"}}}),
    "stored numbers taken from each row": (
        SAE,
        {"semantics": {"normalization": {"kind": "center", "statistics": "per_row"}}},
    ),
    "a factor that has no place": (
        SAE,
        {"semantics": {"normalization": {"kind": "constant_scalar_rescale", "statistics": "stored"}}},
    ),
    "a relu that keeps negative latents": (native_config("relu"), {"semantics": {"rectified": False}}),
    "a gate that keeps negative latents": (native_config("gated"), {"semantics": {"rectified": False}}),
    "signs that are kept and set to 0": (native_config("abstopk"), {"semantics": {"rectified": True}}),
    "groups ranked by norms": (native_config("groupmax"), {"semantics": {"gate_quantity": "pre_times_decoder_norm"}}),
    "a threshold without units": (native_config("jumprelu"), {"semantics": {"threshold_units": "none"}}),
    "a normalization that is not applied": (
        SAE,
        {"semantics": {"normalization": {"kind": "layer_norm", "statistics": "per_row", "applied_by_reader": False}}},
    ),
    "no bias across layers": (ACROSS, {"semantics": {"output_bias": "none"}}),
    "heads across layers": (ACROSS, {"semantics": {"reshape": "hook_z"}}),
    "scaled latents across layers": (ACROSS, {"semantics": {"latents_scaled_by_decoder_norm": True}}),
    "summed biases across layers": (ACROSS, {"semantics": {"bias_reduction": "sum_over_sources"}}),
    "a gate per source across layers": (ACROSS, {"semantics": {"gate": "per_source"}}),
}


@pytest.mark.parametrize("what", SILENT)
def test_a_switch_that_nothing_would_follow_is_refused(what):
    """What is said is done, or is an error."""
    cfg, changes = SILENT[what]

    assert refusal(cfg, **changes).startswith("cfg.json: ")


@pytest.mark.parametrize("cfg", [SAE, TRANSCODER, ACROSS], ids=["sae", "transcoder", "cross_layer"])
@pytest.mark.parametrize("key", ["d_in", "d_out", "d_sae"])
def test_a_width_is_a_positive_whole_number(cfg, key):
    """Others are refused where they stand."""
    for value in (0, -1, 2.5, "6"):
        with pytest.raises(DocumentError, match=f"^cfg.json#/{key}: "):
            parse_config(changed(cfg, **{key: value}))


def test_layers_are_as_many_as_a_model_may_have():
    """Some hundred, and no number that fills the memory with the names of tensors."""
    for value in (0, 1001, 10**12):
        with pytest.raises(DocumentError, match=r"^cfg.json#/n_layers: "):
            parse_config(changed(ACROSS, n_layers=value))


@pytest.mark.parametrize("preprocess", [*PREPROCESS, "layer_norm"])
@pytest.mark.parametrize("kind", ["sae", "transcoder"])
@pytest.mark.parametrize("name", NATIVE)
def test_the_tensors_follow_from_the_switches(name, kind, preprocess):
    """Orientation is canonical, a threshold has the shape that is said, statistics are those that are needed."""
    cfg = native_config(name, kind, preprocess)
    shapes = {tensor: spec.shape for tensor, spec in cfg.tensors().items()}

    d_out = D_IN if kind == "sae" else D_OUT
    vectors = {"b_gate", "b_mag", "r_mag"} if name == "gated" else {"b_enc"}
    expected = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, d_out), "b_dec": (d_out,)} | dict.fromkeys(vectors, (D_SAE,))
    if cfg.semantics.threshold != "none":
        expected["threshold"] = {"scalar": (), "per_latent": (D_SAE,)}[cfg.semantics.threshold]
    expected |= {"W_skip": (d_out, D_IN)} if kind == "transcoder" else {}
    expected |= {"input_mean": (D_IN,)} if "center" in preprocess else {}
    expected |= {"input_scale": ()} if "scale" in preprocess else {}
    assert shapes == expected


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("writes", ["same_and_later", "all"])
@pytest.mark.parametrize("name", CROSS_LAYERS)
def test_across_layers_every_layer_that_is_written_to_has_its_decoder(name, writes, skip):
    """A triangle of them, or a square."""
    cfg = cross_layer_config(name, writes, skip=skip)
    shapes = {tensor: spec.shape for tensor, spec in cfg.tensors().items()}

    layers = range(SOURCES)
    pairs = [(i, t) for i in layers for t in layers if writes == "all" or t >= i]
    expected = {f"W_dec.{i}.{t}": (D_SAE, D_OUT) for i, t in pairs}
    expected |= {f"W_enc.{i}": (D_IN, D_SAE) for i in layers}
    expected |= {f"b_enc.{i}": (D_SAE,) for i in layers} | {f"b_dec.{i}": (D_OUT,) for i in layers}
    expected |= {f"threshold.{i}": (D_SAE,) for i in layers} if name == "jumprelu" else {}
    expected |= {f"W_skip.{i}": (D_OUT, D_IN) for i in layers} if skip else {}
    assert shapes == expected


def test_a_tensor_may_have_a_type_of_its_own():
    """A threshold in float32 beside weights in bfloat16 decides differently when it is rounded."""
    cfg = native_config("jumprelu", preprocess="center", dtype="bfloat16", dtypes={"threshold": "float32"})
    types = {name: spec.dtype or cfg.torch_dtype for name, spec in cfg.tensors().items()}

    assert (types["threshold"], types["W_enc"], types["input_mean"]) == ("float32", "bfloat16", "float32")


@pytest.mark.parametrize(
    ("cfg", "name"),
    [
        (native_config("relu"), "standard"),
        (native_config("groupmax"), "groupmax"),
        (native_config("relu", "transcoder"), "skip_transcoder"),
        (native_config("topk", "transcoder"), "topk_skip_transcoder"),
        (native_config("jumprelu", "transcoder"), "jumprelu_skip_transcoder"),
        (cross_layer_config("relu"), "standard"),
        (cross_layer_config("topk"), "topk"),
    ],
)
def test_an_architecture_is_named_in_the_manner_of_saelens(cfg, name):
    """So that manifests have one word for one thing."""
    assert cfg.architecture == name


@pytest.mark.parametrize("cfg", [SAE, TRANSCODER, ACROSS], ids=["sae", "transcoder", "cross_layer"])
def test_the_text_holds_every_switch_and_reads_as_the_same_value(cfg):
    """No reader has to know a default; what the source does not say is left out of `metadata` alone."""
    value = json.loads(cfg.text())

    assert value["semantics"].keys() == type(cfg.semantics).model_fields.keys()
    assert value["metadata"] == {}
    assert parse_config(cfg.text()) == cfg
    assert parse_config(cfg.text()).text() == cfg.text()


def test_assumptions_are_kept_as_they_were_made():
    """There are no defaults to add: every switch is said."""
    note = {"field": "k", "value": "64", "because": "given by the caller"}

    assert assumptions(native_config("topk", assumptions=[note])) == (Assumption(**note),)
