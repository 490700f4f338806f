"""The law L = L∞ + Σ a_j·v_j^−b_j of several variables at once, as Hoffmann et al. (2022) write it for two of them.

The estimate is found by scipy from several starts: with the exponents fixed the rest is a linear problem with
non-negative unknowns, so that only exponents are searched. Resamples start at the estimate, all at once.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares, nnls

from saereg.registry.floors.law import EXPONENTS, Array

STARTS = (0.1, 0.35, 1.0, 2.5)
"""Exponents from which the search starts, for every variable."""

KEPT = 4
"""Starts that are followed: those with the smallest error."""

_STEPS = 40
"""Steps of a resample; most stand still after ten."""


@dataclass(frozen=True)
class JointDesign:
    """Where losses were measured.

    Attributes:
        logs: log of each variable over its geometric mean [points, variables].
        centres: logs of the geometric means [variables].
        weights: weights of residuals, not squared [points].
    """

    logs: Array
    centres: Array
    weights: Array


def joint_design(variables: Array, losses: Array) -> JointDesign:
    """Return the design of some points.

    Args:
        variables: positive numbers [points, variables].
        losses: L > 0 [points]; residuals are relative ones.
    """
    logs = np.log(variables)
    centres = logs.mean(0)
    return JointDesign(logs - centres, centres, 1 / losses)


def joint_values(theta: Array, logs: Array) -> Array:
    """Return the losses of laws [laws, points].

    Args:
        theta: L∞, then a and log b of each variable [laws, 1 + 2 variables].
        logs: logs of the variables over their centres [points, variables].
    """
    scales, exponents = theta[:, 1::2], np.exp(theta[:, 2::2])
    terms = scales[:, None, :] * np.exp(-exponents[:, None, :] * logs[None])
    found: Array = theta[:, :1] + terms.sum(2)
    return found


def joint_fit(design: JointDesign, losses: Array) -> Array:
    """Return the least squares over L∞ ≥ 0, a ≥ 0 and b within `EXPONENTS` [1 + 2 variables]."""
    low, high = np.log(EXPONENTS[0]), np.log(EXPONENTS[1])

    def residuals(log_exponents: Array) -> Array:
        return _linear(design, losses, log_exponents)[1]

    starts = [np.log(start) for start in itertools.product(STARTS, repeat=design.logs.shape[1])]
    starts.sort(key=lambda start: float((residuals(start) ** 2).sum()))
    found = [
        least_squares(residuals, start, bounds=(low, high), xtol=1e-12, ftol=1e-14, gtol=1e-14, max_nfev=300)
        for start in starts[:KEPT]
    ]
    best = min(found, key=lambda result: float(result.cost)).x
    linear, _ = _linear(design, losses, best)
    theta = np.empty(1 + 2 * len(best))
    theta[0], theta[1::2], theta[2::2] = linear[0], linear[1:], best
    return theta


def _linear(design: JointDesign, losses: Array, log_exponents: Array) -> tuple[Array, Array]:
    """Return L∞ and the scales at given exponents, and the weighted residuals."""
    basis = np.column_stack([np.ones(len(losses)), np.exp(-np.exp(log_exponents) * design.logs)])
    weighted = basis * design.weights[:, None]
    linear, _ = nnls(weighted, losses * design.weights)
    return linear, weighted @ linear - losses * design.weights


def joint_resampled(design: JointDesign, start: Array, losses: Array) -> Array:
    """Return the law of every resample [resamples, 1 + 2 variables]: Levenberg and Marquardt's steps, all at once.

    Args:
        design: where the points are.
        start: the law that they were drawn about.
        losses: drawn losses [resamples, points].
    """
    theta = np.repeat(start[None], len(losses), 0)
    damping = np.full(len(losses), 1e-3)
    error = _error(design, theta, losses)
    for _ in range(_STEPS):
        slopes, residuals = _slopes(design, theta), _residuals(design, theta, losses)
        square = np.einsum("rnp,rnq->rpq", slopes, slopes)
        diagonal = np.einsum("rpp->rp", square).copy()
        damped = square + np.einsum("rp,pq->rpq", damping[:, None] * diagonal + 1e-12, np.eye(theta.shape[1]))
        step = np.linalg.solve(damped, np.einsum("rnp,rn->rp", slopes, residuals)[..., None])[..., 0]
        tried = _allowed(theta - step)
        after = _error(design, tried, losses)
        better = after < error
        theta, error = np.where(better[:, None], tried, theta), np.where(better, after, error)
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-9, 1e9)
    return theta


def _residuals(design: JointDesign, theta: Array, losses: Array) -> Array:
    found: Array = (joint_values(theta, design.logs) - losses) * design.weights
    return found


def _error(design: JointDesign, theta: Array, losses: Array) -> Array:
    found: Array = (_residuals(design, theta, losses) ** 2).sum(1)
    return found


def _slopes(design: JointDesign, theta: Array) -> Array:
    """Return the derivatives of weighted residuals after every parameter [resamples, points, parameters]."""
    exponents = np.exp(theta[:, 2::2])
    basis = np.exp(-exponents[:, None, :] * design.logs[None])
    slopes = np.empty((len(theta), len(design.logs), theta.shape[1]))
    slopes[:, :, 0] = 1
    slopes[:, :, 1::2] = basis
    slopes[:, :, 2::2] = -theta[:, None, 1::2] * exponents[:, None, :] * design.logs[None] * basis
    return slopes * design.weights[None, :, None]


def _allowed(theta: Array) -> Array:
    theta = theta.copy()
    theta[:, 0] = np.maximum(theta[:, 0], 0)
    theta[:, 1::2] = np.maximum(theta[:, 1::2], 0)
    theta[:, 2::2] = np.clip(theta[:, 2::2], np.log(EXPONENTS[0]), np.log(EXPONENTS[1]))
    return theta
