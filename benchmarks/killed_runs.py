"""Kill a real `saereg train sae` before every change of a file that it makes, start it again, and compare every byte.

    python benchmarks/killed_runs.py [--quick] [--json]

The run has checkpoints every 5 steps, a snapshot and a sparse dictionary with an input scale. Each operation on a file
in its release and in its checkpoints (open for writing, rename, remove, mkdir, rmtree, truncate, chmod) is a point
where one run is killed with SIGKILL. What the same command then ends with is compared with a run that was never
killed: the same files with the same bytes, and no others. `--quick` takes every tenth point.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a process that forks has no other threads
sys.path.insert(0, str(Path(__file__).parents[1]))

ROWS, WIDTH, STEPS = 1_000, 16, 24


def collection(root: Path) -> Path:
    """Make a small model, text and collection."""
    from saereg.trainers.collecting.collect import CollectConfig, collect
    from tests.tiny_models import WORDS, save_neox

    text, chance = root / "text", random.Random(0)
    text.mkdir()
    for number in range(40):
        (text / f"{number:02d}.txt").write_text(" ".join(chance.choices(WORDS, k=40)))
    model = save_neox(root / "model")
    collect(
        CollectConfig(
            model=str(model), corpus=(str(text),), sites=("residual:1",), out=root / "acts", rows=ROWS, context_size=16
        )
    )
    return root / "acts"


def command(folder: Path, rows: Path) -> Callable[[], int]:
    """Return a call of the command line, silent, that trains into a folder."""
    flags = {
        **{"--collection": rows, "--site": "residual-1", "--architecture": "batchtopk", "--k": 4, "--d-sae": 24},
        **{"--normalize": "expected_average_only_in", "--tokens": 32 * STEPS, "--batch-size": 32, "--held-out": 200},
        **{"--id": "a/b", "--device": "cpu", "--release": folder / "release", "--license": "mit"},
        **{"--checkpoint-every": 5, "--snapshot": 320},
    }

    def call() -> int:
        from saereg.cli import run

        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        return run(["train", "sae", *(str(word) for pair in flags.items() for word in pair)])

    return call


def measure(root: Path, stride: int) -> dict[str, object]:
    """Kill at every so many-th point; return how many, and the points after which something was different."""
    import torch

    from saereg.registry import presenting
    from tests.trainers.runs.killing import forked, tree

    presenting._with_figures = lambda release, *_: release  # vl-convert has threads, which do not survive a fork
    torch.set_num_threads(1)
    rows, out, err = collection(root), os.dup(1), os.dup(2)
    command(root / "whole", rows)()  # in this process, so that no fork imports anything
    os.dup2(out, 1), os.dup2(err, 2)
    whole, began, point, kills, odd = tree(root / "whole"), time.monotonic(), 1 - stride, 0, []
    while True:
        point += stride
        killed, _ = forked(command(root / "killed", rows), root / "killed", point)
        ended = forked(command(root / "killed", rows), root / "killed")
        if ended != (False, 0) or tree(root / "killed") != whole:
            odd.append(point)
        shutil.rmtree(root / "killed")
        if not killed:
            break
        kills += 1
    seconds = round(time.monotonic() - began, 1)
    return {"kills": kills, "stride": stride, "files": len(whole), "different": odd, "seconds": seconds}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="every tenth point")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), 10 if options.quick else 1)
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{found['kills']} runs were killed and started again, {found['files']} files each, {found['seconds']} s")
        print(f"different from a run that was never killed: {found['different'] or 'none'}")
    sys.exit(bool(found["different"]))


if __name__ == "__main__":
    main()
