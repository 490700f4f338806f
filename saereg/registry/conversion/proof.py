"""The three parts of the proof that a conversion computes the same function."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from saereg import __version__
from saereg.errors import WeightsError
from saereg.registry.conversion.write import Written
from saereg.registry.files.names import GOLDEN_FILE
from saereg.registry.files.opening import open_tensors
from saereg.registry.readings.format import Format, Layout
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.recipes import composed
from saereg.registry.readings.source import Source, open_source
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig
from saereg.schemas.index import GoldenFacts, RoundTripTensor

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.evidence.golden_file import GoldenVectors
    from saereg.registry.readings.reference import Codes, Raw

ROWS, LARGEST_POOL, POOL_NUMBERS = 8, 64, 1_000_000
"""Random golden inputs; most rows that they are chosen from; and most numbers in the codes of such a pool."""

CLEAR = 4e-6
"""Margin from which on the active latents of a row are beyond doubt: some dozen roundings of float32. Rows with the
largest margins are not preferred: in those a wrong ranking, too, would give the right set."""

SCALES = (1.0, 4.0, 16.0, 64.0, 256.0)
"""Factors of the random rows, one after the other, until latents fire: high thresholds need large inputs."""

REAL_ROWS = 4
"""Activations of the model beside them, where some are given."""

SEED = 20_240_501


def compare_bytes(written: Mapping[str, Written], folder: Path) -> dict[str, RoundTripTensor]:
    """Read every tensor back and compare its bytes with those that its recipe gives.

    Raises:
        WeightsError: naming the first that differs.
    """
    from saereg.registry.evidence.round_trip import compare_with_recipes, disagreements

    result: dict[str, RoundTripTensor] = {}
    for name, part in written.items():
        file = open_tensors(folder / name)
        if set(file.entries) != set(part.recipes.plan):
            listed = ", ".join(sorted(file.entries))
            raise WeightsError(name, f"holds {listed}, not the tensors that were to be written")
        found = compare_with_recipes(file, part.recipes)
        for tensor, what in disagreements(found, part.recipes.plan, part.inspection.largest).items():
            raise WeightsError(name, f"what was written is not what was read: {what}", tensor)
        result |= {f"{name}: {tensor}" if len(written) > 1 else tensor: how for tensor, how in found.items()}
    return result


def read_back(target: Format, reading: Reading, wanted: Layout, folder: Path) -> Reading:
    """Read what was written, and compare function and canonical tensors with those that were to be written.

    The bytes in the files are known to be right by then, so where reading them back undoes, step by step, what writing
    did, nothing is left to compare; otherwise values are.

    Raises:
        WeightsError: when they differ.
    """
    again = target.read(open_source(folder), Given())
    if _function(again.cfg) != _function(wanted.cfg):
        raise WeightsError(str(folder), "read back, it is another function than was to be written")
    (only,) = list(wanted.files)[:1]
    stored = {name: recipe.model_copy(update={"file": None}) for name, recipe in again.plan.items()}
    for name, recipe in again.plan.items():
        file = recipe.file or only
        back = composed({name: stored[name]}, wanted.files[file])[name] if recipe.key is not None else recipe
        undone = not back.steps and back.key == name
        if not recipe.steps or undone:
            continue
        if not _same_values(again, reading, name):
            raise WeightsError(str(folder), "read back, it has other values", name)
    return again


def _function(cfg: ArtifactConfig) -> object:
    """Return what decides the function: switches, shapes and types, without where it belongs and what was assumed."""
    return semantics_of(cfg), {
        name: (spec.shape, spec.dtype or cfg.torch_dtype) for name, spec in cfg.tensors().items()
    }


def _same_values(left: Reading, right: Reading, name: str) -> bool:
    import torch

    mine, theirs = left.recipes(), right.recipes()
    if name not in theirs.plan or mine.entry(name) != theirs.entry(name):
        return False
    for first, block in mine.blocks(name):
        rows = ((first, first + len(block)),) if block.ndim else ()
        if not torch.equal(block, theirs.box(name, (*rows, *((0, n) for n in block.shape[1:])))):
            return False
    return True


def golden_proof(
    layout: Format,
    reading: Reading,
    again: Reading,
    folder: Path,
    activations: "Tensor | None",
    source: Source | None = None,
) -> GoldenFacts:
    """Run the publisher's forward on the source, write golden vectors, and replay them on the result.

    Args:
        layout: layout of the source.
        reading: the source.
        again: the result, read back.
        folder: where the golden vectors go.
        activations: rows of the model (n, d_in) to add to the random ones.
        source: what the source was read from, documents included.

    Raises:
        WeightsError: when no latent is ever active, another one is, or activations or reconstruction differ by more
            than rounding.
    """
    from saereg.registry.evidence.golden import replay
    from saereg.registry.evidence.golden_file import write_golden
    from saereg.registry.evidence.stream import StreamedDictionary

    golden = golden_vectors(layout, reading, activations, source)
    if isinstance(reading.cfg, CrosscoderConfig) and not isinstance(again.cfg, CrosscoderConfig):
        # the result reads the sources side by side
        golden = replace(golden, x=golden.x.flatten(1), x_hat=golden.x_hat.flatten(1))
    write_golden(folder / GOLDEN_FILE, golden)
    found = replay(StreamedDictionary(again.cfg, again.recipes()), folder / GOLDEN_FILE)
    if not found.agrees(again.cfg.torch_dtype):
        latents = f"{len(found.differing)} latents or more differ" if found.differing else "the same latents are active"
        off = max(found.replay.max_rel_error, found.activation_error)
        problem = f"the result does not compute what {layout.name} does: {latents}, relative error {off:.3g}"
        raise WeightsError(reading.source, problem)
    return GoldenFacts(path=GOLDEN_FILE, made_by=golden.made_by, rows=len(golden.x), replayed=(found.replay,))


def golden_vectors(
    layout: Format, reading: Reading, activations: "Tensor | None" = None, source: Source | None = None
) -> "GoldenVectors":
    """Return inputs and what the publisher's own forward makes of them.

    Of a pool of random rows those are taken whose active latents are beyond doubt. Rows of the model are taken the same
    way.

    Raises:
        WeightsError: when no latent is active in any row, or the activations are not of the dictionary's width.
    """
    import torch

    from saereg.registry.evidence.golden_file import sparse_golden
    from saereg.registry.readings.reference import Raw

    raw, shape = Raw(reading.files, source), _row_shape(reading.cfg)
    pool = max(ROWS, min(LARGEST_POOL, POOL_NUMBERS // _codes_of_a_row(reading.cfg)))
    x = torch.randn(pool, *shape, generator=torch.Generator().manual_seed(SEED))
    chosen = [_random_rows(layout, raw, reading, x)]
    if activations is not None:
        if tuple(activations.shape[1:]) != shape:
            problem = f"rows of shape {tuple(activations.shape[1:])}, the dictionary reads {shape}"
            raise WeightsError("activations", problem)
        real = activations[:pool].float()
        chosen.append(_clear(real, _reference(layout, raw, reading, real)[0], REAL_ROWS))
    x = torch.cat(chosen)
    codes, made_by = _reference(layout, raw, reading, x)
    if not bool((codes.f != 0).any()):
        problem = "no latent is active on random rows of any scale, so nothing can be proved with them"
        raise WeightsError(reading.source, f"{problem}; give rows of the model: --activations FILE")
    return sparse_golden(x, codes.f, codes.x_hat, f"saereg {__version__}: {made_by}")


def _random_rows(layout: Format, raw: "Raw", reading: Reading, pool: "Tensor") -> "Tensor":
    """Return rows of the pool, at the first scale at which latents fire in half of them."""
    for scale in SCALES:
        codes = _reference(layout, raw, reading, pool * scale)[0]
        firing = (codes.f != 0).flatten(1).any(dim=1)
        if float(firing.double().mean()) >= 0.5:
            break
    return _clear(pool * scale, codes, ROWS)


def _clear(x: "Tensor", codes: "Codes", rows: int) -> "Tensor":
    """Return the first rows that are beyond doubt; where there are too few, the clearest."""
    import torch

    order = codes.margin.argsort(descending=True, stable=True)
    position = torch.arange(len(x))
    clear = position[codes.margin >= CLEAR][:rows]
    return x[(clear if len(clear) == rows else order[:rows]).sort().values]


def _reference(layout: Format, raw: "Raw", reading: Reading, x: "Tensor") -> "tuple[Codes, str]":
    """Return the codes and what made them: the publisher's forward, or saereg's where the switches are not enough."""
    import torch

    from saereg.registry.evidence.stream import StreamedDictionary
    from saereg.registry.readings.reference import Codes

    codes = layout.reference(raw, reading, x.double()) if layout.reference is not None else None
    if codes is not None:
        return codes, f"forward of {layout.name} ({layout.about.source})"
    f, x_hat = StreamedDictionary(reading.cfg, reading.recipes()).run(x)
    return Codes(f, x_hat, torch.arange(len(x), 0, -1).double()), f"forward of {reading.cfg.architecture}"


def _row_shape(cfg: ArtifactConfig) -> tuple[int, ...]:
    if isinstance(cfg, CrosscoderConfig):
        return cfg.n_sources, cfg.d_in
    if isinstance(cfg, CrossLayerConfig):
        return cfg.n_layers, cfg.d_in
    return (cfg.d_in,)


def _codes_of_a_row(cfg: ArtifactConfig) -> int:
    axes = _row_shape(cfg)
    return cfg.d_sae * (axes[0] if len(axes) > 1 else 1)
