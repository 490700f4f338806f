"""The pieces of work that `benchmarks/metrics.py` times, each in a process of its own.

    python benchmarks/metrics_work.py NAME FOLDER SIZES

The process gets ready, prints `ready`, does the work once for every line that it reads and prints the seconds, and at
the end of its input prints what it found, with the largest memory that it ever had (VmHWM, without mapped files of
others). NAME is `evaluate/KIND/WHO`, `crosscoder/WHO` or `stream/saereg`; SIZES is JSON.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

BATCH = 2048
"""Rows that peers are given at once."""

Work = Callable[[], dict[str, float]]


@dataclass
class Tally:
    """EV as SAELens computes it, L0 and dead latents of batches whose latents are dense: what its users write."""

    latents: int
    rows: int = 0
    nonzero: int = 0
    fired: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.fired = torch.zeros(self.latents, dtype=torch.bool)

    def add(self, f: Tensor) -> None:
        """Count the latents of a batch (n, F)."""
        active = f != 0
        self.nonzero += int(active.sum())
        self.fired |= active.any(dim=0)
        self.rows += len(f)

    def found(self, ev: float) -> dict[str, float]:
        """Return the three numbers."""
        return {"ev": ev, "l0": self.nonzero / self.rows, "dead": 1 - float(self.fired.float().mean())}


def batches(path: Path) -> Iterator[Tensor]:
    """Yield rows of the file, never all of them."""
    with safe_open(path, "pt") as file:
        rows = file.get_slice("x")
        for first in range(0, rows.get_shape()[0], BATCH):
            yield rows[first : first + BATCH]


def saereg(folder: Path, rows: Path, shape: tuple[int, ...], memory_bytes: int | None = None) -> Work:
    """Measure as `saereg metrics recompute` does: the whole canon, not these three alone."""
    from saereg.registry.metrics.engine import Occasion, Wanted, measurements, total_sums
    from saereg.registry.metrics.sources.activations import StoredRows
    from saereg.registry.recompute.chosen import Setting
    from saereg.registry.recompute.tasks import Place
    from saereg.schemas.evaluation import ActivationRows

    stream_bytes = Setting(memory_bytes=memory_bytes).stream_bytes(Place(folder).read().cfg)
    runner = Place(folder, stream_bytes=stream_bytes).runner()
    with safe_open(rows, "pt") as file:
        count = file.get_slice("x").get_shape()[0]
    facts = {"source": "activations", "path": rows.name, "rows": count, "site": "benchmark"}
    stored = StoredRows(rows, ActivationRows.model_validate(facts), "0" * 64, shape)
    occasion = Occasion("benchmark", "0" * 64, False, (), "float32")

    def work() -> dict[str, float]:
        found = measurements(total_sums(runner, stored, Wanted()), occasion)
        values = {str(m.metric): m.value for m in found if m.value is not None}
        return {"ev": values["explained_variance"], "l0": _l0(values), "dead": values["dead_fraction"]}

    return work


def _l0(values: dict[str, float]) -> float:
    return values["l0"] if "l0" in values else values["l0_per_source_mean"]


def limit(folder: Path, rows: Path, sizes: dict[str, Any], kind: str) -> Work:
    """Multiply with the encoder and do nothing else."""
    W_enc = load_file(folder / "sae_weights.safetensors")["W_enc"]
    out = torch.empty(BATCH, W_enc.shape[1])

    def work() -> dict[str, float]:
        for x in batches(rows):
            torch.mm(x, W_enc, out=out[: len(x)])
        return {}

    return work


def saelens(folder: Path, rows: Path, sizes: dict[str, Any], kind: str) -> Work:
    """Encode and decode with SAELens, and its own streaming calculator."""
    from sae_lens import SAE
    from sae_lens.evals import ExplainedVarianceCalculator

    sae = SAE.load_from_disk(str(folder), device="cpu")

    def work() -> dict[str, float]:
        variance, tally = ExplainedVarianceCalculator(), Tally(sizes["d_sae"])
        with torch.no_grad():
            for x in batches(rows):
                f = sae.encode(x)
                variance.add_batch(sae.decode(f), x)
                tally.add(f)
        return tally.found(variance.compute())

    return work


def dictionary_learning(folder: Path, rows: Path, sizes: dict[str, Any], kind: str) -> Work:
    """Run dictionary_learning's own `evaluate`; its L0 and dead share come with it."""
    from dictionary_learning.dictionary import AutoEncoder, JumpReluAutoEncoder
    from dictionary_learning.evaluation import evaluate
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    stored = load_file(folder / "sae_weights.safetensors")
    d_in, d_sae = stored["W_enc"].shape
    if kind == "jumprelu":
        model = JumpReluAutoEncoder(d_in, d_sae)
        model.load_state_dict(stored, strict=False)
    else:
        model = AutoEncoder(d_in, d_sae) if kind == "relu" else AutoEncoderTopK(d_in, d_sae, k=sizes["k"])
        model.encoder.weight.data = stored["W_enc"].T.contiguous()
        model.encoder.bias.data = stored["b_enc"]
        model.decoder.weight.data = stored["W_dec"].T.contiguous()
    count = -(-sizes["rows"] // BATCH)

    def work() -> dict[str, float]:
        with torch.no_grad():
            found = evaluate(model, batches(rows), n_batches=count)
        return {
            "ev": found["frac_variance_explained"],
            "l0": found["l0"],
            "dead": 1 - float(found["frac_alive"]),
        }

    return work


def sparsify(folder: Path, rows: Path, sizes: dict[str, Any], kind: str) -> Work:
    """Run sparsify's `SparseCoder.forward`, with the fvu that it returns."""
    from sparsify import SparseCoder, SparseCoderConfig

    stored = load_file(folder / "sae_weights.safetensors")
    d_in, d_sae = stored["W_enc"].shape
    model = SparseCoder(d_in, SparseCoderConfig(num_latents=d_sae, k=sizes["k"]))
    model.encoder.weight.data = stored["W_enc"].T.contiguous()
    model.encoder.bias.data = stored["b_enc"]
    model.W_dec.data = stored["W_dec"]

    def work() -> dict[str, float]:
        tally, fvu, count = Tally(d_sae), 0.0, 0
        with torch.no_grad():
            for x in batches(rows):
                found = model(x)
                fvu += float(found.fvu) * len(x)
                count += len(x)
                active = found.latent_acts != 0
                tally.nonzero += int(active.sum())
                tally.fired[found.latent_indices[active]] = True
        tally.rows = count
        return tally.found(1 - fvu / count)

    return work


def per_source(folder: Path, rows: Path, sizes: dict[str, Any]) -> Work:
    """Run a crosscoder as the scripts of its releases do: one einsum over sources into (n, K, F), then the way back."""
    stored = load_file(folder / "sae_weights.safetensors")
    W_enc, W_dec, b_enc, cut = (stored[name] for name in ("W_enc", "W_dec", "b_enc", "threshold"))
    norms = W_dec.norm(dim=-1).T

    def work() -> dict[str, float]:
        residual = total = nonzero = 0.0
        count = 0
        with torch.no_grad():
            for big in batches(rows):
                for x in big.split(256):
                    pre = torch.einsum("nkd,kdf->nkf", x, W_enc).sum(dim=1) + b_enc
                    f = (pre * (pre > 0))[:, None] * (pre[:, None] * norms > cut)
                    x_hat = torch.einsum("nkf,fkd->nkd", f, W_dec) + stored["b_dec"]
                    residual += float((x_hat - x).pow(2).sum())
                    total += float((x - x.mean(dim=0)).pow(2).sum())
                    nonzero += float((f != 0).sum()) / x.shape[1]
                    count += len(x)
        return {"ev": 1 - residual / total, "l0": nonzero / count}

    return work


def concatenated(folder: Path, rows: Path, sizes: dict[str, Any]) -> Work:
    """Multiply the sources side by side with the encoders one above the other, and do nothing else."""
    W_enc = load_file(folder / "sae_weights.safetensors")["W_enc"].flatten(0, 1)

    def work() -> dict[str, float]:
        for x in batches(rows):
            torch.mm(x.flatten(1), W_enc)
        return {}

    return work


EVALUATE = {"limit": limit, "SAELens": saelens, "dictionary_learning": dictionary_learning, "sparsify": sparsify}
CROSSCODER = {"per-source einsum": per_source, "concatenated product": concatenated}


def prepared(name: str, folder: Path, sizes: dict[str, Any]) -> Work:
    """Return the work of this name, with all that it needs in memory."""
    what, *rest = name.split("/")
    if what == "evaluate":
        kind, who = rest
        rows = folder / "rows.safetensors"
        if who == "saereg":
            return saereg(folder / kind, rows, (sizes["d_in"],))
        return EVALUATE[who](folder / kind, rows, sizes, kind)
    rows = folder / f"{what}_rows.safetensors"
    if rest[0] == "saereg":
        most = None if what == "crosscoder" else int(sizes["stream_memory"])
        with safe_open(rows, "pt") as file:
            shape = tuple(file.get_slice("x").get_shape()[1:])
        return saereg(folder / what, rows, shape, most)
    return CROSSCODER[rest[0]](folder / what, rows, sizes)


def peak_bytes() -> int | None:
    """Return the largest memory that this process ever had; not ru_maxrss, which begins with that of the parent."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def main(name: str, folder: str, sizes: str) -> None:
    """Answer requests until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    known = json.loads(sizes)
    torch.set_num_threads(known["threads"])
    try:
        work = prepared(name, Path(folder), known)
    except ImportError as error:
        print(json.dumps({"missing": error.name or str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"ready": peak_bytes()}), file=answers, flush=True)
    found: dict[str, float] = {}
    for _ in sys.stdin:
        start = time.perf_counter()
        found = work()
        print(time.perf_counter() - start, file=answers, flush=True)
    print(json.dumps({**found, "peak": peak_bytes()}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
