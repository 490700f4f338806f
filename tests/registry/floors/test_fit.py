"""Floors of releases whose laws are known: what is found, what it foretells, and what is admitted not to be known."""

import random as shuffling

import numpy as np
import pytest

from saereg.registry.floors.fit import floors_of
from saereg.registry.floors.fitting import FitOptions, early_count, fit_all
from saereg.registry.floors.series import Series
from tests.registry.floors.planted import SNAPSHOTS, Cell, grid, law, layer_law, planted

QUICK = FitOptions(resamples=200)
TOKENS = tuple(map(float, SNAPSHOTS.values()))


def series(values, name="one", tokens=TOKENS):
    """Return a measured series."""
    ids = tuple(f"s{n}" for n in range(len(values)))
    return Series(name, None, ids, tuple(tokens), tuple(map(float, values)), (1,) * len(values), "held-out")


def test_a_grid_of_24_layers_and_6_snapshots_gives_back_its_laws():
    """Four early snapshots a layer: floors, exponents, and two held-out snapshots that were foretold."""
    floors = floors_of(planted(grid(noise=0.001)), QUICK)
    assert (floors.metric, floors.basis, floors.evaluation) == ("fvu", "measured", "held-out")
    assert [fit.layer for fit in floors.fits] == list(range(24))
    assert {fit.fitted for fit in floors.fits} == {4}
    assert {len(fit.predictions) for fit in floors.fits} == {2}
    inside = [fit.floor.interval.low <= layer_law(fit.layer)[0] <= fit.floor.interval.high for fit in floors.fits]
    assert sum(inside) >= 17
    assert sum(fit.identified for fit in floors.fits) >= 18
    assert max(fit.relative_error for fit in floors.fits) < 0.02
    assert floors.joint == ()


def test_a_law_without_noise_is_found_to_a_millionth():
    """What stands in the index is the law that was planted."""
    fit = floors_of(planted(grid([3], noise=0)), QUICK).fits[0]
    floor, scale, exponent = layer_law(3)
    assert fit.floor.value == pytest.approx(floor, rel=1e-6)
    assert fit.exponent.value == pytest.approx(exponent, rel=1e-5)
    assert fit.scale.value == pytest.approx(scale * 50e6**exponent, rel=1e-4)
    assert fit.identified
    assert fit.relative_error < 1e-6


def test_intervals_hold_the_floor_about_as_often_as_they_say():
    """60 trainings with one law: 90 % intervals hold the floor, and the held-out losses, in about 54 of 60."""
    random = np.random.default_rng(11)
    losses = law(TOKENS, 0.3, 0.4, 0.6) * np.exp(0.004 * random.standard_normal((60, 6)))
    fits = fit_all([series(row, f"s{n:02d}") for n, row in enumerate(losses)], QUICK)
    hits = sum(fit.floor.interval.low <= 0.3 <= fit.floor.interval.high for fit in fits)
    assert 46 <= hits <= 59
    foretold = [p.interval.low <= p.measured <= p.interval.high for fit in fits for p in fit.predictions]
    assert 92 <= sum(foretold) <= 118


def test_a_lone_series_has_wide_intervals_that_hold_its_floor():
    """Four points leave one degree of freedom: Student's intervals, and no floor is called identified lightly."""
    random = np.random.default_rng(12)
    losses = law(TOKENS, 0.3, 0.4, 0.6) * np.exp(0.004 * random.standard_normal((40, 6)))
    fits = [fit_all([series(row)], QUICK)[0] for row in losses]
    hits = sum(fit.floor.interval.low <= 0.3 <= fit.floor.interval.high for fit in fits)
    assert hits >= 29
    wrong = [fit for fit in fits if fit.identified and abs(fit.floor.value - 0.3) > 0.1]
    assert len(wrong) <= 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.9, 0.8], "2 snapshots, of which 1 would be fitted"),
        ([0.9, 0.8, 0.75, 0.72], "4 snapshots, of which 3 would be fitted"),
        ([0.5] * 6, "does not fall over the 4 early snapshots"),
        ([0.5, 0.52, 0.55, 0.6, 0.7, 0.8], "rises over the 4 early snapshots"),
    ],
)
def test_where_there_is_no_fit_it_is_said_why(values, words):
    """No floor, no prediction: a sentence."""
    fit = fit_all([series(values, tokens=TOKENS[: len(values)])], QUICK)[0]
    assert words in fit.reason
    assert (fit.floor, fit.predictions, fit.identified, fit.relative_error) == (None, (), False, None)
    assert fit.values == tuple(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (law(TOKENS, 0, 1, 0.3) * [1.01, 0.99, 1.01, 0.99, 1, 1], "any floor between 0 and"),
        ([0.5, 0.51, 0.495, 0.5, 0.5, 0.5], "no more than its scatter"),
        ([3, 1, 1, 1, 1, 1], "b runs to 5"),
    ],
)
def test_a_floor_that_the_points_do_not_determine_is_not_called_one(values, words):
    """A power law over eight times the tokens, scatter, a jump."""
    fit = fit_all([series(values)], QUICK)[0]
    assert words in fit.reason
    assert not fit.identified
    assert fit.floor.interval.low <= fit.floor.value <= fit.floor.interval.high


