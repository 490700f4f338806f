"""Time training steps beside the trainers of other libraries, in one run, in turn, on the same rows.

    python benchmarks/train.py [--quick] [--only topk,relu,cuda] [--rounds N] [--threads N] [--json FILE]
                               [--write docs/training.md]

topk   TopK: saereg, SAELens' SAETrainer, dictionary_learning's trainer, sparsify's module in the loop of its trainer,
       and the limit, the encoder's matrix product alone
relu   ReLU with L1, while half of the latents are active (the limit is five products), and with under 3 % of them
cuda   TopK on the first CUDA device, where there is one, also of 131,072 latents: tokens/s, and the rate of products
       with the encoder as a share of what a square product reaches there

Each trainer is in a process of its own with the same threads, begins with the same weights and takes the same number of
steps as its authors take them. Rounds are interleaved, each in the opposite order of the one before. Printed are tokens
per second of the best round and of the median one, ratios of the best, the largest memory of the process, and the loss
that was reached on held-out rows, over their variance, and how far that is from saereg's. A library that is not
installed is a line that says so. `--quick` takes smaller sizes, TopK alone where nothing else is asked
for, and less than a minute, most of it for imports. Nothing is asserted.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from metrics import Worker, of_seconds, with_ratios, write_into
from safetensors.torch import save_file

SECTIONS = ("topk", "relu", "cuda")

WORK = Path(__file__).with_name("train_work.py")

PEERS = {
    "topk": ("limit", "saereg", "SAELens", "dictionary_learning", "sparsify"),
    "relu at the start": ("limit", "saereg", "SAELens", "dictionary_learning"),
    "relu, sparse": ("limit", "saereg", "SAELens", "dictionary_learning"),
}
"""What is trained → by whom."""

SQUARE = {"cpu": 2048, "cuda": 8192}
"""Side of the square product that says what a machine can do."""


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        d_in: width of rows.
        d_sae: latents.
        k: active latents of TopK.
        l1: coefficient of L1.
        lr: learning rate.
        batch: rows per step.
        rows: rows that steps go through, again and again.
        steps: steps of a round.
        rounds: rounds that are counted.
        threads: threads of every process.
        device: where.
        autocast: whether SAELens' trainer lowers products to bfloat16.
    """

    d_in: int = 768
    d_sae: int = 12_288
    k: int = 64
    l1: float = 0.1
    lr: float = 1e-4
    batch: int = 2048
    rows: int = 16_384
    steps: int = 3
    rounds: int = 5
    threads: int = 2
    device: str = "cpu"
    autocast: bool = False


QUICK = {"d_in": 384, "d_sae": 4096, "k": 32, "batch": 1024, "rows": 8192, "rounds": 2}
TINY = QUICK | {"d_in": 32, "d_sae": 256, "k": 4, "batch": 64, "rows": 256, "rounds": 2}

ON_CUDA = ({"steps": 20}, {"d_in": 4096, "d_sae": 131_072, "k": 64, "batch": 4096, "steps": 5})
"""Sizes of `cuda`, where they differ from those of the CPU."""


def write_rows(folder: Path, sizes: Sizes) -> None:
    """Write rows that a dictionary explains in part, and weights to begin with: unit norm, encoder and decoder tied."""
    generator = torch.Generator(sizes.device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=sizes.device)

    features = torch.nn.functional.normalize(random(2 * sizes.d_in, sizes.d_in), dim=1)
    for name, count in (("rows", sizes.rows), ("held_out", min(2048, sizes.rows))):
        codes = random(count, len(features)).sub_(2.0).relu_()
        save_file({"x": (codes @ features * 4 + 0.1 * random(count, sizes.d_in)).cpu()}, folder / f"{name}.safetensors")
    W_dec = torch.nn.functional.normalize(random(sizes.d_sae, sizes.d_in), dim=1)
    weights = {"W_dec": W_dec, "W_enc": W_dec.T.contiguous(), "b_dec": torch.zeros(sizes.d_in)}
    save_file({name: value.cpu() for name, value in weights.items()}, folder / "weights.safetensors")


def timed(what: str, folder: Path, sizes: Sizes, *, at_once: bool = True) -> list[dict[str, Any]]:
    """Time the trainers of one kind; return a row for each.

    Args:
        what: what is trained.
        folder: rows and weights.
        sizes: how large.
        at_once: whether all are in memory together and take their rounds in turn; else one after the other.
    """
    if not at_once:
        return compared([row for who in PEERS[what] for row in _in_turn(what, [who], folder, sizes)])
    return compared(_in_turn(what, list(PEERS[what]), folder, sizes))


