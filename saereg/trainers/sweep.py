"""`saereg train sweep`: many runs of one file; those that read the same rows share a pass over them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from saereg.registry.work.running import run_all
from saereg.registry.work.workers import Workers
from saereg.schemas.manifest import Artifact, ReleaseInfo
from saereg.schemas.sweep import SweepConfig
from saereg.schemas.training import TrainConfig
from saereg.schemas.training_crosscoder import CrosscoderTrainConfig
from saereg.trainers.crosscoder.train import SHARED as SHARED_BY_CROSSCODERS
from saereg.trainers.runs.finished import check_free
from saereg.trainers.runs.loop import Seen
from saereg.trainers.saelens.prepare import SHARED as SHARED_BY_SAES


@dataclass(frozen=True)
class Group:
    """Runs that are trained together.

    Attributes:
        name: folder of its checkpoints to resume from.
        configs: the runs.
        release: release folder.
        checkpoints: folder for training checkpoints.
        info: the release as a whole, for a new manifest.
    """

    name: str
    configs: tuple[TrainConfig, ...] | tuple[CrosscoderTrainConfig, ...]
    release: Path
    checkpoints: Path
    info: ReleaseInfo | None

    def __str__(self) -> str:
        """Return what errors call it."""
        return f"{self.configs[0].artifact.id} and what is trained with it"


def groups(sweep: SweepConfig, release: Path, checkpoints: Path, info: ReleaseInfo | None = None) -> tuple[Group, ...]:
    """Return the runs of a sweep, grouped; which runs share a group depends on the configuration alone.

    Raises:
        UsageError: when runs cannot be told apart, or one would write into the folder of another.
        DocumentError: when a run does not fit its schema.
    """
    shared: dict[str, list[TrainConfig | CrosscoderTrainConfig]] = {}
    runs = sweep.runs()
    check_free(runs, release)
    for config in runs:
        shared.setdefault(_reading(config), []).append(config)
    found: list[Group] = []
    for configs in shared.values():
        for first in range(0, len(configs), sweep.together):
            some = tuple(configs[first : first + sweep.together])
            found.append(Group(f"{sweep.name}-{len(found)}", some, release, checkpoints, info))  # type: ignore[arg-type]
    return tuple(found)


def _reading(config: TrainConfig | CrosscoderTrainConfig) -> str:
    """Return what runs must agree in to be trained together."""
    if isinstance(config, TrainConfig):
        return repr([read(config) for read in SHARED_BY_SAES.values()])
    return repr([read(config) for read in SHARED_BY_CROSSCODERS.values()])


def train_group(group: Group, progress: Callable[[Seen], None] | None = None) -> tuple[Artifact, ...]:
    """Train the runs of a group, write their artifacts; see `train_together` and `train_crosscoders`."""
    if isinstance(group.configs[0], TrainConfig):
        from saereg.trainers.saelens.train import train_together

        done = train_together(
            group.configs,
            group.release,
            group.checkpoints,
            progress,
            info=group.info,
            name=group.name,
        )
        return tuple(one.artifact for one in done)
    from saereg.trainers.crosscoder.train import train_crosscoders

    found = train_crosscoders(
        group.configs,
        group.release,
        group.checkpoints,
        progress,
        info=group.info,
        name=group.name,
    )
    return tuple(one.artifact for one in found)


def train_all(groups: Sequence[Group], workers: Workers) -> Iterator[tuple[Artifact, ...]]:
    """Train groups side by side; yield the artifacts of each when it is finished.

    Raises:
        SaeregError: that of the first group that fails; the others keep their checkpoints.
    """
    for done in run_all(workers, train_group, groups):
        yield done.outcome.value()
