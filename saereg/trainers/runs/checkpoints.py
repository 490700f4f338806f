"""Checkpoints of a run: folders that appear whole or not at all; the one before stays until the next is there."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import UsageError, WeightsError
from saereg.trainers.runs.disk import sync_folder
from saereg.trainers.runs.state import Tree, read_state, write_state
from saereg.trainers.runs.together import Together

NAME = re.compile(r"step-(\d{9})")
"""Folder of a checkpoint: the step after which it was made."""

KEPT = 2
"""Checkpoints that are kept: the last one, and the one before it."""

PARTS: dict[str, type] = {"step": int, "identity": dict, "guard": dict, "made_by": dict, "members": dict, "logs": dict}
"""What every state of a run has, and as what; what its members have is checked when they load it."""


@dataclass(frozen=True)
class Newest:
    """What a run goes on from.

    Attributes:
        tree: the newest state that can be gone on from; None when there is no checkpoint.
        said: why newer ones were left aside, one line each.
    """

    tree: Tree | None
    said: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """Steps that are done."""
        return int(self.tree["step"]) if self.tree else 0


def save(folder: Path, step: int, tree: Tree) -> Path:
    """Write a checkpoint under a temporary name, rename it, remove old ones.

    Where the disk has no room for a third one, the older of the two goes first; the last one always stays.

    Args:
        folder: that of the run's checkpoints.
        step: steps taken.
        tree: the whole state.

    Raises:
        OSError: when it cannot be written; nothing of it is left then, and the last checkpoint before it stays.
    """
    place, target = folder / f".step-{step:09d}.tmp", folder / f"step-{step:09d}"
    clean(folder)
    found = steps(folder)
    if len(found) >= KEPT and shutil.disk_usage(folder).free < size(found[-1][1]):
        _discard(found[0][1])
    try:
        place.mkdir(parents=True)
        write_state(place, tree)
        sync_folder(place)
        if target.exists():
            _discard(target)
        place.replace(target)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    for _, old in steps(folder)[:-KEPT]:
        _discard(old)
    return target


def steps(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, folder) of every checkpoint, rising."""
    found = [(match, path) for path in folder.glob("step-*") if (match := NAME.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def size(checkpoint: Path) -> int:
    """Return the bytes of one checkpoint."""
    return sum(path.stat().st_size for path in checkpoint.iterdir())


def newest(folder: Path, identity: Tree, logs: Mapping[str, Path]) -> Newest:
    """Return the newest state that can be gone on from; damaged ones that are newer are removed, and told of.

    Args:
        folder: that of the run's checkpoints.
        identity: the configuration of the run; that of the checkpoint must be the same.
        logs: name of a member → its training log, which must be as long as the checkpoint says.

    Raises:
        UsageError: when it belongs to another configuration, or there are only damaged ones.
    """
    damaged: dict[Path, str] = {}
    wanted = json.loads(json.dumps(identity))  # as it comes back from a file
    for step, path in reversed(steps(folder)):
        try:
            tree = read_state(path)
        except WeightsError as problem:
            damaged[path] = str(problem)
            continue
        if strange := _strange(tree, step, logs):
            damaged[path] = f"{path} cannot be gone on from: {strange}"
            continue
        if differing := difference(tree["identity"], wanted):
            raise UsageError(
                f"{path} is of another run: {differing}; remove {folder} to begin anew, or give another id"
            )
        if short := _short_log(tree, logs):
            damaged[path] = f"{path} cannot be gone on from: {short}"
            continue
        for other in damaged:
            _discard(other)
        return Newest(tree, tuple(f"{line}; goes on from step {step} instead" for line in damaged.values()))
    if damaged:
        raise UsageError(f"{next(iter(damaged.values()))}; there is no other: remove {folder} to begin anew")
    return Newest(None)


def newest_of_all(folder: Path, identity: Tree, logs: Mapping[str, Path], together: Together) -> Newest:
    """Return the newest state that every process of a run can go on from; see `newest`.

    A run that is killed while it saves may leave a checkpoint with some processes that others do not have yet. Such
    ones are removed: each keeps the one before it as well.

    Raises:
        UsageError: see `newest`; also when a process has none at all, and others have more than the first one.
    """
    while True:
        found = newest(folder, identity, logs)
        lowest, highest = -together.largest(-found.step)[0], together.largest(found.step)[0]
        if lowest == highest:
            return found
        several = len(steps(folder)) > 1
        if together.largest(int(several and not lowest))[0]:
            raise UsageError(
                f"not every process has its checkpoints beside {folder}; bring them back, or remove all to begin anew"
            )
        for step, path in steps(folder):
            if step > lowest:
                _discard(path)


def clean(folder: Path) -> None:
    """Remove what a process that was killed had begun to write or to remove."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def remove(folder: Path) -> None:
    """Remove the checkpoints of a run that is over; when this is killed, none that is half there keeps its name."""
    for _, path in steps(folder):
        _discard(path)
    shutil.rmtree(folder, ignore_errors=True)


def _discard(checkpoint: Path) -> None:
    """Take its name from a checkpoint before it is removed, so that none is ever seen in part."""
    aside = checkpoint.with_name(f".{checkpoint.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.replace(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _strange(tree: object, step: int, logs: Mapping[str, Path]) -> str | None:
    """Return what is no part of a state that a run wrote; a digest alone does not say that one did."""
    if not isinstance(tree, dict):
        return "it is no mapping"
    for name, kind in PARTS.items():
        if not isinstance(tree.get(name), kind):
            return f"it has no `{name}`"
    if tree["step"] != step:
        return f"it is that of step {tree['step']}"
    lengths = [tree["logs"].get(name) for name in logs]
    return (
        None if all(isinstance(one, int) and one >= 0 for one in lengths) else "it does not say how long its logs are"
    )


def _short_log(tree: Tree, logs: Mapping[str, Path]) -> str | None:
    for name, path in logs.items():
        there = path.stat().st_size if path.is_file() else 0
        if there < tree["logs"][name]:
            return f"{path} has {there} bytes, and had {tree['logs'][name]} at step {tree['step']}"
    return None


def difference(found: Tree, wanted: Tree, path: str = "") -> str | None:
    """Return the first setting in which two identities differ, with both values, or None."""
    for key in sorted({*found, *wanted}):
        left, right = found.get(key), wanted.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            if inner := difference(left, right, f"{path}{key}."):
                return inner
        elif left != right:
            return f"{path}{key} is {left} there and {right} here"
    return None
