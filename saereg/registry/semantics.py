"""Which function a configuration means, switch by switch. No weights are looked at; torch is not imported."""

from typing import Literal

from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg import (
    JumpReluSkipTranscoderConfig,
    MatchingPursuitConfig,
    SaelensConfig,
    SkipTranscoderConfig,
    TemporalConfig,
    TranscoderConfig,
)
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig, DictionaryConfig
from saereg.schemas.semantics import Activation, GateQuantity, Normalization, Semantics, Threshold

ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "topk": "topk",
    "abstopk": "abstopk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "matching_pursuit": "matching_pursuit",
    "temporal": "temporal",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
    "batchtopk": "batchtopk",
    "matryoshka_batchtopk": "batchtopk",
}
"""The nonlinearity of each architecture name, of SAEs and crosscoders alike."""

THRESHOLDS: dict[Activation, Threshold] = {"jumprelu": "per_latent", "batchtopk": "scalar"}
"""The nonlinearities that compare with a stored threshold, and its shape."""

PER_ROW = ("layer_norm", "constant_norm_rescale")
"""Normalizations whose numbers come from each row itself."""

FOLDED = ("expected_average_only_in", "covariance_whitening")
"""Normalizations of training only: no reader applies them, so the weights must already be folded."""


def semantics_of(cfg: ArtifactConfig) -> Semantics:
    """Return every switch of the function that `cfg` stands for.

    A training configuration is given the meaning that its weights have at inference, e.g. a stored scalar
    threshold for BatchTopK instead of a cut that depends on the batch.
    """
    if isinstance(cfg, DictionaryConfig | CrossLayerConfig):
        return cfg.semantics
    if isinstance(cfg, CrosscoderConfig):
        return _of_crosscoder(cfg)
    return _of_saelens(cfg)


def _of_saelens(cfg: SaelensConfig) -> Semantics:
    activation = ACTIVATIONS[cfg.architecture]
    threshold = THRESHOLDS.get(activation, "none")
    rescaled = bool(getattr(cfg, "rescale_acts_by_decoder_norm", False))
    gate: GateQuantity = "pre_times_decoder_norm" if rescaled else "pre_activation"
    skips = isinstance(cfg, SkipTranscoderConfig | JumpReluSkipTranscoderConfig)
    return Semantics(
        pre_encoder_subtraction="b_dec" if cfg.apply_b_dec_to_input else "none",
        activation=activation,
        gate_quantity="gate_pre_activation" if activation == "gated" else gate,
        rectified=activation != "abstopk",
        threshold=threshold,
        threshold_units="none" if threshold == "none" else "gate_quantity",
        k=_k(cfg),
        normalization=_normalization(cfg),
        latents_scaled_by_decoder_norm=rescaled,
        output_bias=_output_bias(cfg),
        skip="x_times_W_skip_transposed" if skips else "none",
        # SAELens' transcoders read the key and never reshape
        reshape="none" if isinstance(cfg, TranscoderConfig) else cfg.reshape_activations,
    )


def _of_crosscoder(cfg: CrosscoderConfig) -> Semantics:
    activation = ACTIVATIONS[cfg.architecture]
    threshold = THRESHOLDS.get(activation, "none")
    if threshold == "scalar" and cfg.gate == "per_source":
        threshold = "per_source"
    gate: GateQuantity = "pre_activation" if cfg.code_norm == "none" else "pre_times_code_norm"
    preprocess = cfg.statistics.preprocess
    return Semantics(
        pre_encoder_subtraction="none",
        activation=activation,
        gate_quantity="gate_pre_activation" if activation == "gated" else gate,
        threshold=threshold,
        threshold_units="none" if threshold == "none" else "gate_quantity",
        k=cfg.k,
        normalization=Normalization(
            kind=preprocess,
            statistics="none" if preprocess == "none" else "stored",
            inverted_on_output=preprocess != "none" and cfg.statistics.inverted_on_output,
        ),
        bias_reduction=cfg.bias_reduction,
        gate=cfg.gate,
    )


def _normalization(cfg: SaelensConfig) -> Normalization:
    kind = cfg.normalize_activations
    if kind == "none":
        return Normalization()
    if kind in FOLDED:
        return Normalization(kind=kind, statistics="absent", applied_by_reader=False)
    statistics: Literal["per_row", "stored"] = "per_row" if kind in PER_ROW else "stored"
    inverted = not isinstance(cfg, TranscoderConfig)  # a transcoder's output lives in another space
    return Normalization(kind=kind, statistics=statistics, inverted_on_output=inverted)


def _k(cfg: SaelensConfig) -> float | None:
    if isinstance(cfg, TemporalConfig):
        return cfg.kval_topk if cfg.sae_diff_type == "topk" else None
    k: float | None = getattr(cfg, "k", None)
    return k


def _output_bias(cfg: SaelensConfig) -> Literal["b_dec", "none"]:
    """Return what is added after the decoder: a tied dictionary adds `b_dec` only if it subtracted it."""
    tied = isinstance(cfg, MatchingPursuitConfig) or (isinstance(cfg, TemporalConfig) and cfg.tied_weights)
    return "none" if tied and not cfg.apply_b_dec_to_input else "b_dec"


def row_shape(cfg: ArtifactConfig) -> tuple[int, ...]:
    """Return the shape of one row that a dictionary reads: (D,), or (K, D) with K sources or layers.

    With `hook_z` reshaping the file may hold (heads, D / heads) instead.
    """
    if isinstance(cfg, CrosscoderConfig):
        return cfg.n_sources, cfg.d_in
    if isinstance(cfg, CrossLayerConfig):
        return cfg.n_layers, cfg.d_in
    return (cfg.d_in,)
