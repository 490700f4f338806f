"""JSON is read strictly, and a pointer leads to its line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.schemas import jsontext
from saereg.schemas.jsontext import JsonError

REFUSED = {
    "duplicate key": ('{\n"a": 1,\n"a": 2\n}', "the key 'a' stands twice in one object", 3),
    "duplicate key below": ('{"b": {\n"a": 1, "a": 2}}', "the key 'a' stands twice in one object", 2),
    "duplicate key with another escape": ('{"a": 1,\n"\\u0061": 2}', "the key 'a' stands twice in one object", 1),
    "NaN": ('{\n"a": NaN}', "NaN is not JSON; use null and say why", 2),
    "Infinity": ("Infinity", "Infinity is not JSON; use null and say why", 1),
    "minus infinity": ("[\n\n-Infinity]", "-Infinity is not JSON; use null and say why", 3),
    "comment": ("{\n// width\n}", "not JSON: Expecting property name enclosed in double quotes (column 1)", 2),
    "single quotes": ("['a']", "not JSON: Expecting value (column 2)", 1),
    "two documents": ("{}\n{}", "not JSON: Extra data (column 1)", 2),
    "nothing": ("", "not JSON: Expecting value (column 1)", 1),
    "line break in a string": ('"a\nb"', "not JSON: Invalid control character at (column 3)", 1),
    "deep": ("[" * 101 + "]" * 101, "nested too deeply to be read", None),
    "very deep": ("[" * 10**6, "nested too deeply to be read", None),
    "deep object": ('{"a":' * 150 + "1" + "}" * 150, "nested too deeply to be read", None),
    "2^63": (f"[\n{2**63}]", "an integer of 19 digits; 64 bits hold any number of a release", 2),
    "10^5000": ("1" + "0" * 5000, "an integer of 5001 digits; 64 bits hold any number of a release", 1),
    "1e999": ("[1,\n1e999]", "1e999 is larger than any number", 2),
    "half a pair": ('{"a":\n"\\ud800"}', "half of a surrogate pair (\\ud800) is no character", 2),
    "other half": ('["\\uDFFF"]', "half of a surrogate pair (\\udfff) is no character", 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_strict_json_is_refused(name):
    """With one sentence, and the line where one can be named."""
    text, problem, line = REFUSED[name]

    with pytest.raises(JsonError) as caught:
        jsontext.parse(text)

    assert (caught.value.problem, caught.value.line) == (problem, line)


@pytest.mark.parametrize("value", [-(2**63), 2**63 - 1, 0, 1.5, 1e300, True, None, "", "😀", [], {}, [[[]]]])
def test_what_is_strict_json_is_read(value):
    """All of 64 bits, all of Unicode, a hundred levels."""
    assert jsontext.parse(json.dumps(value)) == value
    assert jsontext.parse("[" * 100 + "]" * 100) is not None


def test_a_pair_of_surrogates_is_one_character():
    """As `json.dumps` writes what is beyond 16 bits."""
    assert jsontext.parse('"\\ud83d\\ude00"') == "😀"


@pytest.mark.parametrize(
    ("raw", "problem", "line"),
    [
        (b"\xef\xbb\xbf{}", "the document starts with a UTF-8 byte order mark; save it without one", 1),
        (b'{\n"a": "\xff"}', "byte 8 is not UTF-8", 2),
        ("{}".encode("utf-16"), "byte 0 is not UTF-8", 1),
        (b"\xed\xa0\x80", "byte 0 is not UTF-8", 1),
    ],
)
def test_bytes_that_are_not_utf_8_are_refused(raw, problem, line):
    """With the position of the first that is not."""
    with pytest.raises(JsonError) as caught:
        jsontext.decode(raw)

    assert (caught.value.problem, caught.value.line) == (problem, line)


def test_a_document_beyond_the_limit_is_refused(monkeypatch):
    """By its size, before it is decoded."""
    monkeypatch.setattr(jsontext, "MAX_BYTES", 3)

    with pytest.raises(JsonError, match=r"^the document has 4 bytes; 3 is the most that is read$"):
        jsontext.decode(b"1234")


KEYS = st.text(max_size=6) | st.sampled_from(["~", "/", "~1", "a/b", '"', "\\", "\n", "{", "[,", ":", "é", "0", ""])

NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=6) | st.just('{"a": [1, 2]}'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def written(value, depth=0, line=1, location=()):
    """Write JSON with two spaces of indent, and note the line on which each value (or its key) starts."""
    lines = {jsontext.pointer(location): line}
    if not isinstance(value, dict | list) or not value:
        return json.dumps(value), lines, line
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    parts = []
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        line += 1
        label = f"{json.dumps(key, ensure_ascii=bool(depth % 2))}: " if isinstance(value, dict) else ""
        text, below, last = written(child, depth + 1, line, (*location, key))
        lines |= below | {jsontext.pointer((*location, key)): line}
        parts.append("  " * (depth + 1) + label + text)
        line = last
    return f"{opening}\n" + ",\n".join(parts) + "\n" + "  " * depth + closing, lines, line + 1


@given(NESTED)
def test_the_line_of_every_pointer_is_the_line_it_was_written_on(value):
    """Whatever the keys: with quotes, escapes, `~` and `/`."""
    text, lines, _ = written(value)

    assert jsontext.parse(text) == value
    assert {pointer: jsontext.line_of(text, pointer) for pointer in lines} == lines


@given(NESTED)
def test_the_line_does_not_depend_on_how_the_text_is_set(value):
    """Without any line break everything stands on line 1."""
    text, lines, _ = written(value)

    assert {jsontext.line_of(json.dumps(value), pointer) for pointer in lines} == {1}
    assert jsontext.line_of("\n\n" + text, "") == 3


@given(NESTED)
def test_the_column_of_a_key_is_where_it_is_written(value):
    """Counted in characters from 1, on one line or on many; an entry of a list is where its value begins."""
    for text in (written(value)[0], json.dumps(value, ensure_ascii=False), "\n \n  " + json.dumps(value)):
        lines = text.split("\n")
        for pointer in written(value)[1]:
            line, column = jsontext.place_of(text, pointer)
            rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
            found, end = json.JSONDecoder().raw_decode(rest)
            here, key = value, None
            for part in pointer.split("/")[1:]:
                part = part.replace("~1", "/").replace("~0", "~")
                key = part if isinstance(here, dict) else None
                here = here[part] if isinstance(here, dict) else here[int(part)]
            assert found == (here if key is None else key)
            assert key is None or rest[end:].lstrip().startswith(":")


def test_a_pointer_to_nothing_gives_the_line_of_its_parent():
    """A key that is missing is missing from somewhere."""
    text = '{\n"a": {\n"b": [\n1,\n2]}}'

    assert jsontext.line_of(text, "/a/c") == 2
    assert jsontext.line_of(text, "/a/b/7/x") == 3
    assert jsontext.line_of(text, "/z") == 1
    assert jsontext.line_of("", "/z") is None


def test_a_pointer_escapes_tilde_and_slash():
    """RFC 6901."""
    assert jsontext.pointer(("a/b", 0, "~c")) == "/a~1b/0/~0c"
    assert jsontext.pointer(()) == ""


def test_a_text_beyond_the_limit_is_not_traced(monkeypatch):
    """Its findings name the pointer alone."""
    monkeypatch.setattr(jsontext, "MAX_TRACED", 3)

    assert jsontext.line_of('{"over the limit": 1}', "/over the limit") is None
