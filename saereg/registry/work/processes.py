"""Several processes of this machine.

Each worker is a pool of its own, of one process. One common pool would be broken as a whole when one of its processes
dies: tasks of the others would be lost with it, and which task was at fault would not be known.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that say, before torch is imported, how many threads it computes with."""


def cores() -> int:
    """Return how many cores this process may use: those that a batch system gave it, not those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Processes(Executor):
    """Processes that are started when there is work, and again when one died.

    Args:
        count: how many.
        threads: threads that torch computes with in each.
    """

    def __init__(self, count: int, threads: int) -> None:
        self._threads = threads
        self._feeders = ThreadPoolExecutor(count, thread_name_prefix="saereg-worker")
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._open: dict[ProcessPoolExecutor, Connection] = {}
        self._is_closed = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Call a function in one of the processes; BrokenExecutor says that this one died under it."""
        return self._feeders.submit(self._call, partial(fn, *args, **kwargs))

    def _call(self, work: Callable[[], R]) -> R:
        pool = self._pool()
        try:
            return pool.submit(work).result()
        except BrokenExecutor:
            self._mine.pool = None
            self._close(pool)
            raise

    def _pool(self) -> ProcessPoolExecutor:
        """Return the process that belongs to this thread."""
        pool: ProcessPoolExecutor | None = getattr(self._mine, "pool", None)
        if pool is not None:
            return pool
        with self._lock:
            if self._is_closed:
                raise BrokenExecutor("stopped")
            theirs, ours = multiprocessing.get_context("spawn").Pipe(duplex=False)
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(1, context, initializer=_settle, initargs=(self._threads, theirs))
            self._open[pool] = ours
        self._mine.pool = pool
        return pool

    def _close(self, pool: ProcessPoolExecutor) -> None:
        """End a process; only who takes it out of the table does, as a pool must not be shut down by two threads."""
        with self._lock:
            ours = self._open.pop(pool, None)
        if ours is not None:
            ours.close()
            pool.shutdown(wait=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all processes, also those in the middle of a task unless `wait`."""
        if wait:
            self._feeders.shutdown(wait=True, cancel_futures=cancel_futures)
        with self._lock:
            self._is_closed = True
            pools = tuple(self._open)
        self._feeders.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            self._close(pool)
        self._feeders.shutdown(wait=True)


def _settle(threads: int, stop: Connection) -> None:
    """Prepare a process for its work.

    Ctrl-C reaches every process of a terminal: it is the first one that answers it, by closing its end of `stop`. When
    that one is killed, its end is closed too, and no process is left behind.
    """
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(stop,), daemon=True).start()


def _end_with(stop: Connection) -> None:
    wait([stop])
    os._exit(1)
