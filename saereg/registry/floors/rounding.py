"""Numbers as they are written down: as many digits as every machine agrees on, and no more.

Sums of a dozen doubles differ by 1e-15 of themselves from machine to machine, and a minimum that is found by the sign
of a slope by about as much times the condition of the fit. Six digits of an estimate and four of a bound are far above.
"""

import math

from saereg.schemas.floors import Estimate, Interval

ESTIMATE_DIGITS, BOUND_DIGITS = 6, 4
"""Significant digits."""

NOTHING = 1e-300
"""Smaller numbers are written as 0."""


def rounded(value: float, digits: int) -> float:
    """Return a number with so many significant digits."""
    return 0.0 if abs(value) < NOTHING else float(f"{value:.{digits}g}")


def interval(low: float, high: float) -> Interval:
    """Return an interval with the digits of bounds, rounded outwards: what was inside stays inside."""
    return Interval(low=0.0 - _up(-low), high=_up(high))  # 0 − 0, where −0 would be written as "-0"


def _up(value: float) -> float:
    """Return the next number of few digits that is not below a number."""
    near = rounded(value, BOUND_DIGITS)
    if near >= value or not near:
        return near
    return rounded(near + 10.0 ** (math.floor(math.log10(abs(near))) - BOUND_DIGITS + 1), BOUND_DIGITS)


def estimate(value: float, low: float, high: float) -> Estimate:
    """Return an estimate and its interval, which holds it after rounding too."""
    point = rounded(value, ESTIMATE_DIGITS)
    return Estimate(value=point, interval=interval(min(low, point), max(high, point)))
