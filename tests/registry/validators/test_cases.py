"""Each folder of `tests/cases/1` holds one planted defect, and validation finds that defect and nothing else."""

import json
import os

import pytest

from saereg.registry.federation.directory import read_directory
from saereg.registry.federation.places import FILE
from saereg.registry.federation.report import lint
from saereg.registry.validators.rules import RULES, rule
from saereg.registry.validators.runner import validate
from tests.cases.plant import CASES, FOLDER, REGISTRY_CASES, folder_of, registry_folder_of
from tests.releases import tiny_release

NOT_IN_GIT = ("SR013", "SR605")
"""Rules without a failing folder: git keeps no pipes, and nobody files of 500 GB. The first is made on the fly below,
the others in test_hub_limits.py."""

ON_THE_HUB = ("SR601", "SR604", "SR607", "SR702")
"""Rules of what a repository holds: `saereg verify` and `saereg registry check --remote` find them, see
tests/registry/fetching, tests/registry/federation and tests/cli."""

FAILING, PASSING = ([name for name, case in CASES.items() if case.passes is passes] for passes in (False, True))


def recorded(name: str) -> dict:
    return json.loads((folder_of(name) / "report.json").read_text(encoding="utf-8"))


def found(name: str) -> list[dict]:
    case = CASES[name]
    report = validate(folder_of(name) / "release", case.level, options=case.options, settings=case.settings)
    return [finding.model_dump(exclude={"origin", "fingerprint"}, exclude_none=True) for finding in report.findings]


@pytest.mark.parametrize("name", FAILING)
def test_a_planted_defect_gives_exactly_the_recorded_findings(name):
    """Code, severity, message, path, line, pointer, artifact, expected and found are those of report.json."""
    findings = found(name)

    assert findings == recorded(name)["findings"]
    assert {finding["code"] for finding in findings} == {CASES[name].code}


@pytest.mark.parametrize("name", PASSING)
def test_what_only_looks_like_a_defect_has_no_findings(name):
    """Beside every failing folder stands one that is right, as near to the defect as can be."""
    assert found(name) == recorded(name)["findings"] == []


@pytest.mark.parametrize("name", REGISTRY_CASES)
def test_a_registry_gives_exactly_the_recorded_findings(name):
    """As releases: those of the planted rule, and of rules that must find something in it as well."""
    case, place = REGISTRY_CASES[name], registry_folder_of(name)
    report = lint(read_directory(place / FILE))
    findings = [finding.model_dump(exclude={"origin", "fingerprint"}, exclude_none=True) for finding in report.findings]

    assert (place / FILE).read_text() == case.text
    assert findings == json.loads((place / "report.json").read_text(encoding="utf-8"))["findings"]
    assert {finding["code"] for finding in findings} == {*case.beside, *(() if case.passes else (case.code,))}
    assert all(finding["line"] and finding["hint"] for finding in findings)


@pytest.mark.parametrize("name", FAILING)
def test_a_finding_says_where_and_what_to_do(name):
    """Every finding names a file or an artifact, and a next step."""
    for finding in recorded(name)["findings"]:
        assert finding.get("path") or finding.get("artifact")
        assert finding["hint"]
        assert finding["severity"] in ("error", "warning", "note")


def test_the_folders_are_those_of_the_planter():
    """No folder is left over from a case that is gone, and none is missing."""
    folders = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*"))

    wanted = [*map(folder_of, CASES), *map(registry_folder_of, REGISTRY_CASES)]
    assert folders == sorted(path.relative_to(FOLDER).as_posix() for path in wanted)


@pytest.mark.parametrize("code", RULES)
def test_a_rule_has_all_that_a_rule_needs(code):
    """A page with every part, a folder that fails by it, and a folder that passes."""
    page = rule(code)

    for part in (page.title, page.what, page.why, page.fix, page.bad.file, page.bad.text, page.good.text):
        assert part.strip(), f"{code}: a part of its docstring is missing"
    assert page.bad.text != page.good.text
    if code in ON_THE_HUB:
        return
    cases = [*CASES.values(), *REGISTRY_CASES.values()]
    assert code in NOT_IN_GIT or any(case.code == code for case in cases if not case.passes)
    assert any(case.code == code for case in cases if case.passes), f"{code}: no passing folder"


def test_a_pipe_is_no_regular_file(tmp_path):
    """SR013: a pipe in the release is named, and never opened."""
    release = tiny_release(tmp_path)
    os.mkfifo(release / "layer_1/stream")

    (finding,) = validate(release).findings

    assert (finding.code, finding.path) == ("SR013", "layer_1/stream")
    assert finding.message == "layer_1/stream is no regular file"


@pytest.mark.parametrize("level", ["layout", "header", "weights", "data"])
def test_the_release_without_a_defect_has_no_findings(tmp_path, level):
    """What the planter starts from is clean at every level."""
    report = validate(tiny_release(tmp_path), level)

    assert report.findings == ()
    assert report.summary.artifacts == 4
    assert report.summary.skipped == ()
