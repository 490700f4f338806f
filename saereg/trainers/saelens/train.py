"""`saereg train sae`: from a collection to dictionaries in a release folder, ready to be validated."""

from collections.abc import Callable, Sequence
from pathlib import Path

from saereg.registry.files.names import LOG_FILE
from saereg.registry.models.model import require
from saereg.schemas.manifest import ReleaseInfo
from saereg.schemas.training import TrainConfig
from saereg.trainers.runs import checkpoints as states
from saereg.trainers.runs.configs import labels_of, plain_of, plan_of, snapshot_labels, trackers_of
from saereg.trainers.runs.device import Placement, compile_step, device_of, placed, reproducible
from saereg.trainers.runs.disk import alone, remove_leftovers
from saereg.trainers.runs.finished import FINISHED, STATES, check_places, check_resumable
from saereg.trainers.runs.loop import Places, Seen, run
from saereg.trainers.runs.trackers import tracked
from saereg.trainers.saelens.build import build, trainer_of
from saereg.trainers.saelens.member import SaeMember
from saereg.trainers.saelens.prepare import Prepared
from saereg.trainers.saelens.writing import TrainedArtifact, Writer, ending_of, standing


def train(
    config: TrainConfig,
    release: Path,
    checkpoints: Path,
    progress: Callable[[Seen], None] | None = None,
    *,
    info: ReleaseInfo | None = None,
) -> TrainedArtifact:
    """Train one dictionary and add it, and its snapshots, to a release folder.

    Writes `RELEASE/<id>/` (weights, cfg.json, golden vectors, training log), `RELEASE/evaluation/…`, the entry in
    `RELEASE/manifest.json`, and `CHECKPOINTS/<id>/` with SAELens' own training checkpoint; with snapshots, the folders
    are `<id>/<label>` and `<id>/final`. The same configuration gives the same bytes on one machine, whether it was
    stopped and gone on with or not. A run that ended before, and whose files all stand, is not done again.

    Args:
        config: the run.
        release: release folder; created when it is missing.
        checkpoints: folder for training checkpoints; no part of the release.
        progress: called after every step.
        info: the release as a whole, for a new manifest.

    Returns:
        The dictionary at the end of the run.

    Raises:
        MissingExtraError: without the `train` extra.
        UsageError: when the collection is missing or unfinished, has no such site or too few rows, the settings
            cannot be trained, or the release holds something else under one of the names, or the same run with other
            settings.
        InterruptedRunError: after Ctrl-C or SIGTERM; the same call goes on.
        DivergedError: when the loss is no number or leaps.
    """
    return train_together([config], release, checkpoints, progress, info=info)[-1]


def train_together(
    configs: Sequence[TrainConfig],
    release: Path,
    checkpoints: Path,
    progress: Callable[[Seen], None] | None = None,
    *,
    info: ReleaseInfo | None = None,
    name: str | None = None,
) -> list[TrainedArtifact]:
    """Train several dictionaries in one pass over the rows; each becomes what it would have become alone.

    They take their steps one after another on the same batch, so that beside their weights and optimizers there is
    the memory of one step.

    Args:
        configs: the runs: of one collection, with the same tokens, batch size, order of rows, held-out rows and
            snapshots.
        release: see `train`.
        checkpoints: see `train`.
        progress: see `train`.
        info: see `train`.
        name: folder of the checkpoints to resume from, in `checkpoints`; None: the id of the first.

    Returns:
        Every artifact, run by run, the snapshots of each before its end.

    Raises:
        UsageError: also when the runs differ in what they must share.
    """
    require("torch", "training")
    prepared = Prepared.of(configs, release)
    prepared.check(info)
    folder = checkpoints / (name or configs[0].artifact.id)
    ending_of(prepared).check(folder)
    if not ending_of(prepared).stands(folder):
        device_of(configs[0].device)
        require("sae_lens", "training")  # takes seconds to import, so mistakes are found before
    with alone([folder, *(checkpoints / config.artifact.id for config in configs)]):
        remove_leftovers(folder)
        if not ending_of(prepared).stands(folder):
            _train(prepared, checkpoints, folder, progress, info)
        states.remove(folder / STATES)  # also what a killed run had left to remove
        return standing(configs, release, checkpoints)


def _train(
    prepared: Prepared,
    checkpoints: Path,
    folder: Path,
    progress: Callable[[Seen], None] | None,
    info: ReleaseInfo | None,
) -> None:
    first, labels = prepared.configs[0], snapshot_labels(prepared.configs[0])
    check_resumable(prepared.configs, prepared.release, folder / STATES)
    check_places(prepared.configs, prepared.release)
    prepared.write_evaluations()
    (folder / FINISHED).unlink(missing_ok=True)
    placement = placed(first.device, autocast=first.optimization.autocast, compiled=first.optimization.compile)
    for line in placement.said if progress else ():
        progress(Seen(first.artifact.id, 0, first.optimization.tokens, {}, line))  # type: ignore[misc]
    members = _members(prepared, placement, progress)
    writer = Writer(prepared, checkpoints, members, info)
    logs = {one.name: checkpoints / one.name / LOG_FILE for one in members}
    with (
        tracked(trackers_of(prepared.configs), plain_of(prepared.configs), folder / STATES) as shown,
        reproducible(placement.device),
    ):
        run(
            members,
            lambda skip: prepared.batches(members, skip),
            plan_of(first),
            Places(folder / STATES, logs, shown),
            prepared.identity(),
            on_snapshot=lambda step: writer.write_all(labels[step]),
            progress=progress,
        )
        writer.write_all(labels_of(first)[-1])
    ending_of(prepared).write(folder)


def _members(prepared: Prepared, placement: Placement, progress: Callable[[Seen], None] | None) -> list[SaeMember]:
    members = []
    for config in prepared.configs:
        sae = build(config, prepared.collection)
        settings = config.optimization.model_copy(update={"autocast": placement.autocast})
        here = config.model_copy(update={"optimization": settings})
        members.append(SaeMember(config, trainer_of(sae, here, prepared.rows, placement.device)))
        if placement.compiled and not compile_step(sae) and progress:
            line = f"optimization.compile is left out for {config.artifact.id}: its step is written by hand"
            progress(Seen(config.artifact.id, 0, settings.tokens, {}, f"{line}; that of step saelens can be compiled"))
    return members
