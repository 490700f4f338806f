"""`saereg train crosscoder`: from stored rows of several sources to crosscoders in a release folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.registry.draft import check_references
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.names import LOG_FILE
from saereg.schemas.manifest import CrosscoderArtifact, ReleaseInfo
from saereg.schemas.training_crosscoder import CrosscoderTrainConfig
from saereg.trainers.crosscoder.export import WEIGHTS_FILE
from saereg.trainers.crosscoder.group import ALONE, Group
from saereg.trainers.crosscoder.member import CrosscoderMember
from saereg.trainers.crosscoder.model import Crosscoder
from saereg.trainers.crosscoder.resharding import own_states
from saereg.trainers.crosscoder.sharding import own_device
from saereg.trainers.crosscoder.sources import Stack, open_sources
from saereg.trainers.crosscoder.standing import ending_of, identity_of
from saereg.trainers.crosscoder.statistics import input_numbers
from saereg.trainers.crosscoder.writing import Writer, write_evaluation
from saereg.trainers.rows.batches import batches
from saereg.trainers.runs import checkpoints as states
from saereg.trainers.runs.configs import (
    check_together,
    identifier,
    labels_of,
    plain_of,
    plan_of,
    snapshot_labels,
    trackers_of,
)
from saereg.trainers.runs.device import Placement, device_of, placed, reproducible
from saereg.trainers.runs.disk import alone
from saereg.trainers.runs.finished import FINISHED, STATES, check_free, check_places, check_resumable, entries
from saereg.trainers.runs.loop import Places, Seen, run
from saereg.trainers.runs.trackers import tracked

if TYPE_CHECKING:
    from torch import Tensor

SHARED: Mapping[str, Callable[[CrosscoderTrainConfig], object]] = {
    "sources": lambda config: config.sources.model_dump(mode="json"),
    "optimization": lambda config: config.optimization.model_dump(
        mode="json", exclude={"lr", "lr_warm_up_steps", "lr_decay_steps"}
    ),
    "evaluation": lambda config: config.evaluation.model_dump(mode="json"),
    "order_seed (or seed)": lambda config: config.order,
    "device": lambda config: config.device,
}
"""What crosscoders that share a pass over the rows have in common: setting → how it is read."""


@dataclass(frozen=True)
class TrainedCrosscoder:
    """A crosscoder that was trained and written.

    Attributes:
        artifact: its entry in the manifest.
        folder: its files in the release.
        checkpoint: file of the training checkpoint that it was exported from.
        weights_sha256: digest of the released weights.
    """

    artifact: CrosscoderArtifact
    folder: Path
    checkpoint: Path
    weights_sha256: str


def train_crosscoder(
    config: CrosscoderTrainConfig,
    release: Path,
    checkpoints: Path,
    progress: Callable[[Seen], None] | None = None,
    *,
    info: ReleaseInfo | None = None,
    group: Group = ALONE,
) -> TrainedCrosscoder:
    """Train one crosscoder and add it, and its snapshots, to a release folder.

    Writes `RELEASE/<id>/` (weights, cfg.json, golden vectors, decoder analysis, training log), for activations
    `RELEASE/evaluation/…`, the entry in `RELEASE/manifest.json`, and `CHECKPOINTS/<id>/` with the training weights;
    with snapshots, the folders are `<id>/<label>` and `<id>/final`. The same configuration gives the same bytes on one
    machine, whether it was stopped and gone on with or not. A run that ended before, and whose files all stand, is not
    done again.

    Args:
        config: the run.
        release: release folder; created when it is missing.
        checkpoints: folder for training checkpoints; no part of the release.
        progress: called after every step.
        info: the release as a whole, for a new manifest.
        group: the processes that hold the latents.

    Returns:
        The crosscoder at the end of the run.

    Raises:
        MissingExtraError: without torch.
        UsageError: when sources are missing, unfinished, do not belong together or have too few rows, the release holds
            something else under one of the names, or the same run with other settings, or another process trains the
            same.
        InterruptedRunError: after Ctrl-C or SIGTERM; the same call goes on.
        DivergedError: when the loss is no number or leaps.
    """
    return train_crosscoders([config], release, checkpoints, progress, info=info, group=group)[-1]


def train_crosscoders(
    configs: Sequence[CrosscoderTrainConfig],
    release: Path,
    checkpoints: Path,
    progress: Callable[[Seen], None] | None = None,
    *,
    info: ReleaseInfo | None = None,
    name: str | None = None,
    group: Group = ALONE,
) -> list[TrainedCrosscoder]:
    """Train several crosscoders in one pass over the rows; each becomes what it would have become alone.

    Args:
        configs: the runs: of the same sources, with the same rows, batch size, order of rows and held-out rows.
        release: see `train_crosscoder`.
        checkpoints: see `train_crosscoder`.
        progress: see `train_crosscoder`.
        info: see `train_crosscoder`.
        name: folder of the checkpoints to resume from, in `checkpoints`; None: the id of the first one.
        group: see `train_crosscoder`.

    Returns:
        Every artifact, run by run, the snapshots of each before its end.
    """
    check_together(configs, SHARED)
    stack = open_sources(configs[0])
    check_free(configs, release)
    check_references(release, stack.references(), info)
    folder, ending = checkpoints / (name or configs[0].artifact.id), ending_of(configs, stack, release)
    ending.check(folder)
    if not group.largest(group.rank == 0 and ending.stands(folder))[0]:
        device_of(own_device(configs[0].device, group))  # before anything is written
    held = [folder, *(checkpoints / config.artifact.id for config in configs)]
    with alone(held if group.rank == 0 else ()):
        if not group.largest(group.rank == 0 and ending.stands(folder))[0]:
            _Run(configs, stack, release, checkpoints, folder, group).take(progress, info)
        group.largest(0)  # the process of rank 0 has written everything
        if group.rank == 0:
            states.remove(folder / STATES)  # also what a killed run had left to remove
        return _standing(configs, release, checkpoints)


@dataclass(frozen=True)
class _Run:
    """Crosscoders that are trained together, before the first step."""

    configs: Sequence[CrosscoderTrainConfig]
    stack: Stack
    release: Path
    checkpoints: Path
    folder: Path
    group: Group

    def take(self, progress: Callable[[Seen], None] | None, info: ReleaseInfo | None) -> None:
        """Train them and write what they become."""
        first, group, labels = self.configs[0], self.group, snapshot_labels(self.configs[0])
        latents = {config.artifact.id: config.crosscoder.d_sae for config in self.configs}
        folder = own_states(self.folder / STATES, latents, group)
        check_resumable(self.configs, self.release, folder)
        if group.rank == 0:
            check_places(self.configs, self.release)
            write_evaluation(self.stack, self.release)
            (self.folder / FINISHED).unlink(missing_ok=True)
        placement = placed(own_device(first.device, group), autocast=first.optimization.autocast)
        for line in placement.said if progress else ():
            progress(Seen(first.artifact.id, 0, first.optimization.tokens, {}, line))  # type: ignore[misc]
        members = self._members(placement)
        writer = Writer(self.stack, self.release, self.checkpoints, members, info)
        logs = {one.name: self.checkpoints / one.name / LOG_FILE for one in members if group.rank == 0}
        trackers = trackers_of(self.configs if group.rank == 0 else ())
        with tracked(trackers, plain_of(self.configs), folder) as shown, reproducible(placement.device):
            run(
                members,
                self._batches,
                plan_of(first),
                Places(folder, logs, shown, group),
                identity_of(self.configs, self.stack),
                on_snapshot=lambda step: writer.write_all(labels[step]),
                progress=progress,
            )
            writer.write_all(labels_of(first)[-1])
        if group.rank == 0:
            ending_of(self.configs, self.stack, self.release).write(self.folder)

    def _members(self, placement: Placement) -> list[CrosscoderMember]:
        stack, wanted = self.stack, {config.crosscoder.preprocess for config in self.configs}
        numbers = {one: input_numbers(stack.places, stack.rows, one) for one in sorted(wanted)}
        members = []
        for config in self.configs:
            model = Crosscoder(
                config.crosscoder,
                stack.shape,
                config.seed,
                numbers=numbers[config.crosscoder.preprocess],
                device=placement.device,
                group=self.group,
                half=placement.autocast,
            )
            members.append(CrosscoderMember(config, model, tuple(stack.places)))
        return members

    def _batches(self, skip: int) -> "Iterator[Mapping[str, Tensor]]":
        first = self.configs[0]
        return batches(self.stack.places, self.stack.rows, first.optimization.batch_size, first.order, skip=skip)


def _standing(configs: Sequence[CrosscoderTrainConfig], release: Path, checkpoints: Path) -> list[TrainedCrosscoder]:
    """Return every artifact of runs as it stands in the release."""
    known = entries(release)
    found = []
    for config in configs:
        for label in labels_of(config):
            artifact = known[identifier(config, label)]
            assert isinstance(artifact, CrosscoderArtifact)  # noqa: S101  # the Writer wrote it
            assert artifact.source_checkpoint is not None  # noqa: S101
            folder = release / artifact.path
            checkpoint = checkpoints / artifact.source_checkpoint.path
            found.append(TrainedCrosscoder(artifact, folder, checkpoint, sha256_of(folder / WEIGHTS_FILE)))
    return found