def _in_turn(what: str, names: list[str], folder: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Let trainers get ready together and take their rounds in turn; return a row for each."""
    rows, ready = [], []
    for who, worker in [(who, Worker(f"{what}/{who}", folder, sizes, WORK)) for who in names]:
        if "missing" in (first := worker.started()):
            rows.append({"what": what, "who": who, "missing": first["missing"]})
            worker.finish()
        else:
            ready.append((who, worker))
    for number in range(sizes.rounds):
        for _, worker in ready[:: 1 if number % 2 else -1]:
            worker.once()
    return [*(_row(what, who, worker, sizes) for who, worker in ready), *rows]


def _row(what: str, who: str, worker: Worker, sizes: Sizes) -> dict[str, Any]:
    """End a worker, and return what it reached."""
    seconds = of_seconds([second / sizes.steps for second in worker.seconds])
    tokens = {"tokens_per_second": sizes.batch / seconds["best"], "median_tokens": sizes.batch / seconds["median"]}
    flops = 2 * sizes.batch * sizes.d_in * sizes.d_sae / seconds["best"]
    return {"what": what, "who": who, **seconds, **tokens, "encoder_flops": flops, **worker.finish()}


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add, to each row, ratios to the limit and to saereg, and how far its loss is from saereg's."""
    ours = next((row.get("loss") for row in rows if row["who"] == "saereg"), None)
    for row in with_ratios(rows):
        if ours and "loss" in row:
            row["loss_differs"] = row["loss"] / ours - 1
    return rows


def ceiling(device: str, dtype: torch.dtype) -> float:
    """Return the FLOP/s of a square product."""
    side = SQUARE[device]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)


def topk(folder: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Time TopK, and what the machine can multiply."""
    rate = ceiling(sizes.device, torch.float32)
    most = {"what": "ceiling", "who": f"square product of {SQUARE['cpu']}", "more": f"{rate / 1e9:.0f} GFLOP/s"}
    write_rows(folder, sizes)
    return [most | {"flops": rate}, *timed("topk", folder, sizes)]


def relu(folder: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Time ReLU with L1."""
    write_rows(folder, sizes)
    return [row for what in ("relu at the start", "relu, sparse") for row in timed(what, folder, sizes)]


def cuda(folder: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Time TopK on the first CUDA device: in float32, and with products in bfloat16."""
    if not torch.cuda.is_available():
        return [{"what": "cuda", "who": "no CUDA device here"}]
    rows = []
    for changes in ON_CUDA:
        for autocast in (False, True):
            there = replace(sizes, device="cuda", autocast=autocast, **changes)
            most = ceiling("cuda", torch.bfloat16 if autocast else torch.float32)
            write_rows(folder, there)
            found = timed("topk", folder, there, at_once=False)
            torch.cuda.empty_cache()
            kind = "bfloat16 products" if autocast else "float32"
            for row in found:
                row["what"] = f"topk {there.d_in} x {there.d_sae}, {kind}, {torch.cuda.get_device_name()}"
                if "encoder_flops" in row:
                    share = 100 * row["encoder_flops"] / most
                    row["more"] = f"{row['encoder_flops'] / 1e12:.1f} TFLOP/s, {share:.0f} % of {most / 1e12:.0f}"
                    row["ceiling"] = most
            rows += found
    return rows


COLUMNS = (
    ("tokens_per_second", ".0f"),
    ("median_tokens", ".0f"),
    ("to_limit", ".2f"),
    ("saereg_is_faster", ".2f"),
    ("loss", ".5f"),
    ("loss_differs", "+.2%"),
)


def table(rows: list[dict[str, Any]], sizes: Sizes) -> str:
    """Return the rows as a Markdown table, with the machine in words before it."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    said = f"{platform.machine()}, {os.cpu_count()} cores, {sizes.threads} threads, torch {torch.__version__}{load}; "
    said += f"d_in {sizes.d_in}, d_sae {sizes.d_sae}, k {sizes.k}, batch {sizes.batch}"
    names = (
        "what",
        "who",
        "tokens/s",
        "median",
        "to the limit",
        "to saereg",
        "peak MiB",
        "loss",
        "to saereg's",
        "more",
    )
    lines = [said, "", f"| {' | '.join(names)} |", "| " + " | ".join(["---"] * len(names)) + " |"]
    for row in rows:
        cells = [format(row[key], form) if key in row else "" for key, form in COLUMNS]
        peak = f"{row['peak'] / 2**20:.0f}" if row.get("peak") else ""
        more = f"not installed ({row['missing']})" if "missing" in row else row.get("more", "")
        lines.append("| " + " | ".join([row["what"], row["who"], *cells[:4], peak, *cells[4:], more]) + " |")
    return "\n".join(lines)


def sizes_of(options: argparse.Namespace) -> Sizes:
    """Return the sizes that were asked for."""
    sizes = replace(Sizes(), **(TINY if options.tiny else QUICK if options.quick else {}))
    asked = {name: getattr(options, name) for name in ("rounds", "threads") if getattr(options, name) is not None}
    return replace(sizes, **asked)


def main(options: argparse.Namespace) -> None:
    """Run the sections and print the table."""
    sizes = sizes_of(options)
    work: dict[str, Callable[[Path, Sizes], list[dict[str, Any]]]] = {"topk": topk, "relu": relu, "cuda": cuda}
    torch.set_num_threads(sizes.threads)
    rows: list[dict[str, Any]] = []
    whole = ("topk", "cuda") if options.quick else SECTIONS
    for name in options.only.split(",") if options.only else whole:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            rows += work[name](Path(scratch), sizes)
    text = table(rows, sizes)
    print(text)
    if options.json:
        facts = {"sizes": asdict(sizes), "torch": torch.__version__, "cores": os.cpu_count(), "rows": rows}
        Path(options.json).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    if options.write:
        write_into(Path(options.write), text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--scratch", help="folder for the rows and the weights")
    parser.add_argument("--json")
    parser.add_argument("--write")
    main(parser.parse_args())
