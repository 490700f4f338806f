"""What workers are given in tests: functions at the top of a module that other processes can import."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import DocumentError

PATIENCE = 20.0
"""Seconds in which whatever a test waits for must have happened."""


@dataclass(frozen=True)
class Job:
    """A number, and a folder in which the workers leave traces.

    Attributes:
        number: what is squared.
        folder: where every call leaves its process id.
        deadly: number at which the worker dies by SIGKILL, once.
        faulty: number at which the task fails.
    """

    number: int
    folder: Path
    deadly: int | None = None
    faulty: int | None = None


def square(job: Job) -> int:
    """Leave a trace, perhaps die, perhaps fail, and return the square."""
    trace = job.folder / f"{job.number}-{time.monotonic_ns()}-{os.getpid()}"
    trace.touch()
    if job.number == job.deadly and len(list(job.folder.glob(f"{job.number}-*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if job.number == job.faulty:
        raise DocumentError("cfg.json", "/k", "is too small")
    return job.number**2


def always_dies(job: Job) -> int:
    """Leave a trace and die."""
    (job.folder / f"{job.number}-{time.monotonic_ns()}").touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def sleep(job: Job) -> int:
    """Leave a trace and do nothing for a long time."""
    (job.folder / str(os.getpid())).touch()
    time.sleep(600)
    return 0


def environment(job: Job) -> str | None:
    """Return how many threads torch would compute with."""
    return os.environ.get("OMP_NUM_THREADS")