def test_a_loss_that_falls_faster_and_faster_follows_no_law():
    """Straight against log n, a loss bends away from every floor; nine early snapshots show it."""
    values = 1 - 0.06 * np.arange(13)
    fit = fit_all([series(values, tokens=50e6 * 2.0 ** np.arange(13))], QUICK)[0]
    assert "the loss falls faster and faster, which no floor explains" in fit.reason
    assert not fit.identified


def test_held_out_snapshots_can_contradict_a_law():
    """A loss that turns after the early part: the floor looked certain, and is not called identified."""
    values = [*law(TOKENS[:4], 0.3, 0.4, 1.0), 0.2, 0.1]
    fit = fit_all([series(values)], QUICK)[0]
    assert fit.reason == "2 of 2 held-out snapshots are outside their intervals: the loss does not go on as it began"
    assert fit.relative_error > 0.5


def test_no_order_of_artifacts_changes_a_digit():
    """The manifest shuffled: the same fits, to the byte."""
    cells = grid(range(5), noise=0.01)
    ours = floors_of(planted(cells), QUICK)
    shuffling.Random(3).shuffle(cells)
    assert floors_of(planted(cells), QUICK).model_dump_json() == ours.model_dump_json()


def test_units_scale_floors_and_nothing_else():
    """Losses times 2^20: floors, scales and predictions too; exponents and errors stay."""
    ours = fit_all([series(law(TOKENS, 0.3, 0.4, 0.6) * [1.01, 0.99, 1, 1.01, 1, 1])], QUICK)[0]
    values = [value * 2**20 for value in ours.values]
    theirs = fit_all([series(values)], QUICK)[0]
    assert theirs.floor.value == pytest.approx(ours.floor.value * 2**20, rel=1e-5)
    assert theirs.floor.interval.high == pytest.approx(ours.floor.interval.high * 2**20, rel=1e-3)
    assert theirs.predictions[0].predicted == pytest.approx(ours.predictions[0].predicted * 2**20, rel=1e-5)
    assert (theirs.exponent, theirs.noise, theirs.relative_error) == (ours.exponent, ours.noise, ours.relative_error)


def test_early_means_two_thirds_four_at_least_and_never_all():
    """Six snapshots: four; five: four; thirty: twenty."""
    assert [early_count(points, 2 / 3) for points in (2, 4, 5, 6, 9, 30)] == [1, 3, 4, 4, 6, 20]
    assert early_count(10, 0.9) == 9
    fit = floors_of(planted(grid([0])), FitOptions(early=5 / 6, resamples=50)).fits[0]
    assert (fit.fitted, len(fit.predictions)) == (5, 1)


def test_a_snapshot_without_a_loss_is_no_point():
    """A loss that is not defined, or 0, is left out; the tokens of the others stand with their own losses."""
    cells = grid([0], noise=0)
    cells[1] = Cell(0, "100M", 100_000_000, {"fvu": None})
    cells[2] = Cell(0, "200M", 200_000_000, {"fvu": 0.0})
    fit = floors_of(planted(cells), QUICK).fits[0]
    assert fit.tokens == (50e6, 400e6, 800e6, 1600e6)
    assert fit.artifacts[1] == "layer_0/w4096/k32/400M"


def test_one_loss_is_fitted_over_all_series():
    """Of two losses that one which more artifacts have; `fvu` where both are everywhere."""
    both = [Cell(c.layer, c.snapshot, c.tokens, c.losses | {"mse_per_row": 2.0}) for c in grid([0])]
    assert floors_of(planted(both), QUICK).metric == "fvu"
    only = [Cell(c.layer, c.snapshot, c.tokens, {"mse_per_row": 40 * c.losses["fvu"]}) for c in grid([1, 2])]
    found = floors_of(planted(both + only), QUICK)
    assert (found.metric, len(found.fits)) == ("mse_per_row", 3)


def test_a_snapshot_may_be_known_by_its_name_alone():
    """`50M` is 50 million tokens where the manifest does not count them; `final` then is no number."""
    cells = [Cell(c.layer, c.snapshot, None, c.losses) for c in grid([0])]
    assert floors_of(planted(cells), QUICK).fits[0].tokens == (50e6, 100e6, 200e6, 400e6, 800e6)


def test_series_are_named_by_what_tells_them_apart():
    """Two widths of each layer: the width is said, the sparsity that all share is not."""
    wide = [Cell(c.layer, c.snapshot, c.tokens, c.losses, d_sae=8192) for c in grid([0, 1])]
    found = floors_of(planted(grid([0, 1]) + wide), QUICK)
    names = ["layer 0 · 4096 latents", "layer 0 · 8192 latents", "layer 1 · 4096 latents", "layer 1 · 8192 latents"]
    assert [fit.series for fit in found.fits] == names


def test_a_release_without_snapshots_has_no_floors():
    """One artifact a layer, and no logs: nothing to fit."""
    assert floors_of(planted([c for c in grid([0, 1]) if c.snapshot == "final"])) is None


def test_the_same_release_gives_the_same_bytes():
    """Twice, and numbers have no more digits than machines agree on."""
    release = planted(grid([0, 1], noise=0.01))
    ours, theirs = (floors_of(release, QUICK).model_dump_json() for _ in range(2))
    assert ours == theirs
    fit = floors_of(release, QUICK).fits[0]
    assert float(f"{fit.floor.value:.6g}") == fit.floor.value
    assert float(f"{fit.floor.interval.low:.4g}") == fit.floor.interval.low
