"""Active latents, counted: exact whole numbers, so they add in any order. Their sizes are summed in float64."""

from dataclasses import dataclass

import torch
from torch import Tensor

PIECE = (1 << 15) - 1
"""Values summed at once on a CPU: in its cache, and one below what torch divides among threads, which moves digits."""


@dataclass(frozen=True)
class Active:
    """Which latents were active in a block of n rows, counted.

    Attributes:
        counts: latents active (at any source) in each row, shape (n,), int64.
        fired: rows in which each latent was active (at any source), shape (F,), int64.
        per_source: whether each source has a gate of its own.
        at_sources: Σ_n #{latents active at source k}, shape (K,), int64, for gates per source; else None.
        fired_at_sources: Σ_k rows in which each latent was active at source k, (F,), for gates per source; else None.
        positive: Σ_n #{latents with f > 0}, at any source.
        sizes: Σ_n Σ_i |f_ni|, shape (1,), at each source (K,) for gates per source; float64, or float32 on devices that
            have no wider type; None where nobody summed them.
    """

    counts: Tensor
    fired: Tensor
    per_source: bool = False
    at_sources: Tensor | None = None
    fired_at_sources: Tensor | None = None
    positive: int = 0
    sizes: Tensor | None = None


def active_of(f: Tensor) -> Active:
    """Count dense latents.

    Args:
        f: (n, F), or (n, K, F) where sources have gates of their own.
    """
    active = f != 0
    if f.dim() == 2:
        sizes = size_of(f).reshape(1)
        return Active(active.sum(1), active.sum(0), positive=int((f > 0).sum()), sizes=sizes)
    anywhere = active.any(1)
    return Active(
        counts=anywhere.sum(1),
        fired=anywhere.sum(0),
        per_source=True,
        at_sources=active.sum((0, 2)),
        fired_at_sources=active.sum((0, 1)),
        positive=int((f > 0).any(1).sum()),
        sizes=torch.stack([size_of(at_source) for at_source in f.unbind(1)]),
    )


def size_of(values: Tensor) -> Tensor:
    """Return Σ|v| of values of any shape, shape (), in the widest type of their device."""
    if values.device.type != "cpu":
        return values.abs().sum(dtype=widest(values.device))
    parts = [part.abs().sum(dtype=torch.float64) for part in torch.split(values.reshape(-1), PIECE)]
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum()


def widest(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices that have no wider type."""
    return torch.float32 if device.type == "mps" else torch.float64
