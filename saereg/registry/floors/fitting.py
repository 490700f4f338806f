"""Fit every series of a release: floors with intervals, what held-out snapshots say of them, and what is not known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, fdtri

from saereg.registry.floors.bootstrap import bounds, resampled, scatter
from saereg.registry.floors.law import (
    EXPONENTS,
    Array,
    Design,
    Laws,
    bending_gain,
    design_of,
    fitted,
    flat_error,
    plausible_floors,
)
from saereg.registry.floors.noise import SMALLEST, Noise, shared_noise
from saereg.registry.floors.rounding import estimate, interval, rounded
from saereg.registry.floors.series import Series
from saereg.schemas.floors import Estimate, FloorFit, FloorPrediction

PARAMETERS = 3
"""L∞, a and b."""

FEWEST = PARAMETERS + 1
"""Early snapshots that a fit needs: with fewer the law goes through all of them, whatever they are."""

WIDEST = 0.25
"""Plausible floors may be this far apart, as a share of the last loss that was fitted: beyond it the early snapshots do
not determine the floor."""

CERTAIN = 0.975
"""Level of the floors that count as plausible. It is above that of the intervals: of many series those whose scatter
happens to look small are taken for identified, and a floor of theirs is more often wrong."""

CONTRADICTED = 0.95
"""Level at which held-out snapshots outside their intervals are too many for the law to go on as it began."""

CURVE = 13
"""Points at which the law is given for drawing."""

AHEAD = 10.0
"""How far the drawn law goes on, in last snapshots."""


@dataclass(frozen=True)
class FitOptions:
    """How laws are fitted.

    Attributes:
        early: share of the snapshots that is fitted, at least four of them; one at least is held out.
        level: level of the intervals.
        resamples: bootstrap resamples.
        seed: seed of the resampling.
    """

    early: float = 2 / 3
    level: float = 0.9
    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """A series and the law of some of its first points.

    Attributes:
        series: the series.
        count: how many points were fitted, from the first.
        design: where they are.
        losses: their losses [points].
        lines: of how many numbers each is the mean [points].
        law: the least squares.
    """

    series: Series
    count: int
    design: Design
    losses: Array
    lines: Array
    law: Laws

    @property
    def variance(self) -> float:
        """Squared relative scatter about the law, per degree of freedom."""
        return float(self.law.rss[0]) / (self.count - PARAMETERS)

    @property
    def falls(self) -> bool:
        """Whether the law falls at all."""
        return float(self.law.scale[0]) > 0


def early_count(points: int, share: float) -> int:
    """Return how many of some snapshots are fitted: a share of them, at least four, all but one at most."""
    return min(max(math.ceil(share * points - 1e-9), FEWEST), points - 1)


def fit_all(series: Sequence[Series], options: FitOptions) -> tuple[FloorFit, ...]:
    """Return the fit of every series, in their order; their noise is judged together.

    Args:
        series: what is fitted.
        options: how.
    """
    early = {s.name: early_count(len(s.tokens), options.early) for s in series}
    first = {s.name: fit_first(s, early[s.name]) for s in series if early[s.name] >= FEWEST}
    whole = {s.name: fit_first(s, len(s.tokens)) for s in series if s.name in first}
    noise, noise_of_all = _noises(first), _noises(whole)
    fits = []
    for s in series:
        if s.name in first and first[s.name].falls:
            fit = _full(first[s.name], noise[s.name], options)
            after = _floor(whole[s.name], noise_of_all.get(s.name), options)
            fits.append(fit.model_copy(update={"floor_of_all": after}))
        else:
            fits.append(_unfitted(s, early[s.name]))
    return tuple(fits)


def fit_first(series: Series, count: int) -> Fitted:
    """Return the law of the first points of a series."""
    tokens, losses = np.array(series.tokens[:count]), np.array(series.values[:count])
    lines = np.array(series.lines[:count], float)
    design = design_of(tokens, losses, lines)
    return Fitted(series, count, design, losses, lines, fitted(design, losses[None]))


def _noises(fits: dict[str, Fitted]) -> dict[str, Noise]:
    falling = {name: fit for name, fit in fits.items() if fit.falls}
    order = sorted(falling, key=lambda name: (falling[name].variance, name))  # sums do not depend on the series' order
    found = shared_noise([falling[n].variance for n in order], [falling[n].count - PARAMETERS for n in order])
    return dict(zip(order, found, strict=True))


def _unfitted(series: Series, count: int) -> FloorFit:
    if count < FEWEST:
        reason = (
            f"{len(series.tokens)} {series.unit}, of which {count} would be fitted and one held out: a law of three "
            f"numbers needs {FEWEST} early ones"
        )
    elif series.values[count - 1] > series.values[0]:
        reason = f"the loss rises over the {count} early {series.unit}, and the law only falls"
    else:
        reason = f"the loss does not fall over the {count} early {series.unit}, so nothing says where it would end"
    return _bare(series, count, reason)


def _bare(series: Series, count: int, reason: str | None) -> FloorFit:
    return FloorFit(
        series=series.name,
        layer=series.layer,
        evaluation=series.evaluation,
        artifacts=series.artifacts,
        tokens=series.tokens,
        values=series.values,
        fitted=count,
        identified=reason is None,
        reason=reason,
    )


def _full(fit: Fitted, noise: Noise, options: FitOptions) -> FloorFit:
    law, series, level = fit.law, fit.series, options.level
    drawn = scatter(noise, (options.resamples, len(series.tokens)), options.seed)
    draws = resampled(fit.design, law, fit.lines, drawn[:, : fit.count])
    allowed = float(law.rss[0]) + noise.variance * float(fdtri(1, noise.freedom, CERTAIN))
    low, high = plausible_floors(fit.design, fit.losses, law, allowed)
    predictions = _held_out(fit, draws, drawn, level)
    reason = _doubt(fit, noise, (low, high), level) or _contradicted(predictions, series.unit, level)
    errors = [abs(p.predicted - p.measured) / p.measured for p in predictions if p.measured]
    return _bare(series, fit.count, reason).model_copy(
        update={
            "floor": _estimate(law.floor, draws.floor, level),
            "scale": _estimate(law.scale_at_one(fit.design), draws.scale_at_one(fit.design), level),
            "exponent": _estimate(law.exponent, draws.exponent, level),
            "plausible": interval(low, high),
            "noise": rounded(math.sqrt(noise.variance), 3),
            "predictions": predictions,
            "relative_error": rounded(math.fsum(errors) / len(errors), 4) if errors else None,
            "curve": _curve(fit, draws, level),
        }
    )


def _estimate(value: Array, draws: Array, level: float) -> Estimate:
    low, high = bounds(draws[:, None], value, level)
    return estimate(float(value[0]), float(low[0]), float(high[0]))


def _floor(fit: Fitted, noise: Noise | None, options: FitOptions) -> Estimate | None:
    if noise is None:
        return None
    drawn = scatter(noise, (options.resamples, fit.count), options.seed)
    return _estimate(fit.law.floor, resampled(fit.design, fit.law, fit.lines, drawn).floor, options.level)


def _doubt(fit: Fitted, noise: Noise, plausible: tuple[float, float], level: float) -> str | None:
    """Return why the early snapshots do not determine the floor; None where they do."""
    early = f"the {fit.count} early {fit.series.unit}"
    freedom = fit.count - PARAMETERS
    bent = bending_gain(fit.design, fit.losses, fit.law)
    left = max(float(fit.law.rss[0]) - bent, freedom * SMALLEST**2)
    if bent > left / freedom * float(fdtri(1, freedom, level)):
        return f"over {early} the loss falls faster and faster, which no floor explains: the law does not describe it"
    gained = flat_error(fit.design, fit.losses) - float(fit.law.rss[0])
    if gained <= 2 * noise.variance * float(fdtri(2, noise.freedom, level)):
        return f"over {early} the loss falls by no more than its scatter about a constant"
    exponent = float(fit.law.exponent[0])
    if exponent > EXPONENTS[1] * 0.999:
        return f"b runs to {EXPONENTS[1]:g}, its bound: the loss falls at once and then stays, which is no power law"
    if plausible[1] - plausible[0] > WIDEST * fit.losses[-1]:
        low, high = (rounded(value, 3) for value in plausible)
        return f"any floor between {low:g} and {high:g} fits {early} as well"
    if exponent < EXPONENTS[0] * 1.001:
        return f"b runs to {EXPONENTS[0]:g}, its bound: the loss falls like a logarithm, which has no floor"
    return None


def _contradicted(predictions: Sequence[FloorPrediction], unit: str, level: float) -> str | None:
    """Return that too many held-out points are outside their intervals; None where not more than chance puts there."""
    known = [(p.measured, p.interval) for p in predictions if p.measured is not None and p.interval is not None]
    outside = sum(not bounds.low <= measured <= bounds.high for measured, bounds in known)
    if not outside or bdtr(outside - 1, len(known), 1 - level) < CONTRADICTED:  # so many are chance
        return None
    return f"{outside} of {len(known)} held-out {unit} are outside their intervals: the loss does not go on as it began"


def _held_out(fit: Fitted, draws: Laws, drawn: Array, level: float) -> tuple[FloorPrediction, ...]:
    tokens, values = np.array(fit.series.tokens[fit.count :]), np.array(fit.series.values[fit.count :])
    if not len(tokens):
        return ()
    logs, lines = fit.design.at(tokens), np.array(fit.series.lines[fit.count :], float)
    predicted = fit.law.values(logs)[0]
    low, high = bounds(draws.values(logs) * np.exp(drawn[:, fit.count :] / np.sqrt(lines)), predicted, level)
    rows = zip(tokens, predicted, low, high, values, strict=True)
    return tuple(_prediction(*map(float, row)) for row in rows)


def _curve(fit: Fitted, draws: Laws, level: float) -> tuple[FloorPrediction, ...]:
    tokens = np.geomspace(fit.series.tokens[0], AHEAD * fit.series.tokens[-1], CURVE)
    logs = fit.design.at(tokens)
    predicted = fit.law.values(logs)[0]
    low, high = bounds(draws.values(logs), predicted, level)
    return tuple(_prediction(*map(float, row)) for row in zip(tokens, predicted, low, high, strict=True))


def _prediction(
    tokens: float, predicted: float, low: float, high: float, measured: float | None = None
) -> FloorPrediction:
    return FloorPrediction(
        tokens=tokens if measured is not None else rounded(tokens, 6),
        predicted=rounded(predicted, 6),
        interval=interval(min(low, rounded(predicted, 6)), max(high, rounded(predicted, 6))),
        measured=measured,
    )
