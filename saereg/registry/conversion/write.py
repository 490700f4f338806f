"""Write a layout: weight files block by block, then the documents, the one that makes it a dictionary last."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.blocks import require_torch
from saereg.registry.files.tensors import MemoryFile
from saereg.registry.formats import FORMATS
from saereg.registry.readings.format import Layout
from saereg.registry.readings.reading import Reading, check_entries
from saereg.registry.readings.recipes import Recipes, composed, shape_after, with_decoder_norms
from saereg.schemas.recipe import SourceTensor

if TYPE_CHECKING:
    from saereg.registry.evidence.inspection import Inspection


@dataclass(frozen=True)
class Written:
    """One weight file that was written.

    Attributes:
        recipes: how its tensors were made from the source.
        inspection: what passed on the way out.
    """

    recipes: Recipes
    inspection: "Inspection"


def write_layout(reading: Reading, layout: Layout, folder: Path) -> dict[str, Written]:
    """Write the files of a layout from a reading; return weight file → what was written.

    Raises:
        WeightsError: when a tensor cannot be made.
        OSError: when the folder cannot be written; no file is ever half there.
    """
    written = {name: _write_weights(reading, layout, name, folder / name) for name in layout.files}
    for name, text in layout.documents.items():
        write_text_atomically(folder / name, text)
    return written


def _write_weights(reading: Reading, layout: Layout, name: str, path: Path) -> Written:
    from saereg.registry.evidence.inspection import Observer
    from saereg.registry.files.streaming import write_npz, write_pickle, write_safetensors

    recipes = recipes_for(reading, layout.files[name])
    entries = {tensor: recipes.entry(tensor) for tensor in recipes.plan}
    observer = Observer({tensor: entry.shape for tensor, entry in entries.items()})
    if path.suffix == ".npz":
        digest = write_npz(path, entries, recipes.blocks, see=observer.see)
    elif path.suffix in (".pt", ".pth"):
        digest = write_pickle(path, entries, recipes.blocks, see=observer.see)
    else:
        digest = write_safetensors(path, entries, recipes.blocks, metadata=layout.metadata, see=observer.see)
    return Written(recipes, observer.result(digest))


def recipes_for(reading: Reading, plan: Mapping[str, SourceTensor]) -> Recipes:
    """Return how tensors of a layout are made from the source of a reading.

    Decoder norms are those of the canonical `W_dec`, whatever the layout does with it afterwards.
    """
    source = reading.recipes()
    joined = composed(plan, reading.plan)
    known = {name: recipe for name, recipe in plan.items() if recipe.key in source.shapes}
    made = {name: shape_after(recipe.steps, source.shapes[str(recipe.key)]) for name, recipe in known.items()}
    shapes = {**source.shapes, **made}
    if not any(step.vector == "decoder_norm" for recipe in joined.values() for step in recipe.steps):
        return Recipes(source.files, joined, shapes, source.dtype, source.vectors)
    with_norms = with_decoder_norms(replace(source, plan={**source.plan, **_norm_user(source)}))
    return Recipes(source.files, joined, shapes, source.dtype, with_norms.vectors)


def _norm_user(source: Recipes) -> dict[str, SourceTensor]:
    """Return a recipe that asks for decoder norms, so that they are computed of the canonical `W_dec`."""
    from saereg.schemas.recipe import divided_by_decoder_norm

    recipe = source.plan["W_dec"]
    return {"W_dec": recipe.model_copy(update={"steps": (*recipe.steps, divided_by_decoder_norm(axis=0))})}


def write_checkpoint(checkpoint: Checkpoint, folder: Path, layout: str) -> None:
    """Write a dictionary in memory in one of the layouts.

    Raises:
        FormatError: with the reason, when the layout has no words for it.
        WeightsError: when a tensor is missing, extra, or not of the configuration's shape and type.
        OSError: when the folder cannot be written; whatever is there already stays whole.
    """
    require_torch("writing weights")
    cfg = checkpoint.check().cfg
    specs = cfg.tensors()
    for name, tensor in checkpoint.weights.items():
        expected, found = specs[name].dtype or cfg.torch_dtype, str(tensor.dtype).removeprefix("torch.")
        if found != expected:
            problem = f"is {found}, but the configuration says {expected}; cast it or correct `dtype`"
            raise WeightsError(checkpoint.source, problem, name)
    file = MemoryFile(checkpoint.weights, Path(checkpoint.source))
    reading = Reading(cfg, {name: SourceTensor(key=name) for name in checkpoint.weights}, {"": file})
    check_entries(file.entries, cfg, checkpoint.source)
    writer = FORMATS[layout].layout
    assert writer is not None  # noqa: S101  # both layouts of releases are written
    write_layout(reading, writer(cfg), folder)
