"""A real Dask scheduler with real workers, on loopback."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.registry.work.jobs import PATIENCE

ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def scheduler(folder: Path, workers: int) -> Iterator[str]:
    """Run a scheduler and workers of one thread each, none of which is started again when it dies.

    Args:
        folder: an empty one.
        workers: how many.

    Yields:
        The word for --executor.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical"}
    file = folder / "scheduler.json"
    commands = [["scheduler", "--port", "0", "--scheduler-file", str(file), "--no-dashboard", "--no-show"]]
    settings = ["--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    commands += [["worker", *settings, "--local-directory", str(folder)] for _ in range(workers)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--host", "127.0.0.1", *words],
            env=environment,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        for kind, *words in commands
    ]
    try:
        yield f"dask://{_address(file)}"
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def _address(file: Path) -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return str(json.loads(file.read_text())["address"]).removeprefix("tcp://")
        time.sleep(0.02)
    raise TimeoutError("the scheduler did not start")
