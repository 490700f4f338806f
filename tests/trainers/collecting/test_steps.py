"""An even choice of steps takes what a coarse schedule has and spreads the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.errors import UsageError
from saereg.schemas.schedule import PYTHIA
from saereg.trainers.collecting.steps import evenly


def test_a_choice_of_pythia_keeps_all_early_steps_and_thins_out_the_late_ones():
    chosen = evenly(PYTHIA, 32)
    assert chosen[:17] == (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000, 4000, 5000, 6000)
    assert chosen[17:] == (
        7000, 9000, 11000, 14000, 17000, 21000, 26000, 32000, 40000, 49000, 61000, 75000, 93000, 115000, 143000,
    )  # fmt: skip
    assert evenly(PYTHIA, len(PYTHIA)) == PYTHIA


@given(st.data())
def test_there_are_as_many_as_asked_for_with_both_ends(data):
    steps = sorted(data.draw(st.sets(st.integers(0, 10**6), min_size=2, max_size=60)))
    count = data.draw(st.integers(2, len(steps)))
    chosen = evenly(steps, count)
    assert len(chosen) == count
    assert list(chosen) == sorted(set(chosen))
    assert set(chosen) <= set(steps)
    assert (chosen[0], chosen[-1]) == (steps[0], steps[-1])


def test_a_late_schedule_is_spread_evenly_in_its_logarithm():
    steps = tuple(range(1000, 143_001, 1000))
    ratios = [b / a for a, b in zip(evenly(steps, 5), evenly(steps, 5)[1:], strict=False)]
    assert max(ratios) / min(ratios) < 1.5


@pytest.mark.parametrize("count", [0, 1, 4])
def test_fewer_than_both_ends_or_more_than_there_are_is_refused(count):
    with pytest.raises(UsageError, match="the schedule has 3 steps; at least its first and last are taken"):
        evenly((0, 5, 9), count)
    assert evenly((7,), 1) == (7,)
