"""Each definition in two lines of float64, over all rows at once: what the sums of one pass must give."""

from dataclasses import dataclass

import torch
from torch import Tensor

from saereg.registry.kernels.active import active_of
from saereg.registry.metrics.batches import Batcher, BatchSums
from saereg.registry.metrics.definitions import (
    BATCH_MEANS,
    DEFINITIONS,
    FOREIGN,
    FOREIGN_PER_SOURCE,
    PER_SOURCE,
    Value,
)
from saereg.registry.metrics.moments import Moments, moments_of

D, F, K = 6, 12, 3

OVER_ROWS = DEFINITIONS | PER_SOURCE | FOREIGN | FOREIGN_PER_SOURCE
"""Definitions of sums over all rows."""


@dataclass(frozen=True)
class Data:
    """What a dictionary made of some rows: x and x̂ (n, D) or (n, K, D), f (n, F) or (n, K, F)."""

    x: Tensor
    x_hat: Tensor
    f: Tensor

    def batches(self, size: int):
        """x, x̂ and f in float64, batch by batch, the last perhaps short."""
        return list(zip(*(t.double().split(size) for t in (self.x, self.x_hat, self.f)), strict=True))

    def moments(self, *edges: int) -> Moments:
        """The sums, block by block."""
        joined = None
        for begin, end in zip((0, *edges), (*edges, len(self.x)), strict=True):
            x, x_hat, f = (t[begin:end] for t in (self.x, self.x_hat, self.f))
            part = moments_of(x, x_hat, active_of(f), begin)
            joined = part if joined is None else joined.merge(part)
        return joined

    def batched(self, size: int, *edges: int) -> BatchSums:
        """The sums over batches, block by block, each block in memory that is used again for the next."""
        batcher = Batcher(size)
        for begin, end in zip((0, *edges), (*edges, len(self.x)), strict=True):
            x, x_hat, f = (t[begin:end].clone() for t in (self.x, self.x_hat, self.f))
            batcher.add(x, x_hat, active_of(f).counts)
            x.fill_(-77.0), x_hat.fill_(99.0)
        return batcher.finish()

    def value(self, metric: str, size: int | None = None) -> Value:
        """What a definition gives."""
        if metric in BATCH_MEANS:
            return BATCH_MEANS[metric](self.batched(size))
        return OVER_ROWS[metric](self.moments())


def data(seed: int = 0, n: int = 40, *, sources: int = 0, gates: bool = False, offset: float = 1.5) -> Data:
    """Rows with a mean, two large dimensions, and a reconstruction with a bias: all definitions differ."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n, sources, D) if sources else (n, D)
    scale = torch.tensor([9.0, 5.0, 1.0, 1.0, 0.5, 0.25])
    x = (torch.randn(shape, generator=generator) + offset) * scale
    if sources:
        x = x * torch.arange(1, sources + 1).unsqueeze(1)
    x_hat = 0.8 * x + 0.3 * torch.randn(shape, generator=generator) + 0.2
    f = torch.randn((n, sources, F) if gates else (n, F), generator=generator)
    f = torch.where(f.abs() > 1, f, 0.0)
    f[..., 0] = 0.0
    return Data(x, x_hat, f)


def sse(x, x_hat):
    return ((x - x_hat) ** 2).sum()


def sst(x):
    return ((x - x.mean(0)) ** 2).sum()


def anywhere(f):
    return (f != 0).flatten(1, -2).any(1) if f.dim() == 3 else f != 0


ALL = {
    "explained_variance": lambda x, y, f: 1 - sse(x, y) / sst(x),
    "fvu": lambda x, y, f: sse(x, y) / sst(x),
    "mse_per_row": lambda x, y, f: ((x - y) ** 2).flatten(1).sum(1).mean(),
    "mse_per_element": lambda x, y, f: ((x - y) ** 2).mean(),
    "l0": lambda x, y, f: (f != 0).sum(1).double().mean(),
    "l0_per_source_mean": lambda x, y, f: (f != 0).sum(2).double().mean(),
    "l0_any_source": lambda x, y, f: anywhere(f).sum(1).double().mean(),
    "dead_fraction": lambda x, y, f: (~anywhere(f).any(0)).double().mean(),
    "nmse_uncentred_row": lambda x, y, f: (((x - y) ** 2).flatten(1).mean(1) / (x**2).flatten(1).mean(1)).mean(),
    "ev_uncentred": lambda x, y, f: 1 - sse(x, y) / (x**2).sum(),
    "ev_scalar_mean": lambda x, y, f: 1 - sse(x, y) / ((x - x.mean()) ** 2).sum(),
    "r2_uniform_average": lambda x, y, f: (1 - ((x - y) ** 2).sum(0) / ((x - x.mean(0)) ** 2).sum(0)).mean(),
    "l0_positive": lambda x, y, f: anywhere(f.clamp(min=0)).sum(1).double().mean(),
    "dead_rate_1e_6": lambda x, y, f: ((f != 0).flatten(0, -2).double().mean(0) <= 1e-6).double().mean(),
    "l1_norm": lambda x, y, f: f.double().abs().sum(1).mean(),
    "l1_norm_per_source_mean": lambda x, y, f: f.double().abs().sum(2).mean(),
}
"""Definitions over all rows."""


def mean_of(values):
    return torch.stack(list(values)).mean()


def centred(t):
    return t.var(0).sum()


BATCHED = {
    "explained_variance_legacy_rowmean": lambda parts: (
        1
        - torch.cat(
            [((x - y) ** 2).flatten(1).sum(1) / ((x - x.mean(0)) ** 2).flatten(1).sum(1) for x, y, _ in parts]
        ).mean()
    ),
    "explained_variance_batch_mean": lambda parts: mean_of(1 - sse(x, y) / sst(x) for x, y, _ in parts),
    "fvu_batch_mean": lambda parts: mean_of(sse(x, y) / sst(x) for x, y, _ in parts),
    "fve_centred_residual": lambda parts: mean_of(1 - centred(x - y) / centred(x) for x, y, _ in parts),
    "fve_scalar_var": lambda parts: (
        1 - sum(((x - y) ** 2).mean() for x, y, _ in parts) / sum(x.var() for x, _, _ in parts)
    ),
    "mse_row_over_batch": lambda parts: torch.cat(
        [((x - y) ** 2).flatten(1).sum(1) / len(x) for x, y, _ in parts]
    ).mean(),
    "l0_batch_mean": lambda parts: mean_of(anywhere(f).sum(1).double().mean() for _, _, f in parts),
}
"""Definitions over batches."""


def uncentred_by_saelens(parts, dtype=torch.float64):
    """`explained_variance` of SAELens 6.9.1 and SAEBench: means of batches, and the square inside of the mean."""
    rows = [(x.flatten(1).to(dtype), y.flatten(1).to(dtype)) for x, y, _ in parts]
    squares = torch.stack([x.pow(2).sum(-1).mean(0) for x, _ in rows]).mean(0)
    per_dimension = torch.cat([x.pow(2).mean(0) for x, _ in rows]).mean(0)
    residual = torch.stack([(x - y).pow(2).sum(-1).mean(0) for x, y in rows]).mean(0)
    return (1 - residual / (squares - per_dimension**2)).item()
