"""The law L(n) = L∞ + a·n^−b and its least squares: many curves over the same numbers of tokens at once.

With b fixed the law is linear in L∞ and a, so what is left is a search over one number (variable projection: Golub and
Pereyra, "The Differentiation of Pseudo-Inverses and Nonlinear Least Squares Problems Whose Variables Separate", 1973).
That search cannot miss: it scans b over all that is allowed, then halves the cell of the best one until it is as thin
as a number can be. Residuals are relative ones, (L − fit) / L: losses of layers differ by orders of magnitude, and
what moves a loss from snapshot to snapshot moves it by a share of itself.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EXPONENTS = (0.01, 5.0)
"""Least and largest b. Below it ten times the tokens take less than 2.3 % off the excess, above it doubling them takes
97 %: no law of training is seen there."""

_GRID = np.log(np.geomspace(*EXPONENTS, 64))
EXACT, DRAWN = 40, 26
"""Halvings of a cell, 0.2 wide in log b: those of an estimate leave 2e-13 of it, those of a resample 3e-9."""


@dataclass(frozen=True)
class Design:
    """Where curves were measured.

    Attributes:
        logs: log n − log of `reference` [points].
        reference: the geometric mean of n; the law is fitted in n / reference, so that a has the size of a loss.
        weights: squared weights of residuals [points].
    """

    logs: Array
    reference: float
    weights: Array

    def at(self, tokens: Array) -> Array:
        """Return log(n / reference) of some numbers of tokens."""
        found: Array = np.log(tokens) - np.log(self.reference)
        return found


@dataclass(frozen=True)
class Laws:
    """Fitted laws.

    Attributes:
        floor: L∞ [curves].
        scale: a at n = reference [curves].
        log_exponent: log b [curves].
        rss: sum of squared weighted residuals [curves].
    """

    floor: Array
    scale: Array
    log_exponent: Array
    rss: Array

    @property
    def exponent(self) -> Array:
        """The exponent b [curves]."""
        found: Array = np.exp(self.log_exponent)
        return found

    def scale_at_one(self, design: Design) -> Array:
        """Return a of L∞ + a·n^−b, n counted in tokens [curves]."""
        found: Array = self.scale * np.exp(self.exponent * np.log(design.reference))
        return found

    def values(self, logs: Array) -> Array:
        """Return the losses of every law at log(n / reference) [curves, points]."""
        found: Array = self.floor[:, None] + self.scale[:, None] * np.exp(-self.exponent[:, None] * logs)
        return found


def design_of(tokens: Array, losses: Array, lines: Array) -> Design:
    """Return the design of one series.

    Args:
        tokens: n [points].
        losses: L(n) > 0 [points].
        lines: of how many equally noisy numbers each loss is the mean [points].
    """
    middle = float(np.log(tokens).mean())
    return Design(np.log(tokens) - middle, float(np.exp(middle)), lines / losses**2)


def fitted(design: Design, losses: Array, halvings: int = EXACT) -> Laws:
    """Return the law of every curve: the least squares over L∞ ≥ 0, a ≥ 0 and b within `EXPONENTS`.

    Args:
        design: where the curves were measured.
        losses: L > 0 [curves, points].
        halvings: how often the interval of b is halved.
    """
    best = _scan(design, losses).argmin(axis=1)
    low, high = _GRID[np.maximum(best - 1, 0)], _GRID[np.minimum(best + 1, len(_GRID) - 1)]
    for _ in range(halvings):
        middle = (low + high) / 2
        rising = _slope(design, losses, middle) > 0
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    return _linear(design, losses, (low + high) / 2)


def _basis(design: Design, log_exponent: Array) -> Array:
    return cast(Array, np.exp(-np.exp(log_exponent)[:, None] * design.logs))


def _scan(design: Design, losses: Array) -> Array:
    """Return the squared error of every curve at every exponent of the grid [curves, exponents]."""
    w, x = design.weights, _basis(design, _GRID)
    mean_y, mean_x = (losses @ w) / w.sum(), (x @ w) / w.sum()
    y, xc = losses - mean_y[:, None], x - mean_x[:, None]
    flat = (w * y * y).sum(1)[:, None]
    xy, xx = (y * w) @ xc.T, (w * xc * xc).sum(1)
    scale = np.maximum(xy / xx, 0)
    error = flat - scale * xy
    through_zero = (w * losses**2).sum(1)[:, None] - ((losses * w) @ x.T) ** 2 / (w * x * x).sum(1)
    return cast(Array, np.where(mean_y[:, None] < scale * mean_x, through_zero, error))


def _linear(design: Design, losses: Array, log_exponent: Array) -> Laws:
    """Return the best L∞ ≥ 0 and a ≥ 0 of every curve at its exponent."""
    floor, scale, _, residuals = _solved(design, losses, log_exponent)
    return Laws(floor, scale, log_exponent, (design.weights * residuals**2).sum(1))


def _solved(design: Design, losses: Array, log_exponent: Array) -> tuple[Array, Array, Array, Array]:
    """Return L∞, a, the basis n^−b and the residuals; losses are positive, so L∞ and a are never both 0."""
    w, x = design.weights, _basis(design, log_exponent)
    total, xw = w.sum(), x * w
    mean_y, mean_x = (losses @ w) / total, xw.sum(1) / total
    xy, xx = (xw * losses).sum(1), (xw * x).sum(1)
    centred = x - mean_x[:, None]
    scale = np.maximum(((centred * w) * losses).sum(1) / ((centred * w) * centred).sum(1), 0)
    floor = mean_y - scale * mean_x
    scale = np.where(floor < 0, xy / xx, scale)
    floor = np.maximum(floor, 0)
    return floor, scale, x, losses - floor[:, None] - scale[:, None] * x


def _slope(design: Design, losses: Array, log_exponent: Array) -> Array:
    """Return a positive multiple of the derivative of the squared error after log b.

    L∞ and a are at their best, so that only the basis moves (the envelope theorem): d/dt Σ w r² = 2 a b Σ w r u x.
    """
    _, _, x, residuals = _solved(design, losses, log_exponent)
    return (residuals * x) @ (design.weights * design.logs)


def bending_gain(design: Design, losses: Array, best: Laws) -> float:
    """Return by how much the error of one curve shrinks with L∞ < 0, that is where it bends the other way."""
    w, x = design.weights, _basis(design, _GRID)
    mean_y, mean_x = (w @ losses) / w.sum(), (x @ w) / w.sum()
    xc, y = x - mean_x[:, None], losses - mean_y
    scale = np.maximum((xc * w) @ y / ((xc * w) * xc).sum(1), 0)
    error = (w * (y - scale[:, None] * xc) ** 2).sum(1)
    return max(float(best.rss[0] - error.min()), 0.0)


def flat_error(design: Design, losses: Array) -> float:
    """Return the squared error of the best constant, a = 0, of one curve [points]."""
    w = design.weights
    mean = (w * losses).sum() / w.sum()
    return float((w * (losses - mean) ** 2).sum())


def plausible_floors(design: Design, losses: Array, best: Laws, allowed: float) -> tuple[float, float]:
    """Return the least and the largest L∞ that some a and b fit within an error: the profile, cut at a level.

    At a fixed b the error is a parabola in L∞ whose middle and width are known; the profile is their lower envelope,
    so the floors below a level are the union of one interval per b.

    Args:
        design: where the curve was measured.
        losses: L(n) of the one curve [points].
        best: its law.
        allowed: the error; at least that of `best`.
    """
    near = best.log_exponent[0] + np.linspace(-0.2, 0.2, 401)
    exponents = np.clip(np.concatenate([np.linspace(_GRID[0], _GRID[-1], 600), near]), _GRID[0], _GRID[-1])
    w, x = design.weights, _basis(design, exponents)
    mean_y, mean_x = (losses * w).sum() / w.sum(), (x * w).sum(1) / w.sum()
    xc, total, squares = x - mean_x[:, None], w.sum(), (w * x * x).sum(1)
    scale = (w * xc * losses).sum(1) / (w * xc * xc).sum(1)
    middle = mean_y - scale * mean_x
    error = (w * (losses - middle[:, None] - scale[:, None] * x) ** 2).sum(1)
    curvature = total - (w * x).sum(1) ** 2 / squares
    half = np.sqrt(np.maximum(allowed - error, 0) / curvature)
    inside = (error <= allowed) & (middle + half >= 0)
    # where a would be negative, a = 0: the floor is the mean of the losses at best
    low, high = np.minimum(middle - half, mean_y)[inside], np.minimum(middle + half, mean_y)[inside]
    floor = float(best.floor[0])
    return float(max(min([*low, floor]), 0.0)), float(max([*high, floor]))
