"""From the training weights to the released layout: a checkpoint, and each tensor of it by a recipe."""

from pathlib import Path
from typing import get_args

import torch

from saereg.registry.conversion.write import write_layout
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.flat import open_safetensors
from saereg.registry.files.names import CONFIG_FILE, WEIGHTS_FILES
from saereg.registry.formats import FORMATS
from saereg.registry.readings.reading import Reading
from saereg.schemas.cfg import SaelensMetadata
from saereg.schemas.cfg_crosscoder import CrosscoderConfig, InputStatistics
from saereg.schemas.manifest import SourceCheckpoint
from saereg.schemas.metrics import DType
from saereg.schemas.recipe import EXP, SourceTensor, cast_to, moved
from saereg.schemas.training_crosscoder import CrosscoderSettings
from saereg.trainers.crosscoder.gathering import write_joined
from saereg.trainers.crosscoder.model import SPLIT, Crosscoder
from saereg.trainers.crosscoder.sources import Stack

WEIGHTS_FILE = WEIGHTS_FILES["saereg"]


def save_checkpoint(model: Crosscoder, folder: Path) -> Path:
    """Write the training weights of all processes under their own names, block by block; return the file."""
    tensors = dict(model.weights)
    if model.settings.architecture == "batchtopk":
        tensors["threshold"] = model.threshold
    for name, number in (("input_mean", model.numbers.mean), ("input_scale", model.numbers.scale)):
        if number is not None:
            tensors[name] = number
    path = folder / WEIGHTS_FILE
    write_joined(path, tensors, SPLIT, model.settings.d_sae, model.group)
    return path


def export_plan(config: CrosscoderConfig) -> dict[str, SourceTensor]:
    """Return released tensor → what is done to which tensor of the checkpoint."""
    plan = {name: moved(name) for name in config.tensors()}
    if config.architecture == "jumprelu":
        to: DType = next(name for name in get_args(DType) if name == config.dtype)
        plan["threshold"] = moved("log_threshold", EXP, *((cast_to(to),) if to != "float64" else ()))
    return plan


def released_config(settings: CrosscoderSettings, stack: Stack, details: dict[str, object]) -> CrosscoderConfig:
    """Return the configuration of the release.

    Args:
        settings: the dictionary.
        stack: its sources.
        details: how it was trained, for the metadata.
    """
    plain = settings.architecture in ("standard", "gated")
    per_source = settings.gate == "per_source"
    site = next(iter(stack.sites.values()))
    facts = {
        "model_name": next(iter(stack.base_models.values())).id,
        "dataset_path": next((one.id for one in stack.datasets.values()), None),
        "context_size": stack.tokens.context_size if stack.tokens else None,
        "prepend_bos": stack.tokens.bos if stack.tokens else None,
        "hook_name": site.hook_name if len(stack.sites) == 1 else None,
        "hf_hook_name": site.module if len(stack.sites) == 1 else None,
        "training_architecture": settings.architecture,
        "training_architecture_details": details,
    }
    return CrosscoderConfig.made(
        CONFIG_FILE,
        kind="crosscoder",
        architecture=settings.architecture,
        sources=stack.sources,
        input=stack.input,
        n_sources=stack.shape[0],
        d_in=stack.width,
        d_sae=settings.d_sae,
        dtype=settings.dtype,
        gate=settings.gate,
        code_norm="none" if plain else "per_source_norm" if per_source else "sum_of_norms",
        k=settings.k,
        statistics=InputStatistics(preprocess=settings.preprocess),
        metadata=SaelensMetadata.of({name: value for name, value in facts.items() if value is not None}),
    )


def export(config: CrosscoderConfig, checkpoint: Path, *, checkpoints: Path, folder: Path) -> SourceCheckpoint:
    """Write the released layout from a saved checkpoint; return what each tensor was made from.

    Args:
        config: the configuration.
        checkpoint: file of the training weights.
        checkpoints: folder that the recorded path is relative to.
        folder: where the export goes.
    """
    plan = export_plan(config)
    reading = Reading(config, plan, {"": open_safetensors(checkpoint)}).checked()
    layout = FORMATS["saereg"].layout
    assert layout is not None  # noqa: S101  # saereg's own layout is written
    write_layout(reading, layout(config), folder)
    return SourceCheckpoint(
        path=checkpoint.relative_to(checkpoints).as_posix(), sha256=sha256_of(checkpoint), tensors=plan
    )


def tools() -> dict[str, str]:
    """Return name → version of the software that trains."""
    from saereg import __version__

    return {"saereg": __version__, "torch": str(torch.__version__)}
