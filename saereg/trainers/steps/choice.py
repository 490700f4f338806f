"""Which training class of SAELens' registry a dictionary is trained with: one of ours where there is a better step."""

from typing import Any

from sae_lens.registry import get_sae_training_class
from sae_lens.saes.gated_sae import GatedTrainingSAEConfig

from saereg.schemas.training import TrainConfig
from saereg.trainers.steps.batchtopk import SparseBatchTopKTrainingSAE, SparseBatchTopKTrainingSAEConfig
from saereg.trainers.steps.gated import NormalizedGatedTrainingSAE
from saereg.trainers.steps.relu import SparseStandardTrainingSAE, SparseStandardTrainingSAEConfig
from saereg.trainers.steps.tied import TiedTopKTrainingSAE, TiedTopKTrainingSAEConfig
from saereg.trainers.steps.topk import SparseTopKTrainingSAE, SparseTopKTrainingSAEConfig

VARIANTS: dict[str, tuple[Any, Any]] = {
    "gated, layer_norm": (NormalizedGatedTrainingSAE, GatedTrainingSAEConfig),
    "topk, tied": (TiedTopKTrainingSAE, TiedTopKTrainingSAEConfig),
}
"""What SAELens' trainer has no class for, whatever step is asked for."""

FASTER: dict[str, tuple[Any, Any]] = {
    "standard": (SparseStandardTrainingSAE, SparseStandardTrainingSAEConfig),
    "topk": (SparseTopKTrainingSAE, SparseTopKTrainingSAEConfig),
    "batchtopk": (SparseBatchTopKTrainingSAE, SparseBatchTopKTrainingSAEConfig),
}
"""Architecture → classes whose step computes the same as SAELens' with less work."""


def training_classes(config: TrainConfig) -> tuple[Any, Any]:
    """Return (class of the dictionary, class of its configuration), both registered with SAELens."""
    if config.sae.is_transcoder:
        import saereg.trainers.steps.transcoder  # noqa: F401 - it registers what SAELens has not
    name = config.sae.architecture
    for what in ("tied" if config.sae.tied else None, config.sae.normalize_activations):
        if f"{name}, {what}" in VARIANTS:
            return VARIANTS[f"{name}, {what}"]
    if config.optimization.step == "auto" and name in FASTER:
        return FASTER[name]
    classes: tuple[Any, Any] = get_sae_training_class(name)
    return classes
