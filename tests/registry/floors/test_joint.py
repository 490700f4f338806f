"""Laws over tokens, latents and L0 at once."""

import itertools

import numpy as np
import pytest

from saereg.registry.floors.fit import floors_of
from saereg.registry.floors.fitting import FitOptions
from saereg.registry.floors.joint_law import joint_design, joint_fit, joint_resampled, joint_values
from tests.registry.floors.planted import SNAPSHOTS, Cell, planted

QUICK = FitOptions(resamples=60)
WIDTHS, ACTIVE = (1024, 4096, 16384), (16.0, 32.0, 64.0, 128.0)
TRUTH = {"floor": 0.1, "a": 0.3, "b": 0.6, "c": 0.2, "d": 0.8, "g": 0.15, "h": 0.5}


def loss(tokens, d_sae, k):
    """Return the loss of a law whose terms have the size of a, c and g at the smallest values."""
    t = TRUTH
    terms = t["a"] * (tokens / 50e6) ** -t["b"], t["c"] * (d_sae / 1024) ** -t["d"], t["g"] * (k / 16) ** -t["h"]
    return t["floor"] + sum(terms)


def cells(widths=WIDTHS, active=ACTIVE, noise=0.0, snapshots=SNAPSHOTS):
    """Return a full grid over tokens, latents and k."""
    random = np.random.default_rng(5)
    return [
        Cell(2, label, tokens, {"fvu": loss(tokens, d, k) * float(np.exp(noise * random.standard_normal()))}, d, k)
        for d, k, (label, tokens) in itertools.product(widths, active, snapshots.items())
    ]


def test_a_law_of_three_variables_is_found_again():
    """12 trainings of six snapshots: all seven numbers, and the held-out snapshots."""
    (found,) = floors_of(planted(cells()), QUICK).joint
    assert (found.series, found.layer, found.terms, found.points) == ("layer 2", 2, ("tokens", "d_sae", "l0"), 48)
    values = {name: estimate.value for name, estimate in found.parameters.items()}
    for name in ("floor", "b", "d", "h"):
        assert values[name] == pytest.approx(TRUTH[name], rel=1e-4)
    assert values["a"] * 50e6 ** -values["b"] == pytest.approx(TRUTH["a"], rel=1e-3)
    assert values["c"] * 1024 ** -values["d"] == pytest.approx(TRUTH["c"], rel=1e-3)
    assert values["g"] * 16 ** -values["h"] == pytest.approx(TRUTH["g"], rel=1e-3)
    assert found.identified
    assert (found.predictions, found.relative_error) == (24, pytest.approx(0, abs=1e-6))


def test_with_noise_its_intervals_hold_the_truth():
    """Exponents and floor are within their intervals, or nearly."""
    (found,) = floors_of(planted(cells(noise=0.003)), QUICK).joint
    inside = 0
    for name in ("floor", "b", "d", "h"):
        estimate = found.parameters[name]
        inside += estimate.interval.low <= TRUTH[name] <= estimate.interval.high
        assert estimate.interval.low < estimate.value < estimate.interval.high
    assert inside >= 3
    assert found.relative_error < 0.01


def test_a_variable_with_two_values_is_no_term():
    """Of two widths the commoner one is fitted, for a law without widths cannot hold at both."""
    (found,) = floors_of(planted(cells(widths=(1024, 4096))), QUICK).joint
    assert (found.terms, found.points) == (("tokens", "l0"), 16)
    assert found.parameters["b"].value == pytest.approx(TRUTH["b"], rel=1e-3)


def test_a_sweep_over_widths_alone_is_a_law_too():
    """No snapshots: L∞ + c·F^−d over the widths, and nothing is held out."""
    widths = (512, 1024, 2048, 4096, 8192)
    floors = floors_of(planted(cells(widths=widths, active=(32.0,), snapshots={"final": 400_000_000})), QUICK)
    assert (floors.fits, floors.basis) == ((), "measured")
    (found,) = floors.joint
    assert (found.terms, found.points, found.predictions, found.relative_error) == (("d_sae",), 5, 0, None)
    assert found.parameters["d"].value == pytest.approx(TRUTH["d"], rel=1e-3)


def test_variables_that_rise_together_cannot_be_told_apart():
    """Each width with a k of its own: no numbers, but the reason."""
    grid = [cell for cell in cells(active=(16.0, 32.0, 64.0)) if cell.d_sae == {16: 1024, 32: 4096, 64: 16384}[cell.k]]
    (found,) = floors_of(planted(grid), QUICK).joint
    assert found.reason == "d_sae and l0 vary together, so their terms cannot be told apart"
    assert (found.parameters, found.identified) == ({}, False)


def test_too_few_artifacts_are_said():
    """Three widths and three numbers: no law."""
    (found,) = floors_of(planted(cells(active=(32.0,), snapshots={"final": 400_000_000})), QUICK).joint
    assert found.reason == "3 artifacts; a law of these variables needs 4"


def test_layers_have_laws_of_their_own():
    """Two layers, two laws: nothing is fitted over different sites."""
    other = [Cell(7, c.snapshot, c.tokens, {"fvu": 2 * c.losses["fvu"]}, c.d_sae, c.k) for c in cells()]
    found = floors_of(planted(cells() + other), QUICK).joint
    assert [law.series for law in found] == ["layer 2", "layer 7"]
    assert found[1].parameters["floor"].value == pytest.approx(2 * found[0].parameters["floor"].value, rel=1e-4)


def test_resamples_reach_the_minimum_that_scipy_finds():
    """The steps for all resamples at once end where the search from several starts does."""
    random = np.random.default_rng(1)
    variables = np.array(list(itertools.product((1.0, 2, 4, 8), (1.0, 3, 9))))
    truth = np.array([0.3, 0.4, np.log(0.7), 0.2, np.log(0.5)])
    design = joint_design(variables, np.ones(12))
    losses = joint_values(truth[None], design.logs) * np.exp(0.01 * random.standard_normal((4, 12)))
    found = joint_resampled(design, truth, losses)
    for theta, row in zip(found, losses, strict=True):
        ours = ((joint_values(theta[None], design.logs)[0] - row) ** 2).sum()
        best = ((joint_values(joint_fit(design, row)[None], design.logs)[0] - row) ** 2).sum()
        assert ours <= best * (1 + 1e-6)
