"""Encode and decode of every architecture: the only maths of inference. Imports torch."""

from saereg.errors import UnknownNameError
from saereg.registry.architectures import gated, relu, threshold, topk
from saereg.registry.architectures.architecture import Architecture
from saereg.registry.architectures.crosscoder import crosscoder
from saereg.registry.architectures.linear import linear
from saereg.registry.architectures.matching_pursuit import MATCHING_PURSUIT
from saereg.registry.architectures.temporal import TEMPORAL
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_crosscoder import CrosscoderConfig

ARCHITECTURES: dict[str, Architecture] = {
    "standard": linear("standard", relu.latents),
    "topk": linear("topk", topk.latents),
    "abstopk": linear("abstopk", topk.signed_latents),
    "jumprelu": linear("jumprelu", threshold.latents),
    "gated": linear("gated", gated.latents),
    "matching_pursuit": MATCHING_PURSUIT,
    "temporal": TEMPORAL,
    "transcoder": linear("transcoder", relu.latents),
    "skip_transcoder": linear("skip_transcoder", relu.latents),
    "jumprelu_transcoder": linear("jumprelu_transcoder", threshold.latents),
    "jumprelu_skip_transcoder": linear("jumprelu_skip_transcoder", threshold.latents),
    "batchtopk": linear("batchtopk", threshold.latents),
    "matryoshka_batchtopk": linear("matryoshka_batchtopk", threshold.latents),
}
"""Every architecture of SAELens, by its name in cfg.json; a training one means what it will at inference."""

CROSSCODERS: dict[str, Architecture] = {
    "standard": crosscoder("standard", relu.latents),
    "topk": crosscoder("topk", topk.latents),
    "batchtopk": crosscoder("batchtopk", threshold.latents),
    "jumprelu": crosscoder("jumprelu", threshold.latents),
    "gated": crosscoder("gated", gated.latents),
}
"""Every crosscoder architecture, by its name in cfg.json."""


def architecture_of(cfg: ArtifactConfig) -> Architecture:
    """Return the architecture that a configuration names.

    Raises:
        UnknownNameError: when there is none of that name.
    """
    table = CROSSCODERS if isinstance(cfg, CrosscoderConfig) else ARCHITECTURES
    if cfg.architecture not in table:
        raise UnknownNameError("architecture", cfg.architecture, table)
    return table[cfg.architecture]
