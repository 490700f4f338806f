"""`saereg publish release hf://org/name`: what it says, what it answers, and what it refuses."""

import json
import os
import signal
import subprocess
import sys

import pytest
from huggingface_hub import HfApi, constants

from saereg.publishers.hub import asking, committing
from saereg.publishers.local_hub import Fault, local_hub
from saereg.schemas.plan import Plan, Receipt
from tests.reading_hub import Client


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A hub without Xet."""
    with local_hub(tmp_path_factory.mktemp("hub"), xet=False) as found:
        yield found


@pytest.fixture
def hub(server, monkeypatch):
    """The hub that HF_ENDPOINT names, which this process has read already, and a token."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    for module in (asking, committing):
        monkeypatch.setattr(module, "PAUSE", 0.001)
    server.faults.clear()
    server.requests.clear()
    return server


def head_of(hub, name: str, revision: str = "main") -> str:
    """Return the commit of a branch."""
    return HfApi(endpoint=hub.url, token="hf_x").repo_info(name, revision=revision).sha


def test_a_dry_run_says_what_would_happen(saereg, hub, monkeypatch):
    """Without a token; nothing is made."""
    monkeypatch.delenv("HF_TOKEN")
    answer = saereg("publish", "release", "hf://org/dry", "--dry-run", "--private")

    assert answer.code == 0
    first, second, third, fourth, tag, *files = answer.out.splitlines()
    assert first == "tiny-saes 1.0.0, validated at level weights: 0 errors"
    assert second.startswith("to hf://org/dry: 18 files, ")
    assert third == "the repository is made first, private"
    assert fourth.startswith("one commit, ")
    assert tag == "tag v1.0.0"
    assert files[0].startswith("  + README.md  ")
    assert answer.next == "saereg publish release hf://org/dry --private"
    assert {request.method for request in hub.requests} == {"GET"}


def test_the_whole_way(saereg, hub, place):
    """Publish, and again; then a changed release, another version, and what every command names next."""
    first = saereg("publish", "release", "hf://org/whole", "--receipt", "receipt.json")
    requests = len(hub.requests) - noise(hub)
    commit = head_of(hub, "org/whole")

    assert first.code == 0
    lines = first.out.splitlines()
    assert lines[-3].startswith(f"published as main@{commit[:8]}, ")
    assert lines[-3].endswith(" written, tag v1.0.0")
    assert lines[-2].startswith("every file of the tree compared; ")
    assert lines[-1] == f"{hub.url}/org/whole/commit/{commit}"
    assert first.next == "saereg verify hf://org/whole@v1.0.0"
    receipt = Receipt.from_text((place / "receipt.json").read_text())
    assert (receipt.hub.commit, receipt.hub.requests) == (commit, requests)

    second = saereg("publish", "release", "hf://org/whole")
    assert second.code == 0
    assert second.out.splitlines()[-1] == (
        f"nothing to do: the target holds exactly this release as main@{commit[:8]}, tag v1.0.0"
    )
    assert "nothing has changed since" in second.err

    (place / "release/README.md").write_text((place / "release/README.md").read_text() + "\nMore.\n")
    assert saereg("build", "release", "--no-figures", "--no-features").code == 0
    refused = saereg("publish", "release", "hf://org/whole")
    assert refused.code == 1
    assert refused.err.splitlines()[-1].startswith("error: version 1.0.0 is published already (tag v1.0.0 at ")
    skipped = saereg("publish", "release", "hf://org/whole", "--existing", "skip")
    assert (skipped.code, skipped.out.splitlines()[-1]) == (0, "nothing was done: a published version stays as it is")
    assert head_of(hub, "org/whole") == commit


def noise(hub) -> int:
    """Return how many requests the client made for itself."""
    return sum("agent-harnesses" in request.path for request in hub.requests)


