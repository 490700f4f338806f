"""Which artifacts: conditions, order, the best one."""

import pytest

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.conditions.keywords import OPERATORS
from saereg.registry.flat_fields import headline
from saereg.registry.query import ALIASES, FIELDS, SMALLER_IS_BETTER, resolve_field
from saereg.registry.release import open_release
from saereg.schemas.metrics import Measurement
from tests.releases import tiny_release

TOPK, JUMP, TRANS, CROSS = "layer_1/topk", "layer_1/jumprelu", "layer_1/transcoder", "W_U/cross-snapshot-2"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return open_release(tiny_release(tmp_path_factory.mktemp("query")))


CONDITIONS = {
    "kind": ({"kind": "sae"}, [TOPK, JUMP]),
    "two conditions": ({"kind": "sae", "k": 3}, [TOPK]),
    "equal": ({"architecture__eq": "topk"}, [TOPK]),
    "not equal": ({"kind__ne": "sae"}, [TRANS, CROSS]),
    "less": ({"d_out__lt": 4}, [TRANS]),
    "at most": ({"d_out__le": 4}, [TOPK, JUMP, TRANS, CROSS]),
    "more": ({"l0__gt": 3}, [JUMP, TRANS, CROSS]),
    "at least": ({"d_sae__ge": 10, "l0__ge": 3, "layer__ge": 1}, [JUMP, TRANS]),
    "in": ({"kind__in": ("transcoder", "crosscoder")}, [TRANS, CROSS]),
    "in the text": ({"id__contains": "jump"}, [JUMP]),
    "in the steps": ({"steps__contains": 1000}, [CROSS]),
    "alias": ({"ev__lt": -1000}, []),
    "absent is absent": ({"k": None}, [JUMP, TRANS, CROSS]),
    "absent is not unequal": ({"k__ne": 7}, [TOPK]),
    "absent is not smaller": ({"k__lt": 7}, [TOPK]),
    "absent is not in": ({"k__in": (None, 3)}, [TOPK]),
    "layer": ({"layer": 1}, [TOPK, JUMP, TRANS]),
    "model": ({"model": "tiny/model"}, [TOPK, JUMP, TRANS, CROSS]),
    "sources": ({"n_sources": 2, "axis": "snapshot", "parameter": "W_U"}, [CROSS]),
    "canonical": ({"canonical": False}, [TOPK, JUMP, TRANS, CROSS]),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_selects_those_that_meet_it(release, name):
    """An artifact without the field meets no condition on it, except that it is absent."""
    conditions, expected = CONDITIONS[name]

    assert [artifact.id for artifact in release.find(**conditions)] == expected


def test_selections_can_be_narrowed_counted_and_indexed(release):
    """A selection is a sequence, and so is what is found in it."""
    dictionaries = release.find(kind="sae")

    assert (len(dictionaries), dictionaries[1].id) == (2, JUMP)
    assert [artifact.id for artifact in dictionaries.find(l0__le=3)] == [TOPK]
    assert len(release.find(kind="sae", layer=7)) == 0


def test_sorting_puts_absent_values_last_in_both_directions(release):
    """They are neither small nor large."""
    up = [artifact.id for artifact in release.find().sort("layer", "l0")]
    down = [artifact.id for artifact in release.find().sort("-layer", "-l0")]

    assert up[0] == TOPK
    assert up[-1] == down[-1] == CROSS
    assert down[:3] == up[:3][::-1]


def test_the_l0_of_a_crosscoder_is_per_source_and_says_so(release):
    """Where each source has its own active set there is no other one."""
    fields = release[CROSS].fields

    assert fields["l0"] == fields["l0_per_source_mean"]
    assert (fields["l0_definition"], fields["l0_basis"]) == ("l0_per_source_mean", "measured")
    assert release[TOPK].fields["l0_definition"] == "l0"


def test_sorting_keeps_the_order_of_equals(release):
    """That of the manifest."""
    assert [a.id for a in release.find().sort("d_in")] == [TOPK, JUMP, TRANS, CROSS]


def test_the_best_is_the_largest_or_the_smallest_as_the_metric_goes(release):
    """More variance explained is better, a larger error is not."""
    dictionaries = release.find(kind="sae")
    values = {artifact.id: artifact.fields for artifact in dictionaries}

    assert dictionaries.best("ev").id == max(values, key=lambda i: values[i]["explained_variance"])
    for metric in ("fvu", "mse_per_row", "l0"):
        assert metric in SMALLER_IS_BETTER
        assert dictionaries.best(metric).id == min(values, key=lambda i: values[i][metric])


def test_there_is_no_best_without_a_value(release):
    """Absent is not best."""
    with pytest.raises(UsageError) as caught:
        release.find().best("ce_recovered")

    assert str(caught.value) == "no artifact of the 4 selected has a ce_recovered"
    with pytest.raises(UsageError, match=r"^no artifact of the 0 selected has a measured l0$"):
        release.find(kind="none", basis="measured").best("l0")


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"archtecture": "topk"}, "unknown field 'archtecture'; did you mean 'architecture'?"),
        ({"l0__less": 3}, "unknown operator 'less'; known: contains, eq, ge, gt, in, le, like, lt, ne"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest(release, conditions, message):
    """A misspelt condition must not select nothing in silence."""
    with pytest.raises(UnknownNameError) as caught:
        release.find(**conditions)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"l0__lt": "64"}, "l0__lt='64': l0 is a number, it cannot be compared so"),
        ({"d_in__in": 4}, "d_in__in=4: d_in is a whole number, it cannot be compared so"),
        ({"d_in__contains": 4}, "d_in__contains=4: d_in is a whole number, it cannot be compared so"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(release, conditions, message):
    """With the type of the field."""
    with pytest.raises(UsageError) as caught:
        release.find(**conditions)

    assert str(caught.value) == message


def test_every_operator_and_alias_leads_somewhere(release):
    """The tables are whole."""
    assert all(resolve_field(name) in FIELDS for name in (*FIELDS, *ALIASES))
    assert set(OPERATORS) == {"eq", "ne", "lt", "le", "gt", "ge", "in", "contains", "like"}
    assert all(set(artifact.fields) == set(FIELDS) for artifact in release)


def test_one_measurement_stands_for_a_metric():
    """In raw units, of the first evaluation, whatever else an index holds."""

    def found(value: float, **more) -> Measurement:
        base = {"metric": "explained_variance", "value": value, "evaluation": "a", "data_sha256": "0" * 64, "rows": 7}
        return Measurement.model_validate(base | {"dtype": "float32", "tool": {}} | more)

    several = [found(0.1, units="normalized"), found(0.2), found(0.3, evaluation="b"), found(0.4, metric="fvu"),
               found(0.5, metric="fvu_batch_mean", batch_rows=16), found(0.6, metric="fvu_batch_mean", batch_rows=32),
               found(0.7, metric="mse_per_row", units="normalized")]  # fmt: skip

    assert {name: m.value for name, m in headline(several).items()} == {
        "explained_variance": 0.2,
        "fvu": 0.4,
        "fvu_batch_mean": 0.5,
        "mse_per_row": 0.7,
    }
