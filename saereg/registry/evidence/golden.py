"""Golden vectors, replayed: do the released files still compute what the source of the weights computed?"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from saereg import __version__
from saereg.errors import WeightsError
from saereg.registry.evidence.golden_file import MAX_REL_ERROR, GoldenVectors, read_golden
from saereg.registry.evidence.stream import StreamedDictionary
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.index import Replay

ROUNDING = 1e-6
"""Share of the largest golden activation of a row below which a latent is active or silent by rounding: in float32 a
sum that is zero is off by about a tenth of it, and among millions of latents there is one."""


@dataclass(frozen=True)
class Replayed:
    """A replay with what is needed to explain a failure.

    Attributes:
        replay: the record for the index.
        worst_row: row with the largest error.
        differing: (row, latent) of active sets that differ, at most ten.
        activation_error: largest relative error of a row's activations.
        golden: the vectors that were replayed.
    """

    replay: Replay
    worst_row: int
    differing: tuple[tuple[int, int], ...]
    activation_error: float
    golden: GoldenVectors

    def agrees(self, dtype: str) -> bool:
        """Whether active sets are equal and the errors of activations and x_hat are within that of the type."""
        worst = max(self.replay.max_rel_error, self.activation_error)
        return self.replay.active_sets_equal and worst <= MAX_REL_ERROR[dtype]


def replay(dictionary: StreamedDictionary, golden_path: Path) -> Replayed:
    """Run the golden inputs through the released files, in blocks.

    Raises:
        WeightsError: when the golden file does not fit the dictionary.
        OSError: when a file cannot be read.
    """
    golden = read_golden(golden_path)
    _check_widths(golden, dictionary.cfg, golden_path)
    f, x_hat = dictionary.run(golden.x)
    _check_outputs(golden, f, x_hat, golden_path)
    return compare(golden, f, x_hat, f"saereg {__version__}")


def compare(golden: GoldenVectors, f: Tensor, x_hat: Tensor, reader: str) -> Replayed:
    """Compare latents and reconstructions with the golden ones.

    Args:
        golden: what the source computed.
        f: latents, (n, F) or (n, K, F).
        x_hat: reconstructions.
        reader: name and version of the code that made f and x_hat.
    """
    latents = f.flatten(1)
    expected = torch.zeros_like(latents)
    rows, slots = (golden.active >= 0).nonzero(as_tuple=True)
    expected[rows, golden.active[rows, slots]] = golden.activations[rows, slots].to(latents.dtype)
    scale = expected.abs().amax(dim=1, keepdim=True)
    rounding = torch.maximum(latents.abs(), expected.abs()) <= ROUNDING * scale
    differing = (((latents != 0) ^ (expected != 0)) & ~rounding).nonzero()
    error = (x_hat.double() - golden.x_hat.double()).flatten(1).norm(dim=1)
    relative = error / golden.x_hat.double().flatten(1).norm(dim=1).clamp_min(1e-30)
    worst = float(relative.max())
    record = Replay(
        reader=reader,
        active_sets_equal=len(differing) == 0,
        max_rel_error=worst if torch.isfinite(relative).all() else float(torch.finfo(torch.float64).max),
    )
    pairs = tuple((int(row), int(latent)) for row, latent in differing[:10])
    activations = golden.activations[rows, slots].double()
    off = _activation_error(activations, latents[rows, golden.active[rows, slots]].double(), rows)
    return Replayed(record, int(relative.nan_to_num(torch.inf).argmax()), pairs, off, golden)


def _activation_error(golden: Tensor, found: Tensor, rows: Tensor) -> float:
    """Return the largest relative error of the activations of one row, over the latents that are active in it.

    x_hat alone would not show an encoder and a decoder that are scaled against each other.

    Args:
        golden: golden activations (m,).
        found: replayed activations of the same latents (m,).
        rows: the row of each (m,).
    """
    if not len(rows):
        return 0.0
    sums = golden.new_zeros(2, int(rows.max()) + 1)
    sums.index_add_(1, rows, torch.stack([(found - golden).square(), golden.square()]))
    error, norm = sums.sqrt()
    return float((error / norm.clamp_min(1e-30)).nan_to_num(torch.inf).max())


def _check_widths(golden: GoldenVectors, cfg: ArtifactConfig, path: Path) -> None:
    sources = getattr(cfg, "n_sources", None) or getattr(cfg, "n_layers", None)
    expected = (cfg.d_in,) if sources is None else (sources, cfg.d_in)
    if tuple(golden.x.shape[1:]) != expected:
        raise WeightsError(
            path.name, f"rows of shape {tuple(golden.x.shape[1:])}, the dictionary reads {expected}", "x"
        )


def _check_outputs(golden: GoldenVectors, f: Tensor, x_hat: Tensor, path: Path) -> None:
    if golden.x_hat.shape != x_hat.shape:
        found, expected = tuple(golden.x_hat.shape[1:]), tuple(x_hat.shape[1:])
        raise WeightsError(path.name, f"rows of shape {found}, the dictionary gives {expected}", "x_hat")
    highest, latents = int(golden.active.max()) if golden.active.numel() else -1, f[0].numel()
    if highest >= latents:
        raise WeightsError(path.name, f"latent {highest} of {latents}", "active")
