"""Inventories of other makes are told by their shape, and every value in them is seen once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.registry.foreign.document import at, leaves, make_of, parse
from saereg.registry.foreign.files import is_of_ours
from saereg.registry.foreign.words import FIELDS, RELEASE, field_of_row, plain
from tests.releases import tiny_release

ROW = {"path": "a.safetensors", "layer": 3}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, width=32)
    | st.text(max_size=6),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text(max_size=5), child, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ([ROW], 1),
        ({"artifacts": [ROW, ROW]}, 2),
        ({"anything": [ROW], "count": 1}, 1),
        ({"files": [{"name": "x", "size": 3}], "saes": [{"sae_id": "x", "width": 8}]}, 1),
        ({"saes": {"layer_7/raw": {"k": 64}, "layer_8/raw": {"k": 64}}}, 2),
    ],
)
def test_rows_are_found_wherever_they_stand(document, rows):
    """In a bare list, under the only key that holds a list, under the likeliest of several, and keyed by their ids."""
    assert make_of(document) == "foreign"
    assert len(parse(document).rows) == rows


@pytest.mark.parametrize(
    "document",
    [
        None, 3, "text", [], {}, [1, 2], [ROW, "no row"], {"artifacts": []}, {"artifacts": [{}]},
        {"files": [{"name": "README.md", "size": 3}]}, {"dependencies": [{"package": "torch", "version": "2"}]},
        {"a": [ROW], "b": [ROW]},
    ],
)  # fmt: skip
def test_other_documents_are_no_inventories(document):
    """Without rows that name a dictionary and something of it, a document lists something else."""
    assert make_of(document) == "neither"


def test_our_own_documents_are_ours(tmp_path):
    """A manifest and an index of saereg are never taken for rows of another make, of whatever version they are."""
    folder = tiny_release(tmp_path)
    for name in ("manifest.json", "index.json"):
        value = json.loads((folder / name).read_text())
        assert make_of(value) == make_of(value | {"schema_version": "9.9"}) == "ours"


@given(JSON)
def test_leaves_are_all_that_a_document_says(value):
    """Every value stands at its pointer, no two have one pointer, and no scalar of the document is missing."""
    found = list(leaves(value))
    assert len({leaf.pointer for leaf in found}) == len(found)
    for leaf in found:
        assert at(value, leaf.pointer) is leaf.value or at(value, leaf.pointer) == leaf.value
    assert sorted(map(repr, _scalars(value))) == sorted(repr(x) for leaf in found for x in _scalars(leaf.value))


def _scalars(value):
    if isinstance(value, dict):
        return [x for child in value.values() for x in _scalars(child)]
    return [x for child in value for x in _scalars(child)] if isinstance(value, list) else [value]


def test_no_word_names_two_fields():
    """The table of words is a function, and its words are written as keys are looked up."""
    for table in (FIELDS, RELEASE):
        words = [word for words in table.values() for word in words]
        assert len(set(words)) == len(words)
        assert all(plain(word) == word for word in words)


@pytest.mark.parametrize(
    ("keys", "field"),
    [
        (("SAE id",), "id"), (("d_sae",), "d_sae"), (("dSae",), "d_sae"),
        (("training", "l1_coefficient"), "l1_coefficient"),
        (("training", "steps"), "training_steps"), (("steps",), "steps"), (("model", "id"), "model"),
        (("somewhere", "layer"), None), (("quality", "id"), None), (("colour",), None),
    ],
)  # fmt: skip
def test_keys_are_read_in_their_context(keys, field):
    """`training.steps` are of an optimizer, `steps` of snapshots; in unknown company a key means nothing."""
    assert field_of_row(keys) == field


@pytest.mark.parametrize("gone", ["release", "sites", "base_models", "artifacts", "$schema"])
def test_a_damaged_document_of_ours_is_ours(tmp_path, gone):
    """One key that is gone makes no inventory of another make of it, nor do bytes that are no JSON."""
    raw = (tiny_release(tmp_path) / "manifest.json").read_bytes()
    value = json.loads(raw)
    assert make_of({key: child for key, child in value.items() if key != gone}) == "ours"
    assert is_of_ours(raw)
    assert is_of_ours(raw[:200])


def test_a_schema_version_alone_is_not_ours():
    """Others count versions of their schemas, too."""
    document = {"schema_version": "2", "release": "their-saes", "artifacts": [ROW]}
    assert make_of(document) == "foreign"
    assert not is_of_ours(json.dumps(document).encode())
    assert not is_of_ours(b'{"artifacts": [')
