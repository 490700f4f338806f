"""Checkpoints of a run of several processes: a folder for each, and cut anew when the run goes on in another number.

The checkpoints of one process are `CHECKPOINTS/<id>/state/step-000001000`, those of the first of two
`CHECKPOINTS/<id>/state/rank-0-of-2/step-000001000`.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from saereg.errors import UsageError
from saereg.trainers.crosscoder.group import Group, share_of
from saereg.trainers.crosscoder.model import SPLIT
from saereg.trainers.runs import checkpoints as states
from saereg.trainers.runs.state import read_state

if TYPE_CHECKING:
    from saereg.trainers.runs.state import Tree

RANK = re.compile(r"rank-(\d+)-of-(\d+)")

Path_ = tuple[str, ...]


def state_folder(folder: Path, rank: int, size: int) -> Path:
    """Return where one of `size` processes keeps its checkpoints."""
    return folder if size == 1 else folder / f"rank-{rank}-of-{size}"


def own_states(folder: Path, d_sae: Mapping[str, int], group: Group) -> Path:
    """Return where this process keeps its checkpoints; those of another number of processes are cut for it.

    The run goes on with the same numbers, but sums over latents are added up in another order from there on: it ends
    with nearly the weights of one that was not cut, not with the same bytes.

    Args:
        folder: that of the run's checkpoints.
        d_sae: name of a member → its latents.
        group: the processes.

    Raises:
        UsageError: when some of the processes before have no checkpoint here.
        WeightsError: when one is damaged.
    """
    own = state_folder(folder, group.rank, group.size)
    step = max((step for step, _ in states.steps(own)), default=0)
    before = _newest_layout(folder, group.size, -group.largest(-step)[0])
    if before is None:
        return own
    states.save(own, before.step, _cut(before, d_sae, group))
    group.largest(0)  # all processes have what they need
    if group.rank == 0:
        for old in before.folders:
            for _, path in states.steps(old):
                shutil.rmtree(path)
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
    return own


@dataclass(frozen=True)
class _Layout:
    """Checkpoints of some number of processes: their folders in the order of ranks, and the step that all have."""

    folders: Sequence[Path]
    step: int


def _newest_layout(folder: Path, size: int, step: int) -> _Layout | None:
    """Return the newest checkpoints of another number of processes, if they are newer than a step."""
    sizes = {int(match[2]) for path in folder.glob("rank-*") if (match := RANK.fullmatch(path.name))} | {1}
    found = []
    for other in sorted(sizes - {size}):
        folders = [state_folder(folder, rank, other) for rank in range(other)]
        known = [{step for step, _ in states.steps(one)} for one in folders]
        if max(set().union(*known), default=0) <= step:
            continue
        if not (common := set.intersection(*known)):
            missing = min(zip(folders, known, strict=True), key=lambda pair: len(pair[1]))[0]
            raise UsageError(
                f"{missing} has no checkpoint of a step that other processes of that run have: bring it back to go on "
                f"in another number of processes, or remove {folder} to begin anew"
            )
        found.append(_Layout(folders, max(common)))
    newest = max(found, key=lambda one: one.step, default=None)
    return newest if newest is not None and newest.step > step else None


def _cut(before: _Layout, d_sae: Mapping[str, int], group: Group) -> "Tree":
    """Return the state of this process, of the parts that overlap it: one of them is in memory at a time."""
    tree: Tree | None = None
    parts: dict[str, list[Tree]] = {name: [] for name in d_sae}
    for rank, folder in enumerate(before.folders):
        overlaps = {}
        for name, total in d_sae.items():
            there, here = share_of(total, rank, len(before.folders)), share_of(total, group.rank, group.size)
            overlaps[name] = range(max(there.start, here.start) - there.start, min(there.stop, here.stop) - there.start)
        if not any(overlaps.values()) and tree is not None:
            continue
        found = read_state(folder / f"step-{before.step:09d}")
        tree = tree or {key: value for key, value in found.items() if key != "members"}
        for name, span in overlaps.items():
            if span or not parts[name]:
                parts[name].append(_sliced(found["members"][name], span))
    assert tree is not None  # noqa: S101  # there is at least one folder
    logs = tree["logs"] if group.rank == 0 else {}
    return {**tree, "logs": logs, "members": {name: _glued(found) for name, found in parts.items()}}


def _sliced(state: "Tree", span: range) -> "Tree":
    """Return a state with the latents of a span, as copies."""
    axes = _axes(state)

    def visit(value: Any, path: Path_) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            return {key: visit(entry, (*path, str(key))) for key, entry in value.items()}
        if path not in axes or not isinstance(value, Tensor):
            return value
        return value.narrow(axes[path], max(0, span.start) if span else 0, len(span)).clone()

    found: Tree = visit(state, ())
    return found


def _glued(parts: "Sequence[Tree]") -> "Tree":
    """Return one state of neighbouring ones."""
    axes = _axes(parts[0])

    def visit(values: Sequence[Any], path: Path_) -> Any:  # noqa: ANN401
        first = values[0]
        if isinstance(first, dict):
            return {key: visit([value[key] for value in values], (*path, str(key))) for key in first}
        if path not in axes or not isinstance(first, Tensor):
            return first
        return torch.cat(list(values), axes[path])

    found: Tree = visit(list(parts), ())
    return found


def _axes(state: "Tree") -> dict[Path_, int]:
    """Return path of a tensor in the state of a member → its axis of latents."""
    names = list(state["model"]["weights"])
    # as the optimizer of a member counts them: those of its second group, the thresholds, are the last
    counted = sorted(names, key=lambda name: name == "log_threshold")
    axes: dict[Path_, int] = {("since_fired",): 0}
    for number, name in enumerate(counted):
        if name in SPLIT:
            axes[("model", "weights", name)] = SPLIT[name]
            for moment in ("exp_avg", "exp_avg_sq"):
                axes[("optimizer", "state", str(number), moment)] = SPLIT[name]
    return axes
