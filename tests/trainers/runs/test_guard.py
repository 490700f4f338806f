"""What counts as a divergence, and what does not."""

import math

import pytest
import torch

from saereg.errors import DivergedError
from saereg.trainers.runs.controller import CoefficientController
from saereg.trainers.runs.guard import Guard


def losses(guard, values):
    """Let a guard look at losses; return the step at which it stops, or None."""
    for step, value in enumerate(values, 1):
        try:
            guard.check("a", step, value)
        except DivergedError:
            return step
    return None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_number_is_the_end_from_the_first_step_on(value):
    """Whatever a spike may be."""
    assert losses(Guard(1e300), [value]) == 1
    assert losses(Guard(1e300), [1.0] * 5 + [value]) == 6


def test_a_leap_is_the_end_and_its_line_says_how_far_and_what_to_do():
    """100 times the running mean, by default."""
    guard = Guard(100.0)
    assert losses(guard, [0.5] * 50 + [49.0]) is None
    with pytest.raises(DivergedError) as caught:
        guard.check("a", 52, 300.0)
    assert str(caught.value) == (
        "a: the loss of step 52 is 300, 305 times what it was; lower optimization.lr or look at the rows, "
        "in a run of another id, or allow it with a higher optimization.spike"
    )


@pytest.mark.parametrize("warm_up", [10, 100, 1000, 10_000])
def test_a_coefficient_that_is_warmed_up_is_no_leap(warm_up):
    """Reconstruction falls a thousandfold while the penalty rises to a thousand times what is left of it."""
    values = [math.exp(-step / 50) + 1e-3 + 1.0 * min(1.0, step / warm_up) for step in range(3 * warm_up)]
    assert losses(Guard(100.0), values) is None


def test_a_coefficient_that_is_steered_is_no_leap():
    """The controller at its fastest, a factor a step, in a run whose loss is the penalty alone."""
    controller = CoefficientController(target=1.0, start=1e-6, steps=600)
    values = []
    for _ in range(600):
        values.append(controller.value)
        controller.observe(100.0)
    assert max(values) > 1e6 * min(values)
    assert losses(Guard(100.0), values) is None


def test_a_perfect_fit_may_wobble():
    """A loss that has fallen to nothing is no measure of what is much."""
    assert losses(Guard(100.0), [1.0 * 0.5**step for step in range(200)] + [1e-4, 1e-12, 5e-4]) is None
    assert losses(Guard(100.0), [0.0] * 50 + [0.0]) is None
    assert losses(Guard(100.0), [1.0 * 0.5**step for step in range(3000)] + [0.5]) == 3001


def test_what_it_remembers_goes_on():
    """A run that goes on stops where one that was never stopped does."""
    first = Guard(10.0)
    losses(first, [1.0] * 30)
    second = Guard(10.0)
    second.load(first.state())
    assert losses(second, [11.0]) == 1
    assert losses(Guard(10.0), [11.0]) is None


def test_a_run_that_really_diverges_is_stopped():
    """Gradient descent with far too high a learning rate, before the numbers end."""
    weights = torch.nn.Parameter(torch.ones(4))
    values = []
    for step in range(60):
        loss = (weights * torch.arange(1.0, 5.0)).square().sum()
        loss.backward()
        with torch.no_grad():
            weights -= (0.001 if step < 30 else 0.2) * weights.grad
        weights.grad = None
        values.append(float(loss))
    stopped = losses(Guard(100.0), values)
    assert stopped is not None
    assert 30 < stopped < 45
