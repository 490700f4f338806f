"""Which version changes demand, and how versions are ordered."""

import itertools
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.registry.differences.advice import advice
from saereg.registry.differences.rules import FILES, ROLES, RULES
from saereg.registry.semver import order, raised
from saereg.schemas.difference import ChangeKind
from saereg.schemas.index import Role
from tests.registry.differences import documents as d

ORDERED = [
    "0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
    "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0-rc.1", "2.0.0",
]  # fmt: skip
"""The example of semver.org, section 11, and some around it."""


def test_versions_are_ordered_as_semver_says():
    """Each comes before all that follow it; what stands behind a plus does not count."""
    assert all(order(a) < order(b) for a, b in itertools.combinations(ORDERED, 2))
    assert order("1.0.0+one") == order("1.0.0+two") == order("1.0.0")


VERDICTS = [
    # before, now, change, least, fits
    ("1.2.3", "1.2.4", "document_changed", "1.2.4", True),
    ("1.2.3", "1.2.4", "artifact_added", "1.3.0", False),
    ("1.2.3", "1.3.0", "artifact_added", "1.3.0", True),
    ("1.2.3", "1.9.9", "weights_changed", "2.0.0", False),
    ("1.2.3", "2.0.0", "weights_changed", "2.0.0", True),
    ("1.2.3", "2.0.0-rc.1", "weights_changed", "2.0.0", True),
    ("1.2.3", "1.3.0-rc.1", "weights_changed", "2.0.0", False),
    ("1.2.3", "1.2.3", "document_changed", "1.2.4", False),
    ("1.2.3", "1.2.3+two", "document_changed", "1.2.4", False),
    ("1.2.3", "1.2.3", "withdrawal_added", "1.2.4", True),
    ("1.2.3", "1.2.2", "document_changed", "1.2.4", False),
    ("0.3.1", "0.4.0", "weights_changed", "0.4.0", True),
    ("0.3.1", "0.3.2", "weights_changed", "0.4.0", False),
    ("0.3.1", "0.3.2", "artifact_added", "0.3.2", True),
    ("0.3.1", "1.0.0", "weights_changed", "0.4.0", True),
    ("2.0.0-rc.1", "2.0.0", "weights_changed", "2.0.0", True),
    ("2.0.0-rc.1", "2.0.0-rc.2", "weights_changed", "2.0.0", True),
    ("2.0.0-rc.2", "2.0.0-rc.1", "weights_changed", "2.0.0", False),
]


@pytest.mark.parametrize(("before", "now", "kind", "least", "fits"), VERDICTS)
def test_a_change_demands_a_version(before, now, kind, least, fits):
    """Below 1.0.0 each step is one lower; after a pre-release any later version does."""
    found = advice(before, now, {kind})
    assert (found.least, found.fits) == (least, fits)


def test_nothing_demands_nothing():
    """The same version may be kept; an earlier one is still the older release."""
    assert advice("1.0.0", "1.0.0", set()).fits
    assert not advice("1.0.0", "0.9.0", set()).fits


def test_a_mark_and_anything_else_is_not_in_place():
    """Marks come with the card that repeats them, and with nothing more."""
    assert advice("1.0.0", "1.0.0", {"withdrawal_added", "document_changed"}).fits
    assert not advice("1.0.0", "1.0.0", {"withdrawal_added", "claim_added"}).fits


def test_other_weights_under_the_same_version_are_named():
    """A published version is never overwritten."""
    assert d.after(d.bytes_of(1, 0, "1")).advice.overwritten == ("layer_1/b",)
    assert d.after(d.bytes_of(1, 0, "1"), d.version("2.0.0")).advice.overwritten == ()


@given(st.tuples(*[st.integers(0, 30)] * 3), st.sampled_from(["patch", "minor", "major"]))
def test_a_raised_version_comes_later_and_fits(numbers, step):
    """Whatever the numbers."""
    version = ".".join(map(str, numbers))
    assert order(raised(version, step)) > order(version)
    kind = {"patch": "document_changed", "minor": "artifact_added", "major": "weights_changed"}[step]
    assert advice(version, raised(version, step), {kind}).fits


def test_every_kind_and_role_has_a_rule():
    """The tables hold all that the schema names, and no more."""
    assert set(RULES) == set(get_args(ChangeKind))
    assert set(ROLES) == set(get_args(Role))
    assert {which for which, _ in FILES} == set(ROLES.values())


def test_the_page_says_what_the_table_says():
    """`docs/differences.md` lists every kind with the level that it demands."""
    page = (Path(__file__).parents[3] / "docs" / "differences.md").read_text(encoding="utf-8")
    for kind, rule in RULES.items():
        assert f"| `{kind}` | {rule.level} | {rule.why} |" in page
