"""One language of conditions: what is read, what is refused, and that a catalogue and memory answer alike."""

import math
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.catalog.columns import COLUMNS
from saereg.registry.conditions.fields import DESCRIBING, FIELDS, METRICS
from saereg.registry.conditions.keywords import by_keywords
from saereg.registry.conditions.parsing import DEEPEST, MOST_PARTS, parse
from saereg.registry.conditions.tree import Absent, Among, And, Compare, Contains, Like, Not, Or
from saereg.schemas.metrics import MetricId
from tests.registry.catalog.made import MODELS, NUMBERS, WORDS, both, entries

A, B = Compare("l0", "lt", 300), Compare("explained_variance", "gt", 0.9)

READ = {
    "l0 < 300 and ev > 0.9": And((A, B)),
    "l0<300 AND (ev>.9)": And((A, B)),
    "l0 < 300 or ev > 0.9 and canonical": Or((A, And((B, Compare("canonical", "eq", True))))),
    "(l0 < 300 or ev > 0.9) and not canonical": And((Or((A, B)), Not(Compare("canonical", "eq", True)))),
    "not l0 < 300": Not(A),
    "l0<=64.5": Compare("l0", "le", 64.5),
    "ev > -0.5": Compare("explained_variance", "gt", -0.5),
    "k>=32": Compare("k", "ge", 32),
    "architecture = topk": Compare("architecture", "eq", "topk"),
    "architecture == 'topk'": Compare("architecture", "eq", "topk"),
    "kind != sae": Compare("kind", "ne", "sae"),
    "kind <> sae": Compare("kind", "ne", "sae"),
    "canonical = yes": Compare("canonical", "eq", True),
    "canonical=False": Compare("canonical", "eq", False),
    "variant = none": Absent("variant"),
    "variant = 'none'": Compare("variant", "eq", "none"),
    "variant != null": Not(Absent("variant")),
    "ev is absent": Absent("explained_variance"),
    "ev is not null": Not(Absent("explained_variance")),
    "ev is present": Not(Absent("explained_variance")),
    "snapshot = 50": Compare("snapshot", "eq", "50"),
    "step = 1000": Compare("model_step", "eq", 1000),
    "width = 1e4": Compare("d_sae", "eq", 10000.0),
    "id = layer_1/topk": Compare("id", "eq", "layer_1/topk"),
    "id = 'it''s'": Compare("id", "eq", "it's"),
    'id = "say ""x"""': Compare("id", "eq", 'say "x"'),
    "layer in (1, 2)": Among("layer", (1, 2)),
    "kind not in (sae, 'a b')": Not(Among("kind", ("sae", "a b"))),
    "id like layer_*/t?pk": Like("id", "layer_*/t?pk"),
    "id not like '**x'": Not(Like("id", "*x")),
    "k between 1 and 8 and layer = 2": And((Compare("k", "ge", 1), Compare("k", "le", 8), Compare("layer", "eq", 2))),
    "not k between 1 and 8": Not(And((Compare("k", "ge", 1), Compare("k", "le", 8)))),
    "steps contains 1000": Contains("steps", 1000),
    "id contains jump": Contains("id", "jump"),
}


@pytest.mark.parametrize("text", READ)
def test_a_written_condition_is_read(text):
    """Words of the language in capitals or not, values of the type of the field."""
    assert parse(text) == READ[text]


SIGNS = "< <= > >= = == != <>"

REFUSED = {
    "l0 about 64": f"column 4: expected one of {SIGNS}, is, in, between, like, contains after l0, found 'about'",
    "l0 <": "column 5: expected a value, found the end",
    "l0 < twelve": "column 6: l0 is a number, and 'twelve' is none",
    "l0 < nan": "column 6: l0 is a number, and 'nan' is none",
    "(l0 < 3": "column 8: expected and, or, or ), found the end",
    "l0 < 3)": "column 7: expected and, or, or the end, found ')'",
    "id = 'x": "column 6: a quote that is not closed",
    "id = made 1.0": "column 11: expected and, or, or the end, found '1.0'; a value with spaces stands in quotes",
    "": "column 1: expected a field, not, or (, found the end",
    "l0 ! 3": "column 4: unexpected '!'",
    "l0 < 3; drop": "column 6: l0 is a number, and '3;' is none",
    "canonical < yes": "column 13: canonical is yes or no, it cannot be compared so",
    "step contains 3": "column 15: model_step is a whole number, it cannot be compared so",
    "snapshot < 50": "column 12: snapshot is a text, it cannot be compared so: '9' comes after '10'",
    "id like 'a%'": "column 9: in a pattern of like, * is any characters and ? is one; % is itself",
    f"id like '{'*a' * 7}'": "column 9: a pattern of like has at most 6 stars and 1000 characters",
    "k in ()": "column 7: expected a value, found ')'",
    "k in 3": "column 6: expected (, found '3'",
    "id = 'a\0'": r"column 6: 'a\x00' is no text: it holds a NUL, or bytes that are no UTF-8",
    "id = 'a\udcff'": r"column 6: 'a\udcff' is no text: it holds a NUL, or bytes that are no UTF-8",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_condition_is_refused_with_its_column(text):
    """In one line that ends in what is wrong there."""
    with pytest.raises(UsageError) as caught:
        parse(text)

    assert str(caught.value) == f"{text!r} {REFUSED[text]}"


def test_conditions_of_any_size_are_answered_or_refused():
    """Without a limit of Python or SQLite being reached first."""
    assert len(parse(" and ".join(["l0 < 3"] * MOST_PARTS)).parts) == MOST_PARTS
    for text in (
        " or ".join(["l0 < 3"] * (MOST_PARTS + 1)),
        "(" * DEEPEST + "l0 < 3" + ")" * DEEPEST,
        "not " * 9999 + "l0",
    ):
        with pytest.raises(UsageError, match=f"more than {MOST_PARTS} comparisons|more than {DEEPEST} brackets"):
            parse(text)


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=30)
    | st.lists(st.sampled_from(["l0", "<", "and", "not", "(", ")", "'", "in", "3", ","])).map(" ".join)
)
def test_any_text_is_a_condition_or_refused_in_one_line(text):
    """Never with anything else."""
    problem = ""
    try:
        parse(text)
    except UsageError as error:
        problem = str(error)
    assert "\n" not in problem


