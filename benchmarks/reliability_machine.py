"""A hub as a process, a reader as a process, and `saereg publish` in forked processes that can be killed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from reliability_reader import Reader
from reliability_releases import Version, read_list

LIMIT = 120.0
"""Seconds after which a publish counts as hanging."""

HASTE = 30.0
"""What timeouts are divided by where a hub is slower than they allow: 1 s to read, 2 s for bytes, 5 s for commits."""


@dataclass
class Run:
    """One `saereg publish`.

    Attributes:
        code: exit code; negative where a signal ended it.
        seconds: how long it took.
        said: what it wrote.
        hashed: files that were read to hash them.
    """

    code: int
    seconds: float
    said: str
    hashed: list[str] = field(default_factory=list)

    @property
    def weights(self) -> set[str]:
        """The weight files among those that were hashed."""
        return {name for name in self.hashed if name.endswith(".safetensors")}

    @property
    def complaint(self) -> str:
        """The line that says what went wrong, empty where there is none."""
        return next((line for line in self.said.splitlines() if line.startswith("error: ")), "")

    @property
    def crashed(self) -> bool:
        """Whether it ended in a way that no user should see."""
        return self.code == 3 or "Traceback" in self.said or "internal error" in self.said


class Machine:
    """Everything that one series of publishes needs. A process of one thread: it forks."""

    def __init__(self, folder: Path, versions: Path, switches: list[str]) -> None:
        self.folder, self.list, self.versions, self.switches = folder, versions, read_list(versions), switches
        self.hub: subprocess.Popen | None = None
        self.reading: subprocess.Popen | None = None
        self.port, self.hubs, self.runs = 0, 0, 0
        self.broken: list[dict] = []
        self.looks = self.heads = 0

    def start(self) -> None:
        """Start a new hub on the same port as before, and a reader."""
        self.stop()
        self.hubs += 1
        where = self.folder / f"hub-{self.hubs}"
        command = [sys.executable, "-m", "saereg", "hub", "serve", str(where), "--port", str(self.port)]
        self.hub = subprocess.Popen(
            [*command, "--quiet", "--allow-faults", *self.switches], stdout=subprocess.PIPE, text=True
        )
        self.url = str(self.hub.stdout.readline()).strip()
        if not self.url:
            raise SystemExit("the hub does not start")
        self.port = int(self.url.rpartition(":")[2])
        os.environ |= {"HF_ENDPOINT": self.url, "HF_TOKEN": "hf_write", "HF_HOME": str(self.folder / "home")}
        self.reader = Reader(self.url, self.versions)
        script = str(Path(__file__).with_name("reliability_reader.py"))
        self.reading = subprocess.Popen(
            [sys.executable, script, self.url, str(self.list)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def stop(self) -> None:
        """End both, and keep what the reader saw."""
        if self.reading:
            seen = json.loads(self.reading.communicate()[0] or "{}")
            self.looks, self.heads = self.looks + seen["looks"], self.heads + seen["heads"]
            self.broken += seen["broken"]
            self.reading = None
        if self.hub:
            self.hub.kill()
            self.hub.wait()
            shutil.rmtree(self.folder / f"hub-{self.hubs}", ignore_errors=True)
            self.hub = None

    def watch(self, repo: str) -> None:
        """Let the reader look at a repository."""
        self.reading.stdin.write(repo + "\n")
        self.reading.stdin.flush()

    def requests(self) -> list[dict]:
        """Return every request that the hub has seen."""
        return json.loads(urllib.request.urlopen(f"{self.url}/_requests", timeout=20).read())

    def faults(self, wanted: list[dict] | None = None) -> list[dict]:
        """Set faults, or return those that are set."""
        body = None if wanted is None else json.dumps({"faults": wanted}).encode()
        return json.loads(urllib.request.urlopen(f"{self.url}/_faults", data=body, timeout=20).read())

    def begin(self, version: Version, repo: str, machine: str = "a", more: tuple[str, ...] = (), haste: bool = False):
        """Fork a publish, and return what `end` takes."""
        self.runs += 1
        said, hashed = self.folder / f"run-{self.runs}.txt", self.folder / f"run-{self.runs}.hashed"
        child = os.fork()
        if child == 0:
            code = 70
            try:
                out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(out, 1), os.dup2(out, 2)
                os.environ["SAEREG_CACHE"] = str(self.folder / f"cache-{machine}")
                code = _publish(version, repo, os.open(hashed, os.O_WRONLY | os.O_CREAT | os.O_APPEND), more, haste)
            except BaseException:  # noqa: BLE001 - it is shown
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(code)
        return child, time.monotonic(), said, hashed

    def end(self, begun, kill_at: float | None = None) -> Run:
        """Wait for a publish; kill it at a time, or when it hangs."""
        child, started, said, hashed = begun
        killed_at = min(started + LIMIT, kill_at or float("inf"))
        while True:
            done, status, _ = os.wait4(child, os.WNOHANG)
            if done:
                break
            if (left := killed_at - time.monotonic()) <= 0:
                os.kill(child, signal.SIGKILL)
                killed_at = float("inf")
            time.sleep(max(0.0, min(0.01, left)))
        seconds, code = time.monotonic() - started, os.waitstatus_to_exitcode(status)
        text = said.read_text(errors="replace") if said.exists() else ""
        names = hashed.read_text().split("\n")[:-1] if hashed.exists() else []
        for path in (said, hashed):
            with contextlib.suppress(OSError):
                path.unlink()
        return Run(code, seconds, text, names)

    def publish(self, version: Version, repo: str, **options) -> Run:
        """Publish to the end."""
        return self.end(self.begin(version, repo, **options))

    def digests(self, machine: str = "a") -> set[str]:
        """Return the files whose digests are kept."""
        kept: set[str] = set()
        for file in (self.folder / f"cache-{machine}" / "digests").glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                kept |= set(json.loads(file.read_text())["files"])
        return kept

    def forget(self, machine: str = "a") -> None:
        """Lose all digests, so that the next publish hashes."""
        shutil.rmtree(self.folder / f"cache-{machine}" / "digests", ignore_errors=True)


def _publish(version: Version, repo: str, log: int, more: tuple[str, ...], haste: bool) -> int:
    from saereg.cli import run
    from saereg.publishers.hub.asking import Asker
    from saereg.registry.files.digest_cache import Digests

    plain, limits = Digests._hashed, Asker._limits

    def hashed(self, path, git):
        entry = plain(self, path, git)
        os.write(log, f"{path}\n".encode())
        return entry

    Digests._hashed = hashed
    if haste:
        Asker._limits = lambda self, patience: limits(self, patience / HASTE)
    target = () if "--apply" in more else (f"hf://{repo}",)
    code = run(["publish", version.root, *target, "--report", version.report, "--isolated", *more])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def load() -> None:
    """Import once what every publish imports, and start no thread."""
    import huggingface_hub  # noqa: F401
    from huggingface_hub import HfApi, get_session  # noqa: F401

    import saereg.cli.publish
    import saereg.publishers.hub.publisher
    import saereg.registry.validators.runner  # noqa: F401

    with contextlib.suppress(ImportError):
        import hf_xet  # noqa: F401
