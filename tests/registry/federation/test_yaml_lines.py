"""YAML with its lines: the values are those of PyYAML's own safe loader, and nothing harmful gets through."""

import string

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.errors import DocumentError
from saereg.registry.federation.yaml_lines import LOADER, Items, Table, Value, read_lines


def plain(value: Value) -> object:
    """Return a value without its lines."""
    if isinstance(value, Table):
        return {key: plain(part) for key, part in value.values.items()}
    return [plain(part) for part in value.values] if isinstance(value, Items) else value


KEYS = st.text(string.ascii_letters + "_", min_size=1).filter(lambda key: isinstance(yaml.safe_load(key), str))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=25)
@given(VALUES, st.booleans())
def test_values_are_those_of_the_safe_loader(value, flow):
    """Whatever PyYAML writes, in both of its styles."""
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)

    assert plain(read_lines(text.encode(), "f")) == yaml.load(text, Loader=LOADER)


def told(text: str) -> tuple[object, str | None]:
    """Return the value of a text, or the sentence that refuses it."""
    try:
        return plain(read_lines(text.encode("utf-8", "surrogatepass"), "f.yaml")), None
    except DocumentError as error:
        return None, str(error)


@given(st.text(string.printable, max_size=60) | st.text(max_size=60))
def test_any_text_is_a_value_or_one_line(text):
    """Never a traceback, and never another value than that of the safe loader where both read it."""
    found, problem = told(text)
    if problem is not None:
        assert problem.startswith("f.yaml")
        assert "\n" not in problem
        return
    try:
        theirs = yaml.load(text, Loader=LOADER)
    except (yaml.YAMLError, TypeError, ValueError):  # a key of theirs that is no date, and a text of ours
        return
    assert isinstance(theirs, dict | list) or str(found) == str(theirs)  # keys of ours stay as they are written


LISTED = """one: &x {id: a, path: 1}
two:
  l0: .5
  saes: [{<<: *x, id: b}, *x]
  text: >-
    more
    text
? three
: "x"
"""

EDITS = st.lists(
    st.tuples(st.integers(0, len(LISTED)), st.integers(0, 4), st.text(" :-{}[]&*!|>'\"#?,\n\tx1~<=.", max_size=2)),
    max_size=3,
)


def of_texts(value: object) -> bool:
    """Whether every key is a text."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and of_texts(part) for key, part in value.items())
    return all(map(of_texts, value)) if isinstance(value, list) else True


@settings(max_examples=150, deadline=None)
@given(EDITS)
def test_what_is_nearly_a_registry_is_read_as_the_safe_loader_reads_it(edits):
    """What SAELens cannot read is refused as well, such as an anchor that stands twice; all else has its values."""
    text = LISTED
    for place, gone, come in edits:
        text = text[:place] + come + text[place + gone :]
    found, problem = told(text)
    if problem is None:
        theirs = yaml.load(text, Loader=LOADER)
        assert found == theirs or not of_texts(theirs)


def test_lines_are_those_of_the_file():
    """Counted from 1: of a key its own, of an entry its first."""
    table = read_lines(b"# head\na:\n  - x: 1\n    y: 2\n\n  - z\nb: 3\n", "f")

    assert table.lines == {"a": 2, "b": 7}
    assert table.values["a"].lines == [3, 6]
    assert table.values["a"].values[0].lines == {"x": 3, "y": 4}


def test_a_key_that_stands_twice_is_told():
    """The last value is kept, as every loader keeps it."""
    table = read_lines(b"a: 1\nb: 2\na: 3\n", "f")

    assert (table.values, table.twice, table.lines["a"]) == ({"a": 3, "b": 2}, [("a", 3)], 3)


def test_aliases_and_merged_keys_are_followed():
    """Own keys win, the first of several mappings comes first; a shared value is one object."""
    text = b"base: &b {x: 1, y: [1]}\none: {<<: *b, x: 2}\ntwo: {<<: [{x: 7}, *b]}\nthree: *b\n&k key: *k\n"
    table = read_lines(text, "f")

    assert plain(table) == yaml.safe_load(text)
    assert table.values["three"] is table.values["base"]


BOMB = b"a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n" + b"".join(
    b"%c: &%c [%s]\n" % (at + 1, at + 1, b", ".join([b"*%c" % at] * 8)) for at in range(97, 110)
)

REFUSED = {
    "list that is not closed": (b"a: [1,\n", "2: is not YAML"),
    "tag of Python": (b"a: !!python/object/apply:os.system [ls]\n", "1: has the tag"),
    "tag of Python on a text": (b"a: 1\nb: !!python/name:os.system x\n", "2: holds a value that is not safe"),
    "date that is none": (b"a: 2026-99-99\n", "1: holds a value that is not safe"),
    "text that is not of its tag": (b"a: !!int ''\n", "1: holds a value that is not safe"),
    "date of no form": (b"a: 1\nb: !!timestamp x\n", "2: holds a value that is not safe"),
    "tag of its own on a key": (b"!g a: 1\n", "1: holds a value that is not safe"),
    "anchor that stands twice": (b"a: &x 1\nb: &x 2\n", "2: names a second value &x"),
    "second document": (b"a: 1\n---\nb: 2\n", "2: begins a second document"),
    "alias of nothing": (b"a: *x\n", "1: has the alias *x of nothing"),
    "alias of itself": (b"a: &x [*x]\n", "1: has the alias *x of nothing"),
    "list as a key": (b"? [a]\n: 1\n", "1: has a list or mapping as a key"),
    "merged text": (b"a: {<<: text}\n", "1: merges with << what is no mapping"),
    "too deep": (b"[" * 100_000, "1: opens more than 50"),
    "aliases of aliases": (BOMB, "stands for more than 1000000 values"),
    "control character": (b"a: \x00\n", "is not YAML"),
    "bytes that are no text": (b"a: \xff\xfe\n", "is not YAML"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_safe_is_refused_in_one_line(name):
    """With the line of the file, quickly, and before anything is made of it."""
    text, sentence = REFUSED[name]
    with pytest.raises(DocumentError) as caught:
        read_lines(text, "f.yaml")

    assert str(caught.value).startswith("f.yaml:")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
