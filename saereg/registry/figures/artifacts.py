"""Which artifacts a figure shows, what it calls them, and what stands beside their weights."""

import csv
import io
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.features.latents import Latents, read_latents
from saereg.registry.figures.series import cut
from saereg.registry.files.blocks import read_tensor, row_blocks
from saereg.registry.files.header import read_header
from saereg.registry.files.names import ANALYSIS_FILE, LATENTS_FILE, WEIGHTS_FILES
from saereg.registry.flat_fields import weights_digest
from saereg.registry.release import Release, ReleaseArtifact
from saereg.schemas.manifest import CrosscoderArtifact, Sources

if TYPE_CHECKING:
    import altair
    from torch import Tensor

DECODER, NORMS = "W_dec", "decoder_norm"


def chosen(
    artifacts: Iterable[ReleaseArtifact], most: int, like: Callable[[ReleaseArtifact], Hashable]
) -> tuple[ReleaseArtifact, ...]:
    """Return some of the artifacts, in their order: canonical ones first, then one of each sort, then the next ones.

    Args:
        artifacts: those that could be shown.
        most: how many are.
        like: what two artifacts of one sort have in common.
    """
    found = list(artifacts)
    seen = {like(artifact) for artifact in found if artifact.claim.canonical}
    first = []
    for artifact in found:
        if not artifact.claim.canonical and like(artifact) not in seen:
            seen.add(like(artifact))
            first.append(artifact.id)
    rank = {artifact.id: 0 if artifact.claim.canonical else 1 if artifact.id in first else 2 for artifact in found}
    picks = {artifact.id for artifact in sorted(found, key=lambda artifact: rank[artifact.id])[:most]}
    return tuple(artifact for artifact in found if artifact.id in picks)


def sort_of(artifact: ReleaseArtifact) -> Hashable:
    """Return what two artifacts of one sort have in common: kind, architecture, sites and number of sources."""
    claim = artifact.claim
    if isinstance(claim, CrosscoderArtifact):
        return claim.kind, claim.architecture, claim.sources.site_keys, claim.sources.count
    return claim.kind, claim.architecture, claim.site


def one_of_each(able: Sequence[ReleaseArtifact]) -> tuple[ReleaseArtifact, ...]:
    """Return one crosscoder of each sort, the canonical one where there is one."""
    sorts: dict[object, ReleaseArtifact] = {}
    for artifact in able:
        key = sort_of(artifact)
        if key not in sorts or (artifact.claim.canonical and not sorts[key].claim.canonical):
            sorts[key] = artifact
    return tuple(sorts.values())


def left_out(shown: int, of: int, what: str = "artifacts that have it") -> str:
    """Return the sentence that says what a figure leaves out; empty where it shows all."""
    if shown == of:
        return ""
    return (
        f" Shown are {shown} of the {of:,} {what}: canonical ones first, then one of each sort, in the release's order."
    )


def short_names(ids: Sequence[str]) -> dict[str, str]:
    """Return id → the id without the folders that all of them start with, cut where it is very long; all differ."""
    parts = [identifier.split("/") for identifier in ids]
    common = 0
    while len(ids) > 1 and all(len(p) > common + 1 and p[common] == parts[0][common] for p in parts):
        common += 1
    found: dict[str, str] = {}
    for identifier, segments in zip(ids, parts, strict=True):
        name = cut("/".join(segments[common:]))
        found[identifier] = name if name not in found.values() else f"{name} ({len(found) + 1})"
    return found


