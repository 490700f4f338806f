"""A run whose loss is no number, or leaps, learns nothing any more: it is stopped while a good checkpoint is there."""

import math
from collections.abc import Mapping

from saereg.errors import DivergedError

MEMORY = 0.99
"""Weight of the past in the running mean of the loss."""

SETTLED = 20
"""Steps before the running mean is believed."""

FLOOR = 1e-3
"""Part of the first loss below which a loss is no spike, however small it was before: a perfect fit may wobble."""

REMEDY = "lower optimization.lr or look at the rows, in a run of another id"


class Guard:
    """Watches the loss of every member.

    A sparsity coefficient that is warmed up or steered raises the loss over hundreds of steps, which the running mean
    follows; a divergence multiplies it within a few.

    Args:
        spike: how many times the running mean a loss may be.
    """

    def __init__(self, spike: float) -> None:
        self._spike = spike
        self._means: dict[str, list[float]] = {}

    def check(self, name: str, step: int, loss: float) -> None:
        """Look at a loss.

        Raises:
            DivergedError: when it is not finite, or a spike.
        """
        if not math.isfinite(loss):
            raise DivergedError(f"{name}: the loss of step {step} is {loss}; {REMEDY}")
        mean, seen, first = self._means.get(name, [loss, 0, abs(loss)])
        if seen >= SETTLED and loss > max(self._spike * mean, FLOOR * first):
            was = f"{loss / mean:.0f} times" if mean > 0 else "far from"
            raise DivergedError(
                f"{name}: the loss of step {step} is {loss:.4g}, {was} what it was; "
                f"{REMEDY}, or allow it with a higher optimization.spike"
            )
        self._means[name] = [MEMORY * mean + (1 - MEMORY) * loss, seen + 1, first]

    def state(self) -> dict[str, list[float]]:
        """Return what it remembers."""
        return {name: list(mean) for name, mean in self._means.items()}

    def load(self, state: Mapping[str, list[float]]) -> None:
        """Remember what another one did."""
        self._means = {name: list(mean) for name, mean in state.items()}
