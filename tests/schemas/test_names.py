"""Paths that mean the same on every machine, and cannot leave the release."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from saereg.schemas.names import ArtifactId, Key, ReleasePath, Revision, one_name, path_problem

ABSOLUTE = "an absolute path; write it relative to the release folder"
BACKSLASH = "a backslash in a path; separate folders by '/'"
CONTROL = "a control character in a path"
PARENT = "'..' in a path; it would leave the release folder"
ENDING = "a name that ends in a dot; Windows leaves that out, rename the file"
SEGMENT = "an empty or '.' segment in a path; write it in its shortest form"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/etc/passwd", ABSOLUTE),
        ("C:/x", ABSOLUTE),
        ("c:x", ABSOLUTE),
        ("\\\\host\\x", BACKSLASH),
        ("a\\b", BACKSLASH),
        ("a\nb", CONTROL),
        ("a\x7f", CONTROL),
        ("a\x9b31m", "an invisible character (U+009B) in a path; rename the file"),
        ("a\u200bb", "an invisible character (U+200B) in a path; rename the file"),
        ("\u202eabc", "an invisible character (U+202E) in a path; rename the file"),
        ("a\u2028b", "an invisible character (U+2028) in a path; rename the file"),
        ("a\u00a0b", "an invisible character (U+00A0) in a path; rename the file"),
        ("../x", PARENT),
        ("a/../../x", PARENT),
        ("a/..", PARENT),
        ("a//b", SEGMENT),
        ("./a", SEGMENT),
        ("a/.", SEGMENT),
        ("a/", SEGMENT),
        ("", SEGMENT),
        ("a/" + "é" * 128, "a name of more than 255 bytes in a path; file systems hold no longer one"),
        ("a b", "' ' in a path; URLs and shells read it differently, rename the file"),
        ("a{1}?", "'?' '{' '}' in a path; URLs and shells read it differently, rename the file"),
        ("a%20b", "'%' in a path; URLs and shells read it differently, rename the file"),
        ("cfg.json:x", "':' in a path; URLs and shells read it differently, rename the file"),
        ("...", ENDING),
        ("a./b", ENDING),
        ("é.", ENDING),
        ("NUL", "the name 'NUL'; Windows keeps it for itself, rename the file"),
        ("a/aux.json", "the name 'aux.json'; Windows keeps it for itself, rename the file"),
        ("lpt¹", "the name 'lpt¹'; Windows keeps it for itself, rename the file"),
        ("GIT~1/hooks/x", "the name 'GIT~1'; Windows keeps it for itself, rename the file"),
        (".GIT/hooks/x", "the folder '.GIT' in a path; it is no part of a release, rename it"),
        ("a/.Cache/x", "the folder '.Cache' in a path; it is no part of a release, rename it"),
        ("a/__pycache__", "the folder '__pycache__' in a path; it is no part of a release, rename it"),
    ],
)
def test_a_path_that_is_not_portable_is_refused(path, problem):
    """With the reason, and what to write instead."""
    assert path_problem(path) == problem


@pytest.mark.parametrize(
    "path",
    [
        *("a", "layer_1/topk", "a.b/c-d_e", "...a", "a..b", "été", "a/.hidden", "a=b,c@d+e"),
        *("auxk/x", "nulls", "console", "com10", "lpt", ".gitkeep", ".cached/x", "a.nul", "git~x"),
    ],
)
def test_a_portable_path_is_accepted(path):
    """Dots, dashes and letters of any script are no problem."""
    assert path_problem(path) is None


@given(st.text(st.sampled_from("ab./\\:~ \n"), max_size=12))
def test_an_accepted_path_stays_below_any_folder(path):
    """Whatever its segments."""
    import posixpath

    if path_problem(path) is None:
        joined = posixpath.normpath("/root/release/" + path)
        assert joined == "/root/release/" + path


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [
        (ReleasePath, "a/" * 255 + "aa", "a/" * 256 + "a"),
        (ArtifactId, "a/" * 149 + "aa", "a/" * 150 + "a"),
        (ArtifactId, "layer_1/topk", "../topk"),
        (Key, "block-1.mlp_x", "-x"),
        (Key, "a" * 120, "a" * 121),
        (Key, "A", "a/b"),
        (Revision, "0a" * 20, "0A" * 20),
        (Revision, "0a" * 20, "main"),
    ],
)
def test_a_name_fits_its_pattern(shape, good, bad):
    """Lengths and characters."""
    adapter = TypeAdapter(shape)

    assert adapter.validate_python(good) == good
    with pytest.raises(ValidationError):
        adapter.validate_python(bad)


@pytest.mark.parametrize(("one", "other"), [("A/b", "a/B"), ("e\u0301", "\u00c9"), ("ß", "SS"), ("a", "a")])
def test_paths_that_are_one_file_on_some_machine_have_one_name(one, other):
    """Whatever the case of letters, and however accents are written."""
    assert one_name(one) == one_name(other)