def plural(count: int, noun: str) -> str:
    """Return a number with its noun: `1 run`, `2,000 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def rounded(value: float, digits: int = 5) -> float:
    """Return a number as a figure needs it: more digits cannot be seen."""
    return float(f"{value:.{digits}g}")


def latents_of(artifact: ReleaseArtifact) -> Latents | None:
    """Return the statistics of its latents; None where there are none, or they are of other weights.

    Raises:
        WeightsError: when the file is damaged.
        OSError: when it cannot be read.
    """
    path = artifact.folder / LATENTS_FILE
    if not path.is_file():
        return None
    try:
        found = read_latents(path)
    except WeightsError as error:
        raise WeightsError(f"{artifact.claim.path}/{LATENTS_FILE}", error.problem) from None
    expected = weights_digest(artifact.evidence) if artifact.evidence else None
    if expected not in (None, found.weights_sha256):
        return None
    if found.fired.shape[1] != artifact.claim.d_sae:
        problem = f"it counts {found.fired.shape[1]} latents, and d_sae is {artifact.claim.d_sae}"
        raise WeightsError(f"{artifact.claim.path}/{LATENTS_FILE}", problem)
    return found


def decoder_norms(artifact: ReleaseArtifact) -> "Tensor | None":
    """Return ‖W_dec[j, k]‖ of a crosscoder, (F, K), float64; None where its files are not here.

    From the file of its analysis, else from the weights, of which one block is in memory at a time.

    Raises:
        WeightsError: when the file is damaged, or of another dictionary.
        OSError: when it cannot be read.
    """
    claim = artifact.claim
    shape = (claim.d_sae, sources_of(artifact).count)
    analysis, weights = artifact.folder / ANALYSIS_FILE, artifact.folder / WEIGHTS_FILES[claim.format]
    if analysis.is_file():
        header = read_header(analysis)
        if NORMS in header.tensors and header.tensors[NORMS].shape == shape:
            return read_tensor(analysis, header, NORMS).double()
        raise WeightsError(f"{claim.path}/{ANALYSIS_FILE}", f"expected {NORMS} of shape {shape}")
    return _norms(artifact, shape) if weights.is_file() else None


def _norms(artifact: ReleaseArtifact, shape: tuple[int, int]) -> "Tensor":
    import torch

    path = artifact.folder / WEIGHTS_FILES[artifact.claim.format]
    entry = read_header(path).tensors.get(DECODER)
    if entry is None or entry.shape[:2] != shape or len(entry.shape) != 3:
        raise WeightsError(f"{artifact.claim.path}/{path.name}", f"expected {DECODER} of shape {(*shape, 'd_in')}")
    return torch.cat([block.double().norm(dim=-1) for _, block in row_blocks(path, entry)])


def sources_of(artifact: ReleaseArtifact) -> Sources:
    """Return the sources of a crosscoder.

    Raises:
        TypeError: for an artifact of another kind.
    """
    if not isinstance(artifact.claim, CrosscoderArtifact):
        raise TypeError(f"{artifact.id} is no crosscoder")
    return artifact.claim.sources


def crosscoders(release: Release, axis: str | None = None) -> list[ReleaseArtifact]:
    """Return the crosscoders of a release that have several sources, perhaps of one axis only."""
    return [
        artifact
        for artifact in release
        if isinstance(artifact.claim, CrosscoderArtifact)
        and artifact.claim.sources.count > 1
        and axis in (None, artifact.claim.sources.axis)
    ]


def source_names(artifact: ReleaseArtifact) -> tuple[str, ...]:
    """Return what a figure calls the sources of a crosscoder, in their order: steps, layers, or keys of sites."""
    sources, sites = sources_of(artifact), artifact.release.manifest.sites
    if sources.steps:
        return tuple(map(str, sources.steps))
    layers = [sites[key].layer if key in sites else None for key in sources.sites]
    if sources.axis == "layer" and None not in layers and len(set(layers)) == len(layers):
        return tuple(map(str, layers))
    return sources.sites


def source_words(artifact: ReleaseArtifact) -> tuple[str, ...]:
    """Return what a sentence calls them: `step 1,000`, `layer 3`, or the key of a site."""
    names = source_names(artifact)
    if not all(name.isdigit() for name in names):
        return names
    return tuple(f"{'step' if sources_of(artifact).steps else 'layer'} {int(name):,}" for name in names)


def source_axis(artifact: ReleaseArtifact) -> str:
    """Return what an axis of the sources of a crosscoder is called."""
    return {"snapshot": "pretraining step", "layer": "layer", "model": "model"}[sources_of(artifact).axis]


def whole_ticks(low: int, high: int, most: int = 4) -> list[int]:
    """Return whole numbers from low to high, 0 among them, for an axis of small counts, which Vega would halve."""
    step = max(1, -(-(high - low) // most))
    size = 10 ** (len(str(step)) - 1)
    step = next(size * n for n in (1, 2, 5, 10) if size * n >= step)
    return [step * n for n in range(-(-low // step), high // step + 1)]


def slug(kind: str, number: int, of: int) -> str:
    """Return the name of one of several figures of a kind, which is the name of the kind where it is the only one."""
    return kind if of == 1 else f"{kind}-{number + 1}"


def table(rows: Sequence[Mapping[str, object]]) -> "altair.InlineData":
    """Return rows as one text of comma-separated values.

    It has a tenth of the letters of JSON, and altair, which copies data with every layer, has nothing to copy.

    Args:
        rows: one or more, numbers, truths and words under the same names in each; None is a number that is missing.
    """
    import altair as alt

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    kinds = {name: _kind([row[name] for row in rows]) for name in rows[0]}
    return alt.InlineData(values=text.getvalue(), format=alt.CsvDataFormat(type="csv", parse=kinds))


def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _kind(column: Sequence[object]) -> str:
    known = [value for value in column if value is not None]
    if known and all(isinstance(value, bool) for value in known):
        return "boolean"
    return "number" if all(isinstance(value, int | float) for value in known) else "string"
