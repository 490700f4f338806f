"""SAELens' registry as rows: what its parser sees, what it hides, and files that are broken."""

import contextlib
import json
import subprocess
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.errors import DocumentError, MissingExtraError, UsageError
from saereg.registry.federation import places
from saereg.registry.federation.directory import read_directory
from saereg.registry.federation.report import lint
from tests.cases.planted.federation import HEAD, WHOLE, row

PARSER = """
import contextlib
import json
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from sae_lens.loading.pretrained_sae_loaders import NAMED_PRETRAINED_SAE_LOADERS
found = {
    name: [r.repo_id, r.model, r.conversion_func, list(r.saes_map.items()), r.neuronpedia_id, r.norm_scaling_factor]
    for name, r in get_pretrained_saes_directory().items()
}
print(json.dumps([found, sorted(NAMED_PRETRAINED_SAE_LOADERS)]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder that every example writes into."""
    return tmp_path_factory.mktemp("any")


def read(tmp_path, text: str):
    """Read a text as a registry."""
    path = tmp_path / places.FILE
    path.write_text(text)
    return read_directory(path)


@pytest.mark.slow
def test_the_installed_registry_is_what_its_own_parser_sees():
    """Release by release: repository, model, loader, ids with paths in their order, ids on Neuronpedia, scales.

    And the loaders that are read from the source are those that SAELens knows when it is imported.
    """
    from saereg.registry.federation.loaders import known_loaders

    ran = subprocess.run([sys.executable, "-c", PARSER], capture_output=True, text=True, check=True)
    theirs, loaders = json.loads(ran.stdout.splitlines()[-1])
    ours = {
        release.name: [
            release.repo_id,
            release.model,
            release.conversion_func,
            [[r.id, r.path] for r in release.rows],
            {r.id: r.neuronpedia for r in release.rows},
            {r.id: r.norm_scaling_factor for r in release.rows if r.norm_scaling_factor is not None},
        ]
        for release in read_directory().seen
    }

    assert ours == theirs
    assert sorted(known_loaders()) == loaders


def test_a_row_keeps_its_lines_and_what_is_absent_stays_absent(tmp_path):
    """Nothing is filled in."""
    (release,) = read(tmp_path, HEAD + WHOLE + "  - id: b\n    path: 7\n").releases
    first, second = release.rows

    assert (first.id, first.l0, first.variance_explained, first.line) == ("blocks.8.hook_resid_pre", 65.0, 0.976, 6)
    assert first.lines["l0"] == 9
    assert (second.path, second.l0, second.variance_explained, second.neuronpedia) == ("7", None, None, None)


def test_a_nested_release_is_a_release_of_its_own_that_saelens_does_not_see(tmp_path):
    """Its row stays a row of the release around it."""
    inner = "    model: other\n    repo_id: someone/other\n    saes:\n    - {id: x, path: y}\n"
    directory = read(tmp_path, HEAD + WHOLE + inner)
    outer, nested = directory.releases

    assert directory.seen == (outer,)
    assert [r.id for r in outer.rows] == ["blocks.8.hook_resid_pre"]
    assert nested.name == "gpt2-res/blocks.8.hook_resid_pre"
    assert nested.nested_in == ("gpt2-res", "blocks.8.hook_resid_pre")
    assert (nested.repo_id, nested.model, nested.rows[0].path, nested.line) == ("someone/other", "other", "y", 6)


def test_rows_that_an_alias_of_yaml_repeats_are_read(tmp_path):
    """An anchor is as good as a copy."""
    text = f"a: &a\n{HEAD.partition(chr(10))[2]}{WHOLE}b: *a\n"
    one, two = read(tmp_path, text).releases

    assert one.rows == two.rows
    assert (one.name, two.name) == ("a", "b")


@settings(max_examples=25)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.floats(allow_nan=True) | st.sampled_from(["a", "", "x/y"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["saes", "id", "path", "l0", "repo_id", "model", "neuronpedia", "config_overrides"]),
                inner,
                max_size=6,
            )
        ),
        max_leaves=8,
    )
)
def test_any_yaml_gives_findings_or_one_line(place, value):
    """Of whatever shape: never a traceback."""
    path = place / places.FILE
    path.write_text(yaml.safe_dump({"release": value}))
    with contextlib.suppress(DocumentError, UsageError):  # one line each; anything else is a failure
        assert all(finding.line for finding in lint(read_directory(path)).findings)


@pytest.mark.parametrize("text", ["", "- a\n", "text", "17"])
def test_what_is_no_mapping_is_no_registry(tmp_path, text):
    """It says what was expected."""
    with pytest.raises(DocumentError, match="is no mapping of releases"):
        read(tmp_path, text)


def test_a_number_that_is_none_is_left_out(tmp_path):
    """Infinite, not a number, yes, a text: one finding each, and no value."""
    numbers = [".inf", ".nan", "true", "'3'", "[1]", str(10**400)]
    directory = read(tmp_path, HEAD + "".join(row(f"r{n}", f"p{n}", l0=value) for n, value in enumerate(numbers)))

    assert [r.l0 for r in directory.releases[0].rows] == [None] * len(numbers)
    assert len(directory.defects) == len(numbers)


def test_a_file_that_is_not_there_or_far_too_large_is_refused(tmp_path, monkeypatch):
    """Before it is read."""
    with pytest.raises(UsageError, match="there is no such file"):
        read_directory(tmp_path / "none.yaml")
    monkeypatch.setattr(places, "MOST_BYTES", 10)
    with pytest.raises(UsageError, match="at most 10 are read"):
        read(tmp_path, HEAD + WHOLE)


def test_without_saelens_the_extra_is_named(monkeypatch):
    """One line, with what to install."""
    monkeypatch.setattr(places.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"saereg\[train\]"):
        read_directory()


def test_the_installed_registry_is_found_without_importing_saelens():
    """Nor is yaml imported for its digest, which is what a sync asks first."""
    code = (
        "import sys; from saereg.registry.catalog.readers import saelens; saelens.pin();"
        "print([name for name in ('sae_lens', 'torch', 'yaml') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout == "[]\n"
