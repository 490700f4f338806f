"""The metrics engine on a CUDA device, for `benchmarks/metrics.py`: how near the products of that card it comes.

Ceilings are measured here, with square products of the same modes. Each mode is held against float32 on the same rows:
what it does to EV and to L0, and how many gates (row, latent) it flips, of all that are open in either.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from saereg.registry.dictionary import Dictionary

SHAPES = ((768, 24_576, 131_072), (4096, 163_840, 32_768))
"""(d_in, d_sae, rows)."""

SIDE, K, FLIP_ROWS = 8192, 64, 512
"""Side of the square products; active latents; rows on which gates are compared one by one."""

MODES: dict[str, tuple[torch.dtype, bool]] = {
    "float32": (torch.float32, False),
    "tf32": (torch.float32, True),
    "bfloat16": (torch.bfloat16, False),
}
"""Mode → (type of the weights, whether products may be rounded to tf32)."""


@dataclass(frozen=True)
class HeldRows:
    """Rows in memory, on the device: what is timed is the engine."""

    x: Tensor
    name: str = "random rows"
    excluded: tuple[str, ...] = ()
    has_target: bool = False

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.x)

    def digest(self) -> str:
        """Return no digest: nothing is recorded."""
        return "0" * 64

    def read(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets."""
        x = self.x[first : first + count]
        return x, x


def best_of(work: Callable[[], object], rounds: int) -> float:
    """Return the best seconds of some rounds after one that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def ceiling(dtype: torch.dtype, rounds: int) -> float:
    """Return the FLOP/s of a square product."""
    left, right = (torch.randn(SIDE, SIDE, device="cuda", dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * SIDE**3 / best_of(lambda: torch.mm(left, right, out=out), rounds)


def dictionary_of(kind: str, d_in: int, d_sae: int) -> "Dictionary":
    """Return a random unit-norm dictionary on the device, with about K active latents."""
    import statistics

    from saereg.registry.checkpoint import Checkpoint
    from saereg.registry.dictionary import Dictionary
    from saereg.schemas.artifact_config import parse_config

    words: dict[str, Any] = {"architecture": kind, "d_in": d_in, "d_sae": d_sae, "dtype": "float32", "device": "cuda"}
    words |= {"apply_b_dec_to_input": False, "metadata": {}} | ({"k": K} if kind == "topk" else {})
    generator = torch.Generator("cuda").manual_seed(0)
    W_dec = torch.randn(d_sae, d_in, device="cuda", generator=generator)
    W_dec /= W_dec.norm(dim=1, keepdim=True)
    zeros = {"b_enc": torch.zeros(d_sae, device="cuda"), "b_dec": torch.zeros(d_in, device="cuda")}
    weights = {"W_enc": W_dec.T.contiguous(), "W_dec": W_dec, **zeros}
    if kind == "jumprelu":
        weights["threshold"] = zeros["b_enc"] + statistics.NormalDist().inv_cdf(1 - K / d_sae)
    return Dictionary(Checkpoint(parse_config(json.dumps(words)), weights))


def flips(reference: Tensor, other: Tensor) -> float:
    """Return the share of gates that differ, of those open in either."""
    return float((reference != other).sum() / (reference | other).sum().clamp(min=1))


def rows_of(rounds: int) -> list[dict[str, Any]]:
    """Return a row for every shape, kind and mode."""
    found = []
    name = torch.cuda.get_device_name()
    for d_in, d_sae, rows in SHAPES:
        x = torch.randn(rows, d_in, device="cuda", generator=torch.Generator("cuda").manual_seed(1))
        for kind in ("topk", "jumprelu"):
            found += _of_modes(f"cuda/{kind} {d_in} x {d_sae} on {name}", dictionary_of(kind, d_in, d_sae), x, rounds)
            torch.cuda.empty_cache()
    return found


def _of_modes(what: str, dictionary: "Dictionary", x: Tensor, rounds: int) -> list[dict[str, Any]]:
    from saereg.registry.kernels.running import runner_of
    from saereg.registry.metrics.definitions import DEFINITIONS
    from saereg.registry.metrics.engine import Wanted, total_sums

    found: list[dict[str, Any]] = []
    reference: dict[str, Any] = {}
    for mode, (dtype, tf32) in MODES.items():
        torch.backends.cuda.matmul.allow_tf32 = tf32
        most = ceiling(dtype, rounds)
        used = dictionary.to(dtype=dtype)
        runner, rows = runner_of(used), HeldRows(x)
        torch.cuda.reset_peak_memory_stats()
        seconds = best_of(lambda runner=runner, rows=rows: total_sums(runner, rows, Wanted()), rounds)
        peak = torch.cuda.max_memory_allocated()
        moments = total_sums(runner, rows, Wanted()).moments["raw"]
        ev, l0 = (float(DEFINITIONS[metric](moments).value or 0.0) for metric in ("explained_variance", "l0"))
        with torch.no_grad():
            gates = torch.cat([used.encode(part.to(dtype)) != 0 for part in x[:FLIP_ROWS].split(64)])
        reference = reference or {"ev": ev, "l0": l0, "gates": gates}
        rate = 2 * len(x) * x.shape[1] * dictionary.cfg.d_sae / seconds
        off = f"EV {ev - reference['ev']:+.1e}, L0 {l0 - reference['l0']:+.3f}"
        more = f"{len(x) / seconds:.0f} rows/s, {rate / 1e12:.1f} TFLOP/s, {100 * rate / most:.0f} % of "
        more += f"{most / 1e12:.0f}; {off}, {100 * flips(reference['gates'], gates):.3f} % of gates flip"
        found.append(
            {"what": what, "who": f"saereg, {mode}", "best": seconds, "median": seconds, "peak": peak, "ev": ev}
            | {"l0": l0, "rows_per_second": len(x) / seconds, "flops": rate, "ceiling": most, "more": more}
            | {"ev_error": ev - reference["ev"], "l0_error": l0 - reference["l0"]}
            | {"gate_flips": flips(reference["gates"], gates)}
        )
    torch.backends.cuda.matmul.allow_tf32 = False
    return found
