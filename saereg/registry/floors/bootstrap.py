"""Bootstrap intervals of a law: losses are drawn again about the fit, with a scatter that is itself not known.

Pairs cannot be drawn again from four snapshots (most draws have three different ones or fewer, which three numbers fit
exactly), and the residuals of four snapshots about three numbers have one degree of freedom. So the draw is parametric:
a variance from its scaled inverse χ² distribution, then normal scatter of that size. In a linear law this gives
Student's intervals, wide where there are few degrees of freedom behind the variance.
"""

import numpy as np

from saereg.registry.floors.law import DRAWN, Array, Design, Laws, fitted
from saereg.registry.floors.noise import Noise

_LARGEST = 2.0
"""Most that a drawn loss differs from the law, as a logarithm: further out nothing is a loss any more."""


def scatter(noise: Noise, shape: tuple[int, int], seed: int) -> Array:
    """Return log factors by which measured losses differ from their law, with the variance drawn for each row.

    The same seed gives every series the same draws, so that no result depends on the order of the series.
    """
    random = np.random.default_rng(seed)
    deviation = np.sqrt(noise.variance * noise.freedom / random.chisquare(noise.freedom, shape[0]))
    return np.clip(deviation[:, None] * random.standard_normal(shape), -_LARGEST, _LARGEST)


def resampled(design: Design, best: Laws, lines: Array, drawn: Array) -> Laws:
    """Return the laws of losses drawn about a fit.

    Args:
        design: where the series was measured.
        best: its law.
        lines: of how many numbers each loss is the mean [points].
        drawn: log factors [resamples, points].
    """
    return fitted(design, best.values(design.logs) * np.exp(drawn / np.sqrt(lines)), DRAWN)


def bounds(draws: Array, estimate: Array, level: float) -> tuple[Array, Array]:
    """Return the percentile interval of draws [resamples, …], widened where the estimate itself is outside."""
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2), axis=0)
    return np.minimum(low, estimate), np.maximum(high, estimate)
