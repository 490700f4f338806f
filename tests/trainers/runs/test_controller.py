"""A coefficient is steered to an L0: from anywhere, without leaps, and to the same bits after an interruption."""

import math

import pytest

from saereg.trainers.runs.controller import FASTEST, REACH, SOFT, CoefficientController


class Plant:
    """An L0 that follows a coefficient as a power of it, late, and falls by itself at the beginning."""

    def __init__(self, power: float, lag: float, best: float) -> None:
        self.power, self.lag, self.best, self.log = power, lag, best, math.log(6000)

    def l0(self, coefficient: float) -> float:
        wanted = min(math.log(3000), math.log(50) - self.power * math.log(coefficient / self.best))
        self.log += (wanted - self.log) / self.lag
        return math.exp(self.log)


@pytest.mark.parametrize("start", [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0])
@pytest.mark.parametrize(("power", "lag"), [(0.4, 100), (1.0, 30), (1.0, 400), (2.0, 200)])
@pytest.mark.parametrize("counts", [False, True])
def test_l0_ends_where_it_is_wanted_wherever_the_coefficient_begins(start, power, lag, counts):
    controller, plant = CoefficientController(50, start, 5000, counts=counts), Plant(power, lag, best=0.03)
    seen = []
    for _ in range(5000):
        seen.append(plant.l0(controller.value))
        controller.observe(seen[-1])
    assert seen[-1] == pytest.approx(50, rel=0.05)
    assert min(seen) > 40


@pytest.mark.parametrize("steps", [100, 1000, 100_000])
def test_no_step_changes_the_coefficient_by_more_than_its_bound(steps):
    controller, bound = CoefficientController(10, 1.0, steps), min(REACH / steps, FASTEST)
    assert controller.value == pytest.approx(SOFT)
    for l0 in [5000, 0, 0, 1e9, 10, 10] * 10:
        before = controller.value
        controller.observe(l0)
        assert abs(math.log(controller.value / before)) <= bound * (1 + 1e-9)


def test_the_coefficient_waits_while_l0_falls_by_itself():
    controller = CoefficientController(50, 1.0, 10_000)
    for step in range(1000):
        before = controller.value
        controller.observe(6000 * math.exp(-step / 200))
    assert controller.value < before


def test_it_rises_slowly_while_it_warms_up():
    slow, fast = CoefficientController(10, 1.0, 1000, 100), CoefficientController(10, 1.0, 1000)
    for _ in range(50):
        slow.observe(1000)
        fast.observe(1000)
    assert SOFT < slow.value < fast.value
    assert math.log(slow.value / SOFT) == pytest.approx(math.log(fast.value / SOFT) * 0.255)


def test_it_stays_below_its_limit():
    controller = CoefficientController(10, 1.0, 100)
    controller.limit(0.05)
    for _ in range(100):
        controller.observe(1000)
    assert controller.value == pytest.approx(0.05)


def test_a_constant_batch_has_no_limit():
    controller = CoefficientController(10, 1.0, 100)
    controller.limit(0.0)
    controller.observe(1000)
    assert controller.value > SOFT


def test_one_that_was_loaded_goes_on_to_the_same_bits():
    first, second = CoefficientController(10, 1.0, 500, 20), CoefficientController(10, 1.0, 500, 20)
    first.limit(3.0)
    values = [900 / (1 + step / 7) for step in range(60)]
    for l0 in values[:25]:
        first.observe(l0)
    second.load(first.state())
    for l0 in values[25:]:
        first.observe(l0)
        second.observe(l0)
        assert first.value == second.value
    assert first.state() == second.state()
