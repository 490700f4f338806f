"""The steps of the publish workflow, run as a runner would: bash, fail on error, values from the environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.releases import tiny_release

ROOT = Path(__file__).parents[2]
JOB = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text())["jobs"]["publish"]
STEPS = {step["name"]: step for step in JOB["steps"]}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return tiny_release(tmp_path_factory.mktemp("pristine"), checkpoints=False)


@pytest.fixture
def step(pristine, tmp_path):
    """Run a step in a workspace with a release in `my release`."""
    shutil.copytree(pristine, tmp_path / "my release")
    (tmp_path / "bin").mkdir()
    saereg = tmp_path / "bin/saereg"
    saereg.write_text(
        f'#!/bin/sh\necho "${{HF_OIDC_RESOURCE:-}}" >> "{tmp_path}/resources"\nexec "{sys.executable}" -m saereg "$@"\n'
    )
    saereg.chmod(0o755)

    def run(name: str, **values: str) -> subprocess.CompletedProcess:
        given = {
            "RELEASE": "my release",
            "TARGET": "dir:out",
            "LEVEL": "header",
            "POLICY": "ci-fast",
            "DRY_RUN": "false",
        }
        assert set(given) | {"VERSION"} == set(JOB["env"])
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        # The runner's own command line for `shell: bash`.
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]],
            cwd=tmp_path,
            env=given | values | {"PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_a_sound_release_is_validated_and_published(step, tmp_path):
    """To where the caller said."""
    assert step("Validate").returncode == 0
    done = step("Publish")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/manifest.json").is_file()


def test_a_dry_run_shows_the_plan_and_stops(step, tmp_path):
    """Nothing is there afterwards."""
    done = step("Publish", DRY_RUN="true")

    assert done.returncode == 0, done.stderr
    assert "manifest.json" in done.stdout
    assert not (tmp_path / "out").exists()


def test_findings_stop_the_job(step, tmp_path):
    """In the step before, with annotations."""
    path = tmp_path / "my release/layer_1/topk/cfg.json"
    path.write_text(path.read_text().replace('"k": 3', '"k": 300'))

    done = step("Validate")

    assert done.returncode == 1
    assert "::error " in done.stdout


def test_what_the_policy_needs_is_needed_to_publish(step, tmp_path):
    """A shallower level than that of the policy passes the step before, and no plan can be made of it."""
    done = step("Publish", POLICY="paper")

    assert done.returncode == 1
    assert "data is needed by the policy paper" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_target_that_this_version_does_not_know_is_one_line(step):
    """And a red job: nothing pretends to have been published."""
    done = step("Publish", TARGET="gopher://host/x")

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("target", "resource"),
    [("hf://org/repo", "org/repo"), ("hf://org/repo@main", "org/repo"), ("dir:out", "")],
)
def test_the_token_is_asked_for_the_target_alone(step, tmp_path, target, resource):
    """By the variable that huggingface_hub reads; other targets ask for none."""
    step("Publish", TARGET=target, RELEASE="gone")

    assert (tmp_path / "resources").read_text() == f"{resource}\n"


@pytest.mark.slow
def test_values_are_never_code(step, tmp_path):
    """Neither target nor folder."""
    for values in ({"RELEASE": '"; touch hacked; "'}, {"TARGET": "dir:$(touch hacked)"}, {"LEVEL": "`touch hacked`"}):
        step("Publish", **values)
        step("Validate", **values)
    assert not (tmp_path / "hacked").exists()
