"""`saereg registry check`: what it prints, where it writes, and its exit codes."""

import json

import pytest

from saereg.registry.federation.places import FILE
from saereg.schemas.report import read_report
from tests.cases.planted.federation import HEAD, SCOPE, WHOLE, row


@pytest.fixture
def registry(place):
    """A registry with one error, and ten files under second names."""
    rows = "".join(row(f"second-{n}", f"file-{n}") for n in range(10))
    again = "".join(row(f"first-{n}", f"file-{n}") for n in range(10))
    path = place / FILE
    path.write_text(HEAD + WHOLE.replace("0.976", "-7.55") + again + rows)
    return path


def test_a_few_of_each_rule_are_shown_and_the_rest_counted(saereg, registry):
    """With the line of the file under each; the grave ones make the next step."""
    answer = saereg("registry", "check", FILE)

    assert answer.code == 1
    assert f"{FILE}:8  error SR706  variance_explained of gpt2-res:blocks.8.hook_resid_pre is -7.55" in answer.out
    assert "8 |     variance_explained: -7.55" in answer.out
    assert answer.out.count("note SR707") == 3
    assert "… and 7 more of SR707 (--verbose shows all)" in answer.out
    assert answer.out.splitlines()[-2] == (
        f"{FILE}: 21 artifacts, level layout, 12 checks: 1 error, 0 warnings, 10 notes"
    )
    assert answer.out.splitlines()[-1] == "not checked: SR702: the Hub was not asked; add --remote"
    assert answer.next == "saereg rule SR706"


@pytest.mark.parametrize(("flags", "shown"), [(["--max-per-code", "5"], 5), (["--all"], 10), (["--quiet"], 0)])
def test_how_many_are_shown_can_be_said(saereg, registry, flags, shown):
    """All, more, or none."""
    assert saereg("registry", "check", FILE, *flags).out.count("note SR707") == shown


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--ignore", "SR706"], 0),
        (["--select", "SR707"], 0),
        (["--select", "SR707", "--fail-on", "note"], 1),
        (["--exit-zero"], 0),
        (["--select", "SR799"], 2),
    ],
)
def test_what_fails_can_be_said(saereg, registry, flags, code):
    """By the same flags as for a release."""
    assert saereg("registry", "check", FILE, *flags).code == code


ACCEPTED = """plugins = ["ours"]
[[ignore]]
rules = ["SR706"]
reason = "the maker was asked"
[[ignore]]
rules = ["SR111"]
reason = "names of releases"
[[ignore]]
rules = ["OUR001"]
reason = "a check of our plugin"
"""


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--isolated",), 1), (("--config", "other.toml"), 1)])
def test_what_is_accepted_stands_in_the_nearest_configuration(saereg, registry, place, flags, code):
    """As the page of every rule says; what is meant for releases and plugins is neither an error nor unused."""
    (place / "saereg.toml").write_text(ACCEPTED)
    (place / "other.toml").write_text("")
    answer = saereg("registry", "check", FILE, *flags)

    assert answer.code == code
    assert "unused" not in answer.out


def test_rules_on_registries_are_not_unused_in_a_release(saereg, place):
    """One configuration may serve both."""
    (place / "release" / "saereg.toml").write_text('[[ignore]]\nrules = ["SR703"]\nreason = "known"\n')

    assert "unused" not in saereg("validate", "release").out


def test_a_report_is_called_by_the_command_that_made_it(saereg, registry):
    """In the summary of a CI job both may stand."""
    answer = saereg("registry", "check", FILE, "--format", "markdown")

    assert answer.out.startswith("## saereg registry check: failed\n")


def test_every_format_goes_where_it_is_told(saereg, registry, place):
    """SARIF names file and line; JSON is a report that reads back."""
    answer = saereg(
        "registry", "check", FILE, "--format", "sarif:out.sarif", "--output", "json:out.json", "--format=md"
    )
    assert answer.code == 2
    answer = saereg(
        "registry", "check", FILE, "--format", "sarif:out.sarif", "--output", "json:out.json", "--exit-zero"
    )
    (run,) = json.loads((place / "out.sarif").read_text())["runs"]
    (found,) = [result for result in run["results"] if result["ruleId"] == "SR706"]
    (location,) = found["locations"]

    assert answer.code == 0
    assert location["physicalLocation"]["artifactLocation"]["uri"].endswith(FILE)
    assert location["physicalLocation"]["region"]["startLine"] == 8
    assert len(read_report((place / "out.json").read_text(), "out.json").findings) == 11


def test_a_clean_registry_says_so(saereg, place):
    """And names what was not looked at."""
    (place / FILE).write_text(SCOPE + row("layer_0", "layer_0"))
    answer = saereg("registry", "check", FILE)

    assert answer.code == 0
    assert "0 errors, 0 warnings, 0 notes" in answer.out
    assert answer.next == f"saereg registry check {FILE} --remote"


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [\n", "is not YAML"), ("- a\n", "is no mapping of releases"), ("a: !!python/name:os.x y\n", "not safe YAML")],
)
def test_what_is_no_registry_is_one_line(saereg, place, text, said):
    """Never a traceback."""
    (place / FILE).write_text(text)
    answer = saereg("registry", "check", FILE)

    assert answer.code == 2
    assert answer.err.startswith(f"error: {FILE}")
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_a_report_never_replaces_the_registry(saereg, registry):
    """Nor is a file that is not there made up."""
    before = registry.read_text()

    assert "is the registry itself" in saereg("registry", "check", FILE, "--format", f"json:{FILE}").err
    assert registry.read_text() == before
    assert saereg("registry", "check", "release").err == "error: release: this is no regular file\n"
    assert saereg("registry", "check", "none.yaml").err == "error: none.yaml: there is no such file\n"


def test_what_a_registry_says_moves_no_cursor(saereg, place):
    """Control characters of its texts are written out."""
    (place / FILE).write_text(HEAD + WHOLE + '  - {id: "a\\e[31m", path: same}\n  - {id: b, path: same}\n')
    answer = saereg("registry", "check", FILE)

    assert "\x1b[31m" not in answer.out
    assert "\\x1b[31m" in answer.out
