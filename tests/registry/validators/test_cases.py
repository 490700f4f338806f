"""Each folder of `tests/cases/1` holds one planted defect, and validation finds that defect and nothing else."""

import json
import os
from pathlib import Path

import pytest

from saereg.registry.validators.rules import RULES
from saereg.registry.validators.runner import validate
from tests.cases.plant import CASES, HERE
from tests.releases import tiny_release

FOLDER = HERE / "1"

NOT_IN_GIT = ("SR013",)
"""Rules without a folder: git keeps no pipes, so that case is made on the fly below."""


def recorded(name: str) -> dict:
    return json.loads((FOLDER / name / "report.json").read_text(encoding="utf-8"))


def found(release: Path, level: str) -> list[dict]:
    findings = validate(release, level).findings
    return [finding.model_dump(exclude={"origin", "fingerprint"}, exclude_none=True) for finding in findings]


@pytest.mark.parametrize("name", CASES)
def test_a_planted_defect_gives_exactly_the_recorded_findings(name):
    """Code, severity, message, path, line, pointer, artifact, expected and found are those of report.json."""
    expected = recorded(name)

    findings = found(FOLDER / name / "release", expected["level"])

    assert findings == expected["findings"]
    assert {finding["code"] for finding in findings} == {CASES[name].code}


@pytest.mark.parametrize("name", CASES)
def test_a_finding_says_where_and_what_to_do(name):
    """Every finding names a file or an artifact, and a next step."""
    for finding in recorded(name)["findings"]:
        assert finding.get("path") or finding.get("artifact")
        assert finding["hint"]
        assert finding["severity"] in ("error", "warning", "note")


def test_the_folders_are_those_of_the_planter():
    """No folder is left over from a case that is gone, none is missing, and there are at least 25."""
    folders = sorted(path.name for path in FOLDER.iterdir())

    assert folders == sorted(CASES)
    assert len(folders) >= 25


def test_every_rule_has_a_case():
    """A rule that nothing can trigger would be a promise untested."""
    planted = {case.code for case in CASES.values()}

    assert planted | set(NOT_IN_GIT) == set(RULES)
    assert not planted & set(NOT_IN_GIT)


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
