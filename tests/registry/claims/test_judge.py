"""What a measurement says of a claim."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.registry.claims.fits import FAMILIES, NAMED_BOTH_WAYS
from saereg.registry.claims.judge import WHY_NOT, correction, judge, tolerance_of
from saereg.registry.metrics.engine import in_bounds
from saereg.schemas.metrics import BATCHED, Claim, Measurement, MetricId, Verdict


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


OTHER_DATA = {
    "rows": (claim(0.9, rows=8192), "computed on other data: 8192 rows, and 'held-out' has 7"),
    "digest": (
        claim(0.9, data_sha256="a" * 64),
        "computed on other data: sha256 aaaaaaaaaaaa…, and that of 'held-out' is 000000000000…",
    ),
    "mask": (claim(0.9, excluded=("pad", "bos")), "computed on other data: bos, pad left out, and of 'held-out' bos"),
    "no mask": (claim(0.9, excluded=()), "computed on other data: nothing left out, and of 'held-out' bos"),
}


@pytest.mark.parametrize("name", OTHER_DATA)
def test_a_claim_on_other_data_is_not_held_against_these(name):
    """Not even where the numbers agree: both are named."""
    stated, why = OTHER_DATA[name]

    (verdict,) = judge([stated], [measured(0.9, excluded=("bos",))])

    assert (verdict.verdict, verdict.why) == ("not_verifiable", why)


def test_a_claim_that_names_the_data_that_were_measured_is_verified():
    """Rows, digest, and what was left out, in any order."""
    stated = claim(0.9, rows=7, data_sha256="0" * 64, excluded=("pad", "bos"))

    (verdict,) = judge([stated], [measured(0.9, excluded=("bos", "pad"))])

    assert verdict.verdict == "verified"


def test_units_are_those_of_the_claim():
    """The same metric in other units is another number."""
    both = [measured(4.0, "mse_per_row"), measured(2.0, "mse_per_row", units="normalized")]
    claims = [claim(4.0, "mse_per_row"), claim(2.0, "mse_per_row", units="normalized"), claim(2.0, "mse_per_row")]

    found = judge(claims, both)

    assert [v.verdict for v in found] == ["verified", "verified", "matches_another"]
    assert (found[2].matches, found[2].matches_units, found[2].matches_value) == ("mse_per_row", "normalized", 2.0)
    assert found[2].why == "2 is mse_per_row in normalized units (2); mse_per_row is 4"


def test_a_batch_size_matters_only_to_what_depends_on_it():
    """A claim of the canonical variance may name the batch it was computed in."""
    batched = measured(0.8, "fve_centred_residual", batch_rows=64)
    claims = [claim(0.9, batch_rows=64), claim(0.8, "fve_centred_residual", batch_rows=64),
              claim(0.8, "fve_centred_residual", batch_rows=32)]  # fmt: skip

    assert [v.verdict for v in judge(claims, [measured(0.9), batched])] == ["verified", "verified", "not_verifiable"]


def test_claims_name_only_so_many_batch_sizes():
    """Each takes a pass over all rows, and a record may be a stranger's; a size that has a claim already is no more."""
    claims = [claim(1, "l0_batch_mean", batch_rows=1 + size % 40) for size in range(80)]

    kept = in_bounds([claim(0.9), *claims, claim(0.8)])
    assert {one.batch_rows for one in kept} == {None, *range(1, 33)}
    assert len(kept) == 2 + 2 * 32

    found = [measured(1, "l0_batch_mean", batch_rows=size) for size in range(1, 33)]
    verdicts = judge(claims, found)
    assert [v.verdict for v in verdicts] == 2 * (32 * ["verified"] + 8 * ["not_verifiable"])
    assert verdicts[-1].why == (
        "l0_batch_mean at batch_rows 40 was not measured on 'held-out': it has claims at more than 32"
    )


def test_every_definition_is_in_one_family():
    """A new definition must be put with those that it is taken for."""
    listed = [metric for family in FAMILIES for metric in family]

    assert sorted(listed) == sorted(get_args(MetricId))
    assert set(NAMED_BOTH_WAYS) <= set(FAMILIES[0])


def test_numbers_of_different_kinds_are_never_taken_for_each_other():
    """An explained variance that equals the L0, or a share of dead latents, is a coincidence."""
    others = [measured(0.5, metric) for family in FAMILIES[1:] for metric in family]

    (verdict,) = judge([claim(0.5, tolerance=1e-4)], [measured(0.9), *others])

    assert verdict.verdict == "differs"


def test_few_digits_do_not_tell_definitions_apart():
    """With a tolerance of 0.05 something always fits: the claim differs, and what fits is named."""
    (verdict,) = judge([claim(0.9)], [measured(0.78), measured(0.92, "ev_saelens_uncentred")])

    assert (verdict.verdict, verdict.matches) == ("differs", None)
    assert verdict.why == (
        "measured 0.78, 0.12 away; 0.05 is allowed, with which ev_saelens_uncentred (0.92) would agree: "
        "too much to tell definitions apart"
    )


def test_what_lies_close_together_is_not_told_apart_by_few_digits():
    """Ten values within 0.04 of the measured one: 3 digits fit one of them by chance, 4 digits hardly."""
    sizes = [16 << i for i in range(10)]
    pool = [measured(0.78)]
    pool += [measured(0.74408 + 0.0023 * i, BATCHED[0], batch_rows=size) for i, size in enumerate(sizes)]

    few, many = judge([claim(0.751), claim(0.7533)], pool)

    assert (few.verdict, correction(claim(0.751), few)) == ("differs", {})
    assert few.why == (
        "measured 0.78, 0.029 away; 0.0005 is allowed, with which explained_variance_legacy_rowmean at batch_rows 128 "
        "(0.75098) would agree: too much to tell definitions apart"
    )
    assert (many.matches, many.matches_batch_rows) == (BATCHED[0], 256)
    (stated,) = judge([claim(0.751, batch_rows=128)], pool)
    assert (stated.matches, stated.matches_batch_rows) == (BATCHED[0], 128)


