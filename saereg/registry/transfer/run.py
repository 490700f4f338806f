"""Measure dictionaries on corpora, by this process or by many: each holds one dictionary at a time."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, cast

from saereg.errors import UsageError, WeightsError
from saereg.registry.metrics.definitions import DEFINITIONS, PER_SOURCE
from saereg.registry.metrics.engine import Occasion, Wanted, chunks, measurements
from saereg.registry.recompute.tasks import Part, Stamps, Task, forget, run_task
from saereg.registry.transfer.corpora import Corpus, require_fit
from saereg.registry.transfer.entrants import Entrant
from saereg.registry.transfer.matrix import BESIDE
from saereg.registry.work.running import Done, run_all
from saereg.schemas.metrics import DType, Measurement

if TYPE_CHECKING:
    from saereg.registry.work.workers import Workers

Progress = Callable[[str, int, int], None]
"""(what, done, total) → None."""

Cell = tuple[str, str]
"""Names of a dictionary and of a corpus."""


def measured(
    entrants: Sequence[Entrant],
    corpora: Sequence[Corpus],
    workers: "Workers",
    *,
    foreign: bool = False,
    progress: Progress | None = None,
) -> dict[Cell, tuple[Measurement, ...]]:
    """Return what every dictionary measures on every corpus.

    The digits do not depend on how many do the work: chunks of rows are the same, and are merged in their order.

    Args:
        entrants: the dictionaries.
        corpora: the corpora.
        workers: who does the work.
        foreign: whether to add all definitions of others, and not only `BESIDE`.
        progress: called after each chunk of rows.

    Raises:
        WeightsError: before anything is computed, when a corpus does not fit a dictionary; or when data are not finite.
        OSError: when rows cannot be read.
    """
    for corpus in corpora:
        require_fit(entrants, corpus)
    pieces = tuple(_pieces(entrants, corpora))
    left = Counter(cell for cell, _ in pieces)
    parts: dict[Cell, dict[int, Part]] = {cell: {} for cell in left}
    of = {corpus.name: corpus for corpus in corpora}
    found: dict[Cell, tuple[Measurement, ...]] = {}
    rows, total = 0, sum(task.count for _, task in pieces)
    try:
        for done in run_all(workers, run_task, (task for _, task in pieces)):
            cell = pieces[done.index][0]
            parts[cell][done.index] = _part(done)
            if len(parts[cell]) == left[cell]:
                found[cell] = _measurements(parts.pop(cell), of[cell[1]], foreign=foreign)
            rows += done.task.count
            if progress is not None:
                progress(str(done.task), rows, total)
    finally:
        forget()
    return found


def _pieces(entrants: Sequence[Entrant], corpora: Sequence[Corpus]) -> Iterator[tuple[Cell, Task]]:
    for entrant in entrants:
        for corpus in corpora:
            name = f"{entrant.name} on {corpus.name}"
            stamps = Stamps(entrant.stamp, corpus.stamp)
            for first, count in chunks(corpus.rows.rows, Wanted()):
                task = Task(name, entrant.place, corpus.rows, first, count, Wanted(), stamps)
                yield (entrant.name, corpus.name), task


def _part(done: Done[Task, Part]) -> Part:
    """Return what a task gave; what it failed with, in one line that names the cell."""
    try:
        return done.outcome.value()
    except MemoryError as error:
        raise UsageError(f"{done.task}: {error or 'not enough memory'}") from None
    except WeightsError as error:
        raise WeightsError(str(done.task), str(error)) from None


def _measurements(parts: dict[int, Part], corpus: Corpus, *, foreign: bool) -> tuple[Measurement, ...]:
    in_order = [parts[index] for index in sorted(parts)]
    sums = reduce(lambda left, right: left.merge(right), (part.sums for part in in_order))
    occasion = Occasion(
        evaluation=corpus.name,
        data_sha256=corpus.digest,
        are_tokens=corpus.are_tokens,
        excluded=corpus.rows.excluded,
        dtype=cast(DType, in_order[0].dtype),
    )
    known = {*DEFINITIONS, *PER_SOURCE, *BESIDE}
    return tuple(m for m in measurements(sums, occasion, foreign=True) if foreign or m.metric in known)
