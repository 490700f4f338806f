"""Memory of crosscoder training: the formula of docs/sharding.md beside the peak of processes that train.

Each size is measured in processes of their own, so that no peak is another's. What counts is the growth of the peak of
resident memory over that of a process that has imported everything and stepped a crosscoder of nearly no size; of
several processes, the mean. `--table` prints what fits where, from the formula alone.

    python benchmarks/crosscoder_memory.py [--quick] [--json] [--table]
"""

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass

from saereg.schemas.training import ArtifactSettings, Optimization
from saereg.schemas.training_crosscoder import CrosscoderSettings, CrosscoderTrainConfig, SourceSettings

GB = 1e9


@dataclass(frozen=True)
class Footprint:
    """Bytes of one process.

    Attributes:
        weights: W_enc and W_dec, and vectors over latents.
        gradients: as many again.
        moments: the two of Adam.
        loss: rows and codes, at their most: while the loss is computed and its backward begins.
        turned: at the end of backward: the gradient of W_enc a second time, in the order of W_enc, and what is still
            held of rows and codes.
    """

    weights: float
    gradients: float
    moments: float
    loss: float
    turned: float

    @property
    def peak(self) -> float:
        return self.weights + self.gradients + self.moments + max(self.loss, self.turned)


VECTORS = {"standard": 1, "topk": 1, "batchtopk": 1, "jumprelu": 2, "jumprelu per_source": 2, "gated": 3}
"""Architecture → vectors over latents: biases, thresholds."""

ROWS = {
    "standard": 7.0,
    "topk": 7.0,
    "batchtopk": 7.0,
    "jumprelu": 7.25,
    "jumprelu per_source": 7.0,
    "gated": 8.25,
}
"""Architecture → arrays (n, K·D) at the peak of a step, of which a mask is a quarter; those of the rows included."""

CODES = {
    "standard": 3.25,
    "topk": 5.5,
    "batchtopk": 5.5,
    "jumprelu": 7.25,
    "jumprelu per_source": 10.25,
    "gated": 7.5,
}
"""Architecture → arrays (n, F of this process) at the peak of a step. These two tables were read off from sizes at
which one of the two is nearly all; none of them is among the cases below."""


HELD_ROWS, HELD_CODES = 3, 2
"""Arrays of each kind that are still there at the end of backward."""


def per_process(case: "Case", item: int = 4) -> Footprint:
    """Return the memory of one process, `item` bytes per number; on a GPU two of the arrays of rows are outside."""
    name = case.architecture if case.gate == "shared" else f"{case.architecture} {case.gate}"
    width, latents = case.K * case.D, -(-case.F // case.processes)
    matrix, rows, codes = item * width * latents, item * case.n * width, item * case.n * latents
    weights = 2 * matrix + item * (VECTORS[name] * latents + width)
    loss = ROWS[name] * rows + CODES[name] * codes
    return Footprint(weights, weights, 2 * weights, loss, matrix + HELD_ROWS * rows + HELD_CODES * codes)


@dataclass(frozen=True)
class Case:
    """One size that is measured. Sizes: K sources, width D, F latents, n rows; `processes` share the latents."""

    K: int
    D: int
    F: int
    n: int
    architecture: str = "topk"
    gate: str = "shared"
    processes: int = 1


SPARSITY = {"topk": {"k": 16}, "batchtopk": {"k": 16}}
NOTHING = Case(2, 8, 16, 8)

CASES = (
    Case(4, 256, 8192, 512),
    Case(4, 256, 8192, 512, processes=2),
    Case(4, 256, 8192, 512, "batchtopk"),
    Case(4, 256, 8192, 512, "standard"),
    Case(4, 256, 8192, 512, "jumprelu"),
    Case(4, 256, 8192, 512, "jumprelu", "per_source"),
    Case(4, 256, 8192, 512, "gated"),
    Case(8, 256, 2048, 2048, "standard"),
    Case(8, 256, 2048, 2048, "standard", processes=2),
)
QUICK = (CASES[0], CASES[1], CASES[3])


def config_of(case: Case) -> CrosscoderTrainConfig:
    settings = {"l1_coefficient": 0.01, "gate": case.gate} | SPARSITY.get(case.architecture, {})
    if case.architecture in SPARSITY:
        del settings["l1_coefficient"]
    return CrosscoderTrainConfig(
        sources=SourceSettings(axis="snapshot", parameters="none"),
        crosscoder=CrosscoderSettings(architecture=case.architecture, d_sae=case.F, **settings),
        optimization=Optimization(tokens=case.n * 3, batch_size=case.n),
        artifact=ArtifactSettings(id="memory"),
    )


def peak() -> int:
    """Return the largest resident memory that this process had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def child(case: Case) -> None:
    """Take three steps of a case, and say how far the peak rose over nearly nothing."""
    import torch

    from saereg.trainers.crosscoder.group import ALONE
    from saereg.trainers.crosscoder.sharding import is_one_of_several, ranks

    torch.set_num_threads(1)
    if not is_one_of_several():
        steps(NOTHING, ALONE)
        before = peak()
        steps(case, ALONE)
        print(peak() - before)
        return
    with ranks() as group:
        steps(NOTHING, group)
        before = peak()
        steps(case, group)
        print(peak() - before)


def steps(case: Case, group) -> None:
    import torch

    from saereg.trainers.crosscoder.member import CrosscoderMember
    from saereg.trainers.crosscoder.model import Crosscoder

    config, keys = config_of(case), tuple(map(str, range(case.K)))
    model = Crosscoder(config.crosscoder, (case.K, case.D), 0, group=group)
    member = CrosscoderMember(config, model, keys)
    batch = {key: torch.randn(case.n, case.D, generator=torch.Generator().manual_seed(int(key))) for key in keys}
    for _ in range(3):
        member.step(batch).facts()


def measured(case: Case) -> float:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    # without limits of its own the allocator keeps what was freed, and the peak would be of two things in turn
    variables = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    started = []
    for rank in range(case.processes):
        if case.processes > 1:
            variables |= {"WORLD_SIZE": str(case.processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            variables["RANK"] = str(rank)
        words = [sys.executable, __file__, "--child", json.dumps(asdict(case))]
        started.append(subprocess.Popen(words, env=dict(variables), stdout=subprocess.PIPE, text=True))
    return sum(int(one.communicate()[0]) for one in started) / len(started)


def compared(case: Case) -> dict[str, object]:
    predicted, found = per_process(case).peak, measured(case)
    return {**asdict(case), "predicted_mb": predicted / 1e6, "measured_mb": found / 1e6, "ratio": predicted / found}


def table() -> None:
    """Print what 32,768 latents over 32 snapshots of width 4,096 need, by number of processes."""
    print("| processes | rows | weights | gradients | moments | loss | turned | per process |")
    print("|---|---|---|---|---|---|---|---|")
    for processes in (1, 2, 4, 8, 16, 32):
        for rows in (256, 2048):
            found = per_process(Case(32, 4096, 32768, rows, processes=processes))
            parts = (found.weights, found.gradients, found.moments, found.loss, found.turned, found.peak)
            print(f"| {processes} | {rows} | " + " | ".join(f"{number / GB:.1f} GB" for number in parts) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for flag in ("--quick", "--json", "--table"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(Case(**json.loads(given.child)))
        return
    if given.table:
        table()
        return
    found = []
    for case in QUICK if given.quick else CASES:
        found.append(compared(case))
        if not given.json:
            line = " ".join(
                f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                for key, value in found[-1].items()
            )
            print(line, flush=True)
    if given.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
