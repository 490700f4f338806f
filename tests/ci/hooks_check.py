"""pre-commit itself installs the hooks from a clone of this tree and runs them on a fixture repository.

Not part of `make test`, because pre-commit builds an environment from the package index: `make hooks-check`.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.releases import tiny_release

ROOT = Path(__file__).parents[2]
SHIPPED = ("saereg", "pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml")
"""What a clone needs, so that the check also runs in a tree that is not committed."""

HOOKS = ("saereg-validate", "saereg-manifest", "saereg-card")
FRAMEWORK = Path(sys.executable).with_name("pre-commit")

WHO = {"GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@x", "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@x"}


def git(folder: Path, *words: str) -> None:
    """Run git without any configuration of this machine."""
    environment = os.environ | WHO | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(
        ["git", "-c", "init.defaultBranch=main", *words], cwd=folder, env=environment, check=True, timeout=60
    )


def commit(folder: Path) -> None:
    """Make a folder a repository with one commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", "first")


@pytest.fixture(scope="module")
def hooks(tmp_path_factory) -> Path:
    """A repository that ships the hooks."""
    folder = tmp_path_factory.mktemp("hooks")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """A repository with a release and a file that is in none."""
    folder = tmp_path_factory.mktemp("project")
    release = tiny_release(folder, checkpoints=False)
    release.rename(folder / "my release")
    (folder / "README.md").write_text("no card\n")
    commit(folder)
    return folder


@pytest.fixture
def project(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "project", symlinks=True))


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Where pre-commit keeps its environments: made once, and gone afterwards."""
    return tmp_path_factory.mktemp("pre-commit")


@dataclass(frozen=True)
class Answer:
    """What pre-commit answered."""

    code: int
    out: str


@pytest.fixture
def framework(project, home):
    """Run pre-commit in the project; what it installs goes into a folder that is gone afterwards."""

    def run(*words: str) -> Answer:
        environment = os.environ | WHO | {"PRE_COMMIT_HOME": str(home), "NO_COLOR": "1", "PRE_COMMIT_COLOR": "never"}
        done = subprocess.run(
            [str(FRAMEWORK), *words],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return Answer(done.returncode, done.stdout + done.stderr)

    return run


@pytest.fixture
def attempt(hooks, framework, tmp_path):
    """Run one hook on files, as `git commit` would; the environment is installed once for all tests."""

    def run(hook: str, *files: str, arguments: str = "[]") -> Answer:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=hooks, capture_output=True, text=True, check=True
        ).stdout
        config = tmp_path / "config.yaml"
        config.write_text(
            f"repos:\n  - repo: {hooks}\n    rev: {head.strip()}\n    hooks:\n"
            + "".join(f"      - id: {name}\n" for name in HOOKS if name != hook)
            + f"      - id: {hook}\n"
            + (f"        args: {arguments}\n" if arguments != "[]" else "")
        )
        which = ["--files", *files] if files else ["--all-files"]
        return framework("run", hook, "--config", str(config), "--verbose", *which)

    return run


def change(project: Path, name: str, old: str, new: str) -> None:
    """Change a file of the release."""
    path = project / "my release" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_hook_can_be_tried(hooks, framework):
    """`pre-commit try-repo`: installed from a clone, each hook runs once on a sound release, and passes."""
    answer = framework("try-repo", str(hooks), "--verbose", "--all-files")

    assert answer.code == 0, answer.out
    assert answer.out.count("Passed") == len(HOOKS)
    assert answer.out.count("my release:") == len(HOOKS)
    assert answer.out.count("0 errors") == len(HOOKS)


def test_the_hooks_need_no_torch(attempt, home):
    """Only the base dependencies are installed."""
    attempt("saereg-manifest")

    packages = {path.name for path in home.glob("*/py_env-*/lib/python*/site-packages/*")}
    assert "saereg" in packages
    assert not packages & {"torch", "numpy", "transformers"}


def test_a_broken_manifest_stops_the_commit(attempt, project):
    """With the rule and the value."""
    change(project, "manifest.json", '"schema_version": "1.0"', '"schema_version": "9.0"')

    answer = attempt("saereg-manifest", "my release/manifest.json")

    assert answer.code == 1
    assert "SR104" in answer.out
    assert "9.0" in answer.out


def test_a_configuration_is_looked_at_by_the_hook_that_says_so(attempt, project):
    """The quick one does not run for it."""
    change(project, "layer_1/topk/cfg.json", '"k": 3', '"k": 300')

    assert attempt("saereg-validate", "my release/layer_1/topk/cfg.json").code == 1
    assert "no files to check" in attempt("saereg-manifest", "my release/layer_1/topk/cfg.json").out


def test_the_card_is_looked_at_alone(attempt, project):
    """Neither does a fault of the manifest hide behind it, nor is one of the card missed."""
    change(project, "README.md", "license: mit", "license: [")

    answer = attempt("saereg-card", "my release/README.md")

    assert answer.code == 1
    assert set(re.findall(r"\bSR(\d)\d\d\b", answer.out)) == {"5"}


def test_a_manifest_that_went_away_is_noticed(attempt, project):
    """Exit code 5: the index says that here was a release."""
    (project / "my release/manifest.json").unlink()

    assert attempt("saereg-validate", "my release/index.json").code == 1


def test_files_outside_of_any_release_are_left_alone(attempt):
    """The README of the repository is no card."""
    answer = attempt("saereg-card", "README.md")

    assert answer.code == 0
    assert "my release:" not in answer.out


def test_arguments_of_the_user_come_after_ours(attempt):
    """The last level counts."""
    answer = attempt("saereg-validate", arguments="[--level, layout, --select, SR0]")

    assert answer.code == 0, answer.out
    assert "level layout" in answer.out
