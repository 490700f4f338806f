"""A crosscoder's configuration contradicts itself nowhere."""

import pytest

from saereg.errors import DocumentError
from saereg.schemas.artifact_config import assumptions, parse_config
from saereg.schemas.cfg_crosscoder import CANONICAL_AXES
from saereg.schemas.semantics import Assumption
from tests.registry.factories import CROSSCODERS, D_IN, D_SAE, PREPROCESS, SOURCES, crosscoder_config

UNFIT = {
    "other number of sources": ("standard", {"n_sources": 2}, "n_sources is 2, but `sources` names 3"),
    "topk without k": ("topk", {"k": None}, "architecture 'topk' needs a whole number `k`"),
    "topk with half a latent": ("topk", {"k": 2.5}, "architecture 'topk' needs a whole number `k`"),
    "a gate per source, one norm": (
        "jumprelu",
        {"gate": "per_source"},
        "gate 'per_source' and code_norm 'per_source_norm' go together",
    ),
    "norms per source, one gate": (
        "jumprelu",
        {"code_norm": "per_source_norm"},
        "gate 'per_source' and code_norm 'per_source_norm' go together",
    ),
    "a gate per source of another activation": (
        "standard",
        {"gate": "per_source", "code_norm": "per_source_norm"},
        "gate 'per_source' is defined for architectures 'jumprelu', 'batchtopk' and 'topk'",
    ),
    "a mixed norm without weights": (
        "topk",
        {"code_norm": "mixed"},
        "code_norm 'mixed' and `code_norm_weights` go together",
    ),
    "weights of another norm": (
        "topk",
        {"code_norm_weights": [0.5, 0.5]},
        "code_norm 'mixed' and `code_norm_weights` go together",
    ),
    "more than there are": ("topk", {"k": 21}, "k = 21 exceeds d_sae = 20"),
    "a type of a tensor that is not there": (
        "standard",
        {"dtypes": {"threshold": "float32"}},
        "`dtypes` names threshold, which this crosscoder has not",
    ),
    "axes in another order": (
        "standard",
        {"axes": {name: list(reversed(axes)) for name, axes in CANONICAL_AXES.items()}},
        "`axes` must be in canonical order; convert the file first",
    ),
    "an axis left out": (
        "standard",
        {"axes": {"W_enc": ["source", "d_in", "d_sae"]}},
        "`axes` must be in canonical order; convert the file first",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_contradiction_is_refused(name):
    """In one sentence that says what goes together."""
    of, change, message = UNFIT[name]

    with pytest.raises(DocumentError) as caught:
        crosscoder_config(of, **change)

    assert str(caught.value) == f"cfg.json: {message}"


@pytest.mark.parametrize("preprocess", PREPROCESS)
@pytest.mark.parametrize("name", CROSSCODERS)
def test_the_tensors_follow_from_the_switches(name, preprocess):
    """Matrices per source, biases as the reduction says, statistics as the preprocessing says."""
    cfg = crosscoder_config(name, preprocess)
    shapes = {tensor: spec.shape for tensor, spec in cfg.tensors().items()}

    assert shapes["W_enc"] == (SOURCES, D_IN, D_SAE)
    assert shapes["W_dec"] == (D_SAE, SOURCES, D_IN)
    assert shapes["b_dec"] == (SOURCES, D_IN)
    bias = (SOURCES, D_SAE) if cfg.bias_reduction == "sum_over_sources" else (D_SAE,)
    assert shapes.get("b_enc") == (None if cfg.architecture == "gated" else bias)
    scalar = (SOURCES,) if cfg.gate == "per_source" else ()
    assert shapes.get("threshold") == {"jumprelu": (D_SAE,), "batchtopk": scalar}.get(cfg.architecture)
    assert ("input_mean" in shapes) == (preprocess in ("center", "center_scale"))
    assert ("input_scale" in shapes) == (preprocess in ("scale", "center_scale"))


def test_statistics_stay_float32_whatever_the_weights_are():
    """Half precision would lose the digits that centring needs."""
    tensors = crosscoder_config("standard", "center_scale", dtype="bfloat16").tensors()

    assert (tensors["input_mean"].dtype, tensors["input_scale"].dtype) == ("float32", "float32")
    assert tensors["W_enc"].dtype is None


@pytest.mark.parametrize(("per", "shape"), [("source", (SOURCES,)), ("element", (SOURCES, D_IN))])
def test_a_scale_is_there_for_every_source_or_for_every_element(per, shape):
    """And nothing else."""
    statistics = {"preprocess": "scale", "scale_per": per}

    assert crosscoder_config("standard", statistics=statistics).tensors()["input_scale"].shape == shape


def test_a_tensor_may_have_a_type_of_its_own():
    """Statistics stay float32 beside it."""
    tensors = crosscoder_config("jumprelu", "center", dtype="bfloat16", dtypes={"threshold": "float32"}).tensors()

    assert (tensors["threshold"].dtype, tensors["W_enc"].dtype, tensors["input_mean"].dtype) == (
        "float32",
        None,
        "float32",
    )


def test_facts_and_assumptions_survive_writing_and_reading():
    """Those of the source, and the switches that a file left out beside them."""
    note = {"field": "k", "value": "4", "because": "given by the caller"}
    cfg = crosscoder_config("topk", metadata={"model_name": "tiny", "odd": 1}, assumptions=[note])
    again = parse_config(cfg.text())

    assert again == cfg
    assert again.metadata.model_extra == {"odd": 1}
    assert assumptions(again) == (Assumption(**note),)
    assert [assumed.field for assumed in assumptions(cfg)] == ["k", "bias_reduction", "gate", "code_norm"]


def test_the_text_holds_every_switch():
    """No reader has to know a default."""
    cfg = crosscoder_config("standard")

    assert all(f'"{name}"' in cfg.text() for name in ("axes", "bias_reduction", "gate", "code_norm", "statistics"))
