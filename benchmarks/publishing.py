"""How fast publishing to the Hub is, beside the Hub client's own `create_commit` and beside hashing and sending alone.

    python benchmarks/publishing.py [--quick] [--rounds 3] [--json FILE] [--only idle|throughput]

`idle`: a second publish of a release of 1,000 files with nothing to do: its requests, and what it hashes.

`throughput`: 1,000 files and 2 GB (`--quick`: 200 files, 0.2 GB) to a hub on this machine, a new hub and a new process
for each run, by Git LFS and by Xet, without digests of an earlier run:

    saereg        plan and apply: hashed, sent, committed (in parts on a pull request, merged), compared, tagged
    known         the same when a validation has just hashed the files, as `saereg publish` does before
    create_commit one call of `HfApi.create_commit` with the same files: hashed, sent, committed
    bare          hashlib and PUT of the same bytes with as many threads, and nothing else (Git LFS only)

Every round runs them in the opposite order of the one before. Seconds are those of the best round, without imports; the
peak of memory is VmHWM of the process. Ratios of one run can be compared, seconds of two runs cannot.
"""

import argparse
import contextlib
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

JOBS = 5
NOISE = "/api/agent-harnesses"
"""What the Hub client asks for once a day, whatever is done."""

REPO = "org/name"


def make(folder: Path, count: int, size: int) -> Path:
    """Return a valid tiny release with many dense files in its index."""
    from saereg.registry.validators.runner import validate
    from saereg.schemas.document import canonical
    from tests.releases import tiny_release

    release = tiny_release(folder, checkpoints=False)
    index = json.loads((release / "index.json").read_text())
    for number in range(count):
        path = release / f"evaluation/rows-{number:04}.safetensors"
        header = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        raw = len(header).to_bytes(8, "little") + header + os.urandom(size)
        path.write_bytes(raw)
        name = path.relative_to(release).as_posix()
        digest = hashlib.sha256(raw).hexdigest()
        index["files"].append({"path": name, "size": len(raw), "sha256": digest, "role": "other"})
    index["files"].sort(key=lambda one: one["path"])
    (release / "index.json").write_text(canonical(index))
    report = validate(release, "header")
    if report.errors:
        raise SystemExit(f"{report.errors[0]}")
    release.with_suffix(".report.json").write_text(report.text())
    settled = time.time_ns() - 10_000_000_000
    for path in release.rglob("*"):
        os.utime(path, ns=(settled, settled))
    return release


@contextlib.contextmanager
def serving(*switches: str) -> Iterator[str]:
    """Serve a new hub in a process of its own, and give its address."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "saereg", "hub", "serve", folder, "--port", "0", "--quiet", "--allow-faults"]
        process = subprocess.Popen([*command, *switches], stdout=subprocess.PIPE, text=True)
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()
            process.wait()


def child(url: str, state: Path, kind: str, release: Path) -> dict:
    """Do one thing in a process of its own."""
    own = {"HF_ENDPOINT": url, "HF_TOKEN": "hf_write", "HF_HOME": str(state), "SAEREG_CACHE": str(state / "saereg")}
    command = [sys.executable, __file__, "--child", kind, str(release)]
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def saereg(release: Path, *, known: bool = False) -> dict:
    """Plan and apply."""
    from saereg.publishers.hub.publisher import HubPublisher
    from saereg.publishers.hub.target import HubTarget
    from saereg.publishers.publisher import Wishes
    from saereg.registry.files.digest_cache import Digests
    from saereg.schemas import jsontext
    from saereg.schemas.report import read_report

    file = release.with_suffix(".report.json")
    report, read = read_report(jsontext.decode(file.read_bytes()), file), []
    publisher = HubPublisher(HubTarget(REPO), Wishes(at_least="header"))
    plain = Digests._hashed
    if known:
        with Digests(release) as digests:
            digests.ahead([p.relative_to(release).as_posix() for p in release.rglob("*") if p.is_file()], JOBS)

    def hashed(self, path, git):
        read.append((release / path).stat().st_size)
        return plain(self, path, git)

    Digests._hashed = hashed
    started, used = time.monotonic(), _cpu()
    plan = publisher.plan(release, report)
    planned = time.monotonic()
    receipt = publisher.apply(release, plan)
    ended = time.monotonic()
    said = {"seconds": ended - started, "plan": planned - started, "cpu": _cpu() - used, "hashed": sum(read)}
    return said | {"mode": receipt.hub.mode, "commits": receipt.hub.commits, "requests": receipt.hub.requests}


def create_commit(release: Path) -> dict:
    """Let the Hub client make one commit of the same files."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    names = sorted(path for path in release.rglob("*") if path.is_file())
    started, used = time.monotonic(), _cpu()
    api.create_repo(REPO)
    files = [CommitOperationAdd(path.relative_to(release).as_posix(), str(path)) for path in names]
    api.create_commit(REPO, files, commit_message="all", num_threads=JOBS)
    return {"seconds": time.monotonic() - started, "cpu": _cpu() - used}


