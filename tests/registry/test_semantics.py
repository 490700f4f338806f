"""Which function a configuration means, switch by switch."""

import subprocess
import sys
import typing

import pytest

from saereg.registry.semantics import ACTIVATIONS, semantics_of
from saereg.schemas.cfg import INFERENCE
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_training import TRAINING
from saereg.schemas.semantics import Normalization, Semantics
from tests.registry import factories
from tests.registry.factories import config, cross_layer_config, crosscoder_config, native_config, training_config

EXPECTED = {
    "standard": {"activation": "relu"},
    "topk": {"activation": "topk", "k": 4},
    "abstopk": {"activation": "abstopk", "k": 4, "rectified": False},
    "jumprelu": {"activation": "jumprelu", "threshold": "per_latent", "threshold_units": "gate_quantity"},
    "gated": {"activation": "gated", "gate_quantity": "gate_pre_activation"},
    "matching_pursuit": {"activation": "matching_pursuit"},
    "temporal": {"activation": "temporal", "k": 4},
    "transcoder": {"activation": "relu"},
    "skip_transcoder": {"activation": "relu", "skip": "x_times_W_skip_transposed"},
    "jumprelu_transcoder": {
        "activation": "jumprelu",
        "threshold": "per_latent",
        "threshold_units": "gate_quantity",
    },
    "jumprelu_skip_transcoder": {
        "activation": "jumprelu",
        "threshold": "per_latent",
        "threshold_units": "gate_quantity",
        "skip": "x_times_W_skip_transposed",
    },
}


@pytest.mark.parametrize("name", INFERENCE)
def test_every_inference_architecture_resolves_to_its_switches(name):
    """The whole value is pinned: a switch that is not named here has its plain value."""
    subtraction = "none" if "transcoder" in name else "b_dec"
    plain = {"pre_encoder_subtraction": subtraction, "gate_quantity": "pre_activation"}

    assert semantics_of(config(name)) == Semantics(**plain | EXPECTED[name])


@pytest.mark.parametrize("name", ["topk", "abstopk"])
def test_rescaling_changes_both_the_ranking_and_what_is_stored(name):
    """The flag of the TopK family means two switches."""
    semantics = semantics_of(config(name, rescale_acts_by_decoder_norm=True))

    assert semantics.gate_quantity == "pre_times_decoder_norm"
    assert semantics.latents_scaled_by_decoder_norm


@pytest.mark.parametrize("name", ["batchtopk", "matryoshka_batchtopk"])
def test_batchtopk_means_its_stored_threshold(name):
    """The cut through a training batch is no function of one row; the scalar threshold is."""
    semantics = semantics_of(training_config(name))

    assert semantics.activation == "batchtopk"
    assert (semantics.threshold, semantics.k) == ("scalar", 2.5)
    assert semantics.gate_quantity == "pre_times_decoder_norm"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", Normalization()),
        ("layer_norm", Normalization(kind="layer_norm", statistics="per_row", inverted_on_output=True)),
        (
            "constant_norm_rescale",
            Normalization(kind="constant_norm_rescale", statistics="per_row", inverted_on_output=True),
        ),
        (
            "expected_average_only_in",
            Normalization(kind="expected_average_only_in", statistics="absent", applied_by_reader=False),
        ),
        (
            "covariance_whitening",
            Normalization(kind="covariance_whitening", statistics="absent", applied_by_reader=False),
        ),
    ],
)
def test_every_normalization_says_where_its_numbers_come_from(kind, expected):
    """Those of training only are not applied by any reader."""
    assert semantics_of(config("standard", normalize_activations=kind)).normalization == expected


def test_a_temporal_dictionary_can_have_a_stored_factor():
    """Its factor stands in cfg.json."""
    semantics = semantics_of(config("temporal", normalize_activations="constant_scalar_rescale"))

    assert semantics.normalization == Normalization(
        kind="constant_scalar_rescale", statistics="stored", inverted_on_output=True
    )


def test_a_transcoder_normalizes_its_input_only_and_never_reshapes():
    """Its output lives in another space, and SAELens ignores the key about heads."""
    cfg = config("transcoder", normalize_activations="layer_norm", reshape_activations="hook_z")
    semantics = semantics_of(cfg)

    assert not semantics.normalization.inverted_on_output
    assert semantics.reshape == "none"