@pytest.mark.parametrize("value", [0.96, 0.959])
def test_a_definition_that_stands_alone_is_told_by_few_digits(value):
    """Far from the measured value hardly anything agrees by chance."""
    (verdict,) = judge([claim(value)], [measured(0.782), measured(0.959, "ev_saelens_uncentred")])

    assert verdict.matches == "ev_saelens_uncentred"


def test_of_batch_sizes_that_agree_only_one_that_is_stated_is_named():
    """Else all of them, and which to write is left to the author."""
    pool = [measured(0.78), *(measured(0.9928, "fve_scalar_var", batch_rows=size) for size in (16, 32, 64))]
    other = claim(0.5, "fvu_batch_mean", batch_rows=32)

    (alike,) = judge([claim(0.993)], pool)
    of_another, _ = judge([claim(0.993), other], pool)
    (own, _) = judge([claim(0.993, batch_rows=64), other], pool)

    assert (alike.matches, alike.matches_batch_rows, correction(claim(0.993), alike)) == ("fve_scalar_var", None, {})
    assert alike.why.startswith("0.993 is fve_scalar_var at several batch_rows from 16 to 64 (0.9928); ")
    assert (of_another.matches_batch_rows, own.matches_batch_rows) == (32, 64)


def test_what_needs_no_guess_of_a_batch_size_goes_first():
    """And such a definition is named as one that agrees too."""
    batched = [measured(0.9928, "fve_scalar_var", batch_rows=size) for size in (16, 32)]

    (verdict,) = judge([claim(0.9928)], [measured(0.78), *batched, measured(0.99281, "ev_scalar_mean")])

    assert correction(claim(0.9928), verdict) == {"metric": "ev_scalar_mean"}
    assert verdict.why.endswith("; fve_scalar_var at several batch_rows from 16 to 32 (0.9928) would agree too")


def test_an_explained_share_is_not_taken_for_the_rest_of_another():
    """Near 0.5 both are within a loose tolerance; what is changed is the name alone."""
    stated = claim(0.51, tolerance=0.02)

    (verdict,) = judge([stated], [measured(0.1), measured(0.495, "fve_centred_residual", batch_rows=16)])

    assert correction(stated, verdict) == {"metric": "fve_centred_residual", "batch_rows": 16}


@pytest.mark.parametrize(
    ("value", "words"), [(0.8177, "the mean over sources is 0.8177"), (0.5151, "source 0 has 0.5151")]
)
def test_a_number_of_single_sources_differs_and_is_known(value, words):
    """It has no name that a claim could take."""
    (verdict,) = judge([claim(value)], [measured(0.9751, per_source=(0.5151, 0.9608, 0.9772))])

    assert verdict.verdict == "differs"
    assert verdict.why.endswith(f"; {words}")
    assert correction(claim(value), verdict) == {}


def test_the_unexplained_share_is_known_by_its_own_name():
    """0.22 for what is fvu is one number under the wrong name, not 1 − another."""
    pool = [measured(0.78), measured(0.22, "fvu"), measured(0.04, "nmse_uncentred_row")]

    first, second = judge([claim(0.22), claim(0.96)], pool)

    assert (first.matches, correction(claim(0.22), first)) == ("fvu", {"metric": "fvu"})
    assert second.why == "0.96 is 1 − nmse_uncentred_row (0.04); explained_variance is 0.78"
    assert correction(claim(0.96), second) == {"metric": "nmse_uncentred_row", "value": 0.04}


def test_what_agrees_with_every_digit_goes_before_what_is_likelier():
    """A declared tolerance may let in both."""
    pool = [measured(0.78), measured(0.957, "ev_saelens_uncentred"), measured(0.9612, "ev_uncentred")]

    loose, exact = judge([claim(0.959, tolerance=0.01), claim(0.961, tolerance=0.01)], pool)

    assert (loose.matches, exact.matches) == ("ev_saelens_uncentred", "ev_uncentred")
    assert loose.why.endswith("; ev_uncentred (0.9612) would agree too")


def test_at_most_three_definitions_are_named():
    """The likeliest ones."""
    names = ("ev_uncentred", "ev_scalar_mean", "r2_uniform_average", "ev_saelens_uncentred")

    (verdict,) = judge([claim(0.96)], [measured(0.5), *(measured(0.96, name) for name in names)])

    assert verdict.matches == "ev_saelens_uncentred"
    assert "r2_uniform_average" not in verdict.why


SHARES = st.floats(0.01, 0.99).map(lambda value: round(value, 4))


@given(SHARES, st.dictionaries(st.sampled_from(FAMILIES[0]), SHARES, min_size=1))
def test_a_verdict_of_another_definition_can_be_acted_on(stated, values):
    """Whatever was measured: the change that is named makes the claim true, and no verified claim is called wrong."""
    pool = [measured(value, metric, **({"batch_rows": 8} if metric in BATCHED else {}))
            for metric, value in values.items()]  # fmt: skip
    (verdict,) = judge([claim(stated)], pool)

    if "explained_variance" not in values:
        assert verdict.verdict == "not_verifiable"
    elif abs(values["explained_variance"] - stated) <= tolerance_of(claim(stated)):
        assert verdict.verdict == "verified"
    elif verdict.verdict == "matches_another":
        change = correction(claim(stated), verdict)
        changed = claim(stated).model_copy(update=change)
        assert change
        assert judge([changed], pool)[0].verdict == "verified"