def bare(release: Path) -> dict:
    """Hash and send the same bytes, and nothing else."""
    import httpx

    names = sorted((path for path in release.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    url, started, used = os.environ["HF_ENDPOINT"], time.monotonic(), _cpu()
    with httpx.Client(timeout=60, headers={"Authorization": "Bearer hf_write"}) as client:

        def send(path: Path) -> None:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            with path.open("rb") as file:
                client.put(f"{url}/_lfs/{digest}", content=file, headers={"Content-Length": str(path.stat().st_size)})

        with ThreadPoolExecutor(JOBS) as pool:
            list(pool.map(send, names))
    return {"seconds": time.monotonic() - started, "cpu": _cpu() - used}


KINDS = {
    "saereg": saereg,
    "known": lambda release: saereg(release, known=True),
    "create_commit": create_commit,
    "bare": bare,
}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> int:
    """Return the peak of memory in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def idle(release: Path, scratch: Path) -> dict:
    """Publish twice and look at what the second publish asked and hashed."""
    with serving("--no-xet") as url:
        first = child(url, scratch / "idle", "saereg", release)
        before = _requests(url)
        second = child(url, scratch / "idle", "saereg", release)
        asked = [f"{one['method']} {one['path']}" for one in _requests(url)[len(before) :]]
    own = [line for line in asked if NOISE not in line and "_requests" not in line]
    return {"first": first, "second": second, "requests": own, "noise": sum(NOISE in line for line in asked)}


def _requests(url: str) -> list[dict]:
    return json.loads(urllib.request.urlopen(f"{url}/_requests", timeout=60).read())


def throughput(release: Path, scratch: Path, rounds: int) -> dict[str, list[dict]]:
    """Publish in every way, in alternating order."""
    ways = {"Git LFS": (list(KINDS), ["--no-xet"]), "Xet": (["saereg", "known", "create_commit"], [])}
    found: dict[str, list[dict]] = {}
    for number in range(rounds):
        for way, (kinds, switches) in ways.items():
            for kind in kinds[:: 1 if number % 2 else -1]:
                state = scratch / f"state-{number}-{way[0]}-{kind}"
                off = {"HF_HUB_DISABLE_XET": "1"} if switches else {}
                with serving(*switches) as url, _environment(off):
                    found.setdefault(f"{way}/{kind}", []).append(child(url, state, kind, release))
                shutil.rmtree(state, ignore_errors=True)
                print(way, kind, found[f"{way}/{kind}"][-1], file=sys.stderr)
    return found


@contextlib.contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    os.environ |= more
    try:
        yield
    finally:
        for name in more:
            del os.environ[name]


def shown(size: int, found: dict[str, list[dict]]) -> str:
    """Return the table."""
    lines = ["| way | what | best s | GB/s | of create_commit | CPU s | peak MiB | commits |", "|" + "---|" * 8]
    for name, runs in found.items():
        way, _, kind = name.partition("/")
        best = min(runs, key=lambda one: one["seconds"])
        beside = min(one["seconds"] for one in found[f"{way}/create_commit"])
        cells = [way, kind, f"{best['seconds']:.2f}", f"{size / best['seconds'] / 1e9:.3f}"]
        cells += [f"{100 * beside / best['seconds']:.0f} %", f"{best['cpu']:.2f}", best["peak"], best.get("commits", 1)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    ours, plain = (min(one["seconds"] for one in found[f"Git LFS/{kind}"]) for kind in ("saereg", "bare"))
    lines += ["", f"Git LFS: {100 * (ours - plain) / plain:+.1f} % of the time of hashing and sending alone."]
    return "\n".join(lines)


def main() -> None:
    """Make the release, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=["", "idle", "throughput"], default="")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "RELEASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, release = options.child
        import huggingface_hub.hf_api  # noqa: F401

        print(json.dumps(KINDS[kind](Path(release)) | {"peak": _peak()}))
        return
    done: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if options.only in ("", "idle"):
            done["idle"] = idle(make(scratch / "idle-release", 1_000, 1_000), scratch)
            print(f"a second publish: {len(done['idle']['requests'])} requests (and {done['idle']['noise']} of the")
            print(f"client's own), {done['idle']['second']['hashed']} bytes hashed")
            print("\n".join(f"    {line}" for line in done["idle"]["requests"]))
        if options.only in ("", "throughput"):
            count, size = (200, 1_000_000) if options.quick else (1_000, 2_000_000)
            release = make(scratch / "release", count, size)
            total = sum(path.stat().st_size for path in release.rglob("*") if path.is_file())
            done["throughput"] = throughput(release, scratch, options.rounds)
            print(shown(total, done["throughput"]))
    if options.json:
        options.json.write_text(json.dumps(done, indent=1))


if __name__ == "__main__":
    main()
