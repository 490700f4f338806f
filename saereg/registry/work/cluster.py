"""Workers of a Dask cluster, on any number of machines."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from saereg.errors import MissingExtraError, UsageError
from saereg.registry.work.workers import Packed, Workers, run_packed

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 10.0
"""Seconds in which a scheduler must answer."""

AT_ONCE = 256
"""Tasks with the scheduler at most. Workers may come and go, so it does not follow from how many there are now."""

_TURN = threading.Lock()


@contextlib.contextmanager
def cluster(address: str, name: str) -> Iterator[Workers]:
    """Connect with a scheduler while the block runs.

    Args:
        address: HOST:PORT of the scheduler.
        name: how the user wrote it.

    Raises:
        MissingExtraError: without the `dask` extra.
        UsageError: when no scheduler answers.
    """
    try:
        from distributed import CancelledError, KilledWorker
    except ImportError:
        raise MissingExtraError(f"--executor {name}", "dask", "distributed") from None
    with _quiet():
        client = _connected(address, name)
        executor = client.get_executor(pure=False)
        try:
            yield Workers(name, executor, AT_ONCE, (KilledWorker,), in_turn)
        except CancelledError:
            raise UsageError(f"{name}: the scheduler went away; start it and run the same command again") from None
        finally:
            with contextlib.suppress(OSError, RuntimeError, CancelledError):
                executor.shutdown(wait=False)
            client.close(timeout=PATIENCE)


def _connected(address: str, name: str) -> "Client":
    from distributed import Client

    try:
        return Client(f"tcp://{address}", timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        problem = f"{name}: no Dask scheduler answers there within {PATIENCE:.0f} s ({why})"
        raise UsageError(f"{problem}; docs/clusters.md says how to start one") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the client logs about lost connections to itself: what matters of it is raised."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in levels:  # each has a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def in_turn(packed: Packed) -> bytes:
    """Run one task on a worker of the cluster, with all the threads that the worker was given.

    A worker with n threads takes n tasks at once. One after another, each with n threads in its products, needs the
    memory of one; and Dask itself starts its workers with OMP_NUM_THREADS=1, which would leave the other cores idle.
    """
    import torch
    from distributed import get_worker

    with _TURN:
        torch.set_num_threads(get_worker().state.nthreads)
        return run_packed(packed)
