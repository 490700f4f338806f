"""Files for `benchmarks/metrics.py`: the one pass of a validation beside hashlib alone on the same bytes.

Export and source checkpoint are both hashed, because a round trip means nothing for another source than the recorded
one; and so hashlib hashes both here. Tied and transposed are the layouts of real releases: an encoder stored as a
linear layer has it, a checkpoint that stores both matrices side by side.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from saereg.registry.evidence.round_trip import look
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.header import read_header
from saereg.registry.files.streaming import write_safetensors
from saereg.registry.files.tensors import Entry
from saereg.schemas.manifest import SourceCheckpoint
from saereg.schemas.recipe import SourceTensor, moved, transposed

PLANS: dict[str, dict[str, SourceTensor]] = {
    "moved": {name: moved(name) for name in ("W_enc", "W_dec", "b_enc")},
    "transposed": {"W_enc": transposed("encoder.weight"), "W_dec": moved("W_dec"), "b_enc": moved("b_enc")},
}

ROWS = 4096
"""Rows of a block that is written."""

PEAK = """
import re, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from metrics_files import checked
checked(Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def checked(export: Path, source: Path, plan: str, *, hashed: bool = True) -> None:
    """Hash, inspect and compare an export, and hash its source, as `validate --level weights` does."""
    said = SourceCheckpoint(path=source.name, sha256="0" * 64, tensors=PLANS[plan])
    found = look(export, read_header(export), source, said)
    if found.problem is not None or not all(tensor.bitwise for tensor in (found.tensors or {}).values()):
        raise SystemExit(f"{export} is not what {source} gives: {found}")
    if hashed:
        sha256_of(source)


def write(folder: Path, megabytes: int, width: int) -> None:
    """Write two exports, and two sources of each kind."""
    latents = max(2, megabytes * 1_000_000 // (8 * width))
    for number in (0, 1):
        torch.manual_seed(number)

        def decoder(name: str, seed: int = number) -> Iterator[tuple[int, torch.Tensor]]:
            generator = torch.Generator().manual_seed(seed)
            for first in range(0, latents, ROWS):
                yield first, torch.randn(min(ROWS, latents - first), width, generator=generator)

        encoder = torch.randn(width, latents)
        made: dict[str, Callable[[str], Iterator[tuple[int, torch.Tensor]]]] = {
            "W_dec": decoder,
            "W_enc": lambda name, W=encoder: iter([(0, W)]),
            "encoder.weight": lambda name, W=encoder: iter([(0, W.T.contiguous())]),
            "b_enc": lambda name: iter([(0, torch.ones(latents))]),
        }
        shapes = {"W_dec": (latents, width), "W_enc": (width, latents), "b_enc": (latents,)}
        shapes["encoder.weight"] = (latents, width)
        for file, names in {
            "export": ("W_enc", "W_dec", "b_enc"),
            "moved": ("W_enc", "W_dec", "b_enc"),
            "transposed": ("encoder.weight", "W_dec", "b_enc"),
        }.items():
            entries = {name: Entry("float32", shapes[name]) for name in names}
            write_safetensors(
                folder / f"{file}{number}", entries, lambda name, made=made: made[name](name), see=lambda *_: None
            )


def together(work: list[Callable[[], object]]) -> None:
    """Do several pieces of work at once, a thread for each."""
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(piece) for piece in work]:
            done.result()


def timed(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each piece of work, done in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):  # the first fills the page cache
        for name in list(work)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            work[name]()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def peak(export: Path, source: Path, plan: str) -> int | None:
    """Return the largest memory of a process that does nothing but check this export; None where nobody says."""
    if not Path("/proc/self/status").exists():
        return None
    here = Path(__file__).parent
    command = [sys.executable, "-c", PEAK, str(here), str(here.parent), str(export), str(source), plan]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"\d+", done.stdout)
    return int(found[0]) * 1024 if found else None


def rows_of(folder: Path, megabytes: int, width: int, rounds: int) -> list[list[dict[str, Any]]]:
    """Return groups of rows: for each plan, one file and two files at once, each after hashlib on the same bytes."""
    write(folder, megabytes, width)
    groups = []
    for plan in PLANS:
        pairs = [(folder / f"export{number}", folder / f"{plan}{number}") for number in (0, 1)]

        def hashed(pair: tuple[Path, Path]) -> None:
            for path in pair:
                sha256_of(path)

        def whole(pair: tuple[Path, Path], plan: str = plan) -> None:
            checked(*pair, plan)

        def beside(pair: tuple[Path, Path], plan: str = plan) -> None:
            together([lambda: checked(*pair, plan, hashed=False), lambda: sha256_of(pair[1])])

        seconds = timed(
            {
                "hashlib": lambda pairs=pairs: hashed(pairs[0]),
                "saereg": lambda pairs=pairs: whole(pairs[0]),
                "saereg, two threads": lambda pairs=pairs: beside(pairs[0]),
                "hashlib, two at once": lambda pairs=pairs: together([lambda p=p: hashed(p) for p in pairs]),
                "saereg, two at once": lambda pairs=pairs: together([lambda p=p: whole(p) for p in pairs]),
            },
            rounds,
        )
        size = sum(path.stat().st_size for path in pairs[0])
        rows = {}
        for who, found in seconds.items():
            times = 2 if "at once" in who else 1
            rate = f"{times * size / min(found) / 1e9:.2f} GB/s"
            rows[who] = {"what": f"files/{plan}", "who": who, "best": min(found), "median": median(found), "more": rate}
        faster = 2 * rows["saereg"]["best"] / rows["saereg, two at once"]["best"]
        rows["saereg, two at once"]["more"] += f", {faster:.2f} x one"
        rows["saereg"]["peak"] = peak(*pairs[0], plan)
        groups.append([row for who, row in rows.items() if "at once" not in who])
        groups.append([row for who, row in rows.items() if "at once" in who])
    return groups


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(rows_of(Path(scratch), 100, 768, 2), indent=2))
