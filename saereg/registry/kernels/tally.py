"""Active latents counted and summed slab by slab, into what `Active` holds."""

import torch
from torch import Tensor

from saereg.registry.kernels.active import Active, size_of, widest
from saereg.registry.kernels.pairs import Pairs


class Tally:
    """Counts of one block of n rows; nothing is read back from the device before the end."""

    def __init__(self, rows: int, latents: int, sources: int | None, device: torch.device) -> None:
        """Start at zero.

        Args:
            rows: n.
            latents: F.
            sources: K where each source has a gate of its own, else None.
            device: where the counts are.
        """
        self.counts = torch.zeros(rows, dtype=torch.int64, device=device)
        self.fired = torch.zeros(latents, dtype=torch.int64, device=device)
        self.positive = torch.zeros((), dtype=torch.int64, device=device)
        self.at_sources = None if sources is None else torch.zeros(sources, dtype=torch.int64, device=device)
        self.sizes = torch.zeros(sources or 1, dtype=widest(device), device=device)
        self.fired_at_sources = None if sources is None else torch.zeros_like(self.fired)

    def add(self, rows: slice, latents: slice, pairs: Pairs) -> None:
        """Count active latents of some rows and some neighbouring latents.

        Where each source has a gate of its own, values say which are positive at any; their sizes are `add_source`'s.
        """
        self.counts[rows] += pairs.counts()
        self.fired[latents] += torch.bincount(pairs.latents, minlength=latents.stop - latents.start)
        self.positive += (pairs.values > 0).sum()
        if self.at_sources is None:
            self.sizes += size_of(pairs.values)

    def add_dense(self, rows: slice, latents: slice, f: Tensor) -> None:
        """Count the active of all latents (n, s) of some rows."""
        active = f != 0
        self.counts[rows] += active.sum(1)
        self.fired[latents] += active.sum(0)
        self.positive += (f > 0).sum()
        self.sizes += size_of(f)

    def add_source(self, source: int, latents: slice, chosen: Tensor, values: Tensor) -> None:
        """Count the latents (m,) that are active at one source, with these values (m,)."""
        if self.at_sources is not None and self.fired_at_sources is not None:
            self.at_sources[source] += len(chosen)
            self.sizes[source] += size_of(values)
            self.fired_at_sources[latents] += torch.bincount(chosen, minlength=latents.stop - latents.start)

    def active(self) -> Active:
        """Return the counts."""
        return Active(
            counts=self.counts,
            fired=self.fired,
            per_source=self.at_sources is not None,
            at_sources=self.at_sources,
            fired_at_sources=self.fired_at_sources,
            positive=int(self.positive),
            sizes=self.sizes,
        )
