"""From SAELens' training checkpoint to the inference layout: every tensor by an operation that can be done again."""

import json
from pathlib import Path
from typing import Any, get_args

from saereg.errors import UsageError
from saereg.registry.conversion.write import write_layout
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.flat import open_safetensors
from saereg.registry.files.names import WEIGHTS_FILES
from saereg.registry.formats import FORMATS
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.recipes import SMALLEST_NORM
from saereg.schemas.artifact_config import parse_config
from saereg.schemas.cfg import SaelensConfig
from saereg.schemas.cfg_native import DictionaryConfig
from saereg.schemas.manifest import SourceCheckpoint
from saereg.schemas.metrics import DType
from saereg.schemas.recipe import (
    SourceTensor,
    Step,
    cast_to,
    divided_by_decoder_norm,
    moved,
    times_decoder_norm,
    transposed,
)
from saereg.trainers.saelens.member import Fitted
from saereg.trainers.saelens.transcoder import layout_for, native_config, scale_facts

WEIGHTS_FILE = WEIGHTS_FILES["saelens"]


def save_checkpoint(fitted: Fitted, folder: Path) -> Path:
    """Save what SAELens itself saves, training architecture and all; return the file of weights."""
    fitted.sae.save_model(folder)
    return folder / WEIGHTS_FILE


def export_plan(sae: Any, dtype: str) -> dict[str, SourceTensor]:  # noqa: ANN401
    """Return exported tensor → what is done to which tensor of the training checkpoint.

    TopK and BatchTopK rank pre-activations times ‖W_dec‖; folding the norms into the encoder makes that explicit.
    The running threshold of BatchTopK becomes the threshold of every latent of a JumpReLU.

    Args:
        sae: SAELens' training SAE; a tied one has no W_enc in its checkpoint.
        dtype: type of the exported weights.
    """
    to: DType = next(name for name in get_args(DType) if name == dtype)
    plan = {name: moved(name) for name in sae.state_dict() if name != "topk_threshold"}
    if "W_enc" not in plan:
        plan["W_enc"] = transposed("W_dec")
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        plan["W_enc"] = moved("W_enc", times_decoder_norm(axis=1))
        plan["b_enc"] = moved("b_enc", times_decoder_norm(axis=0))
        plan["W_dec"] = moved("W_dec", divided_by_decoder_norm(axis=0))
    if "topk_threshold" in sae.state_dict():
        plan["threshold"] = moved("topk_threshold", Step(do="broadcast", shape=(sae.cfg.d_sae,)), cast_to(to))
    elif "threshold" in plan and dtype != "float32":  # SAELens keeps it in float32 whatever the type of the rest
        plan["threshold"] = moved("threshold", cast_to(to))
    return plan


def has_unit_decoder(fitted: Fitted) -> bool:
    """Whether every row of the exported W_dec has norm 1: it was kept so, or norms are folded into the encoder."""
    from saereg.registry.evidence.inspection import UNIT

    norms = fitted.sae.W_dec.detach().norm(dim=1)
    if getattr(fitted.sae.cfg, "rescale_acts_by_decoder_norm", False):
        return bool((norms > SMALLEST_NORM).all())
    return bool(((norms - 1).abs() <= UNIT).all())


def inference_config(fitted: Fitted) -> SaelensConfig | DictionaryConfig:
    """Return the configuration of the export, in saereg's own dialect where SAELens has no class that reads it.

    It is SAELens' own, with two differences: the device is the CPU, and where decoder norms were folded the switch
    `rescale_acts_by_decoder_norm` is off. SAELens leaves it on, which computes the same, as the norms are 1 then, but
    says of the weights what is no longer so.
    """
    plain = fitted.sae.cfg.get_inference_sae_cfg_dict()
    facts = {name: value for name, value in plain.pop("metadata").items() if value is not None}
    if fitted.input_scale is not None:
        details = facts["training_architecture_details"]
        facts["training_architecture_details"] = {**details, **scale_facts(fitted.input_scale)}
    plain |= {"device": "cpu", "metadata": facts}
    if "rescale_acts_by_decoder_norm" in plain:
        plain["rescale_acts_by_decoder_norm"] = False
    if layout_for(plain["architecture"]) == "saereg":
        return native_config(plain, facts)
    config = parse_config(json.dumps(plain), "SAELens' configuration")
    if not isinstance(config, SaelensConfig):
        raise UsageError(f"SAELens' configuration is that of a {type(config).__name__}")
    return config


def export(fitted: Fitted, checkpoint: Path, *, checkpoints: Path, folder: Path) -> SourceCheckpoint:
    """Write the inference layout from a saved training checkpoint.

    Args:
        fitted: the trained dictionary.
        checkpoint: file of its weights.
        checkpoints: folder that the recorded path is relative to.
        folder: where the export goes.

    Returns:
        What each exported tensor was made from.
    """
    config = inference_config(fitted)
    plan = export_plan(fitted.sae, config.torch_dtype)
    reading = Reading(config, plan, {"": open_safetensors(checkpoint)}).checked()
    layout = FORMATS[layout_for(config.architecture)].layout
    assert layout is not None  # noqa: S101  # both layouts are written
    write_layout(reading, layout(config), folder)
    relative = checkpoint.relative_to(checkpoints).as_posix()
    return SourceCheckpoint(path=relative, sha256=sha256_of(checkpoint), tensors=plan)