def test_a_plan_is_written_and_applied(saereg, hub, place):
    """The target is that of the plan; when the branch has moved it is refused with the files."""
    written = saereg("publish", "release", "hf://org/planned", "--plan", "plan.json", "--branch", "next", "--no-tag")
    assert written.code == 0
    assert written.next == "saereg publish release --apply plan.json"
    plan = Plan.read(place / "plan.json")
    assert (plan.target, plan.hub.branch, plan.hub.tag) == ("hf://org/planned@next", "next", None)

    other = saereg("publish", "release", "hf://org/other", "--apply", "plan.json")
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert "plan.json is a plan for hf://org/planned@next, not for hf://org/other" in other.err
    both = saereg("publish", "release", "--apply", "plan.json", "--dry-run")
    assert (both.code, both.err.count("\n")) == (2, 1)

    applied = saereg("publish", "release", "--apply", "plan.json", "--format", "json")
    assert applied.code == 0
    assert json.loads(applied.out)["hub"]["commit"] == head_of(hub, "org/planned", "next")
    assert saereg("publish", "release", "--apply", "plan.json").out.startswith("tiny-saes 1.0.0")

    api = HfApi(endpoint=hub.url, token="hf_x")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="README.md", repo_id="org/planned", revision="next")
    moved = saereg("publish", "release", "--apply", "plan.json")
    assert moved.code in (1, 4)
    assert head_of(hub, "org/planned", "next") != plan.base


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("hf:org/name", "'hf:org/name' is no repository; write hf://org/repo[@branch]"),
        ("org/name", "'org/name' is no target; write hf://org/name or dir:org/name"),
        ("hf://org", "'hf://org' is no repository; write hf://org/repo[@branch]"),
        ("hf:", "'hf:' is no target; write hf://org/repo"),
        ("./out", "'./out' is no target; write dir:./out or hf://org/repo"),
        ("https://huggingface.co/org/name/tree/main", "is no target; write hf://org/name"),
        ("http://localhost:8080", "write hf://org/repo, and set HF_ENDPOINT to the address of the Hub"),
        ("hf://org/name:layer_1/topk", "'hf://org/name:layer_1/topk' is no repository; write hf://org/repo[@branch]"),
        ("hf://datasets/org/name", "is no repository; write hf://org/repo[@branch]"),
        ("hf://org/name@refs/pr/1", "refs/pr/1 is no branch; to propose a release, publish to the branch with --pr"),
        ("s3://bucket/name", "unknown target 's3:'; known: dir:, hf:"),
    ],
)
def test_a_target_that_is_none_says_what_was_meant(saereg, target, problem):
    """In one line; exit code 2."""
    answer = saereg("publish", "release", target)
    assert answer.code == 2
    assert answer.err.splitlines()[-1].endswith(problem)


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("dir:out", "--tag", "v1.0.0", "--pr"), 2, "--tag, --pr: a folder has none of that"),
        (("hf://org/flags", "--pr", "--no-tag"), 2, "--pr makes no tag anyway: leave --no-tag out"),
        (("hf://org/flags@a", "--branch", "b"), 2, "name two branches; leave one of them out"),
        (("hf://org/flags", "--pr", "--branch", "b"), 2, "merges a pull request into main alone; leave --pr out"),
        (("hf://org/flags", "--tag", "v2.0.0"), 2, "--tag v2.0.0: the manifest says version 1.0.0"),
        (("hf://org/" + "x" * 97, "--dry-run"), 2, ""),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(saereg, hub, words, code, problem):
    """In one line, before anything is made."""
    answer = saereg("publish", "release", *words)
    assert answer.code == code
    assert problem in answer.err.splitlines()[-1]
    assert not HfApi(endpoint=hub.url).repo_exists("org/flags")


def test_what_the_hub_refuses_is_one_line_and_exit_code_4(saereg, hub, monkeypatch):
    """A right that is missing, a card, a Hub that does not answer."""
    for fault, problem in (
        (
            Fault("create", status=403, message="You don't have the rights to create a model"),
            "make it on the site first",
        ),
        (Fault("yaml", status=400, message="license is unknown"), "README.md: the Hub refuses its metadata"),
        (Fault("auth", drop=True, count=-1), "nothing is lost: run the same command again"),
    ):
        hub.faults[:] = [fault]
        answer = saereg("publish", "release", "hf://org/refused")
        assert answer.code == 4
        assert answer.err.splitlines()[-1].startswith("error: ")
        assert problem in answer.err.splitlines()[-1]
        assert "Traceback" not in answer.err


def test_a_release_with_errors_is_refused_with_exit_code_1(saereg, hub, place):
    """Nothing is asked of the Hub but what the target holds."""
    (place / "release/layer_1/topk/cfg.json").write_text("{}")
    answer = saereg("publish", "release", "hf://org/errors")
    assert answer.code == 1
    assert "nothing was published" in answer.err.splitlines()[-1]
    assert all(request.method == "GET" for request in hub.requests)


def test_a_process_finds_the_hub_and_the_token_in_its_environment(server, valid, tmp_path):
    """HF_ENDPOINT and HF_TOKEN, as for every tool; the Hub client's own way of sending is used where it can be."""
    server.faults.clear()
    client = Client(tmp_path)
    done = client.saereg(
        server.url, "publish", str(valid), "hf://org/child", "--level", "header", "--pr", HF_TOKEN="hf_child"
    )
    assert done.returncode == 0, done.stderr
    assert "pull request 1 holds the release as " in done.stdout
    assert done.stderr.splitlines()[-1] == f"next: merge it on {server.url}/org/child/discussions/1"
    nothing = client.saereg(server.url, "publish", str(valid), "hf://org/child", "--level", "header", HF_TOKEN="wrong")
    assert nothing.returncode == 4
    assert nothing.stderr.splitlines()[-1].startswith("error: hf://org/child: cannot ")


def test_a_run_that_is_interrupted_says_so_in_one_line(server, valid, tmp_path):
    """And the next one goes on; what readers see is whole."""
    server.faults[:] = [Fault("commit", status=0, seconds=30)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_x", "HF_HOME": str(tmp_path)}
    words = [sys.executable, "-m", "saereg", "publish", str(valid), "hf://org/interrupted", "--level", "header"]
    run = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not any(request.route == "commit" and "interrupted" in request.path for request in list(server.requests)):
        assert run.poll() is None, run.stderr.read()
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=20)
    server.faults.clear()

    assert run.returncode in (1, 130)
    assert "Traceback" not in err
    assert "published" not in out
    assert len(err.splitlines()) <= 3
