"""Schedules of pretraining checkpoints: which steps there are, and which is the nearest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.schemas.document import check_text
from saereg.schemas.schedule import SCHEDULES, parse_schedule
from saereg.schemas.site import BaseModelRef

steps = st.integers(min_value=-10, max_value=200_000)
schedules = st.one_of(
    st.just("pythia-154"),
    st.integers(1, 5000).map(lambda n: f"every:{n}"),
    st.tuples(st.integers(1, 5000), st.integers(0, 200_000)).map(lambda t: f"every:{t[0]}:{t[1]}"),
    st.lists(st.integers(0, 200_000), min_size=1, unique=True).map(sorted),
)


def test_pythia_has_154_checkpoints():
    """0, the powers of two to 512, and every thousand to 143,000; the repository has no other revisions."""
    steps = SCHEDULES["pythia-154"]

    assert len(steps) == 154
    assert steps[:13] == (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000)
    assert steps[-1] == 143_000
    assert list(steps) == sorted(set(steps))


@pytest.mark.parametrize(
    ("schedule", "inside", "outside"),
    [
        ("pythia-154", (0, 512, 1000, 143_000), (3, 500, 1024, 1500, 144_000, -1)),
        ("every:1000", (0, 1000, 928_000), (1, 999, -1000)),
        ("every:1000:143000", (0, 143_000), (144_000, 500)),
        ("every:1000:1500", (0, 1000), (1500, 2000)),
        ((5, 7, 100), (5, 7, 100), (0, 6, 101)),
    ],
)
def test_a_schedule_holds_its_steps_and_no_others(schedule, inside, outside):
    """By name, by rule with and without an end, and as a list."""
    parsed = parse_schedule(schedule)

    assert all(step in parsed for step in inside)
    assert not any(step in parsed for step in outside)


@pytest.mark.parametrize(
    ("step", "nearest"), [(3, 2), (500, 512), (1024, 1000), (1500, 1000), (1501, 2000), (150_000, 143_000), (-4, 0)]
)
def test_the_nearest_step_is_named(step, nearest):
    """Of two that are as near it is the smaller one."""
    assert parse_schedule("pythia-154").nearest(step) == nearest


@given(schedules, steps)
def test_the_nearest_step_is_in_the_schedule_and_nothing_is_nearer(schedule, step):
    """A step of the schedule is its own nearest."""
    parsed = parse_schedule(schedule)
    nearest = parsed.nearest(step)

    assert nearest in parsed
    assert (nearest == step) == (step in parsed)
    assert not any(near in parsed for near in range(step, step + abs(nearest - step)))


@pytest.mark.parametrize(
    "value", ["pythia", "every:0", "every:", "every:1000:x", "each:5", "", (), (3, 2), (1, 1), (-1,)]
)
def test_what_is_no_schedule_is_refused_in_the_manifest(value):
    """One problem, at the key, that says what may stand there."""
    text = json.dumps({"id": "EleutherAI/pythia-160m", "schedule": value})
    found, problems = check_text(BaseModelRef, text)

    assert found is None
    assert {problem.pointer for problem in problems} == {"/schedule"}
    assert "schedule" in problems[0].sentence


@given(st.text(max_size=30))
def test_any_text_is_a_schedule_or_refused(text):
    """Nothing but ValueError, and what is accepted can be asked."""
    try:
        parsed = parse_schedule(text)
    except ValueError:
        return
    assert parsed.nearest(7) in parsed
