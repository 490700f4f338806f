"""A JSON text is changed at one place, and nowhere else."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.schemas import jsontext
from saereg.schemas.jsonedit import has_sorted_keys, inserted, renamed, reordered, replaced, sorted_keys

TEXT = """{
  "release": {"name": "tiny", "version": "1.0.0"},
  "empty": {},
  "steps": [0, 1000,   143000],
  "a/b": 1e-3,
  "artifacts": [
    {
      "id": "one",
      "claims": [{"metric": "l0", "value": 9.0}]
    },
    {
      "id": "two"
    }
  ]
}
"""

SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)
LAYOUTS = st.sampled_from([{"indent": 2}, {"indent": None}, {"indent": 4}, {"separators": (",", ":")}])


def pointers(value, prefix=()):
    yield prefix
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from pointers(child, (*prefix, key))


def at(value, path):
    for part in path:
        value = value[part]
    return value


def test_a_value_is_replaced_and_nothing_else():
    """The number alone changes; 1e-3 stays as it is written."""
    assert replaced(TEXT, "/artifacts/0/claims/0/value", 41.9) == TEXT.replace("9.0", "41.9")


def test_a_key_is_renamed_in_its_place():
    """Its value and its neighbours stay."""
    assert renamed(TEXT, "/release/name", "title") == TEXT.replace('"name"', '"title"')


def test_a_key_may_hold_a_slash():
    """Pointers escape it as ~1."""
    assert replaced(TEXT, "/a~1b", 2) == TEXT.replace("1e-3", "2")


def test_a_key_is_inserted_on_a_line_of_its_own_or_on_the_line_of_the_others():
    """As its neighbours stand."""
    assert inserted(TEXT, "/artifacts/1/seed", 0) == TEXT.replace('"id": "two"', '"id": "two",\n      "seed": 0')
    assert inserted(TEXT, "/release/license", "mit") == TEXT.replace('{"name"', '{"license": "mit", "name"')
    assert inserted(TEXT, "/release/z", "mit") == TEXT.replace('"1.0.0"', '"1.0.0", "z": "mit"')
    assert inserted(TEXT, "/empty/x", 1) == TEXT.replace('"empty": {}', '"empty": {\n    "x": 1\n  }')


def test_elements_move_with_their_own_text():
    """The spaces between them stay where they are."""
    assert reordered(TEXT, "/steps", [2, 0, 1]) == TEXT.replace("[0, 1000,   143000]", "[143000, 0,   1000]")


@pytest.mark.parametrize(
    "change",
    [
        lambda: replaced(TEXT, "/nothing", 1),
        lambda: renamed(TEXT, "/release/name", "version"),
        lambda: inserted(TEXT, "/release/name", 1),
        lambda: inserted(TEXT, "/steps/x", 1),
        lambda: reordered(TEXT, "/release", [1, 0]),
    ],
)
def test_what_is_not_there_is_a_key_error(change):
    """Nothing is guessed."""
    with pytest.raises(KeyError):
        change()


def test_an_order_must_be_a_permutation():
    """No element may be lost or doubled."""
    with pytest.raises(ValueError, match="permutation"):
        reordered(TEXT, "/steps", [0, 0, 1])


@given(VALUES, VALUES, LAYOUTS, st.data())
def test_replacing_in_the_text_is_replacing_in_the_value(value, new, layout, data):
    """For any value, any layout and any place."""
    path = data.draw(st.sampled_from(sorted(pointers(value), key=repr)))
    expected = copy.deepcopy(value)
    if path:
        at(expected, path[:-1])[path[-1]] = new
    else:
        expected = new

    assert jsontext.parse(replaced(json.dumps(value, **layout), jsontext.pointer(path), new)) == expected


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.text(max_size=5), VALUES, LAYOUTS)
def test_inserting_in_the_text_is_inserting_in_the_value(value, key, new, layout):
    """For any object and key; an old key is refused."""
    text = json.dumps(value, **layout)
    if key in value:
        with pytest.raises(KeyError):
            inserted(text, jsontext.pointer([key]), new)
    else:
        changed = inserted(text, jsontext.pointer([key]), new)
        assert jsontext.parse(changed) == value | {key: new}
        assert list(json.loads(changed)) == sorted([*value, key]) or list(value) != sorted(value)


@given(VALUES, LAYOUTS)
def test_sorting_keys_keeps_the_value(value, layout):
    """The keys of every object rise; doing it twice changes nothing more."""
    once = sorted_keys(json.dumps(value, **layout))

    assert jsontext.parse(once) == value
    assert has_sorted_keys(once)
    assert sorted_keys(once) == once
    assert once == json.dumps(value, sort_keys=True, **layout) or layout.get("indent") is not None
