"""The GitHub Action: its scripts run for real, and what it hands to them is checked by the tools that know GitHub."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from saereg import __version__
from tests.releases import tiny_release

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step.get("id", step["name"]): step for step in ACTION["runs"]["steps"]}

BASH = shutil.which("bash")


@dataclass(frozen=True)
class Step:
    """What a step of the action left behind."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return tiny_release(tmp_path_factory.mktemp("pristine"), checkpoints=False)


@pytest.fixture
def workspace(pristine, tmp_path) -> Path:
    """A checked-out repository with a release in `my release`."""
    shutil.copytree(pristine, tmp_path / "workspace/my release")
    return tmp_path / "workspace"


@pytest.fixture
def validate(workspace, tmp_path):
    """Run ci/validate.sh as the action does, with the saereg of this environment on the path."""
    (tmp_path / "temp").mkdir()
    (tmp_path / "bin").mkdir()
    saereg = tmp_path / "bin/saereg"
    saereg.write_text(f'#!/bin/sh\necho "$@" >> "$CALLS"\nexec "{sys.executable}" -m saereg "$@"\n')
    saereg.chmod(0o755)

    def run(**inputs: str) -> Step:
        files = {"GITHUB_OUTPUT": tmp_path / "output", "GITHUB_STEP_SUMMARY": tmp_path / "summary"}
        for file in files.values():
            file.write_text("before=1\n")
        given = {name.removeprefix("INPUT_"): "" for name in STEPS["validate"]["env"] if name.startswith("INPUT_")}
        given |= {key.replace("-", "_").upper(): value["default"] for key, value in ACTION["inputs"].items()}
        environment = {f"INPUT_{name}": value for name, value in (given | inputs).items()}
        environment |= {name: str(file) for name, file in files.items()}
        environment |= {"RUNNER_TEMP": str(tmp_path / "temp"), "CALLS": str(tmp_path / "calls")}
        environment |= {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(workspace)}
        environment |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [BASH, str(ROOT / "ci/validate.sh")],
            cwd=workspace,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = (tmp_path / "output").read_text().splitlines()
        assert lines[0] == "before=1"
        summary = (tmp_path / "summary").read_text().removeprefix("before=1\n")
        return Step(done.returncode, done.stdout + done.stderr, dict(line.split("=", 1) for line in lines[1:]), summary)

    return run


def damage(workspace: Path) -> None:
    """Put an error into a configuration."""
    path = workspace / "my release/layer_1/topk/cfg.json"
    path.write_text(path.read_text().replace('"k": 3', '"k": 300'))


def test_a_clean_release_leaves_every_report(validate):
    """Of one validation: SARIF without a result, JSON lines, and the summary after what stood there before."""
    step = validate(PATH="my release")

    assert (step.code, step.outputs["exit-code"]) == (0, "0")
    sarif = json.loads(Path(step.outputs["sarif"]).read_text())
    assert sarif["version"] == "2.1.0"
    assert sarif["runs"][0]["results"] == []
    assert Path(step.outputs["report"]).read_text().startswith("{")
    assert "tiny-saes 1.0.0" in step.summary
    assert "::error" not in step.log


def test_findings_are_annotations_on_the_files_of_the_repository(validate, workspace):
    """The step itself ends with 0, so that the SARIF file can be uploaded; the verdict comes after."""
    damage(workspace)

    step = validate(PATH="my release")

    assert (step.code, step.outputs["exit-code"]) == (0, "1")
    results = json.loads(Path(step.outputs["sarif"]).read_text())["runs"][0]["results"]
    assert results
    places = {place["physicalLocation"]["artifactLocation"]["uri"] for r in results for place in r["locations"]}
    assert "my%20release/layer_1/topk/cfg.json" in places
    assert re.search(r"^::error .*file=my release/layer_1/topk/cfg.json", step.log, re.MULTILINE)
    assert "SR" in step.summary


