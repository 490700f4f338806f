"""Encode and decode of every architecture: the only maths of inference. Imports torch."""

from saereg.errors import UnknownNameError
from saereg.registry.architectures import gated, relu, threshold, topk
from saereg.registry.architectures.architecture import Architecture
from saereg.registry.architectures.cross_layer import cross_layer
from saereg.registry.architectures.crosscoder import crosscoder
from saereg.registry.architectures.linear import linear
from saereg.registry.architectures.matching_pursuit import MATCHING_PURSUIT
from saereg.registry.architectures.temporal import TEMPORAL
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig, DictionaryConfig

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


CROSS_LAYERS: dict[str, Architecture] = {
    "standard": cross_layer("standard", relu.latents),
    "topk": cross_layer("topk", topk.latents),
    "jumprelu": cross_layer("jumprelu", threshold.latents),
}
"""Every cross-layer architecture, by the name that its configuration derives from its activation."""

BY_ACTIVATION: dict[str, Architecture] = {
    "relu": ARCHITECTURES["standard"],
    "topk": ARCHITECTURES["topk"],
    "abstopk": ARCHITECTURES["abstopk"],
    "groupmax": linear("groupmax", topk.largest_of_groups),
    "batchtopk": ARCHITECTURES["batchtopk"],
    "jumprelu": ARCHITECTURES["jumprelu"],
    "gated": ARCHITECTURES["gated"],
}
"""Every architecture of an SAE or transcoder in saereg's own dialect, by its activation."""


def architecture_of(cfg: ArtifactConfig) -> Architecture:
    """Return the architecture that a configuration names.

    Raises:
        UnknownNameError: when there is none of that name.
    """
    table, name = _table(cfg)
    if name not in table:
        raise UnknownNameError("architecture", name, table)
    return table[name]


def _table(cfg: ArtifactConfig) -> tuple[dict[str, Architecture], str]:
    if isinstance(cfg, DictionaryConfig):
        return BY_ACTIVATION, cfg.semantics.activation
    if isinstance(cfg, CrossLayerConfig):
        return CROSS_LAYERS, cfg.architecture
    return (CROSSCODERS if isinstance(cfg, CrosscoderConfig) else ARCHITECTURES), cfg.architecture
