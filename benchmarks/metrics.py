"""Time the metrics engine and the checks of files beside the libraries that do the same, in one run, in turn.

    python benchmarks/metrics.py [--quick] [--only evaluate,crosscoder,files,stream,cuda] [--rounds N] [--threads N]
                                 [--json FILE] [--write docs/performance.md]

evaluate    EV, L0 and dead latents of rows in a file: saereg, SAELens, dictionary_learning, sparsify, and the limit,
            the encoder's matrix product alone; each in a process of its own with the same threads
crosscoder  the same of a crosscoder: saereg, one einsum per source, and the concatenated product alone
files       SHA-256, finiteness and bytes against the source checkpoint, beside hashlib alone on the same bytes
stream      a crosscoder of 6 GB of weights that is never in memory whole; not with --quick
cuda        rows/s and TFLOP/s, and what tf32 and bfloat16 do to EV and L0, where there is a CUDA device

Rounds are interleaved, each in the opposite order of the one before. Printed are the best and the median, and ratios of
the best. A library that is not installed is a line that says so. `--quick` takes smaller data and about a minute.
Nothing is asserted.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from safetensors.torch import save_file

SECTIONS = ("evaluate", "crosscoder", "files", "stream", "cuda")
BEGIN, END = "<!-- benchmark -->", "<!-- /benchmark -->"

WORK = Path(__file__).with_name("metrics_work.py")


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        kinds: dictionaries of `evaluate`.
        rows: its rows.
        d_in: their width.
        d_sae: latents.
        k: active latents of TopK.
        relu_l0: active latents of ReLU.
        jump_l0: active latents of JumpReLU.
        sources: sources of the crosscoder.
        cross_latents: its latents.
        cross_rows: its rows.
        file_mb: megabytes of one exported file.
        stream_gb: gigabytes of weights that are streamed.
        stream_rows: rows they are run on.
        stream_memory: bytes that the engine may use for them.
        rounds: how often everything is done.
        threads: threads of every process.
    """

    kinds: tuple[str, ...] = ("topk", "jumprelu", "relu")
    rows: int = 16_384
    d_in: int = 768
    d_sae: int = 24_576
    k: int = 64
    relu_l0: int = 443
    jump_l0: int = 96
    sources: int = 32
    cross_latents: int = 8192
    cross_rows: int = 2048
    file_mb: int = 1200
    stream_gb: float = 6.0
    stream_rows: int = 1024
    stream_memory: int = 1_900 * 1024**2
    rounds: int = 5
    threads: int = 2


QUICK = {"rows": 2048, "kinds": ("topk", "jumprelu"), "sources": 8, "cross_rows": 512, "file_mb": 100, "rounds": 2}
TINY = QUICK | {
    "rows": 256, "d_in": 64, "d_sae": 512, "k": 8, "relu_l0": 20, "jump_l0": 10, "sources": 3, "cross_latents": 128,
    "cross_rows": 64, "file_mb": 2, "stream_gb": 0.003, "stream_rows": 64, "stream_memory": 1_000_000,
}  # fmt: skip


def write_dictionaries(folder: Path, sizes: Sizes) -> None:
    """Write random unit-norm dictionaries, tied at the start as real ones are, with the wanted L0, and rows."""
    from saereg.registry.checkpoint import Checkpoint
    from saereg.registry.conversion.write import write_checkpoint
    from saereg.schemas.artifact_config import parse_config

    torch.manual_seed(0)
    W_dec = torch.nn.functional.normalize(torch.randn(sizes.d_sae, sizes.d_in), dim=1)
    quantile = statistics.NormalDist().inv_cdf
    relu, jump = (quantile(1 - l0 / sizes.d_sae) for l0 in (sizes.relu_l0, sizes.jump_l0))
    common = {"d_in": sizes.d_in, "d_sae": sizes.d_sae, "dtype": "float32", "device": "cpu"}
    common |= {"apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none"}
    kinds: dict[str, tuple[dict[str, object], float]] = {
        "relu": ({"architecture": "standard"}, -relu),
        "jumprelu": ({"architecture": "jumprelu"}, 0.0),
        "topk": ({"architecture": "topk", "k": sizes.k}, 0.0),
    }
    for kind, (words, bias) in kinds.items():
        weights = {"W_enc": W_dec.T.contiguous(), "W_dec": W_dec, "b_dec": torch.zeros(sizes.d_in)}
        weights["b_enc"] = torch.full((sizes.d_sae,), bias)
        if kind == "jumprelu":
            weights["threshold"] = torch.full((sizes.d_sae,), jump)
        cfg = parse_config(json.dumps(common | words | {"metadata": {"sae_lens_version": "6.54.12"}}))
        (folder / kind).mkdir()
        write_checkpoint(Checkpoint(cfg, weights), folder / kind, "saelens")
    save_file({"x": torch.randn(sizes.rows, sizes.d_in)}, folder / "rows.safetensors")


