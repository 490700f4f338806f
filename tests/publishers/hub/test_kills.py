"""Publishes that are killed while the hub holds a request, and run again; benchmarks/reliability.py kills hundreds."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from saereg.publishers.local_hub import Fault
from saereg.registry.files.digest import sha256_of

HELD = 0.2
"""Seconds for which the hub holds a request, so that the kill falls into it."""

PUBLISHER = """
import os, signal, sys
from pathlib import Path
import huggingface_hub.hf_api
from saereg.publishers.hub import asking, client, committing, planning, staging
from saereg.publishers.hub.publisher import HubPublisher
from saereg.publishers.hub.target import HubTarget
from saereg.registry.files.digest_cache import Digests
from saereg.schemas import jsontext
from saereg.schemas.report import read_report

for module in (asking, client, committing, staging):
    module.PAUSE = 0.02
huggingface_hub.constants.HF_HUB_DISABLE_XET = True
plain = Digests._hashed
root, url, file = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
report = read_report(jsontext.decode(file.read_bytes()), file)

def hashed(self, path, git):
    if path.endswith("weights.safetensors"):
        os.write(1, f"hashed {path}\\n".encode())  # in one piece: several threads hash
    return plain(self, path, git)

for line in sys.stdin:
    repo, most = line.split()
    staging.PART = planning.ONE_COMMIT = int(most)
    if (child := os.fork()) == 0:
        os.write(1, f"started {os.getpid()}\\n".encode())
        Digests._hashed = hashed
        publisher = HubPublisher(HubTarget(repo, "main", url))
        publisher.apply(root, publisher.plan(root, report))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(1, f"ended {code}\\n".encode())
"""

ONE, STAGED = 200, 5
"""Most files of one commit: all go in one, or many are staged."""


@pytest.fixture(scope="module")
def publisher(server, settled, reports, tmp_path_factory) -> Iterator[subprocess.Popen]:
    """A process that publishes whatever it is told, each time in a process of its own: starting one takes a second."""
    report = tmp_path_factory.mktemp("report") / "report.json"
    report.write_text(reports(settled).text())
    process = subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, str(settled), server.url, str(report)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_TOKEN": "hf_write"},
    )
    with process:
        yield process
        process.stdin.close()


def publish(process, name: str, most: int, kill_at=None) -> tuple[int, set[str]]:
    """Publish, kill it when `kill_at` returns, and return the exit code and the weights that were hashed."""
    process.stdin.write(f"{name} {most}\n")
    process.stdin.flush()
    hashed: set[str] = set()
    for line in process.stdout:
        word, value = line.split()
        if word == "started" and kill_at:
            kill_at()
            os.kill(int(value), signal.SIGKILL)
        elif word == "hashed":
            hashed.add(value)
        elif word == "ended":
            return int(value), hashed
    raise AssertionError("the publisher is gone")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.parametrize(
    ("most", "route", "path", "when", "nth"),
    [
        (ONE, "create", "", "after", 1),
        (ONE, "commit", "", "before", 1),
        (ONE, "commit", "", "after", 1),
        (ONE, "tag", "", "before", 1),
        (STAGED, "discussion", "POST", "after", 1),
        (STAGED, "commit", "", "before", 2),
        (STAGED, "status", "", "before", 1),
        (STAGED, "merge", "", "before", 1),
        (STAGED, "merge", "", "after", 1),
    ],
)
def test_a_killed_publish_is_ended_by_the_same_command(repository, publisher, settled, most, route, path, when, nth):
    skipped = [Fault(route, path=path, status=0, count=nth - 1)] if nth > 1 else []
    held = Fault(route, when, path=path, status=0, seconds=HELD)
    repository.hub.faults[:] = [*skipped, held]

    def reached() -> None:
        until = time.monotonic() + 20
        while held.count and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(HELD / 2 if when == "after" else 0)

    code, before = publish(publisher, repository.name, most, reached)
    assert code == -signal.SIGKILL
    again, after = publish(publisher, repository.name, most)

    assert again == 0
    files = {path.relative_to(settled).as_posix() for path in settled.rglob("*") if path.is_file()}
    assert set(repository.tree()) == files
    weights = [name for name in files if name.endswith("weights.safetensors")]
    info = {one.path: one for one in repository.api.get_paths_info(repository.name, weights)}
    assert all(info[name].lfs.sha256 == sha256_of(settled / name) for name in weights)
    assert len(repository.history()) == 2  # the empty commit that every repository begins with, and ours
    assert repository.tags() == {"v1.0.0": repository.head()}
    assert repository.pull_requests() == ([(1, "merged")] if most == STAGED else [])
    assert not before & after  # no file was hashed twice
