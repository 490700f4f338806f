"""Reading a file name inverts writing it."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.importing.template import fill, parse_template

PARSED = [
    ("sae_layer{layer:02d}_{snapshot}.pt", "sae_layer07_50M.pt", {"layer": 7, "snapshot": "50M"}),
    ("sae_layer{layer:02d}_{snapshot}.pt", "sae_layer07_a_b.pt", {"layer": 7, "snapshot": "a_b"}),
    ("sae_layer{layer:02d}_{snapshot}.pt", "sae_layer7_50M.pt", None),
    ("sae_layer{layer:02d}_{snapshot}.pt", "sae_layer107_50M.pt", None),
    ("sae_layer{layer:02d}_{snapshot}.pt", "x/sae_layer07_50M.pt", None),
    ("sae_layer{layer:02d}_{snapshot}.pt", "sae_layer07_.pt", None),
    ("sae_layer{layer:d}.pt", "sae_layer7.pt", {"layer": 7}),
    ("sae_layer{layer:d}.pt", "sae_layer007.pt", {"layer": 7}),
    ("sae_layer{layer:d}.pt", "sae_layer٧.pt", None),
    ("{run}/step{step:d}/ae.pt", "a b/step10/ae.pt", {"run": "a b", "step": 10}),
    ("{run}/step{step:d}/ae.pt", "a/b/step10/ae.pt", None),
    ("{model}_{snapshot}.pt", "pythia-70m_final.pt", {"model": "pythia-70m", "snapshot": "final"}),
    ("{model}_{snapshot}.pt", "pythia_70m_final.pt", {"model": "pythia", "snapshot": "70m_final"}),
    ("{snapshot}{layer:02d}.pt", "100M07.pt", {"snapshot": "100M", "layer": 7}),
]


@pytest.mark.parametrize(("template", "path", "captures"), PARSED)
def test_what_a_template_reads(template, path, captures):
    """Typed values, or None."""
    assert parse_template(template).parse(path) == captures


REFUSED = {
    "no field": ("sae.pt", "this template has no field; write e.g. sae_layer{layer:02d}_{snapshot}.pt"),
    "a field twice": ("{a}_{a}.pt", "{a} stands there twice; give each its own name"),
    "two texts in a row": ("{a}{b}.pt", "nothing tells where {a} ends; put a character behind it"),
    "a number and a text in a row": ("{a:d}{b}.pt", "nothing tells where {a} ends; put a character behind it"),
    "a text and a number in a row": ("{a}{b:d}.pt", "nothing tells where {a} ends; put a character behind it"),
    "a number before a digit": ("{a:d}0_{b}.pt", "nothing tells where {a} ends; put a character behind it"),
    "no name": ("{}.pt", "{} is no field; a name is letters, digits and _"),
    "an expression": ("{a.b}.pt", "{a.b} is no field; a name is letters, digits and _"),
    "a conversion": ("{a!r}.pt", "{a} is no field; a name is letters, digits and _"),
    "another format": ("{a:>3}.pt", "{a:>3}: after the colon stands nothing, d, or 02d for two digits"),
    "an open brace": ("{a.pt", "expected '}' before end of string; write literal braces twice"),
    "a lone brace": ("a}.pt", "single '}' encountered in format string; write literal braces twice"),
    "an absolute path": ("/x/{a}.pt", "an absolute path; write it relative to the release folder"),
    "a way out": ("../{a}.pt", "'..' in a path; it would leave the release folder"),
    "a space": ("my {a}.pt", "' ' in a path; URLs and shells read it differently, rename the file"),
}


@pytest.mark.parametrize(("template", "message"), REFUSED.values(), ids=REFUSED)
def test_a_template_that_cannot_be_inverted_is_refused(template, message):
    """With the field, and what to do."""
    with pytest.raises(UsageError) as caught:
        parse_template(template)
    assert str(caught.value) == f"{template}: {message}"


UNWRITABLE = [
    ("{layer:02d}.pt", {"layer": 100}),
    ("{layer:02d}.pt", {"layer": -1}),
    ("{layer:02d}.pt", {"layer": "7"}),
    ("{layer:02d}.pt", {"layer": True}),
    ("{layer:02d}.pt", {}),
    ("{a}.pt", {"a": ""}),
    ("{a}.pt", {"a": "x/y"}),
    ("{a}.pt", {"a": 3}),
    ("{a}_{b}.pt", {"a": "x_y", "b": "z"}),
]


@pytest.mark.parametrize(("template", "captures"), UNWRITABLE)
def test_a_value_that_would_be_read_otherwise_is_not_written(template, captures):
    """One line."""
    with pytest.raises(UsageError, match="cannot be"):
        parse_template(template).format(captures)


LITERALS = st.text(st.sampled_from("ab_-./01"), max_size=3)
FIELDS = st.sampled_from(["{%s}", "{%s:d}", "{%s:02d}", "{%s:03d}"])


@st.composite
def templates(draw):
    """Return a text of literals and fields, most of them templates."""
    count = draw(st.integers(1, 4))
    pieces = [draw(LITERALS)]
    for position in range(count):
        pieces += [draw(FIELDS) % f"f{position}", draw(LITERALS)]
    return "".join(pieces)


@given(templates(), st.data())
@example("{f0}a{f1}", None)
def test_reading_inverts_writing(text, data):
    """For every template that is accepted, and all values that it writes."""
    try:
        template = parse_template(text)
    except UsageError:
        return
    if data is None:
        captures = {"f0": "b", "f1": "aba"}
    else:
        texts = st.text(st.sampled_from("ab_-.01"), min_size=1, max_size=5)
        kinds = {"text": texts, "number": st.integers(0, 2000), "digits": st.integers(0, 999)}
        captures = {field.name: data.draw(kinds[field.kind]) for field in template.fields}
    try:
        path = template.format(captures)
    except UsageError:
        assume(False)
    assert template.parse(path) == captures


def test_a_text_is_filled_with_captures():
    """As in a site; numbers with or without width."""
    captures = {"layer": 3, "snapshot": "50M"}
    assert fill("blocks.{layer}.hook_resid_post", captures) == "blocks.3.hook_resid_post"
    assert fill("layer_{layer:02d}/{snapshot}", captures) == "layer_03/50M"
    assert fill("plain", captures) == "plain"
    with pytest.raises(UnknownNameError, match="did you mean 'layer'"):
        fill("{layr}", captures)
    with pytest.raises(UsageError, match=r"\{snapshot\} is '50M', no number; write \{snapshot:d\} in the template"):
        fill("{snapshot:02d}", captures)
