"""From the settings to the sources: named places whose rows belong together, and what the manifest says of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UsageError
from saereg.registry.draft import References
from saereg.registry.metrics.sources.collected import RowText, text_of
from saereg.registry.models.model import slug
from saereg.schemas.cfg_crosscoder import ActivationInput, ParameterInput
from saereg.schemas.collection import Collection
from saereg.schemas.evaluation import ActivationRows, Evaluation
from saereg.schemas.manifest import Sources
from saereg.schemas.site import BaseModelRef, DatasetRef, Site, TokenPolicy
from saereg.schemas.training_crosscoder import CrosscoderTrainConfig, SourceSettings
from saereg.trainers.collecting.text import vocabulary_of
from saereg.trainers.rows import parameters
from saereg.trainers.rows.activations import Activations, read_collection
from saereg.trainers.rows.batches import StoredRows

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_KEY = 100
"""Longest name of an evaluation that is made of names of sites; a digest stands for what is longer."""


@dataclass(frozen=True)
class Stack:
    """The sources of a crosscoder.

    Attributes:
        places: key of a source in a batch → its rows; in the order of the source axis.
        width: D.
        rows: rows that are trained on: the first ones.
        total: all rows; those behind `rows` are held out. Of parameters all are trained on.
        sources: what the source axis runs over.
        input: what a row is.
        evaluation: name of the evaluation, and what it is.
        base_models: key → base model.
        sites: key → site.
        datasets: key → data set.
        tokens: which tokens became rows; None for parameters.
        digest: of the documents of what is read.
        text: text of the rows; None where there is none.
        vocabulary: file with the text of the entries of the vocabulary, of which rows of a parameter are; None where
            there is none.
    """

    places: Mapping[str, StoredRows]
    width: int
    rows: int
    total: int
    sources: Sources
    input: ActivationInput | ParameterInput
    evaluation: tuple[str, Evaluation]
    base_models: Mapping[str, BaseModelRef]
    sites: Mapping[str, Site]
    datasets: Mapping[str, DatasetRef]
    tokens: TokenPolicy | None
    digest: str
    text: RowText | None = None
    vocabulary: Path | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        return len(self.places), self.width

    @property
    def held_out(self) -> range:
        """Rows that it is evaluated on."""
        return range(0 if self.rows == self.total else self.rows, self.total)

    def read(self, first: int, last: int) -> "Tensor":
        """Return rows of all sources, (n, K, D), float32."""
        import torch

        return torch.stack([place.read(first, last).float() for place in self.places.values()], 1)

    def references(self) -> References:
        """Return what an entry in the manifest refers to."""
        name, evaluation = self.evaluation
        return References(self.base_models, self.sites, self.datasets, {name: evaluation}, self.tokens)


def open_sources(config: CrosscoderTrainConfig) -> Stack:
    """Open the sources of a run, and refuse what cannot be trained on.

    Raises:
        UsageError: when something is missing, unfinished, has too few rows, or does not belong together.
        WeightsError: when a file is damaged.
    """
    settings = config.sources
    stack = _parameters(config, settings.parameters) if settings.parameters is not None else _activations(config)
    batch = config.optimization.batch_size
    if batch > stack.rows:
        raise UsageError(
            f"optimization.batch_size is {batch}, but there are only {stack.rows} rows to train on; "
            "take smaller batches, or collect more"
        )
    return stack


def _parameters(config: CrosscoderTrainConfig, name: str) -> Stack:
    folder = Path(name)
    stored = parameters.read_parameters(folder)
    chosen = parameters.snapshots_at(folder, stored, config.sources.steps)
    steps = tuple(snapshot.step for snapshot in chosen)
    model = slug(stored.model.id)
    key = f"{model}-{slug(stored.parameter)}"
    span = f"{len(steps)}-snapshots-{steps[0]}-{steps[-1]}" if len(steps) > 1 else f"step{steps[0]}"
    evaluation = stored.evaluation(steps).model_copy(update={"site": key})
    return Stack(
        places={f"step{one.step}": parameters.ParameterRows(folder, stored, one) for one in chosen},
        width=stored.d_in,
        rows=stored.rows,
        total=stored.rows,
        sources=Sources(axis="snapshot", site=key, steps=steps),
        input=ParameterInput(kind="parameters", parameter=stored.parameter),
        evaluation=(f"{key}-{span}", evaluation),
        base_models={model: stored.model},
        sites={key: Site(model=model, stream="parameter", parameter=stored.parameter)},
        datasets={},
        tokens=None,
        # a pin changes no number: runs of folders that had none yet go on
        digest=_digest([stored.unpinned().text(), *(one.sha256 for one in chosen)]),
        vocabulary=vocabulary_of(folder),
    )


def _activations(config: CrosscoderTrainConfig) -> Stack:
    settings = config.sources
    folders = [Path(name) for name in settings.collections]
    collections = [read_collection(folder) for folder in folders]
    _check_together(folders, collections)
    pairs = [(folders[0], collections[0], site) for site in settings.sites]
    if settings.axis != "layer":
        pairs = [(folder, one, settings.sites[0]) for folder, one in zip(folders, collections, strict=True)]
    opened = [Activations(folder, collection, site) for folder, collection, site in pairs]
    widths = {key: place.width for key, place in zip(_keys(settings), opened, strict=True)}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{key} is {width}" for key, width in widths.items())
        raise UsageError(f"all sources must have one width, but {found}; choose sites of the same width")
    first, total, held_out = collections[0], collections[0].rows, config.evaluation.rows
    if held_out >= total:
        raise UsageError(
            f"evaluation.rows is {held_out}, but {folders[0]} has {total} rows; collect more, or hold out fewer"
        )
    dataset = slug(first.dataset.id)
    base_models, sites, sources = _identities(settings, collections)
    name = _evaluation_name(config, sources)
    return Stack(
        places=dict(zip(_keys(settings), opened, strict=True)),
        width=opened[0].width,
        rows=total - held_out,
        total=total,
        sources=sources,
        input=ActivationInput(kind="activations"),
        # no site: a dictionary of one source at that site could not be measured on rows of several
        evaluation=(
            name,
            ActivationRows(source="activations", path=f"evaluation/{name}.safetensors", rows=held_out, dataset=dataset),
        ),
        base_models=base_models,
        sites=sites,
        datasets={dataset: first.dataset},
        tokens=first.tokens,
        digest=_digest([collection.text() for collection in collections]),
        text=text_of(folders[0], first),
    )


def _keys(settings: SourceSettings) -> tuple[str, ...]:
    """Return how each source is called in a batch; the same place has the same key whoever reads it."""
    if settings.axis == "layer":
        if len(set(settings.sites)) < len(settings.sites):
            raise UsageError("a site stands twice in sources.sites; each source is another one")
        return settings.sites
    if len(set(settings.collections)) < len(settings.collections):
        raise UsageError("a folder stands twice in sources.collections; each source is another one")
    return settings.collections


def _check_together(folders: Sequence[Path], collections: Sequence[Collection]) -> None:
    """Refuse collections in which the same row is not the same token."""
    first = collections[0]
    for folder, other in zip(folders[1:], collections[1:], strict=True):
        differing = [
            name
            for name, mine, theirs in (
                ("text", first.dataset, other.dataset),
                ("tokens", first.tokens, other.tokens),
                ("number of rows", first.rows, other.rows),
            )
            if mine != theirs
        ]
        if differing:
            raise UsageError(
                f"{folder} has another {' and '.join(differing)} than {folders[0]}, so that their rows are not the "
                "same tokens; collect both from the same text with the same options"
            )


def _identities(
    settings: SourceSettings, collections: Sequence[Collection]
) -> tuple[dict[str, BaseModelRef], dict[str, Site], Sources]:
    """Return base models, sites and sources as the manifest has them."""
    if settings.axis == "layer":
        known = collections[0].sites
        sites = {key: known[key].site for key in settings.sites}
        models = {site.model: collections[0].model for site in sites.values()}
        return models, sites, Sources(axis="layer", sites=settings.sites)
    key = settings.sites[0]
    places = [collection.sites[key].site for collection in collections]
    if settings.axis == "model":
        named = {f"{site.model}-{key}": site for site in places}
        if len(named) < len(places):
            raise UsageError(
                f"two of the models are called {places[0].model!r}; collect with --model-name, so that each has its own"
            )
        models = {site.model: one.model for site, one in zip(places, collections, strict=True)}
        return models, named, Sources(axis="model", sites=tuple(named))
    steps = tuple(collection.model.step for collection in collections)
    numbers = tuple(step for step in steps if step is not None)
    if len(numbers) < len(steps) or list(numbers) != sorted(set(numbers)):
        raise UsageError(f"collections of snapshots must be of models with rising pretraining steps; found {steps}")
    model = collections[0].model.model_copy(
        update={"revision": None, "step": None, "weights_sha256": None, "schedule": numbers}
    )
    return {places[0].model: model}, {key: places[0]}, Sources(axis="snapshot", site=key, steps=numbers)


def _evaluation_name(config: CrosscoderTrainConfig, sources: Sources) -> str:
    of = "-".join([*sources.site_keys, *(str(step) for step in sources.steps)])
    name = f"{config.evaluation.name}-{of}"
    return name if len(name) <= LONGEST_KEY else f"{name[: LONGEST_KEY - 9]}-{_digest([of])[:8]}"


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
