"""Who does the work, whatever they are: an executor, and what must be known of it."""

import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from saereg import __version__
from saereg.errors import SaeregError, UsageError

T = TypeVar("T")
R = TypeVar("R")

OWN_ERRORS = (SaeregError, OSError, MemoryError)
"""What a task may fail with on its own account; anything else is a mistake in saereg, and goes all the way up."""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """How one task ended.

    Attributes:
        result: what it returned.
        error: why it returned nothing.
    """

    result: R | None = None
    error: Exception | None = None

    def value(self) -> R:
        """Return the result.

        Raises:
            SaeregError: what the task raised.
            OSError: likewise.
            MemoryError: likewise.
        """
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # a function may well return None


@dataclass(frozen=True)
class Workers:
    """Who does the work.

    Attributes:
        name: as the user wrote it.
        executor: what takes tasks.
        at_once: tasks that are submitted and not finished, at most: neither tasks nor results pile up.
        lost: exceptions by which the executor tells that a worker went away in the middle of a task.
        call: what runs a function on a task where the work is done, and packs the outcome; None: this process does.
    """

    name: str
    executor: Executor
    at_once: int = 1
    lost: tuple[type[BaseException], ...] = ()
    call: "Callable[[Packed], bytes] | None" = None

    def submit(self, function: Callable[[T], R], task: T, name: str) -> "Future[object]":
        """Hand over one task.

        Raises:
            UsageError: when it cannot be sent to another process.
        """
        if self.call is None:
            return self.executor.submit(run, function, task)
        try:
            content = pickle.dumps((function, task))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            problem = f"{name} cannot be sent to another process ({error}); leave out --executor {self.name}"
            raise UsageError(problem) from None
        return self.executor.submit(self.call, Packed(__version__, content))


@dataclass(frozen=True)
class Packed:
    """A function and its task, on their way.

    Attributes:
        version: saereg that sends them; another one may sum otherwise.
        content: both, pickled.
    """

    version: str
    content: bytes


def run(function: Callable[[T], R], task: T) -> Outcome[R]:
    """Run one task; an error of its own is an outcome too."""
    try:
        return Outcome(function(task))
    except OWN_ERRORS as error:
        return Outcome(error=error)


def run_packed(packed: Packed) -> bytes:
    """Run one task in the process of a worker, and return its outcome as bytes.

    Bytes, because torch hands tensors between processes by file descriptors and shared memory: those of a worker that
    dies after its answer would be gone before they are read.
    """
    if packed.version != __version__:
        problem = f"a worker runs saereg {__version__}, this is {packed.version}: install the same on all machines"
        return pickle.dumps(Outcome(error=UsageError(problem)))
    function, task = pickle.loads(packed.content)
    return pickle.dumps(run(function, task))


def unpacked(answer: object) -> Outcome[object]:
    """Return the outcome in what a future gave."""
    found = pickle.loads(answer) if isinstance(answer, bytes) else answer
    if not isinstance(found, Outcome):
        raise TypeError(f"a worker answered with {type(found).__name__}")
    return found
