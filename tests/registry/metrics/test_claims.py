"""What a measurement says of a claim."""

import pytest

from saereg.registry.metrics.claims import WHY_NOT, judge, tolerance_of
from saereg.schemas.metrics import Claim, Measurement, Verdict


def claim(value: float, metric: str = "explained_variance", **more) -> Claim:
    return Claim.model_validate({"metric": metric, "value": value, "evaluation": "held-out"} | more)


def measured(value: float | None, metric: str = "explained_variance", **more) -> Measurement:
    base = {"metric": metric, "value": value, "evaluation": "held-out", "data_sha256": "0" * 64, "rows": 7}
    return Measurement.model_validate(base | {"dtype": "float32", "tool": {}} | more)


@pytest.mark.parametrize(
    ("value", "metric", "tolerance"),
    [
        (0.96, "explained_variance", 0.005),
        (0.9, "explained_variance", 0.05),
        (0.9625, "explained_variance", 0.00005),
        (-11.09, "explained_variance", 0.005),
        (1e-7, "mse_per_row", 0.5e-7),
        (0.0, "dead_fraction", 1e-6),
        (1.0, "explained_variance", 1e-6),
        (41.0, "l0", 0.5),
        (41.3, "l0", 0.05),
        (120.0, "l0_any_source", 0.5),
    ],
)
def test_the_tolerance_is_half_a_unit_of_the_last_printed_digit(value, metric, tolerance):
    """A whole L0 was rounded to whole; another whole number was hardly rounded at all."""
    assert tolerance_of(claim(value, metric)) == pytest.approx(tolerance, rel=1e-12)


def test_a_declared_tolerance_is_taken():
    """Whatever the digits."""
    assert tolerance_of(claim(0.96, tolerance=0.1)) == 0.1


@pytest.mark.parametrize(
    ("stated", "found", "verdict"),
    [(0.96, 0.9601, "verified"), (0.96, 0.965, "verified"), (0.96, 0.955, "verified"), (0.96, 0.9651, "differs"),
     (0.96, 0.9549, "differs")],
)  # fmt: skip
def test_a_claim_is_verified_up_to_and_including_its_tolerance(stated, found, verdict):
    """What rounds to the printed digits agrees with them."""
    (given,) = judge([claim(stated)], [measured(found)])

    assert (given.verdict, given.measured) == (verdict, found)


@pytest.mark.parametrize(
    ("stated", "here", "there"),
    [(0.785, 0.78550000001, 0.78550000002), (0.7855123043060303, 0.7855123043060303, 0.7855124)],
)
def test_a_claim_holds_on_a_machine_that_adds_in_another_order(stated, here, there):
    """It was rounded from just half a unit, or printed with all its digits."""
    for found in (here, there):
        (verdict,) = judge([claim(stated, tolerance=None)], [measured(found, tolerance=1e-5)])
        assert verdict.verdict == "verified"


def test_a_claim_that_differs_says_by_how_much():
    """And what would have been allowed."""
    (verdict,) = judge([claim(0.96)], [measured(0.9)])

    assert verdict.why == "measured 0.9, 0.06 away; 0.005 is allowed"


NOT_VERIFIABLE = {
    "training": (claim(0.9, kind="training_running_mean"), [measured(0.9)], WHY_NOT["training_running_mean"]),
    "window": (claim(0.9, kind="training_window"), [measured(0.9)], WHY_NOT["training_window"]),
    "batch": (claim(0.9, kind="last_batch"), [measured(0.9)], WHY_NOT["last_batch"]),
    "no evaluation": (claim(0.9, evaluation=None), [measured(0.9)], "the claim names no evaluation"),
    "other evaluation": (
        claim(0.9, evaluation="other"),
        [measured(0.9)],
        "explained_variance was not measured on 'other'",
    ),
    "other metric": (claim(0.9, "ce_recovered"), [measured(0.9)], "ce_recovered was not measured on 'held-out'"),
    "undefined": (claim(0.9), [measured(None, reason="the data are constant")], "the data are constant"),
}


@pytest.mark.parametrize("name", NOT_VERIFIABLE)
def test_a_claim_that_cannot_be_verified_says_why(name):
    """It is neither true nor false."""
    stated, measurements, why = NOT_VERIFIABLE[name]

    assert judge([stated], measurements) == (Verdict(claim=0, verdict="not_verifiable", why=why),)


def test_every_claim_gets_its_verdict_in_order():
    """Against the measurement of its own metric and evaluation."""
    claims = [claim(3.0, "l0"), claim(0.5), claim(0.7, evaluation="other")]
    measurements = [measured(0.5), measured(3.4, "l0"), measured(0.7, evaluation="other")]

    assert [(v.claim, v.verdict) for v in judge(claims, measurements)] == [(i, "verified") for i in range(3)]
