"""From what a user writes behind --executor to workers."""

import contextlib
import re
from collections.abc import Iterator

from saereg.errors import UsageError
from saereg.registry.work.workers import Workers

_LOCAL = re.compile(r"local:([1-9][0-9]{0,3})")
_DASK = re.compile(r"dask://([^/\s]+:[0-9]{1,5})/?")


@contextlib.contextmanager
def open_executor(where: str | None) -> Iterator[Workers]:
    """Have workers while the block runs; whatever they are doing at its end is given up.

    Args:
        where: `local:N` for N processes of this machine, `dask://HOST:PORT` for the workers of a Dask scheduler; None
            for no others than this process.

    Raises:
        UsageError: when it is none of these, or no scheduler answers.
        MissingExtraError: when the extra that it needs is not installed.
    """
    if where is None:
        from saereg.registry.work.here import Here

        yield Workers("here", Here())
    elif match := _LOCAL.fullmatch(where):
        with _processes(int(match[1]), where) as workers:
            yield workers
    elif match := _DASK.fullmatch(where):
        from saereg.registry.work.cluster import cluster

        with cluster(match[1], where) as workers:
            yield workers
    else:
        raise UsageError(f"--executor {where}: expected local:N, N processes here, or dask://HOST:PORT")


@contextlib.contextmanager
def _processes(count: int, name: str) -> Iterator[Workers]:
    from concurrent.futures import BrokenExecutor

    from saereg.registry.work.processes import Processes, cores
    from saereg.registry.work.workers import run_packed

    executor = Processes(count, max(1, cores() // count))
    try:
        yield Workers(name, executor, 2 * count, (BrokenExecutor,), run_packed)
    finally:
        executor.shutdown(wait=False)