KEYWORDS = {
    "equal": (
        {"model": "pythia-160m", "layer": 2},
        And((Compare("model", "eq", "pythia-160m"), Compare("layer", "eq", 2))),
    ),
    "operators": ({"l0__lt": 300, "ev__gt": 0.9}, And((A, B))),
    "in": ({"layer__in": [1, None, 2]}, Among("layer", (1, 2))),
    "absent": ({"withdrawn": None}, Absent("withdrawn")),
    "present": ({"l0__ne": None}, Not(Absent("l0"))),
    "large": ({"seed": 10**30}, Compare("seed", "eq", 1e30)),
    "infinite": ({"l0__lt": math.inf}, Compare("l0", "lt", math.inf)),
    "steps": ({"steps": [0, 1000]}, Compare("steps", "eq", (0, 1000))),
    "none": ({}, And(())),
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_keywords_say_the_same(name):
    """They become the same tree."""
    keywords, expected = KEYWORDS[name]
    assert by_keywords(keywords) == expected


OF_ANOTHER_TYPE = [
    {"l0": math.nan}, {"l0": True}, {"id": 3}, {"kind__in": "sae"}, {"canonical": "yes"}, {"seed": 10**400},
    {"steps": [0.5]}, {"layer__like": "3"}, {"id": "a\0"},
]  # fmt: skip


@pytest.mark.parametrize("keywords", OF_ANOTHER_TYPE)
def test_a_value_of_another_type_is_refused(keywords):
    """Rather than met by nothing."""
    with pytest.raises(UsageError, match=f"^{next(iter(keywords))}="):
        by_keywords(keywords)


def test_an_unknown_name_is_refused_with_the_closest():
    """In both ways of writing."""
    with pytest.raises(UnknownNameError, match=r"^unknown field 'layr'; did you mean 'layer'\?$"):
        parse("kind = sae and layr < 3")
    with pytest.raises(UnknownNameError, match=r"^unknown operator 'less'; known: contains, eq"):
        by_keywords({"l0__less": 3})


def test_the_tables_of_fields_are_whole():
    """Every field has a column; the metrics are those of the schema, which is not imported for them."""
    assert set(COLUMNS) == set(DESCRIBING)
    assert get_args(MetricId) == METRICS
    assert set(DESCRIBING) | set(METRICS) < set(FIELDS)


texts = st.sampled_from(
    ("kind", "variant", "model", "id", "model_name", "l0_basis", "explained_variance_definition", "release")
)
counts = st.sampled_from(("layer", "seed", "k", "l0", "explained_variance", "fvu", "l0_per_source_mean", "d_sae"))
any_word = st.sampled_from((*WORDS, *MODELS, "measured", "layer_9/x", "made 1.0.0"))
any_number = st.sampled_from((*NUMBERS, 1, 2**53, 2**53 + 1, 1e30, -math.inf))
signs = st.sampled_from(("eq", "ne", "lt", "le", "gt", "ge"))
patterns = st.sampled_from(("*", "a*", "?", "*[b]*", "pythia*", "*-160m", "layer_?/x", "", "*\n*", "a?b"))
leaves = st.one_of(
    st.builds(Compare, texts, signs, any_word),
    st.builds(Compare, counts, signs, any_number),
    st.builds(Compare, st.just("canonical"), st.sampled_from(("eq", "ne")), st.booleans()),
    st.builds(Compare, st.just("steps"), st.sampled_from(("eq", "ne")), st.sampled_from(((), (0,), (0, 1000)))),
    st.builds(Among, texts, st.lists(any_word, max_size=3).map(tuple)),
    st.builds(Among, counts, st.lists(any_number, max_size=3).map(tuple)),
    st.builds(Like, texts, patterns),
    st.builds(Contains, texts, any_word),
    st.builds(Contains, st.just("steps"), st.sampled_from((0, 1000, 1, 10.0))),
    st.builds(
        Absent, st.one_of(texts, counts, st.sampled_from(("steps", "canonical", "withdrawn", "standing", "synced")))
    ),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)
bases = st.sampled_from((None, "measured", "stated"))


@settings(max_examples=30, deadline=None)
@given(made=st.lists(entries, min_size=1, max_size=8), asked=st.lists(st.tuples(trees, bases), min_size=4, max_size=12))
def test_a_catalogue_and_memory_answer_alike(tmp_path_factory, made, asked):
    """Whatever is asked of whatever rows: three-valued, with the numbers of each basis, and so is the opposite."""
    stored, held = both(tmp_path_factory.mktemp("alike") / "catalog.sqlite", made)
    for condition, basis in asked:
        for one in (condition, Not(condition)):
            expected = [artifact.id for artifact in held.of(basis).meeting(one)]
            found = stored.of(basis).meeting(one)
            assert [identifier for (identifier,) in found.rows(("id",))] == expected
            assert len(found) == len(expected)
