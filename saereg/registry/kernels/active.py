"""Active latents, counted: exact whole numbers, so they add in any order."""

from dataclasses import dataclass

from torch import Tensor


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
    """

    counts: Tensor
    fired: Tensor
    per_source: bool = False
    at_sources: Tensor | None = None
    fired_at_sources: Tensor | None = None
    positive: int = 0


def active_of(f: Tensor) -> Active:
    """Count dense latents.

    Args:
        f: (n, F), or (n, K, F) where sources have gates of their own.
    """
    active = f != 0
    if f.dim() == 2:
        return Active(active.sum(1), active.sum(0), positive=int((f > 0).sum()))
    anywhere = active.any(1)
    return Active(
        counts=anywhere.sum(1),
        fired=anywhere.sum(0),
        per_source=True,
        at_sources=active.sum((0, 2)),
        fired_at_sources=active.sum((0, 1)),
        positive=int((f > 0).any(1).sum()),
    )
