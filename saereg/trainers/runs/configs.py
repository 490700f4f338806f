"""What the configurations of all runs have in common: how what they write is called, and what some of them share."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from saereg.errors import UsageError
from saereg.schemas.names import one_name
from saereg.schemas.training import Tracker, TrainConfig, token_label
from saereg.schemas.training_crosscoder import CrosscoderTrainConfig
from saereg.trainers.runs.loop import SAFETY, RunPlan

Config = TrainConfig | CrosscoderTrainConfig
AnyConfig = TypeVar("AnyConfig", TrainConfig, CrosscoderTrainConfig)

FINAL = "final"
"""Snapshot label of the end of a run that has snapshots."""

RESERVED = frozenset({"evaluation", "manifest.json", "index.json", "readme.md", "model.sig"})
"""What lies in a release beside artifacts, in small letters."""

NAMES: Mapping[str, bool | set[str]] = {"tracker": True, "device": True, "artifact": True, "optimization": SAFETY}
"""Parts of a configuration that change no number."""


def identifier(config: Config, label: str | None) -> str:
    """Return the id of an artifact: that of its run, and the label of a snapshot."""
    return f"{config.artifact.id}/{label}" if label else config.artifact.id


def snapshot_labels(config: Config) -> dict[int, str]:
    """Return step → label of each snapshot, rising: the first step after which so many rows were seen.

    Raises:
        UsageError: when two fall on one step, or one on the last.
    """
    run, labels = config.optimization, dict[int, str]()
    for count in run.snapshots:
        step = -(-count // run.batch_size)
        if step in labels or step == run.steps:
            other = labels.get(step, "the end")
            raise UsageError(
                f"optimization.snapshots: {token_label(count)} and {other} are the same step ({step}) of "
                f"{run.batch_size} rows; leave one out"
            )
        labels[step] = token_label(count)
    return labels


def labels_of(config: Config) -> tuple[str | None, ...]:
    """Return the labels of everything that a run writes; the last one is its end."""
    snapshots = tuple(snapshot_labels(config).values())
    return (*snapshots, FINAL) if snapshots else (None,)


def identifiers(configs: Sequence[Config]) -> list[str]:
    """Return the ids of everything that runs write, those of each run in the order of its steps."""
    return [identifier(config, label) for config in configs for label in labels_of(config)]


def numbers_of(config: Config, source: str) -> dict[str, object]:
    """Return the configuration without what changes no number, and without where its rows lie.

    Args:
        config: a run.
        source: name of the setting that says where rows lie; a digest of what is there takes its place.
    """
    plain: dict[str, object] = config.model_dump(mode="json", exclude={**NAMES, source: True})
    return plain


def plan_of(config: Config) -> RunPlan:
    """Return how a run goes."""
    settings = config.optimization
    return RunPlan(
        steps=settings.steps,
        batch_size=settings.batch_size,
        log_every=settings.log_every,
        checkpoint_every=settings.checkpoint_every,
        checkpoint_minutes=settings.checkpoint_minutes,
        snapshots=tuple(snapshot_labels(config)),
        spike=settings.spike,
    )


def trackers_of(configs: Sequence[Config]) -> dict[str, Tracker]:
    """Return id → where a run is shown; runs that are not shown are missing."""
    return {config.artifact.id: config.tracker for config in configs if config.tracker}


def plain_of(configs: Sequence[Config]) -> dict[str, dict[str, object]]:
    """Return id → configuration, in plain values."""
    return {config.artifact.id: config.model_dump(mode="json") for config in configs}


def check_together(configs: Sequence[AnyConfig], shared: Mapping[str, Callable[[AnyConfig], object]]) -> None:
    """Refuse runs that cannot share a pass over the rows.

    Args:
        configs: the runs.
        shared: setting → how it is read, of those that must be the same.

    Raises:
        UsageError: with the first setting in which two differ, or the ids of two that write into one folder.
    """
    first = configs[0]
    for config in configs:
        for name, read in shared.items():
            here, there = read(config), read(first)
            if here != there:
                whole = isinstance(here, dict)  # too long for a line
                told = f"not that of {first.artifact.id}" if whole else f"{here}, and {there} for {first.artifact.id}"
                raise UsageError(
                    f"{config.artifact.id}: {name} is {told}; dictionaries that are trained together have the same"
                )
    check_apart([config.artifact.id for config in configs])


def check_apart(ids: Sequence[str], standing: Collection[str] = ()) -> None:
    """Refuse ids of which one is another, or a folder around it: its files would be taken for those of a snapshot.

    Capitals do not tell them apart, nor do they on many machines; and the release has files and folders of its own.

    Args:
        ids: those of runs.
        standing: ids of other runs, which are there already; one that is there itself is not compared with them.

    Raises:
        UsageError: with the first one, or the first two.
    """
    own, there = _Folders(), _Folders()
    for one in standing:
        there.add(one)
    for one in ids:
        first = one.partition("/")[0]
        if one_name(first) in RESERVED:
            raise UsageError(f"the id {one!r} begins with {first!r}, which a release has itself; give another id")
        if (other := own.clash(one)) or (one not in standing and (other := there.clash(one))):
            where = (
                "differ only by capitals" if one_name(other) == one_name(one) and other != one else "lie in one folder"
            )
            raise UsageError(f"the ids {other!r} and {one!r} {where}; give another id")
        own.add(one)


class _Folders:
    """Folders of runs, and those around them."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}
        self._around: dict[str, str] = {}

    def add(self, one: str) -> None:
        self._taken[one_name(one)] = one
        for outer in _around(one):
            self._around.setdefault(outer, one)

    def clash(self, one: str) -> str | None:
        """Return the id that lies in the same folder as another, around it or in it, or None."""
        name = one_name(one)
        found = (self._taken.get(name), self._around.get(name), *(self._taken.get(outer) for outer in _around(one)))
        return next(filter(None, found), None)


def _around(one: str) -> list[str]:
    parts = one_name(one).split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]
