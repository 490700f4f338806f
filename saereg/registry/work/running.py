"""Many tasks, done by whoever there is: each exactly once, also when workers die."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from saereg.errors import UsageError
from saereg.registry.work.workers import Outcome, Workers, unpacked

T = TypeVar("T")
R = TypeVar("R")

RETRIES = 3
"""How often a task is given to another worker when its own died: the next one may have the memory that it needs."""


@dataclass(frozen=True)
class Done(Generic[T, R]):
    """One task that is finished.

    Attributes:
        index: its position among the tasks.
        task: the task.
        outcome: how it ended.
    """

    index: int
    task: T
    outcome: Outcome[R]


@dataclass(frozen=True)
class _Try(Generic[T]):
    index: int
    task: T
    left: int


def run_all(
    workers: Workers,
    function: Callable[[T], R],
    tasks: Iterable[T],
    *,
    retries: int = RETRIES,
    name: Callable[[T], str] = str,
) -> Iterator[Done[T, R]]:
    """Run a function on every task, and yield each when it is finished.

    Tasks are taken from the iterable as there is room for them. When the caller stops early, or is interrupted, those
    that have not begun are taken back; the end of `open_executor` ends the others.

    Args:
        workers: who does it.
        function: a function at the top of a module, where others than this process do it.
        tasks: values that can be pickled, likewise.
        retries: how often a task is tried again whose worker died.
        name: what errors call a task.

    Yields:
        Every task once, in the order in which they end; an error of the task's own is its outcome.

    Raises:
        UsageError: when a task cannot be sent to another process.
    """
    waiting: dict[Future[object], _Try[T]] = {}
    left = (_Try(index, task, retries) for index, task in enumerate(tasks))
    try:
        while True:
            while len(waiting) < workers.at_once and (fresh := next(left, None)) is not None:
                waiting[workers.submit(function, fresh.task, name(fresh.task))] = fresh
            if not waiting:
                return
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in sorted(finished, key=lambda one: waiting[one].index):
                one = waiting.pop(future)
                try:
                    outcome = cast(Outcome[R], unpacked(future.result()))
                except workers.lost:
                    if one.left:
                        again = _Try(one.index, one.task, one.left - 1)
                        waiting[workers.submit(function, one.task, name(one.task))] = again
                        continue
                    outcome = Outcome(error=_gave_up(name(one.task), retries + 1))
                yield Done(one.index, one.task, outcome)
    finally:
        for future in waiting:
            future.cancel()


def _gave_up(name: str, times: int) -> UsageError:
    why = "killed, or out of memory: fewer workers on a machine leave more to each"
    return UsageError(f"{name}: its worker died {times} times ({why})")
