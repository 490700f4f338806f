"""The loop of every training run: steps, log, checkpoints, snapshots, and an end that can be gone on from."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import DivergedError, UsageError
from saereg.trainers.runs import checkpoints
from saereg.trainers.runs.disk import check_room, check_writable
from saereg.trainers.runs.guard import REMEDY, Guard
from saereg.trainers.runs.interrupts import Interrupts
from saereg.trainers.runs.log import Log
from saereg.trainers.runs.member import Facts, Member
from saereg.trainers.runs.state import Tree, not_finite, tensors_of
from saereg.trainers.runs.together import ONE_PROCESS, Together
from saereg.trainers.runs.trackers import Tracked

if TYPE_CHECKING:
    from torch import Tensor

Batches = Callable[[int], "Iterator[Mapping[str, Tensor]]"]
"""Number of batches to leave out → the batches behind them."""

SAFETY = {"checkpoint_every", "checkpoint_minutes", "spike"}
"""Settings of a run that change no number, and so may be changed when it goes on: they are no part of an identity."""

WITH_MOMENTS = 3
"""Bytes of a checkpoint, relative to the weights: the optimizer keeps two moments of each."""


@dataclass(frozen=True)
class RunPlan:
    """How a run goes.

    Attributes:
        steps: steps in all.
        batch_size: rows per step.
        log_every: steps between lines of the log; the first and the last step, and those of
            snapshots, have one in any case.
        checkpoint_every: steps between checkpoints; 0 for none by steps.
        checkpoint_minutes: minutes between checkpoints; 0 for none by time. There is one in any case when the run is
            stopped, and after the last step.
        snapshots: steps after which `on_snapshot` is called, rising.
        spike: the run stops when the loss is this many times what it was lately.
    """

    steps: int
    batch_size: int
    log_every: int = 1
    checkpoint_every: int = 0
    checkpoint_minutes: float = 10.0
    snapshots: tuple[int, ...] = ()
    spike: float = 100.0


@dataclass(frozen=True)
class Seen:
    """What a progress bar shows after a step.

    Attributes:
        member: of which dictionary the facts are: the last one.
        tokens: rows seen.
        total: rows in all.
        facts: the newest facts.
        said: something that its user is to read, in one line; None after most steps.
    """

    member: str
    tokens: int
    total: int
    facts: Facts
    said: str | None = None


@dataclass(frozen=True)
class Places:
    """Where a run writes.

    Attributes:
        checkpoints: folder of the checkpoints to resume from; of several processes each has its own.
        logs: name of a member → its training log; of several processes the first one writes them.
        tracked: name of a member → where it is shown while it goes; members that are not shown are missing.
        together: the processes that hold the members together: they stop, save and go on from the same steps.
    """

    checkpoints: Path
    logs: Mapping[str, Path]
    tracked: Mapping[str, Tracked] = field(default_factory=dict)
    together: Together = ONE_PROCESS


def run(
    members: Sequence[Member],
    batches: Batches,
    plan: RunPlan,
    places: Places,
    identity: Tree,
    *,
    on_snapshot: Callable[[int], None] | None = None,
    progress: Callable[[Seen], None] | None = None,
) -> None:
    """Take every step that is left; a run that was stopped goes on behind its newest checkpoint.

    Args:
        members: dictionaries; all see the same batches.
        batches: where batches come from.
        plan: how the run goes.
        places: where it writes.
        identity: the configuration; a checkpoint of another one is refused.
        on_snapshot: called after a step of `plan.snapshots`, before a checkpoint of it.
        progress: called after every step.

    Raises:
        InterruptedRunError: after Ctrl-C or SIGTERM; a checkpoint was saved.
        DivergedError: when a loss is no number or leaps; the last checkpoint before stays.
        UsageError: when the checkpoint there belongs to another run or none can be read, the batches end, or the disk
            is full; the last checkpoint stays.
        OSError: when something cannot be written.
    """
    checkpoints.clean(places.checkpoints)
    found = checkpoints.newest_of_all(places.checkpoints, identity, places.logs, places.together)
    check_writable(places.checkpoints)
    check_room(places.checkpoints, _room(members, places, found), f"{checkpoints.KEPT} checkpoints")
    _resume(members, places, found.tree)
    steps = _Steps(members, plan, places, identity, found)
    report = progress or _silent
    for line in [*found.said, *_elsewhere(members, found)]:
        report(steps.seen(found.step, line))
    try:
        steps.take(batches, on_snapshot, report)
    finally:
        steps.close()


def _silent(seen: Seen) -> None:
    """Nobody looks."""


class _Steps:
    """A run that is going on."""

    def __init__(
        self, members: Sequence[Member], plan: RunPlan, places: Places, identity: Tree, found: checkpoints.Newest
    ) -> None:
        self._members, self._plan, self._places, self._identity = members, plan, places, identity
        self._done, tree = found.step, found.tree
        self._logs = {name: Log(path, tree["logs"][name] if tree else 0) for name, path in places.logs.items()}
        self._guard = Guard(plan.spike)
        self._guard.load(tree["guard"] if tree else {})
        self._facts: Facts = {}
        self._saved_at = time.monotonic()

    def take(self, batches: Batches, on_snapshot: Callable[[int], None] | None, report: Callable[[Seen], None]) -> None:
        plan, together = self._plan, self._places.together
        source = batches(self._done) if self._done < plan.steps else iter(())
        with Interrupts(several=together.size > 1) as interrupts:
            for step in range(self._done + 1, plan.steps + 1):
                self._step(step, source)
                if on_snapshot and step in plan.snapshots:
                    self._checked_state(step)
                    for log in self._logs.values():
                        log.flushed()  # what is exported brings its log along
                    on_snapshot(step)
                # asked for once: what comes later is for the next step
                caught, due = together.largest(interrupts.caught or 0, self._is_due(step))
                if caught or due:
                    self._save(step)
                report(self.seen(step))
                for news in filter(None, (one.news() for one in self._places.tracked.values())):
                    report(self.seen(step, news))
                if caught:
                    interrupts.stop(caught, step, plan.steps)

    def seen(self, step: int, said: str | None = None) -> Seen:
        size = self._plan.batch_size
        return Seen(self._members[-1].name, step * size, self._plan.steps * size, self._facts, said)

    def close(self) -> None:
        for log in self._logs.values():
            log.close()

    def _step(self, step: int, source: "Iterator[Mapping[str, Tensor]]") -> None:
        plan, batch = self._plan, next(source, None)
        if batch is None:
            raise UsageError(f"the rows end before step {step} of {plan.steps}; {self._kept()}")
        logged = step in (1, plan.steps, *plan.snapshots) or step % plan.log_every == 0
        for member in self._members:
            stepped = member.step(batch)
            try:
                self._guard.check(member.name, step, stepped.loss)
            except DivergedError as problem:
                raise DivergedError(f"{problem}; {self._kept()}") from None
            if logged:
                self._facts = stepped.facts()
                line = {"step": step, "tokens": step * plan.batch_size, "loss": stepped.loss, **self._facts}
                if member.name in self._logs:
                    self._logs[member.name].write(line)
                if member.name in self._places.tracked:
                    self._places.tracked[member.name].log(step, stepped.shown or partial(dict, line))

    def _is_due(self, step: int) -> bool:
        plan = self._plan
        by_steps = plan.checkpoint_every and step % plan.checkpoint_every == 0
        by_time = plan.checkpoint_minutes and time.monotonic() - self._saved_at >= 60 * plan.checkpoint_minutes
        return step == plan.steps or bool(by_steps or by_time)

    def _checked_state(self, step: int) -> Tree:
        states = {member.name: member.state() for member in self._members}
        for name, state in states.items():
            if where := not_finite(state):  # the loss of a step says nothing of the weights that it ends with
                line = f"{name}: {where} is no longer finite after step {step}; {REMEDY}; {self._kept()}"
                raise DivergedError(line)
        return states

    def _save(self, step: int) -> None:
        tree = {"step": step, "identity": self._identity, "guard": self._guard.state()}
        tree |= {"made_by": _made_by(self._members), "members": self._checked_state(step)}
        try:
            tree["logs"] = {name: log.flushed() for name, log in self._logs.items()}
            checkpoints.save(self._places.checkpoints, step, tree)
        except OSError as problem:
            line = f"{problem.filename or self._places.checkpoints}: {problem.strerror or problem}"
            raise UsageError(f"{line}; make room, and the same command goes on; {self._kept()}") from None
        self._saved_at = time.monotonic()

    def _kept(self) -> str:
        found = checkpoints.steps(self._places.checkpoints)
        return f"the checkpoint of step {found[-1][0]} is kept" if found else "no checkpoint was made yet"


def _resume(members: Sequence[Member], places: Places, tree: Tree | None) -> None:
    for member in members if tree else ():
        try:
            member.load(tree["members"][member.name])  # type: ignore[index]
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as problem:
            first = str(problem).partition("\n")[0]
            raise UsageError(
                f"{places.checkpoints} holds another kind of {member.name} ({first}); remove it to begin anew"
            ) from None


def _room(members: Sequence[Member], places: Places, found: checkpoints.Newest) -> int:
    """Return the bytes that checkpoints will take beside those that are there."""
    there = checkpoints.steps(places.checkpoints)
    if found.tree:
        return max(0, checkpoints.KEPT - len(there)) * checkpoints.size(there[-1][1])
    states = [{key: part for key, part in member.state().items() if key != "optimizer"} for member in members]
    weights = sum(tensor.numel() * tensor.element_size() for _, tensor in tensors_of(states))
    return checkpoints.KEPT * WITH_MOMENTS * weights


def _made_by(members: Sequence[Member]) -> Tree:
    """Return what the last bits of numbers depend on, beside the configuration."""
    import torch

    _, first = next(tensors_of(members[0].state()))
    return {
        "saereg": metadata.version("saereg"),
        "torch": metadata.version("torch"),
        "threads of torch": torch.get_num_threads(),
        "device": first.device.type,
        "vectors of the processor": torch.backends.cpu.get_cpu_capability(),
    }


def _elsewhere(members: Sequence[Member], found: checkpoints.Newest) -> Iterator[str]:
    """Say what is different from where the run began: it goes on as well, but not to the same bytes."""
    before = found.tree["made_by"] if found.tree else {}
    for name, here in _made_by(members).items():
        if name in before and before[name] != here:
            yield (
                f"step {found.step} was made with {name} {before[name]}, and here it is {here}: "
                "the run goes on, but may not end with the bytes of one that was never stopped"
            )