@pytest.mark.parametrize(
    ("name", "settings", "bias"),
    [
        ("standard", {"apply_b_dec_to_input": False}, "b_dec"),
        ("matching_pursuit", {"apply_b_dec_to_input": False}, "none"),
        ("matching_pursuit", {"apply_b_dec_to_input": True}, "b_dec"),
        ("temporal", {"apply_b_dec_to_input": False, "tied_weights": True}, "none"),
        ("temporal", {"apply_b_dec_to_input": False, "tied_weights": False}, "b_dec"),
    ],
)
def test_a_tied_dictionary_adds_the_bias_only_if_it_subtracted_it(name, settings, bias):
    """Untied ones always add it."""
    semantics = semantics_of(config(name, **settings))

    assert semantics.output_bias == bias
    assert semantics.pre_encoder_subtraction == ("b_dec" if settings["apply_b_dec_to_input"] else "none")


def test_a_dense_temporal_dictionary_has_no_k():
    """With `relu` the stored k plays no part."""
    assert semantics_of(config("temporal", sae_diff_type="relu")).k is None


def test_a_crosscoder_carries_bias_gate_code_norm_and_statistics():
    """None of the four is left to the reader."""
    semantics = semantics_of(crosscoder_config("jumprelu_per_source", "center_scale"))

    assert semantics == Semantics(
        pre_encoder_subtraction="none",
        activation="jumprelu",
        gate_quantity="pre_times_code_norm",
        threshold="per_latent",
        threshold_units="gate_quantity",
        normalization=Normalization(kind="center_scale", statistics="stored", inverted_on_output=True),
        gate="per_source",
    )


@pytest.mark.parametrize(
    ("name", "switch", "value"),
    [
        ("standard_summed_bias", "bias_reduction", "sum_over_sources"),
        ("topk", "k", 4),
        ("batchtopk", "threshold", "scalar"),
        ("batchtopk", "threshold_units", "gate_quantity"),
        ("gated", "gate_quantity", "gate_pre_activation"),
        ("standard", "normalization", Normalization()),
        ("batchtopk_per_source", "threshold", "per_source"),
        ("topk_per_source", "gate", "per_source"),
        ("jumprelu_mixed_norm", "gate_quantity", "pre_times_code_norm"),
        ("standard", "rectified", True),
        ("standard", "gate", "shared"),
    ],
)
def test_a_switch_of_a_crosscoder_follows_its_configuration(name, switch, value):
    """One row per switch that differs from the plain crosscoder."""
    assert getattr(semantics_of(crosscoder_config(name)), switch) == value


def test_statistics_that_stay_on_the_input_are_not_inverted():
    """`inverted_on_output` is the author's switch."""
    statistics = {"preprocess": "center", "inverted_on_output": False}
    semantics = semantics_of(crosscoder_config("standard", statistics=statistics))

    assert semantics.normalization == Normalization(kind="center", statistics="stored")


def test_every_architecture_name_has_an_activation():
    """The table and the unions of configurations name the same architectures."""
    crosscoders = typing.get_args(CrosscoderConfig.model_fields["architecture"].annotation)

    assert set(ACTIVATIONS) == {*INFERENCE, *TRAINING}
    assert set(crosscoders) <= set(ACTIVATIONS)
    assert all(isinstance(semantics_of(cfg), Semantics) for cfg in factories.EVERY_CONFIG.values())


def test_our_own_dialect_says_its_switches_itself():
    """What stands in cfg.json is what is meant."""
    cfg = native_config("topk_negative", "transcoder", "center_scale")

    assert semantics_of(cfg) == cfg.semantics
    assert semantics_of(cfg).skip == "x_times_W_skip_transposed"
    assert semantics_of(cross_layer_config("jumprelu")) == cross_layer_config("jumprelu").semantics


@pytest.mark.parametrize("module", ["saereg.registry.semantics", "saereg.registry.formats"])
def test_importing_needs_no_torch(module):
    """Reading an index, validating a layout and listing formats work without torch."""
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
