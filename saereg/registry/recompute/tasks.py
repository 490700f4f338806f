"""One piece of work: one dictionary on one chunk of rows. It travels to whoever does it; its sums travel back."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from saereg.errors import FormatError, SaeregError, WeightsError
from saereg.registry.loading import layout_of, load_path
from saereg.registry.metrics.engine import Occasion, Wanted, sums_of_chunk
from saereg.registry.metrics.sums import Sums
from saereg.registry.readings.given import Given, Value
from saereg.registry.readings.source import DOCUMENT_SUFFIXES, open_source
from saereg.schemas.metrics import DType, Measurement

if TYPE_CHECKING:
    from saereg.registry.kernels.coded import Runner
    from saereg.registry.metrics.sources.rows import Rows
    from saereg.registry.readings.reading import Reading

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Place:
    """Where a dictionary is, and how it is run.

    Attributes:
        path: its file or folder; every worker must find it there.
        layout: name of its layout, where several fit.
        given: what its files do not say.
        released: whether it is in a release, of which the validators report what others refuse.
        device: torch device.
        exact: whether to keep the order of operations of the dictionary itself.
        stream_bytes: memory to stream its weights in: they are read anew for each block of rows, and never all of them
            are in memory. None: they are loaded.
    """

    path: Path
    layout: str | None = None
    given: tuple[tuple[str, Value], ...] = ()
    released: bool = False
    device: str = "cpu"
    exact: bool = False
    stream_bytes: int | None = None

    def read(self) -> "Reading":
        """Return what its files mean, without loading weights.

        Raises:
            SaeregError: whatever `saereg.registry.loading.read` raises.
        """
        values = Given(dict(self.given))
        source = open_source(self.path)
        reading = layout_of(source, self.layout).read(source, values)
        values.check_used()
        return reading

    def runner(self) -> "Runner":
        """Load it, ready to be run.

        Raises:
            SaeregError: whatever `saereg.registry.loading.load_path` raises.
            OSError: when a file cannot be read.
        """
        from saereg.registry.kernels.running import runner_of
        from saereg.registry.kernels.streaming import streamed_runner

        if self.stream_bytes is not None:
            reading = self.read()
            if reading.unsettled is not None and not self.released:
                raise FormatError(self.path, reading.unsettled)
            return streamed_runner(reading, self.device, self.stream_bytes)
        dictionary = load_path(self.path, self.device, self.layout, dict(self.given), as_library=self.released)
        return runner_of(dictionary, exact=self.exact)

    def stamp(self) -> Stamp:
        """Return (name, size, time of the last change) of its weights and of the documents beside them.

        Raises:
            SaeregError: when there is nothing that can be read.
            OSError: when a file cannot be read.
        """
        source = open_source(self.path)
        documents = (path.name for path in source.folder.iterdir() if path.suffix in DOCUMENT_SUFFIXES)
        names = sorted({*source.names, *documents})
        return tuple((n, s.st_size, s.st_mtime_ns) for n in names for s in [(source.folder / n).stat()])


CHANGED = "changed while it was measured; measure it again"


@dataclass(frozen=True)
class Stamps:
    """The files of a dictionary and of rows as they were before their digests were taken.

    Attributes:
        place: those of the dictionary.
        rows: those of the rows.
    """

    place: Stamp
    rows: Stamp


def stamp_of_rows(rows: "Rows") -> Stamp:
    """Return (path, size, time of the last change) of the files of some rows.

    Raises:
        SaeregError: when they are not what is said of them.
        OSError: when one is not there.
    """
    return tuple((str(path), s.st_size, s.st_mtime_ns) for path in rows.paths for s in [path.stat()])


@dataclass(frozen=True)
class Task:
    """One dictionary on some rows.

    Attributes:
        name: what errors call it.
        place: the dictionary.
        rows: the rows.
        first: number of the first one.
        count: how many.
        wanted: what is to be summed.
        stamps: files that others are not to be taken for; None: whatever is there.
    """

    name: str
    place: Place
    rows: "Rows"
    first: int
    count: int
    wanted: Wanted
    stamps: Stamps | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class LossTask:
    """What one dictionary costs the model that computes the rows.

    Attributes:
        name: what errors call it.
        place: the dictionary.
        rows: the rows; a `ModelRows`.
        occasion: what its measurements have in common; the type is that of the runner.
        batch_contexts: sizes of batches, in contexts.
        stamps: as of a `Task`.
    """

    name: str
    place: Place
    rows: "Rows"
    occasion: Occasion
    batch_contexts: tuple[int, ...] = ()
    stamps: Stamps | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Part:
    """What a task gives.

    Attributes:
        sums: the sums of the rows.
        dtype: type in which encode and decode ran.
    """

    sums: Sums
    dtype: str


@dataclass
class _Last:
    """The dictionary that this process used last: tasks of one dictionary come one after another."""

    key: tuple[Place, Stamp] | None = None
    runner: "Runner | None" = field(default=None, repr=False)

    def get(self, place: Place) -> "Runner":
        key = (place, place.stamp())
        if self.runner is None or self.key != key:
            self.key = self.runner = None  # before the next one takes its memory
            self.runner, self.key = place.runner(), key
        return self.runner


_LAST = _Last()


def forget() -> None:
    """Let go of the dictionary that this process keeps."""
    _LAST.key = _LAST.runner = None


def run_task(task: Task, heard: Callable[[int], None] | None = None) -> Part:
    """Run a dictionary over some rows.

    Args:
        task: which, and which.
        heard: called with the number of rows after each block of them.

    Raises:
        SaeregError: when the dictionary cannot be loaded, or the rows do not fit it.
        OSError: when a file cannot be read.
        MemoryError: when there is not enough memory for it.
    """
    with _as_errors_of(task.name), _unchanged(task):
        runner = _LAST.get(task.place)
        return Part(sums_of_chunk(runner, task.rows, task.first, task.count, task.wanted, heard), runner.dtype)


def run_losses(task: LossTask) -> tuple[Measurement, ...]:
    """Run a model with a dictionary in the place of what it reconstructs.

    Raises:
        SaeregError: when the dictionary or the model cannot be loaded, or they do not fit.
        OSError: when a file cannot be read.
        MemoryError: when there is not enough memory for it.
    """
    from saereg.registry.metrics.losses import measure_losses
    from saereg.registry.metrics.sources.tokens import ModelRows

    with _as_errors_of(task.name), _unchanged(task):
        if not isinstance(task.rows, ModelRows):
            return ()
        runner = _LAST.get(task.place)
        occasion = replace(task.occasion, dtype=cast(DType, runner.dtype))
        return measure_losses(runner, task.rows, occasion, batch_contexts=task.batch_contexts)


def run_any(task: Task | LossTask, heard: Callable[[int], None] | None = None) -> Part | tuple[Measurement, ...]:
    """Run either; raises what they raise."""
    return run_losses(task) if isinstance(task, LossTask) else run_task(task, heard)


@contextlib.contextmanager
def _unchanged(task: Task | LossTask) -> Iterator[None]:
    """Refuse files that are not those of which the digests were taken, before they are read and after.

    Sums of two files would be merged under the name of one; and half a file fails in any way.
    """
    _check_stamps(task)
    try:
        yield
    except (SaeregError, RuntimeError, OSError):
        _check_stamps(task)
        raise
    _check_stamps(task)


def _check_stamps(task: Task | LossTask) -> None:
    if task.stamps is None:
        return
    before = {*task.stamps.place, *task.stamps.rows}
    for name, size, time in (*task.place.stamp(), *stamp_of_rows(task.rows)):
        if (name, size, time) not in before:
            raise WeightsError(Path(name).name, CHANGED)
    if (task.place.stamp(), stamp_of_rows(task.rows)) != (task.stamps.place, task.stamps.rows):
        raise WeightsError(task.name, "a file went away while it was measured; measure it again")


@contextlib.contextmanager
def _as_errors_of(name: str) -> Iterator[None]:
    """Tell what torch says of memory from mistakes, and what is not on this machine from what is on none."""
    try:
        yield
    except RuntimeError as error:
        first = str(error).partition("\n")[0]
        if "memory" not in first:  # torch has no other way to say it, on the CPU
            raise
        raise MemoryError(f"not enough memory: {first}") from None
    except FileNotFoundError as error:
        raise WeightsError(error.filename or name, "is not there for the worker that should read it") from None
