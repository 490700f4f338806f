"""What is different for a transcoder: pairs of rows, scales of two sites, a layout for what SAELens cannot say."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from saereg.errors import UsageError
from saereg.registry.files.names import WEIGHTS_FILES
from saereg.schemas.cfg import INFERENCE, SaelensMetadata
from saereg.schemas.cfg_native import DictionaryConfig
from saereg.schemas.semantics import Semantics
from saereg.schemas.site import Site

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.trainers.rows.activations import Activations

TARGET = "target"
"""Tensor of held-out rows that a transcoder is to predict."""

Scale = float | tuple[float, float] | None
"""Factor that inputs were multiplied by during training; of a transcoder, those of inputs and of outputs."""


def side_by_side(inputs: "Tensor", outputs: "Tensor") -> "Tensor":
    """Return the rows [x | y] that the training class of a transcoder reads, (B, d_in + d_out)."""
    import torch

    return torch.cat([inputs, outputs], dim=-1)


def same_rows(places: "Mapping[str, Activations]", folder: Path) -> int:
    """Return how many rows every site has.

    Raises:
        UsageError: when sites differ, so that their rows do not belong together.
    """
    counts = {site: place.rows for site, place in places.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} at {site}" for site, count in counts.items())
        raise UsageError(f"{folder} has different numbers of rows ({told}); collect its sites in one pass")
    return next(iter(counts.values()))


def layout_for(architecture: str) -> Literal["saelens", "saereg"]:
    """Return the layout that a trained architecture is released in: SAELens' own where it has words for it."""
    return "saereg" if architecture.endswith("transcoder") and architecture not in INFERENCE else "saelens"


def weights_file(architecture: str) -> str:
    """Return the name of the file of weights of a trained architecture."""
    return WEIGHTS_FILES[layout_for(architecture)]


def module_of(site: Site) -> str | None:
    """Return what SAELens calls `hf_hook_name`: a module whose output it is."""
    return site.module if site.io == "output" else None


def scale_facts(scale: Scale) -> dict[str, object]:
    """Return what is said of a scale that was folded into the weights."""
    if scale is None:
        return {}
    kind = {"normalize_activations": "expected_average_only_in"}
    if isinstance(scale, float):
        return {**kind, "input_scale": scale}
    return {**kind, "input_scale": scale[0], "output_scale": scale[1]}


def native_config(plain: Mapping[str, Any], facts: Mapping[str, object]) -> DictionaryConfig:
    """Return the configuration of a TopK transcoder, in saereg's own dialect.

    Args:
        plain: what SAELens would say; decoder norms are folded, so that plain pre-activations are ranked.
        facts: its metadata.

    Raises:
        DocumentError: when the facts do not fit.
    """
    semantics = Semantics(
        pre_encoder_subtraction="none",
        activation="topk",
        gate_quantity="pre_activation",
        k=float(plain["k"]),
        skip="x_times_W_skip_transposed" if "skip" in plain["architecture"] else "none",
    )
    widths = {name: plain[name] for name in ("d_in", "d_out", "d_sae", "dtype")}
    metadata = SaelensMetadata.of(facts)
    return DictionaryConfig.made(
        "the trainer's configuration", kind="transcoder", **widths, semantics=semantics, metadata=metadata
    )
