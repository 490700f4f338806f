"""What is known of a run before its first step: the rows, what it may not do, and what its entries refer to."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UsageError
from saereg.registry.draft import References, check_references
from saereg.registry.metrics.sources.collected import RowText, text_of
from saereg.registry.models.model import slug
from saereg.schemas.collection import Collection
from saereg.schemas.evaluation import ActivationRows
from saereg.schemas.manifest import ReleaseInfo
from saereg.schemas.training import TrainConfig
from saereg.trainers.collecting.shards import TENSOR
from saereg.trainers.rows.activations import Activations, read_collection
from saereg.trainers.rows.batches import batches
from saereg.trainers.runs.configs import check_together, numbers_of, snapshot_labels
from saereg.trainers.runs.finished import check_free
from saereg.trainers.runs.held_out import write_held_out, write_held_out_text
from saereg.trainers.saelens.build import check_settings
from saereg.trainers.saelens.member import SaeMember, estimate_scales
from saereg.trainers.saelens.transcoder import TARGET, same_rows

if TYPE_CHECKING:
    from torch import Tensor

BUFFER_ROWS = 2**17
"""Rows of each site in memory for shuffling. It is counted in rows, not in bytes, so that the order of rows does not
depend on which other sites a run reads: a dictionary sees the same batches alone and together with others."""

SHARED: Mapping[str, Callable[[TrainConfig], object]] = {
    "collection": lambda config: config.collection,
    "optimization.tokens": lambda config: config.optimization.tokens,
    "optimization.batch_size": lambda config: config.optimization.batch_size,
    "optimization.snapshots": lambda config: config.optimization.snapshots,
    "order_seed (or seed)": lambda config: config.order,
    "evaluation": lambda config: (config.evaluation.name, config.evaluation.rows),
    "optimization.log_every": lambda config: config.optimization.log_every,
    "optimization.checkpoint_every": lambda config: config.optimization.checkpoint_every,
    "optimization.checkpoint_minutes": lambda config: config.optimization.checkpoint_minutes,
    "optimization.spike": lambda config: config.optimization.spike,
    "optimization.autocast": lambda config: config.optimization.autocast,
    "optimization.compile": lambda config: config.optimization.compile,
    "device": lambda config: config.device,
}
"""What dictionaries that share a pass over the rows have in common: setting → how it is read."""


@dataclass(frozen=True)
class Prepared:
    """What is known before the first step.

    Attributes:
        configs: the runs.
        release: release folder.
        collection: what they are trained on.
        places: site → its rows.
        rows: rows that may be trained on: all but the last ones, which are held out.
    """

    configs: Sequence[TrainConfig]
    release: Path
    collection: Collection
    places: Mapping[str, Activations]
    rows: int

    @classmethod
    def of(cls, configs: Sequence[TrainConfig], release: Path) -> "Prepared":
        """Look at the collection.

        Raises:
            UsageError: when runs do not go together, or the collection is missing, unfinished or too small.
        """
        check_together(configs, SHARED)
        first = configs[0]
        folder = Path(first.collection)
        collection = read_collection(folder)
        sites = {site: None for config in configs for site in (config.site, config.site_out) if site}
        places = {site: Activations(folder, collection, site) for site in sites}
        rows, held_out = same_rows(places, folder), first.evaluation.rows
        if held_out >= rows:
            raise UsageError(
                f"evaluation.rows is {held_out}, but {first.collection} has {rows} rows; "
                "collect more, or hold out fewer"
            )
        if first.optimization.batch_size > rows - held_out:
            raise UsageError(
                f"optimization.batch_size is {first.optimization.batch_size}, but {first.collection} has only "
                f"{rows - held_out} rows to train on; collect more, or take smaller batches"
            )
        return cls(configs, release, collection, places, rows - held_out)

    def check(self, info: ReleaseInfo | None) -> None:
        """Find mistakes before anything is trained."""
        snapshot_labels(self.configs[0])
        check_free(self.configs, self.release)
        for config in self.configs:
            check_settings(config)
            check_references(self.release, self.references(config), info)

    def held_out(self, config: TrainConfig) -> "Tensor":
        """Return the rows (n, d_in) that are never trained on."""
        place = self.places[config.site]
        return place.read(self.rows, place.rows)

    def target(self, config: TrainConfig) -> "Tensor | None":
        """Return what a transcoder is to predict of them (n, d_out); None for an autoencoder."""
        if config.site_out is None:
            return None
        place = self.places[config.site_out]
        return place.read(self.rows, place.rows)

    def write_evaluations(self) -> None:
        """Write the held-out rows of every site, or pair of sites."""
        for path, config in {evaluation_path(config): config for config in self.configs}.items():
            target = self.target(config)
            others = {} if target is None else {TARGET: target}
            write_held_out(self.release / path, {TENSOR: self.held_out(config), **others})
            write_held_out_text(self.release / path, self.text, range(self.rows, self.places[config.site].rows))

    @property
    def text(self) -> RowText | None:
        """The text of the rows; None where the collection has none."""
        return text_of(Path(self.configs[0].collection), self.collection)

    def batches(self, members: Sequence[SaeMember], skip: int) -> "Iterator[Mapping[str, Tensor]]":
        """Return the batches behind some, with input scales estimated where none was.

        The estimate reads batches of its own, so that what a dictionary is trained on does not depend on whether
        another one in the same pass wants a scale.
        """
        estimate_scales(members, lambda sites: self._read(sites, 0))
        return self._read(tuple(self.places), skip)

    def _read(self, sites: Sequence[str], skip: int) -> "Iterator[Mapping[str, Tensor]]":
        first, places = self.configs[0], {site: self.places[site] for site in sites}
        size = BUFFER_ROWS * sum(place.row_bytes for place in places.values())
        return batches(places, self.rows, first.optimization.batch_size, first.order, skip=skip, buffer_bytes=size)

    def identity(self) -> dict[str, object]:
        """Return what a checkpoint must agree with for a run to go on from it."""
        shards = hashlib.sha256(self.collection.text().encode()).hexdigest()[:16]
        runs = {config.artifact.id: numbers_of(config, "collection") for config in self.configs}
        return {"the digest of collection.json": shards, **runs}

    def references(self, config: TrainConfig) -> References:
        """Return what an entry in the manifest refers to."""
        collection = self.collection
        site, dataset = collection.sites[config.site].site, slug(collection.dataset.id)
        held_out = ActivationRows(
            source="activations",
            path=evaluation_path(config),
            rows=config.evaluation.rows,
            site=config.site,
            dataset=dataset,
            target=TARGET if config.site_out else None,
        )
        return References(
            base_models={site.model: collection.model},
            sites={key: collection.sites[key].site for key in (config.site, config.site_out) if key},
            datasets={dataset: collection.dataset},
            evaluations={evaluation_key(config): held_out},
            tokens=collection.tokens,
        )


def evaluation_key(config: TrainConfig) -> str:
    """Return the name of the evaluation on the held-out rows of a run."""
    behind = f"-to-{config.site_out}" if config.site_out else ""
    return f"{config.evaluation.name}-{config.site}{behind}"


def evaluation_path(config: TrainConfig) -> str:
    """Return where those rows are, in the release."""
    return f"evaluation/{evaluation_key(config)}.safetensors"
