"""Measure many dictionaries, by whoever does the work, going on where an earlier run was ended."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, cast

from saereg import __version__
from saereg.errors import SaeregError, WeightsError
from saereg.registry.metrics.engine import (
    DEFINITIONS_VERSION,
    Occasion,
    Wanted,
    chunks,
    in_bounds,
    measurements,
    recorded,
)
from saereg.registry.metrics.evaluate import summed_claims
from saereg.registry.recompute.chosen import Chosen, Measuring, Setting, has_losses, measurings_of
from saereg.registry.recompute.tasks import LossTask, Part, Stamp, Stamps, Task, forget, run_any, stamp_of_rows
from saereg.registry.work.running import Done, run_all
from saereg.schemas.metrics import DType, Measurement
from saereg.schemas.recomputed import Recomputed

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.recompute.journal import Journal
    from saereg.registry.work.workers import Workers

Progress = Callable[[str, int, int], None]
"""(what, done, total) → None."""


@dataclass(frozen=True)
class Order:
    """What is to be computed of each dictionary.

    Attributes:
        how: rows, device and so on.
        batch_rows: batch sizes of the definitions that depend on one, beside those that claims name.
        everything: whether to give every definition, those of others too; else the canon and what claims name.
        densities: whether to keep in how many rows each latent was active.
    """

    how: Setting = field(default_factory=Setting)
    batch_rows: tuple[int, ...] = ()
    everything: bool = False
    densities: bool = False


@dataclass(frozen=True)
class Failure:
    """What could not be measured.

    Attributes:
        name: dictionary, and rows where they are known.
        why: one line.
    """

    name: str
    why: str


@dataclass(frozen=True)
class Fired:
    """In how many rows each latent was active.

    Attributes:
        record: of which dictionary and rows.
        counts: shape (F,), int64.
    """

    record: Recomputed
    counts: "Tensor"


@dataclass
class _Work:
    """One dictionary on one evaluation, in progress.

    Attributes:
        position: its place in the plan.
        measuring: which dictionary and which rows.
        wanted: what is to be summed.
        weights_sha256: digest of the weights.
        data_sha256: digest of the rows.
        stamps: the files that these digests are of.
        key: digest of all that decides the result.
        left: (first row, rows) of the chunks that are not merged yet.
        losses: measurements of losses; None while there are to be some.
    """

    position: int
    measuring: Measuring
    wanted: Wanted
    weights_sha256: str
    data_sha256: str
    stamps: Stamps
    key: str
    left: deque[tuple[int, int]]
    losses: tuple[Measurement, ...] | None = ()
    _waiting: dict[int, Part] = field(default_factory=dict)
    _merged: Part | None = None

    @property
    def is_finished(self) -> bool:
        """Whether nothing is missing."""
        return not self.left and self.losses is not None

    def add(self, first: int, part: Part) -> None:
        """Take the sums of a chunk; they are merged in the order of the chunks, whenever they come."""
        self._waiting[first] = part
        while self.left and self.left[0][0] in self._waiting:
            ready = self._waiting.pop(self.left.popleft()[0])
            merged = ready.sums if self._merged is None else self._merged.sums.merge(ready.sums)
            self._merged = Part(merged, ready.dtype)

    def occasion(self, dtype: DType) -> Occasion:
        """Return what all its measurements have in common."""
        rows = self.measuring.rows
        return Occasion(self.measuring.evaluation, self.data_sha256, self.measuring.are_tokens, rows.excluded, dtype)

    def total(self) -> Part:
        """Return the sums over all rows.

        Raises:
            WeightsError: when there are no rows.
        """
        if self._merged is None:
            raise WeightsError(self.measuring.rows.name, "holds no rows")
        return self._merged


class Recomputation:
    """One run over many dictionaries.

    Attributes:
        found: position → record, of those that are finished.
        failures: position → what went wrong.
        fired: position → counts per latent, where they were asked for.
    """

    def __init__(self, order: Order, journal: "Journal", is_counted: Callable[[str], bool] = lambda key: False) -> None:
        """Take an order.

        Args:
            order: what is to be computed.
            journal: what is known already.
            is_counted: whether the densities under a key are known already.
        """
        self.found: dict[int, Recomputed] = {}
        self.failures: dict[int, Failure] = {}
        self.fired: dict[int, Fired] = {}
        self._order, self._journal, self._is_counted = order, journal, is_counted
        self._digests: dict[object, tuple[Stamp, str]] = {}
        self._owners: list[_Work] = []
        self._ended: deque[Recomputed | Failure] = deque()
        self._cost, self._total, self._progress = 0, 1, cast(Progress, lambda what, done, total: None)

    def plan(self, chosen: Sequence[Chosen]) -> tuple[Measuring | Failure, ...]:
        """Return what there is to do, looking at documents and headers alone; what cannot be opened is a failure."""
        planned: list[Measuring | Failure] = []
        for one in chosen:
            try:
                planned += measurings_of(one, self._order.how)
            except (SaeregError, OSError) as error:
                planned.append(_failure(one.name, error))
        return tuple(planned)

    def run(
        self, planned: Sequence[Measuring | Failure], workers: "Workers", progress: Progress | None = None
    ) -> Iterator[Recomputed | Failure]:
        """Do it, and yield each dictionary and evaluation when it is finished.

        Args:
            planned: what `plan` returned.
            workers: who does it.
            progress: called with what is done, and of how much.
        """
        self._progress = progress or self._progress
        self._total = sum(one.cost for one in planned if isinstance(one, Measuring))
        is_here = workers.call is None
        function = partial(run_any, heard=self._heard) if is_here else run_any
        try:
            for done in run_all(workers, function, self._tasks(planned)):
                self._take(done, is_heard=is_here)
                while self._ended:
                    yield self._ended.popleft()
            yield from self._ended
        finally:
            forget()

    def _tasks(self, planned: Sequence[Measuring | Failure]) -> Iterator[Task | LossTask]:
        for position, one in enumerate(planned):
            if isinstance(one, Failure):
                self._fail(position, one)
                continue
            try:
                work = self._begun(position, one)
            except (SaeregError, OSError) as error:
                self._fail(position, _failure(one.name, error))
                continue
            if work is not None:
                yield from self._tasks_of(work)

    def _tasks_of(self, work: _Work) -> Iterator[Task | LossTask]:
        measuring = work.measuring
        for first, count in tuple(work.left):
            if (known := self._journal.part(work.key, first)) is not None:
                self._add(work, first, known)
                self._advance(work, count)
            elif work.position not in self.failures:
                self._owners.append(work)
                name = f"{measuring.name}, rows {first} to {first + count - 1}"
                yield Task(name, measuring.place, measuring.rows, first, count, work.wanted, work.stamps)
        if work.losses is None and work.position not in self.failures:
            self._owners.append(work)
            name = f"{measuring.name}, losses"
            occasion, sizes = work.occasion("float32"), _batch_contexts(measuring)
            yield LossTask(name, measuring.place, measuring.rows, occasion, sizes, work.stamps)

    def _begun(self, position: int, measuring: Measuring) -> _Work | None:
        """Look at the bytes; None where all is known already."""
        wanted = Wanted.of(summed_claims(measuring.claims, measuring.rows), self._order.batch_rows)
        place, rows = measuring.place, measuring.rows
        ours, weights = self._digest(place, place.stamp, lambda: measuring.chosen.weights_sha256(place))
        theirs, data = self._digest(measuring.source, lambda: stamp_of_rows(rows), rows.digest)
        key = self._key(measuring, wanted, weights, data)
        record = self._journal.finished(key)
        if record is not None and (not self._order.densities or self._is_counted(key)):
            self.found[position] = record
            self._ended.append(record)
            self._cost += measuring.cost
            return None
        left = deque(chunks(measuring.rows.rows, wanted))
        if not left:
            raise WeightsError(measuring.rows.name, "holds no rows")
        losses = None if has_losses(measuring.rows) else ()
        return _Work(position, measuring, wanted, weights, data, Stamps(ours, theirs), key, left, losses)

    def _digest(self, of: object, stamp: Callable[[], Stamp], compute: Callable[[], str]) -> tuple[Stamp, str]:
        if of not in self._digests:
            self._digests[of] = stamp(), compute()  # in this order: what changes meanwhile has another stamp
        return self._digests[of]

    def _key(self, measuring: Measuring, wanted: Wanted, weights: str, data: str) -> str:
        how, claims = measuring.place, [] if self._order.everything else measuring.claims
        decides = {
            "tool": [__version__, metadata.version("torch"), _version_of_models(measuring)],
            "definitions": DEFINITIONS_VERSION,
            "name": [measuring.chosen.name, measuring.evaluation],
            "weights": weights,
            "configuration": measuring.cfg.text(),
            "data": [data, *measuring.rows.excluded],
            "are_tokens": measuring.are_tokens,
            "device": [how.device, how.exact, how.stream_bytes],
            "wanted": [wanted.batch_sizes, wanted.units, self._order.everything],
            "claims": sorted({(c.metric, c.batch_rows or 0, c.units) for c in claims}),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def _take(self, done: Done[Task | LossTask, Part | tuple[Measurement, ...]], *, is_heard: bool) -> None:
        work, task = self._owners[done.index], done.task
        if done.outcome.error is not None:
            self._fail(work.position, _failure(work.measuring.name, done.outcome.error))
            return
        found = done.outcome.value()
        if isinstance(task, LossTask) or not isinstance(found, Part):
            work.losses = found if isinstance(found, tuple) else ()
            self._finish(work)
            return
        if self._order.densities or work.losses is None or len(work.left) > 1 or work.left[0][0] != task.first:
            self._journal.keep_part(work.key, task.first, found)
        self._add(work, task.first, found)
        if not is_heard:
            self._advance(work, task.count)

    def _add(self, work: _Work, first: int, part: Part) -> None:
        work.add(first, part)
        self._finish(work)

    def _finish(self, work: _Work) -> None:
        """Keep what was found of a dictionary, once nothing is missing."""
        if work.is_finished and work.position not in self.failures:
            record = self._record(work, work.total())
            self._journal.keep(record)
            self.found[work.position] = record
            self._ended.append(record)

    def _record(self, work: _Work, total: Part) -> Recomputed:
        measuring = work.measuring
        record = Recomputed(
            target=measuring.chosen.target,
            artifact=measuring.chosen.artifact.id if measuring.chosen.artifact else None,
            evaluation=measuring.evaluation,
            rows=measuring.rows.rows,
            data_sha256=work.data_sha256,
            weights_sha256=work.weights_sha256,
            device=measuring.place.device,
            key=work.key,
            measurements=self._measurements(work, total),
        )
        if self._order.densities:
            self.fired[work.position] = Fired(record, total.sums.moments["raw"].fired)
        return record

    def _measurements(self, work: _Work, total: Part) -> tuple[Measurement, ...]:
        found = measurements(total.sums, work.occasion(cast(DType, total.dtype)), foreign=True)
        if not (self._order.everything or self._order.batch_rows):
            found = recorded(found, summed_claims(work.measuring.claims, work.measuring.rows))
        return found + (work.losses or ())

    def _fail(self, position: int, failure: Failure) -> None:
        if position not in self.failures:
            self.failures[position] = failure
            self._ended.append(failure)

    def _heard(self, rows: int) -> None:
        self._advance(self._owners[-1], rows)

    def _advance(self, work: _Work, rows: int) -> None:
        measuring = work.measuring
        self._cost += measuring.cost // max(1, measuring.rows.rows) * rows
        self._progress(measuring.name, self._cost, self._total)


def _version_of_models(measuring: Measuring) -> str | None:
    """Return the version of what runs the model that computes the rows; None where none does."""
    return metadata.version("transformers") if has_losses(measuring.rows) else None


def _batch_contexts(measuring: Measuring) -> tuple[int, ...]:
    """Return the batch sizes, in contexts, that claims on losses name."""
    claims = in_bounds(claim for claim in measuring.claims if claim.metric == "ce_recovered_batch_mean")
    named = (claim.batch_rows for claim in claims)
    return tuple(sorted({size for size in named if size is not None}))


def _failure(name: str, error: Exception) -> Failure:
    said = str(error)
    if isinstance(error, OSError):
        said = f"{error.filename or 'file'}: {error.strerror or error}"
    return Failure(name, said if said.startswith(name) else f"{name}: {said}")
