"""How far losses scatter about their law: from four snapshots nobody can tell, from those of 24 layers one can.

Each series has one or two degrees of freedom left, so its own variance may be off by orders of magnitude. All series
of a release were measured in one way, so that their relative variances are alike: each is drawn towards their common
value, the more the more alike they are (Smyth, "Linear Models and Empirical Bayes Methods for Assessing Differential
Expression in Microarray Experiments", 2004: the moderated variance (d₀ s₀² + d s²) / (d₀ + d)).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln

from saereg.registry.floors.law import Array

SMALLEST = 1e-10
"""Relative standard deviation below which numbers only differ by rounding."""

ALONE = 3
"""Fewer series than this say nothing of each other."""


@dataclass(frozen=True)
class Noise:
    """The scatter of one series.

    Attributes:
        variance: of (L − law) / L.
        freedom: degrees of freedom that stand behind it.
    """

    variance: float
    freedom: float


def shared_noise(variances: Sequence[float], freedoms: Sequence[int]) -> list[Noise]:
    """Return the noise of every series, drawn towards that of all.

    Args:
        variances: rss / degrees of freedom of every series.
        freedoms: degrees of freedom of every series, at least 1.
    """
    d = np.asarray(freedoms, float)
    s2 = np.maximum(np.asarray(variances, float), SMALLEST**2)
    if len(s2) < ALONE:
        return [Noise(float(v), float(f)) for v, f in zip(s2, d, strict=True)]
    common, prior = _prior(s2, d)
    return [Noise(float((prior * common + f * v) / (prior + f)), float(prior + f)) for v, f in zip(s2, d, strict=True)]


def _prior(variances: Array, freedoms: Array) -> tuple[float, float]:
    """Return the common variance s₀² and its weight d₀ in degrees of freedom, the likeliest: s²/s₀² is F(d, d₀).

    Smyth takes them from the moments of log s²; of one degree of freedom that logarithm has a long tail, and a residual
    that happens to be tiny would say that the variances differ. The weight is at most that of all series together.
    """
    most = float(freedoms.sum())
    weights = np.geomspace(1.0, most, 24)
    middle = float((freedoms * variances).sum() / most)
    scales = middle * np.geomspace(0.02, 2.0, 121)
    ratios = variances[None, None, :] / scales[None, :, None]
    fit = _log_density(ratios, freedoms, weights[:, None, None]) - np.log(scales)[None, :, None]
    weight, scale = np.unravel_index(int(fit.sum(2).argmax()), (len(weights), len(scales)))
    common = middle if weight == len(weights) - 1 else float(scales[scale])
    return common, float(weights[weight])


def _log_density(ratios: Array, above: Array, below: Array) -> Array:
    """Return ln of the density of F(above, below) at ratios > 0; scipy.stats has it too, and takes longer to import."""
    share = above * ratios / below
    shape = (above * np.log(above / below) + (above - 2) * np.log(ratios) - (above + below) * np.log1p(share)) / 2
    density: Array = shape - betaln(above / 2, below / 2)
    return density
