"""The law L(n) = L∞ + a·n^−b, fitted to numbers that follow it, and to some that do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from saereg.registry.floors.bootstrap import bounds
from saereg.registry.floors.law import bending_gain, design_of, fitted, flat_error, plausible_floors
from saereg.registry.floors.noise import shared_noise

TOKENS = np.array([5e7, 1e8, 2e8, 4e8, 8e8])
ONES = np.ones(len(TOKENS))


def law(floor, scale, exponent, tokens=TOKENS):
    """Return the losses of a law whose scale is that at the first snapshot."""
    return floor + scale * (tokens / tokens[0]) ** -exponent


def fit(losses, tokens=TOKENS):
    """Return the design and the law of one curve."""
    design = design_of(tokens, losses, np.ones(len(tokens)))
    return design, fitted(design, losses[None])


@given(floor=st.floats(0, 10), scale=st.floats(0.05, 10), exponent=st.floats(0.15, 3))
@settings(max_examples=40, deadline=None, database=None)
def test_a_law_without_noise_is_found_again(floor, scale, exponent):
    """L∞, a and b to a millionth of the loss."""
    losses = law(floor, scale, exponent)
    design, found = fit(losses)
    assert found.floor[0] == pytest.approx(floor, abs=2e-6 * losses[0])
    assert found.values(design.logs)[0] == pytest.approx(losses, rel=1e-7)
    if scale > 0.1 * floor:
        assert found.exponent[0] == pytest.approx(exponent, rel=1e-4)
        assert found.scale_at_one(design)[0] * TOKENS[0] ** -exponent == pytest.approx(scale, rel=1e-2)


def test_it_agrees_with_the_optimizer_of_scipy():
    """From a good start `curve_fit` finds the same minimum of the same residuals."""
    random = np.random.default_rng(4)
    losses = law(0.3, 0.5, 0.6) * (1 + 0.004 * random.standard_normal(5))
    _, found = fit(losses)
    theirs, _ = curve_fit(
        lambda n, floor, scale, b: law(floor, scale, b, n), TOKENS, losses, (0.3, 0.5, 0.6), losses, xtol=1e-14
    )
    assert found.floor[0] == pytest.approx(theirs[0], rel=1e-6)
    assert found.exponent[0] == pytest.approx(theirs[2], rel=1e-6)
    assert found.rss[0] == pytest.approx(float((((law(*theirs) - losses) / losses) ** 2).sum()), rel=1e-9)


@pytest.mark.parametrize("unit", [2.0**-40, 1e-9, 1e12, 2.0**60])
def test_units_scale_the_floor_and_leave_the_exponent(unit):
    """The loss in other units: L∞ and a by the same factor, b as it was."""
    losses = law(0.3, 0.5, 0.6) * np.array([1.001, 0.999, 1.002, 1.0, 0.998])
    design, ours = fit(losses)
    other, theirs = fit(losses * unit)
    assert theirs.floor[0] == pytest.approx(ours.floor[0] * unit, rel=1e-9)
    assert theirs.scale_at_one(other)[0] == pytest.approx(ours.scale_at_one(design)[0] * unit, rel=1e-9)
    assert theirs.exponent[0] == pytest.approx(ours.exponent[0], rel=1e-9)


def test_counting_in_other_tokens_leaves_floor_and_exponent():
    """Sequences instead of tokens: only a changes."""
    losses = law(0.3, 0.5, 0.6) * np.array([1.001, 0.999, 1.002, 1.0, 0.998])
    _, ours = fit(losses)
    _, theirs = fit(losses, TOKENS / 1024)
    assert theirs.floor[0] == pytest.approx(ours.floor[0], rel=1e-9)
    assert theirs.exponent[0] == pytest.approx(ours.exponent[0], rel=1e-9)


def test_many_curves_are_fitted_as_one_by_one():
    """What is vectorised has no influence of one curve on another."""
    random = np.random.default_rng(2)
    losses = law(0.3, 0.5, 0.6) * np.exp(0.02 * random.standard_normal((50, 5)))
    design = design_of(TOKENS, law(0.3, 0.5, 0.6), ONES)
    together = fitted(design, losses)
    alone = [fitted(design, curve[None]).floor[0] for curve in losses]
    assert together.floor == pytest.approx(alone, rel=1e-9, abs=1e-12)


def test_no_number_leaves_its_bounds():
    """Rising, wild and constant losses: L∞ and a stay at 0 or above, b in its range, and the error is the least."""
    random = np.random.default_rng(3)
    losses = np.exp(random.standard_normal((300, 5)))
    design = design_of(TOKENS, ONES, ONES)
    found = fitted(design, losses)
    assert (found.floor >= 0).all()
    assert (found.scale >= 0).all()
    assert (found.exponent >= 0.01 * 0.999).all()
    assert (found.exponent <= 5 * 1.001).all()
    tried = [law(floor, scale, b) for floor in (0, 0.5, 1) for scale in (0, 0.5, 2) for b in (0.1, 0.6, 2)]
    for guess in tried:
        assert (found.rss <= ((losses - guess) ** 2).sum(1) * (1 + 1e-9)).all()


def test_the_profile_holds_the_floors_that_fit_and_no_others():
    """A floor inside, refitted with b and a, has less than the allowed error; one outside has more."""
    random = np.random.default_rng(5)
    losses = law(0.3, 0.5, 0.5) * np.exp(0.005 * random.standard_normal(5))
    design, best = fit(losses)
    allowed = best.rss[0] * 6
    low, high = plausible_floors(design, losses, best, allowed)

    def error(floor):
        exponents = np.geomspace(0.02, 4, 4000)
        x = np.exp(-exponents[:, None] * design.logs)
        y = losses - floor
        scale = np.maximum((design.weights * x * y).sum(1) / (design.weights * x * x).sum(1), 0)
        return (design.weights * (y - scale[:, None] * x) ** 2).sum(1).min()

    assert low < best.floor[0] < high
    for inside in np.linspace(low + 1e-4, high - 1e-4, 7):
        assert error(inside) <= allowed * 1.001
    for outside in (low - 2e-3, high + 2e-3):
        assert error(outside) > allowed


def test_the_profile_of_a_power_law_over_a_short_range_reaches_to_zero():
    """Four snapshots that are doublings cannot tell L∞ = 0 from a large part of the loss, at one percent of scatter."""
    tokens = TOKENS[:4]
    losses = law(0, 1, 0.3, tokens) * np.array([1.01, 0.99, 1.01, 0.99])
    design, best = fit(losses, tokens)
    low, high = plausible_floors(design, losses, best, best.rss[0] + 1e-4 * 4)
    assert low == 0
    assert high > 0.3 * losses[-1]


def test_a_curve_that_bends_the_other_way_is_told_from_a_law():
    """A loss that falls like 1 − c·log² n gains from a negative L∞; one with a floor does not."""
    steps = np.arange(5.0)
    bent = 1.0 - 0.02 * steps - 0.03 * steps**2
    design, best = fit(bent)
    assert bending_gain(design, bent, best) > 0.5 * best.rss[0] > 0
    straight = law(0.3, 0.5, 0.6)
    design, best = fit(straight)
    assert bending_gain(design, straight, best) == pytest.approx(0, abs=1e-12)
    assert flat_error(design, straight) > 0.01


def test_noise_is_shared_as_far_as_it_is_alike():
    """24 estimates with one degree of freedom each: drawn together where they are of one kind, less where not."""
    random = np.random.default_rng(7)
    alike = 0.01**2 * random.chisquare(1, 24)
    found = [noise.variance for noise in shared_noise(list(alike), [1] * 24)]
    assert max(found) < 3 * min(found)
    assert np.mean(found) == pytest.approx(0.01**2, rel=0.5)
    apart = np.array([1e-8] * 12 + [1e-2] * 12) * random.chisquare(1, 24)
    found = [noise.variance for noise in shared_noise(list(apart), [1] * 24)]
    assert max(found) > 100 * min(found)


def test_two_series_share_nothing():
    """Of two nothing is known of what is common; each keeps its own."""
    first, second = shared_noise([1e-4, 4e-4], [1, 2])
    assert (first.variance, first.freedom, second.variance, second.freedom) == (1e-4, 1, 4e-4, 2)


def test_an_interval_holds_its_estimate():
    """Percentiles of a skewed bootstrap may leave the estimate out; then the interval is widened."""
    low, high = bounds(np.linspace(1, 2, 101)[:, None], np.array([0.5]), 0.9)
    assert (low[0], high[0]) == (0.5, pytest.approx(1.95))
