"""Time `saereg validate --level header --hash` on a release with large files against hashlib alone on the same files.

    python benchmarks/hash_release.py [files] [megabytes] [threads]

Both hash every file of the release with the same number of threads, in one run and alternating, the page cache warm:
a pool of threads with `hashlib.file_digest` there, the whole validation here. Prints the best of fifteen rounds of each
in GB per second, and the ratio, once for what only hashes and once for the whole command, its other checks included.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from saereg.registry.files.digest import sha256_of
from saereg.registry.files.place import FolderPlace
from saereg.registry.validators.runner import validate
from saereg.registry.validators.subject import Options, ReleaseSubject
from saereg.schemas.document import canonical

ROUNDS = 15


def make(folder: Path, count: int, megabytes: int) -> Path:
    """Return a valid tiny release with some large files beside its artifacts, all of them in its index."""
    from tests.releases import tiny_release

    release = tiny_release(folder, checkpoints=False)
    index = json.loads((release / "index.json").read_text())
    for number in range(count):
        path = release / f"logs/{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(megabytes * 1_000_000))
        entry = {"path": f"logs/{number}.txt", "size": path.stat().st_size, "sha256": sha256_of(path), "role": "other"}
        index["files"].append(entry)
    (release / "index.json").write_text(canonical(index))
    return release


def plain(paths: list[Path], threads: int) -> list[str]:
    """Hash files with a pool of threads and nothing else."""

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(digest, paths))


def ahead(release: Path, sizes: dict[str, int], threads: int) -> None:
    """Hash the same files as the checks do."""
    ReleaseSubject(FolderPlace(release), Options(jobs=threads)).hash_ahead(sizes)


def whole(release: Path, threads: int) -> None:
    """Validate the release, every file hashed."""
    report = validate(release, "header", options=Options(hash_all=True, jobs=threads))
    if report.errors:
        raise SystemExit(report.text())


def best(work: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the best wall time of each piece of work; every round does them in the opposite order."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(ROUNDS):
        for name in list(work)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            work[name]()
            times[name].append(time.perf_counter() - start)
    return {name: min(several) for name, several in times.items()}


def main(count: int, megabytes: int, threads: int) -> None:
    """Make the release, time the three, print a table."""
    with tempfile.TemporaryDirectory() as scratch:
        release = make(Path(scratch), count, megabytes)
        paths = sorted(path for path in release.rglob("*") if path.is_file())
        sizes = {path.relative_to(release).as_posix(): path.stat().st_size for path in paths}
        plain(paths, threads)
        found = best(
            {
                "hashlib alone": lambda: plain(paths, threads),
                "hash_ahead": lambda: ahead(release, sizes, threads),
                "validate --hash": lambda: whole(release, threads),
            }
        )
    total = sum(sizes.values()) / 1e9
    print(f"{len(sizes)} files, {total:.1f} GB, {threads} threads")
    for name, seconds in found.items():
        ratio = found["hashlib alone"] / seconds
        print(f"{name:<16}  {total / seconds:5.2f} GB/s  {100 * ratio:5.1f} % of hashlib alone")


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]] + [8, 128, os.cpu_count() or 1][len(sys.argv) - 1 :]
    main(*numbers)
