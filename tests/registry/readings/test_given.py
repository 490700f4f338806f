"""What the caller says is taken word by word, recorded, and refused when nobody asks for it."""

import pytest

from saereg.errors import UsageError
from saereg.registry.readings.given import BECAUSE, Given, missing, unknown_keys


def refusal(given: Given, ask: str, *arguments: object) -> str:
    """Return the line with which a value is refused."""
    with pytest.raises(UsageError) as caught:
        getattr(given, ask)(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_values_are_numbers_words_and_flags():
    """As typed on the command line, or as Python has them."""
    given = Given({"k": "32", "scale": 0.5, "name": "topk", "on": "Yes", "off": False, "one": 1, "n": 64.0})
    assert (given.whole("k"), given.whole("n"), given.number("scale")) == (32, 64, 0.5)
    assert (given.text("name"), given.text("name", ["topk", "relu"])) == ("topk", "topk")
    assert (given.flag("on"), given.flag("off"), given.flag("one")) == (True, False, True)
    assert (given.whole("a"), given.number("a"), given.text("a"), given.flag("a")) == (None, None, None, None)
    given.check_used()


def test_a_value_that_is_used_is_an_assumption():
    """Once, however often it is asked for; what is not given is none."""
    given = Given({"k": "32"})
    given.whole("k")
    given.number("k")
    given.flag("other")
    assert [(a.field, a.value, a.because) for a in given.assumptions] == [("k", "32", BECAUSE)]


@pytest.mark.parametrize("raw", ["0", "-3", "nan", "inf", "-inf", "many", "", "1e999", 0, float("nan"), 10**400])
def test_a_number_is_positive_and_finite(raw):
    """Or refused by what was typed."""
    assert refusal(Given({"k": raw}), "number", "k") == f"k={raw}: expected a positive number"


def test_a_flag_is_no_number():
    """`k=True` would be read as 1."""
    assert refusal(Given({"k": True}), "number", "k") == "k=True: expected a positive number"


def test_other_values_are_refused():
    """With what is expected."""
    assert refusal(Given({"k": "2.5"}), "whole", "k") == "k=2.5: expected a whole number"
    assert refusal(Given({"a": "tokp"}), "text", "a", ["topk", "relu"]) == "a=tokp: choose from topk, relu"
    assert refusal(Given({"a": "maybe"}), "flag", "a") == "a=maybe: expected true or false"
    assert refusal(Given({"a": 2}), "flag", "a") == "a=2: expected true or false"


def test_a_value_that_nobody_asks_for_is_refused():
    """A misspelt one with the closest name."""
    given = Given({"sined": True, "k": "3"})
    given.whole("k")
    given.flag("signed")
    assert refusal(given, "check_used") == "this layout does not ask for 'sined'; did you mean 'signed'?"
    assert refusal(Given({"k": 3}), "check_used") == "this layout does not ask for 'k'; it asks for nothing"
    asked = Given({"xyz": 3})
    asked.flag("signed")
    assert refusal(asked, "check_used") == "this layout does not ask for 'xyz'; it asks for signed"


def test_what_is_missing_is_said_with_an_example():
    """To be typed as it stands."""
    error = missing("a.pt", "k", "k is in no file here", "32")
    assert str(error) == "a.pt: k is in no file here; say it: --set k=32"


def test_a_key_that_is_not_known_becomes_an_assumption():
    """In order, with its value in short; YAML may have keys that are numbers."""
    cfg = {"k": 3, "b": "x" * 999, 7: None}
    because = "a key of config.yaml that this layout is not known to have; ignored"
    found = [(note.field, note.value, note.because) for note in unknown_keys(cfg, ("k", "d_in"), "config.yaml")]
    assert found == [("7", "None", because), ("b", "x" * 200, because)]
    assert unknown_keys({"k": 3}, {"k"}, "config.yaml") == []
