"""Kills, races and readers: there is always one whole release at the target."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from saereg.registry.build import build
from saereg.registry.files.digest import sha256_of

pytestmark = pytest.mark.slow

KILLS = 20

LARGE = "evaluation/extra.safetensors"

PUBLISH = """
import sys
from pathlib import Path
from saereg.publishers.folder import FolderPublisher
from saereg.registry.validators.runner import validate
root, target = Path(sys.argv[1]), Path(sys.argv[2])
publisher = FolderPublisher(target, delete_unknown=True)
plan = publisher.plan(root, validate(root, "header"))
print("planned", flush=True)
sys.stdin.readline()
publisher.apply(root, plan)
print("published", flush=True)
"""


@pytest.fixture(scope="module")
def large(versions, tmp_path_factory) -> tuple[Path, Path]:
    """The two versions with a file of 40 MB each, which differs between them."""
    folder = tmp_path_factory.mktemp("large")
    made = []
    for number, version in enumerate(versions):
        root = folder / f"version-{number}"
        shutil.copytree(version, root)
        (root / LARGE).write_bytes(bytes([number]) * 40_000_000)
        build(root)
        made.append(root)
    return made[0], made[1]


def publisher(root: Path, target: Path) -> subprocess.Popen:
    """Start a process that plans, says so, waits for a line, and publishes."""
    command = [sys.executable, "-c", PUBLISH, str(root), str(target)]
    started = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert started.stdout.readline() == "planned\n", started.communicate()[1]
    return started


def go(process: subprocess.Popen) -> None:
    """Let it publish."""
    process.stdin.write("\n")
    process.stdin.flush()


def identity(root: Path) -> str:
    """Return what tells the versions apart: the digest of manifest and index."""
    texts = (root / "manifest.json").read_bytes() + b"\0" + (root / "index.json").read_bytes()
    return hashlib.sha256(texts).hexdigest()


def look(target: Path) -> str | None:
    """Read a release like a careful reader and return its identity, or None when it was replaced meanwhile.

    The reader holds the folder open, so that all files come from one release, and looks at the end whether it is still
    the one at the target.

    Raises:
        AssertionError: when the release is not whole.
        FileNotFoundError: when there is none.
    """
    held = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        read = {name: _bytes(held, name) for name in ("manifest.json", "index.json")}
        index = json.loads(read["index.json"])
        listed = [*index["files"], *(file for artifact in index["artifacts"] for file in artifact["files"])]
        for file in listed:
            assert hashlib.sha256(_bytes(held, file["path"])).hexdigest() == file["sha256"], file["path"]
        assert sha256_bytes(read["manifest.json"]) == index["manifest_sha256"]
        return hashlib.sha256(read["manifest.json"] + b"\0" + read["index.json"]).hexdigest()
    except FileNotFoundError:
        assert os.stat(target).st_ino != os.fstat(held).st_ino, "a file is missing from the release at the target"
        return None
    finally:
        os.close(held)


def _bytes(folder: int, path: str) -> bytes:
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags, dir_fd=folder)) as file:
        return file.read()


def sha256_bytes(content: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


class Reader(threading.Thread):
    """Looks at the target again and again."""

    def __init__(self, target: Path) -> None:
        super().__init__()
        self.target, self.seen, self.failure, self.done = target, [], None, False

    def run(self) -> None:
        while not self.done and self.failure is None:
            try:
                self.seen.append(look(self.target))
            except (AssertionError, OSError) as error:
                self.failure = error
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop, and raise what went wrong."""
        self.done = True
        self.join()
        if self.failure is not None:
            raise self.failure


def test_a_kill_at_any_moment_leaves_a_whole_release(large, tmp_path):
    """Killed at 20 moments spread over a publish, under the eyes of a reader; then a run to the end."""
    target, known = tmp_path / "out", {identity(root): root for root in large}
    first = publisher(large[0], target)
    started = time.monotonic()
    go(first)
    assert first.communicate()[0] == "published\n"
    duration = time.monotonic() - started
    reader = Reader(target)
    reader.start()
    left = finished = 0
    for kill in range(KILLS):
        following = large[1] if known[identity(target)] == large[0] else large[0]
        process = publisher(following, target)
        go(process)
        time.sleep(duration * 1.2 * kill / KILLS)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left += (tmp_path / ".out.staging").exists()
        found = look(target)
        finished += known[found] == following
    reader.stop()
    assert left > 0, "no kill hit a publish under way: the test proves nothing"
    assert set(reader.seen) - {None} <= set(known)
    following = large[1] if known[identity(target)] == large[0] else large[0]
    last = publisher(following, target)
    go(last)
    assert last.communicate()[0] == "published\n"
    assert look(target) == identity(following)
    assert os.listdir(tmp_path) == ["out"]


def test_two_publishers_at_once_leave_one_of_the_two_releases(large, tmp_path):
    """One wins; the other says that the target has changed, or finds it in its own state."""
    for attempt in range(3):
        target = tmp_path / f"out-{attempt}"
        processes = [publisher(root, target) for root in large]
        for process in processes:
            go(process)
        answers = [process.communicate() for process in processes]
        outcomes = sorted(process.returncode for process in processes)
        assert outcomes == [0, 1], answers
        (lost,) = [error for (_, error), process in zip(answers, processes, strict=True) if process.returncode]
        assert f"PublishError: dir:{target} has changed since the plan was made; plan again" in lost
        winner = large[[process.returncode for process in processes].index(0)]
        assert look(target) == identity(winner)
        assert sha256_of(target / LARGE) == sha256_of(winner / LARGE)
    assert sorted(os.listdir(tmp_path)) == ["out-0", "out-1", "out-2"]


def test_a_reader_that_polls_sees_every_version_whole(large, tmp_path):
    """Four replacements, and not one look without a whole release."""
    target = tmp_path / "out"
    shutil.copytree(large[0], target)
    reader = Reader(target)
    reader.start()
    for number in range(4):
        process = publisher(large[1 - number % 2], target)
        go(process)
        assert process.communicate()[0] == "published\n"
    reader.stop()
    assert set(reader.seen) - {None} == {identity(root) for root in large}
