"""What a reader returns: a typed configuration, and for each of its tensors the recipe that makes it.

Nothing is loaded. Loading carries the recipes out in memory, converting streams them into another file, and a proof
redoes them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from saereg.errors import WeightsError
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.files.tensors import Entry, TensorFile
from saereg.registry.readings.given import BECAUSE, Given
from saereg.registry.readings.recipes import Recipes, with_decoder_norms
from saereg.schemas import artifact_config
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg import SaelensMetadata
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig, DictionaryConfig
from saereg.schemas.metrics import FLOATS
from saereg.schemas.recipe import SourceTensor
from saereg.schemas.semantics import Assumption, Semantics

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """A dictionary as a layout means it.

    Attributes:
        cfg: configuration, with every assumption in it.
        plan: canonical tensor → recipe.
        files: source files by name; "" is the only one.
        left_out: tensors of the source that are none of the dictionary's, e.g. of an optimizer.
        unsettled: what decides the function and nobody said, where the layout's own library goes on regardless; None
            where everything is said.
    """

    cfg: ArtifactConfig
    plan: Mapping[str, SourceTensor]
    files: Mapping[str, TensorFile]
    left_out: tuple[str, ...] = ()
    unsettled: str | None = None

    @property
    def source(self) -> str:
        """What messages call it."""
        paths = sorted(str(file.path) for file in self.files.values())
        return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"

    def recipes(self) -> Recipes:
        """Return the recipes, ready to be carried out."""
        shapes = {name: spec.shape for name, spec in self.cfg.tensors().items()}
        return with_decoder_norms(Recipes(self.files, self.plan, shapes, self.cfg.torch_dtype))

    def checkpoint(self, device: str = "cpu") -> Checkpoint:
        """Carry the recipes out, one tensor after the other, so that the weights are in memory once.

        Raises:
            WeightsError: when a tensor cannot be made or is not what the configuration says.
            OSError: when a file cannot be read.
        """
        recipes = self.recipes()
        weights: dict[str, Tensor] = {name: recipes.whole(name).to(device) for name in self.plan}
        return Checkpoint(self.cfg, weights, self.source).check()

    def require_finite(self, checkpoint: Checkpoint) -> None:
        """Refuse weights that nothing can be computed with.

        Raises:
            WeightsError: naming the first value that is not finite.
        """
        import torch

        for name, tensor in checkpoint.weights.items():
            if not bool(torch.isfinite(tensor).all()):
                position = tuple(int(i) for i in (~torch.isfinite(tensor)).nonzero()[0])
                key = self.plan[name].key
                where = f"{self.source}: {key}" if key else self.source
                raise WeightsError(where, f"a value at {position} of {name} is not finite; no reader could use it")

    def checked(self) -> "Reading":
        """Return itself if every recipe gives what the configuration says; no value is read.

        Raises:
            WeightsError: naming the first tensor that is missing, extra, or of another shape or type.
        """
        shapes = {name: spec.shape for name, spec in self.cfg.tensors().items()}
        recipes = Recipes(self.files, self.plan, shapes, self.cfg.torch_dtype)
        found = {name: recipes.entry(name) for name in self.plan}
        check_entries(found, self.cfg, self.source)
        return self


def check_entries(found: Mapping[str, Entry], cfg: ArtifactConfig, source: str) -> None:
    """Compare shapes and types with those that a configuration implies.

    Raises:
        WeightsError: naming the first tensor that is missing, extra, or of another shape or type.
    """
    specs = cfg.tensors()
    for name, spec in specs.items():
        if name not in found:
            raise WeightsError(source, f"missing; expected shape {spec.shape}", name)
        if found[name].shape != spec.shape:
            raise WeightsError(source, f"shape {found[name].shape}, expected {spec.shape} by the configuration", name)
        if found[name].dtype not in FLOATS:
            problem = f"stored as {found[name].dtype}, expected one of {', '.join(FLOATS)}"
            raise WeightsError(source, f"{problem}; convert it and write it again", name)
    for name in found:
        if name not in specs:
            raise WeightsError(source, "not a tensor of this architecture", name)


def dictionary(
    files: Mapping[str, TensorFile],
    plan: Mapping[str, SourceTensor],
    *,
    kind: Literal["sae", "transcoder"],
    semantics: Semantics,
    metadata: Mapping[str, object] | None = None,
    assumptions: Iterable[Assumption] = (),
) -> Reading:
    """Return the reading of an SAE or a transcoder, with widths and types as the recipes give them.

    Args:
        files: source files by name; "" is the only one.
        plan: canonical tensor (`W_enc` (D, F), `W_dec` (F, O), …) → recipe.
        kind: of the dictionary.
        semantics: every switch.
        metadata: what the source itself says of model, site and training; nothing that is guessed.
        assumptions: what was taken for granted or given.

    Raises:
        DocumentError: when the switches contradict each other or the widths.
        WeightsError: when a tensor is missing or of another shape than the rest implies.
    """
    recipes = Recipes(files, plan)
    (d_in, d_sae), (_, d_out) = _matrix(recipes, "W_enc"), _matrix(recipes, "W_dec")
    widths = {"d_in": d_in, "d_sae": d_sae, "d_out": d_out}
    return _reading(
        DictionaryConfig, files, plan, {"kind": kind, **widths, "semantics": semantics}, metadata, assumptions
    )


def several(
    kind: type[CrosscoderConfig] | type[CrossLayerConfig],
    files: Mapping[str, TensorFile],
    plan: Mapping[str, SourceTensor],
    fields: Mapping[str, Any],
    *,
    metadata: Mapping[str, object] | None = None,
    assumptions: Iterable[Assumption] = (),
) -> Reading:
    """Return the reading of a crosscoder or a cross-layer dictionary.

    Args:
        kind: class of its configuration.
        files: source files by name; "" is the only one.
        plan: canonical tensor → recipe.
        fields: of the configuration, without types, metadata and assumptions.
        metadata: what the source itself says of model, site and training.
        assumptions: what was taken for granted or given.

    Raises:
        DocumentError: when the fields contradict each other.
        WeightsError: when a tensor is missing or of another shape than the fields imply.
    """
    return _reading(kind, files, plan, fields, metadata, assumptions)


def _reading(
    kind: type[DictionaryConfig] | type[CrosscoderConfig] | type[CrossLayerConfig],
    files: Mapping[str, TensorFile],
    plan: Mapping[str, SourceTensor],
    fields: Mapping[str, Any],
    metadata: Mapping[str, object] | None,
    assumptions: Iterable[Assumption],
) -> Reading:
    recipes = Recipes(files, {name: recipe for name, recipe in plan.items() if recipe.key is not None})
    types = {name: recipes.entry(name).dtype for name in recipes.plan}
    dtype = types.get("W_dec") or types.get("W_dec.0.0") or "float32"
    source = sorted(str(file.path) for file in files.values())[0]
    odd = {name: found for name, found in types.items() if found not in FLOATS}
    if odd:
        name, found = next(iter(odd.items()))
        raise WeightsError(source, f"stored as {found}, expected one of {', '.join(FLOATS)}", name)
    common = {"dtype": dtype, "metadata": SaelensMetadata.of(metadata or {}), "assumptions": tuple(assumptions)}
    cfg = kind.made(source, **fields, **common)
    expected = cfg.tensors()
    others = {n: t for n, t in types.items() if n in expected and t != (expected[n].dtype or dtype)}
    if others:
        cfg = kind.made(source, **fields, **common, dtypes=others)
    return Reading(cfg, plan, files).checked()


def _matrix(recipes: Recipes, name: str) -> tuple[int, int]:
    if name not in recipes.plan:
        raise WeightsError("source", "missing", name)
    shape = recipes.entry(name).shape
    if len(shape) != 2 or 0 in shape:
        file, _ = recipes.source(recipes.plan[name])
        raise WeightsError(str(file.path), f"shape {shape}, expected a matrix", recipes.plan[name].key)
    return shape[0], shape[1]


def told(reading: Reading) -> Given:
    """Return what the caller said, for a reference, which takes nothing else from a reading."""
    notes = artifact_config.assumptions(reading.cfg)
    return Given({note.field: note.value for note in notes if note.because == BECAUSE})


def with_left_out(reading: Reading, known: Iterable[str]) -> Reading:
    """Return the reading with the tensors of its only file that no recipe uses, all of which must be known.

    Raises:
        WeightsError: naming one that is not: a tensor that means something must not be dropped in silence.
    """
    (file,) = reading.files.values()
    used = {key for recipe in reading.plan.values() for key in recipe.keys}
    rest, allowed = sorted(set(file.entries) - used), tuple(known)
    for name in rest:
        if not any(name == word or (word.endswith("/") and name.startswith(word)) for word in allowed):
            raise WeightsError(str(file.path), "is no tensor of this layout; it would be lost", name)
    return replace(reading, left_out=tuple(rest))