def test_the_report_can_be_shown_again(validate, workspace, tmp_path):
    """The output `report` is what --load reads."""
    damage(workspace)
    step = validate(PATH="my release")

    command = [sys.executable, "-m", "saereg", "validate", "--load", step.outputs["report"], "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert json.loads(done.stdout)["findings"]


def test_the_release_is_validated_once(validate, tmp_path):
    """Whatever the number of formats."""
    validate(PATH="my release")

    assert len((tmp_path / "calls").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("inputs", "code", "sentence"),
    [
        ({"PATH": "nowhere"}, "5", "there is nothing to validate"),
        ({"PATH": "my release/layer_1"}, "5", "there is nothing to validate"),
        ({"PATH": "my release", "LEVEL": "deepest"}, "2", "could not finish (exit code 2)"),
        ({"PATH": "my release", "POLICY": "gone"}, "2", "could not finish (exit code 2)"),
        ({"PATH": "my release", "ARGS": "--no-such-flag"}, "2", "could not finish (exit code 2)"),
    ],
)
def test_what_could_not_be_validated_is_said_and_never_passes(validate, inputs, code, sentence):
    """No SARIF file is named then: an empty one would close every alert."""
    step = validate(**inputs)

    assert (step.code, step.outputs) == (0, {"exit-code": code, "sarif": "", "report": ""})
    assert sentence in step.log
    assert f"exit code {code}" in step.summary


def test_inputs_are_words_and_never_code(validate, workspace, tmp_path):
    """Neither a path nor an argument is read by the shell, also one that looks like an option."""
    mark = tmp_path / "it ran"
    for inputs in (
        {"PATH": f'$(touch "{mark}")'},
        {"PATH": f"x; touch '{mark}'"},
        {"PATH": "--exit-zero"},
        {"PATH": "my release", "LEVEL": f'header"; touch "{mark}'},
        {"PATH": "my release", "ARGS": f"--select\nSR0$(touch '{mark}')"},
    ):
        assert validate(**inputs).outputs["exit-code"] in ("2", "5")
    assert not mark.exists()


def test_every_input_reaches_the_command(validate, workspace, tmp_path):
    """Each as the flag of its name; further arguments one per line."""
    damage(workspace)
    (workspace / "a file.toml").write_text('profile = "base"\n')

    step = validate(
        PATH="my release",
        LEVEL="layout",
        POLICY="ci-fast",
        PROFILE="saelens",
        FAIL_ON="warning",
        ARGS="--select\nSR1\n\n--config\na file.toml",
        SUMMARY="false",
    )

    assert step.outputs["exit-code"] == "0"
    assert step.summary == ""
    call = (tmp_path / "calls").read_text()
    assert (
        "--fail-on warning --level layout --profile saelens --policy ci-fast --select SR1 --config a file.toml" in call
    )
    assert call.endswith(" -- my release\n")


def test_snippets_are_run_only_when_asked_for(validate, tmp_path):
    """They are code of the author of a pull request."""
    validate(PATH="my release", LEVEL="layout")
    validate(PATH="my release", LEVEL="layout", RUN_SNIPPETS="true")

    assert [("--run-snippets" in call) for call in (tmp_path / "calls").read_text().splitlines()] == [False, True]


@pytest.mark.slow
def test_the_summary_of_a_hopeless_release_stays_below_what_github_shows(validate, workspace):
    """More than a megabyte is not shown at all."""
    folder = workspace / "my release/notes"
    folder.mkdir()
    for number in range(9000):
        (folder / f"{number}-{'x' * 150}.pt").touch()

    step = validate(PATH="my release", LEVEL="layout", ARGS="--verbose")

    assert 500_000 < len(step.summary.encode()) < 1_000_000


def test_each_input_of_a_script_is_handed_over_by_the_action():
    """And none that no script reads."""
    for name, script in (("Install saereg", "install.sh"), ("validate", "validate.sh")):
        text = (ROOT / "ci" / script).read_text()
        handed = {variable for variable in STEPS[name]["env"] if variable.startswith("INPUT_")}
        assert handed == set(re.findall(r"\bINPUT_[A-Z_]+\b", text.split("set -euo pipefail", 1)[1]))
        for variable in handed:
            value = STEPS[name]["env"][variable]
            name_of_input = variable.removeprefix("INPUT_").lower().replace("_", "-")
            assert value == "${{ inputs." + name_of_input + " }}"
    used = set(re.findall(r"inputs\.([a-z-]+)", (ROOT / "action.yml").read_text()))
    assert used == set(ACTION["inputs"])


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [({"INPUT_VERSION": "1; touch x"}, "version is one version"), ({"INPUT_EXTRAS": "torch] x"}, "extras are names")],
)
def test_what_is_installed_is_named_plainly(tmp_path, inputs, sentence):
    """A version or an extra that is none is refused before anything is made."""
    environment = {
        "PATH": os.environ["PATH"],
        "SAEREG_VENV": str(tmp_path / "venv"),
        "GITHUB_PATH": str(tmp_path / "p"),
    }
    done = subprocess.run(
        [BASH, str(ROOT / "ci/install.sh")], env=environment | inputs, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert sentence in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_verdict_is_the_exit_code_of_the_validation():
    """The last step ends with it."""
    verdict = ACTION["runs"]["steps"][-1]
    assert verdict["env"] == {"EXIT_CODE": "${{ steps.validate.outputs.exit-code }}"}
    for code in (0, 1, 5):
        done = subprocess.run([BASH, "-c", verdict["run"]], env={"EXIT_CODE": str(code)}, check=False)
        assert done.returncode == code


def test_the_version_of_the_page_is_this_one():
    """Its examples can be copied."""
    text = (ROOT / "docs/ci.md").read_text()
    assert set(re.findall(r"version: (\d\S*)", text)) <= {__version__}
