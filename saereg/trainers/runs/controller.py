"""A sparsity coefficient that is steered while a dictionary trains, so that it ends with the L0 that is wanted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

SOFT = 1e-3
"""The coefficient begins at this part of what was asked for: too small a coefficient costs steps, too large a one
kills latents that nothing brings back."""

REACH = 30.0
"""Largest change of the logarithm of the coefficient that a whole run allows: 13 orders of magnitude."""

FASTEST = 0.05
"""Largest change of it in one step, however short the run."""

LEAST_AHEAD, MOST_AHEAD = 20, 1000
"""Bounds of the look-ahead, in steps."""

SHARE = 12
"""L0, and its slope, are averaged over the look-ahead divided by this."""


@dataclass(frozen=True)
class Tuning:
    """How a kind of penalty is steered; errors are differences of log L0.

    Attributes:
        look_ahead: how far ahead the error is foreseen, as part of the run.
        calm: foreseen error from which on the coefficient changes as fast as it may.
        approach: most of the error that counts: L0 that falls by so much within the look-ahead falls fast enough,
            however far it still has to go.
    """

    look_ahead: float
    calm: float
    approach: float


BY_SIZE = Tuning(look_ahead=0.04, calm=0.75, approach=1.5)
"""For penalties on the size of activations (L1)."""

BY_COUNT = Tuning(look_ahead=0.06, calm=0.25, approach=0.6)
"""For penalties on their number (L0). An L0 that fell too far comes back slowly, since thresholds feel only what is
close to them; so it is approached slowly, and the coefficient turns back at the first sign."""

LOWEST = 0.01
"""Part of the wanted L0 that is taken for none at all, in the logarithm."""


class CoefficientController:
    """Steers the logarithm of a coefficient by the logarithm of L0: a PI controller in velocity form.

    With m the running mean of L0, e = ln(m / target) and ė its slope per step, each step changes

        ln c  by  r · clip((min(e, a) + h·ė) / q, −1, 1),

    with r the fastest change, and h, q and a those of `Tuning`. The part of e is the integral part of a PI controller,
    that of ė the proportional one, and h their quotient. So while L0 already falls fast enough by itself, as in the
    first steps of every run, the coefficient waits; and it turns back before L0 passes the target, not after. Both
    parts are bounded together: no error, however large, moves the coefficient by more than a factor e^r in one step.

    Source: the velocity form of PI control with a bounded output, e.g. Åström and Hägglund, PID Controllers (1995),
    sections 3.3 and 3.5.

    Args:
        target: L0 to end with.
        start: coefficient that was asked for.
        steps: steps of the run.
        warm_up_steps: steps over which the bound of the change itself rises.
        counts: whether the penalty is on the number of active latents, not on their sizes.

    Attributes:
        target: L0 to end with.
        seen: steps that it learned of.
    """

    def __init__(
        self, target: float, start: float, steps: int, warm_up_steps: int = 0, *, counts: bool = False
    ) -> None:
        self.target, self._warm_up = target, warm_up_steps
        self._tuning = BY_COUNT if counts else BY_SIZE
        self._ahead = min(max(self._tuning.look_ahead * steps, LEAST_AHEAD), MOST_AHEAD)
        self._fastest = min(REACH / steps, FASTEST)
        self._log, self._ceiling = math.log(start * SOFT), math.inf
        self.seen, self._mean, self._slope = 0, 0.0, 0.0

    @property
    def value(self) -> float:
        """The coefficient of the next step."""
        return math.exp(self._log)

    def limit(self, ceiling: float) -> None:
        """Bound the coefficient from above: beyond it a dictionary without any active latent has the least loss."""
        self._ceiling = math.log(ceiling) if ceiling > 0 else math.inf
        self._log = min(self._log, self._ceiling)

    def observe(self, l0: float) -> None:
        """Learn the mean L0 of the batch of a step."""
        now = math.log(max(l0, LOWEST * self.target))
        self.seen += 1
        # the mean of few values is their plain mean
        weight = max(1 / self.seen, SHARE / self._ahead)
        before = self._mean
        self._mean += weight * (now - self._mean)
        if self.seen > 1:
            self._slope += max(1 / (self.seen - 1), SHARE / self._ahead) * (self._mean - before - self._slope)
        error = self._mean - math.log(self.target)
        foreseen = min(error, self._tuning.approach) + self._ahead * self._slope
        rising = min(1.0, self.seen / self._warm_up) if self._warm_up else 1.0
        self._log += rising * self._fastest * min(max(foreseen / self._tuning.calm, -1.0), 1.0)
        self._log = min(self._log, self._ceiling)

    def state(self) -> dict[str, float]:
        """Return what it remembers."""
        return {"log": self._log, "ceiling": self._ceiling, "seen": self.seen, "mean": self._mean, "slope": self._slope}

    def load(self, state: Mapping[str, float]) -> None:
        """Remember what another one did."""
        self._log, self._ceiling = state["log"], state["ceiling"]
        self._mean, self._slope = state["mean"], state["slope"]
        self.seen = int(state["seen"])