def write_crosscoder(folder: Path, name: str, latents: int, rows: int, sizes: Sizes) -> None:
    """Write a crosscoder with a cut per source, about 200 active latents each, and rows for it; one block at a time."""
    from saereg.registry.files.streaming import write_safetensors
    from saereg.registry.files.tensors import Entry
    from saereg.schemas.artifact_config import parse_config

    K, D, F = sizes.sources, sizes.d_in, latents
    raw = {
        "kind": "crosscoder", "architecture": "jumprelu", "gate": "per_source", "code_norm": "per_source_norm",
        "sources": {"axis": "snapshot", "site": "W_U", "steps": list(range(K))}, "n_sources": K, "d_in": D, "d_sae": F,
        "input": {"kind": "parameters", "parameter": "W_U"}, "dtype": "float32",
        "statistics": {"preprocess": "none", "inverted_on_output": False},
    }  # fmt: skip
    cfg = parse_config(json.dumps(raw))
    (folder / name).mkdir()
    (folder / name / "cfg.json").write_text(cfg.text())
    active = min(200, F // 4)
    cut = statistics.NormalDist().inv_cdf(1 - active / F)
    shapes = {tensor: spec.shape for tensor, spec in cfg.tensors().items()}
    generator = torch.Generator().manual_seed(0)

    def blocks(tensor: str) -> Iterator[tuple[int, torch.Tensor]]:
        shape = shapes[tensor]
        if tensor in ("b_enc", "b_dec", "threshold"):
            yield 0, torch.full(shape, cut if tensor == "threshold" else 0.0)
            return
        step = max(1, 4_000_000 // torch.Size(shape[1:]).numel())
        for first in range(0, shape[0], step):
            block = torch.randn(min(step, shape[0] - first), *shape[1:], generator=generator)
            # pre-activations of variance 1, decoder rows of norm about 1
            yield first, block / ((K * D) ** 0.5 if tensor == "W_enc" else D**0.5)

    entries = {tensor: Entry("float32", shape) for tensor, shape in shapes.items()}
    write_safetensors(folder / name / "sae_weights.safetensors", entries, blocks, see=lambda *_: None)
    save_file({"x": torch.randn(rows, K, D, generator=generator)}, folder / f"{name}_rows.safetensors")


class Worker:
    """A process with one piece of work."""

    def __init__(self, name: str, folder: Path, sizes: Any, work: Path = WORK) -> None:
        self.name, self.seconds = name, list[float]()
        command = [sys.executable, str(work), name, str(folder), json.dumps(asdict(sizes))]
        quiet = {"OMP_NUM_THREADS": str(sizes.threads), "MKL_NUM_THREADS": str(sizes.threads), "WANDB_MODE": "disabled"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | quiet,
        )  # fmt: skip

    def started(self) -> dict[str, Any]:
        """Wait until it is ready, or says what is missing."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise SystemExit(f"{self.name} failed:\n{self._process.communicate()[1][-2000:]}")
        first: dict[str, Any] = json.loads(line)
        return first

    def once(self) -> None:
        """Do the work once."""
        assert self._process.stdin  # noqa: S101
        assert self._process.stdout  # noqa: S101
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} failed:\n{self._process.communicate()[1][-2000:]}")
        self.seconds.append(float(line))

    def finish(self) -> dict[str, Any]:
        """Return what it found, and end it."""
        out = self._process.communicate()[0].strip().splitlines()
        found: dict[str, Any] = json.loads(out[-1]) if out else {}
        return found


def timed(what: str, names: list[str], folder: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Time pieces of work side by side; return a row for each, with its ratios to the limit and to saereg."""
    workers, rows = [], []
    for name, worker in [(name, Worker(f"{what}/{name}", folder, sizes)) for name in names]:  # all get ready at once
        if "missing" in (first := worker.started()):
            rows.append({"what": what, "who": name, "missing": first["missing"]})
            worker.finish()
        else:
            workers.append(worker)
    for number in range(sizes.rounds):
        for worker in workers[:: 1 if number % 2 else -1]:
            worker.once()
    for worker in workers:
        who = worker.name.rpartition("/")[2]
        rows.append({"what": what, "who": who, **of_seconds(worker.seconds), **worker.finish()})
    return with_ratios(rows)


def of_seconds(seconds: list[float]) -> dict[str, float]:
    """Return the best and the median."""
    return {"best": min(seconds), "median": statistics.median(seconds)}


LIMITS = frozenset({"limit", "concatenated product", "hashlib", "hashlib, two at once"})


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add, to each row, its time as a multiple of the limit's and of saereg's."""
    ours = next((row["best"] for row in rows if row["who"].startswith("saereg") and "best" in row), None)
    floor = next((row["best"] for row in rows if row["who"] in LIMITS and "best" in row), None)
    for row in rows:
        if "best" in row and ours and floor:
            row |= {"to_limit": row["best"] / floor, "saereg_is_faster": row["best"] / ours}
    return rows


def evaluate(folder: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Time `evaluate`."""
    write_dictionaries(folder, sizes)
    rows = []
    for kind in sizes.kinds:
        peers = ["SAELens", "dictionary_learning", *(["sparsify"] if kind == "topk" else [])]
        rows += timed(f"evaluate/{kind}", ["limit", "saereg", *peers], folder, sizes)
    return rows


def crosscoder(folder: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Time `crosscoder`."""
    write_crosscoder(folder, "crosscoder", sizes.cross_latents, sizes.cross_rows, sizes)
    return timed("crosscoder", ["concatenated product", "saereg", "per-source einsum"], folder, sizes)


def stream(folder: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Time `stream`: half of the weights is encoder, half decoder."""
    latents = int(sizes.stream_gb * 1e9 / 8 / sizes.sources / sizes.d_in)
    write_crosscoder(folder, "stream", latents, sizes.stream_rows, sizes)
    return timed("stream", ["saereg"], folder, replace(sizes, rounds=1))


def files(folder: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Time `files`."""
    from metrics_files import rows_of

    return [row for group in rows_of(folder, sizes.file_mb, sizes.d_in, sizes.rounds) for row in with_ratios(group)]


def cuda(folder: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Measure on the first CUDA device, where there is one."""
    if not torch.cuda.is_available():
        return [{"what": "cuda", "who": "no CUDA device here"}]
    from metrics_cuda import rows_of

    return rows_of(sizes.rounds)


def table(rows: list[dict[str, Any]], sizes: Sizes) -> str:
    """Return the rows as a Markdown table, with the machine in words before it."""
    said = f"{platform.machine()}, {os.cpu_count()} cores, {sizes.threads} threads, torch {torch.__version__}"
    head = "| what | who | best s | median s | to the limit | to saereg | peak MiB | EV | L0 | more |"
    lines = [said, "", head, "| " + " | ".join(["---"] * 10) + " |"]
    for row in rows:
        more = f"not installed ({row['missing']})" if "missing" in row else row.get("more", "")
        cells = (_number(row.get(key), form) for key, form in COLUMNS)
        peak = _number(row["peak"] / 2**20, ".0f") if row.get("peak") else ""
        best, median, limit, faster, ev, l0 = cells
        cells = (row["what"], row["who"], best, median, limit, faster, peak, ev, l0, more)
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


COLUMNS = (
    ("best", ".3f"),
    ("median", ".3f"),
    ("to_limit", ".2f"),
    ("saereg_is_faster", ".2f"),
    ("ev", ".6f"),
    ("l0", ".2f"),
)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def write_into(path: Path, text: str) -> None:
    """Put a table between the marks of a document."""
    before, mark, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"{path} has no {BEGIN} … {END} to fill")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def sizes_of(options: argparse.Namespace) -> Sizes:
    """Return the sizes that were asked for."""
    sizes = replace(Sizes(), **(TINY if options.tiny else QUICK if options.quick else {}))
    asked = {name: getattr(options, name) for name in ("rounds", "threads") if getattr(options, name) is not None}
    return replace(sizes, **asked)


def main(options: argparse.Namespace) -> None:
    """Run the sections and print the table."""
    sizes = sizes_of(options)
    left_out = {"stream"} if options.quick and not options.only else set()
    chosen = options.only.split(",") if options.only else [name for name in SECTIONS if name not in left_out]
    work: dict[str, Callable[[Path, Sizes], list[dict[str, Any]]]] = {
        "evaluate": evaluate, "crosscoder": crosscoder, "files": files, "stream": stream, "cuda": cuda,
    }  # fmt: skip
    torch.set_num_threads(sizes.threads)
    rows: list[dict[str, Any]] = []
    for name in chosen:
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
    parser.add_argument("--scratch", help="folder for up to 12 GB of files")
    parser.add_argument("--json")
    parser.add_argument("--write")
    main(parser.parse_args())
