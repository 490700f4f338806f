"""A crosscoder's configuration contradicts itself nowhere."""

import pytest

from saereg.errors import DocumentError
from saereg.schemas.cfg_crosscoder import CANONICAL_AXES
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
        "gate 'per_source' is defined for architecture 'jumprelu'",
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
    assert shapes.get("threshold") == {"jumprelu": (D_SAE,), "batchtopk": ()}.get(cfg.architecture)
    assert ("input_mean" in shapes) == (preprocess in ("center", "center_scale"))
    assert ("input_scale" in shapes) == (preprocess in ("scale", "center_scale"))


def test_statistics_stay_float32_whatever_the_weights_are():
    """Half precision would lose the digits that centring needs."""
    tensors = crosscoder_config("standard", "center_scale", dtype="bfloat16").tensors()

    assert (tensors["input_mean"].dtype, tensors["input_scale"].dtype) == ("float32", "float32")
    assert tensors["W_enc"].dtype is None


def test_the_text_holds_every_switch():
    """No reader has to know a default."""
    cfg = crosscoder_config("standard")

    assert all(f'"{name}"' in cfg.text() for name in ("axes", "bias_reduction", "gate", "code_norm", "statistics"))
