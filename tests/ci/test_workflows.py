"""Action, workflow and hooks are read by the tools that know their formats; so is every example of docs/ci.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION, PUBLISH, HOOKS = ROOT / "action.yml", ROOT / ".github/workflows/publish.yml", ROOT / ".pre-commit-hooks.yaml"

EXAMPLES = re.findall(r"```yaml\n# (\S+)\n(.*?)```", (ROOT / "docs/ci.md").read_text(encoding="utf-8"), re.DOTALL)

BIN = Path(sys.executable).parent


def tool(*words: object) -> subprocess.CompletedProcess:
    """Run a tool of this environment."""
    name, *arguments = (str(word) for word in words)
    return subprocess.run([BIN / name, *arguments], capture_output=True, text=True, timeout=60, check=False)


def fits(schema: str, path: Path) -> subprocess.CompletedProcess:
    """Compare a file with a schema that check-jsonschema carries."""
    return tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", path)


@pytest.mark.parametrize(("schema", "path"), [("github-actions", ACTION), ("github-workflows", PUBLISH)])
def test_action_and_workflow_fit_the_schema_of_github(schema, path):
    """Without a network: the schemas are in the tool."""
    done = fits(schema, path)
    assert done.returncode == 0, done.stdout


def test_a_wrong_key_is_found(tmp_path):
    """The tool looks."""
    wrong = tmp_path / "action.yml"
    wrong.write_text(ACTION.read_text().replace("using: composite", "uses: composite"))
    assert fits("github-actions", wrong).returncode == 1


def test_the_hooks_are_a_manifest_of_pre_commit():
    """Read by pre-commit itself."""
    done = tool("pre-commit", "validate-manifest", HOOKS)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", [ACTION, PUBLISH], ids=lambda path: path.name)
def test_nothing_is_left_to_an_attacker(path):
    """No template in a script, no action that is not pinned, no permission too many, no credential kept: zizmor."""
    done = tool("zizmor", "--offline", "--no-progress", "--persona", "auditor", path)
    assert done.returncode == 0, done.stdout


def test_an_injection_is_found(tmp_path):
    """The tool looks."""
    wrong = tmp_path / "action.yml"
    wrong.write_text(ACTION.read_text().replace('exit "$EXIT_CODE"', "exit ${{ inputs.path }}"))
    done = tool("zizmor", "--offline", "--no-progress", wrong)
    assert "template-injection" in done.stdout


@pytest.mark.parametrize("path", [ACTION, PUBLISH], ids=lambda path: path.name)
def test_actions_are_pinned_to_commits(path):
    """With the version beside, for people and for the bots that renew them."""
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    for line in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_one_action_has_one_commit():
    """In all files."""
    pins = re.findall(r"uses: ([^@\s]+)@(\S+)", ACTION.read_text() + PUBLISH.read_text())
    assert len({name for name, _ in pins}) == len(set(pins))


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_an_example_of_the_page_is_a_real_file(name, text, tmp_path):
    """Workflows fit GitHub's schema, the configuration of pre-commit that of pre-commit."""
    path = tmp_path / Path(name).name
    path.write_text(text)
    if name == ".pre-commit-config.yaml":
        done = tool("pre-commit", "validate-config", path)
    else:
        assert name.startswith(".github/workflows/")
        done = fits("github-workflows", path)
    assert done.returncode == 0, done.stdout


def test_examples_name_what_exists():
    """Inputs of the action and of the workflow, and ids of hooks."""
    action, workflow = yaml.safe_load(ACTION.read_text()), yaml.safe_load(PUBLISH.read_text())
    inputs = {"saereg/saereg": action["inputs"], "publish.yml": workflow[True]["workflow_call"]["inputs"]}
    hooks = {hook["id"] for hook in yaml.safe_load(HOOKS.read_text())}
    uses = 0
    for name, text in EXAMPLES:
        document = yaml.safe_load(text)
        for job in document.get("jobs", {}).values():
            for step in [job, *job.get("steps", [])]:
                used = str(step.get("uses", ""))
                for what, known in inputs.items():
                    if used.startswith("saereg/") and used.split("@")[0].endswith(what):
                        uses += 1
                        assert set(step.get("with", {})) <= set(known), name
        for repository in document.get("repos", []):
            assert {hook["id"] for hook in repository["hooks"]} <= hooks
            uses += 1
    assert uses >= 4


def test_every_input_is_on_the_page():
    """In its table."""
    page = (ROOT / "docs/ci.md").read_text()
    rows = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))
    workflow = yaml.safe_load(PUBLISH.read_text())[True]["workflow_call"]["inputs"]
    action = yaml.safe_load(ACTION.read_text())
    assert rows == {*action["inputs"], *action["outputs"], *workflow}
