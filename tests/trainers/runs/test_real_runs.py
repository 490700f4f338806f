"""`saereg train sae` itself: killed, stopped by signals, shown by a tracker, on places that cannot be written.

One child imports SAELens once and forks for each run; what it found out comes back as JSON.
"""

import json
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow

STRIDE = 70
"""Of the operations on files of a run, each so many-th is where it is killed; benchmarks/killed_runs.py does all."""

CHILD = """
    import json, os, shutil, signal, sys, time
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    from saereg.cli import main
    from saereg.registry import presenting
    from tests.trainers.runs.killing import forked, tree

    presenting._with_figures = lambda release, *_: release  # vl-convert has threads, which do not survive a fork

    LONG = 150
    root, collection = Path(sys.argv[1]), sys.argv[2]
    found = {}

    def command(folder, *words, steps=24):
        folder.mkdir(parents=True, exist_ok=True)
        standard = {"--architecture": "standard", "--l1": "0.5", "--normalize": "expected_average_only_in"}
        flags = {"--collection": collection, "--site": "residual-1", "--d-sae": "24", **standard,
                 "--tokens": str(32 * steps), "--batch-size": "32", "--held-out": "300", "--id": "a/b",
                 "--device": "cpu", "--release": str(folder / "release"), "--license": "mit", "--checkpoint-every": "5"}
        said = folder.with_suffix(".said")

        def call():
            os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
            os.dup2(2, 1)
            try:
                main(["train", "sae", *(word for pair in flags.items() for word in pair), *words])
            except SystemExit as end:
                return end.code

        return call, said

    def lines(path):
        return path.read_text().splitlines()

    def run(name, *words, **changes):
        call, said = command(root / name, *words, **changes)
        _, code = forked(call, root)
        return [code, lines(said)]

    def signalled(name, number, after, *words):
        call, said = command(root / name, "--checkpoint-every", "0", *words, steps=LONG)
        log, child = root / name / "checkpoints/a/b/training.log", os.fork()
        if child == 0:
            os._exit(call() or 0)
        while not log.exists() or log.stat().st_size < after:
            time.sleep(0.01)
        os.kill(child, number)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lines(said)]

    stdout, stderr = os.dup(1), os.dup(2)
    snapshot = ("--snapshot", "320")
    command(root / "whole", *snapshot)[0]()  # here, so that no fork imports anything
    os.dup2(stdout, 1), os.dup2(stderr, 2)
    whole = tree(root / "whole")
"""


def child(script, *arguments, **environment):
    """Run a script behind CHILD and return what it found."""
    text = textwrap.dedent(CHILD) + textwrap.dedent(script) + "\nprint(json.dumps(found))"
    words = [sys.executable, "-c", text, *map(str, arguments)]
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(collection, tmp_path_factory):
    """What one child found out."""
    root = tmp_path_factory.mktemp("runs")
    script = f"""
        kills, dead, odd = 1 - {STRIDE}, True, []
        while dead:
            kills += {STRIDE}
            dead, code = forked(command(root / "killed", *snapshot)[0], root, kill_before=kills)
            if forked(command(root / "killed", *snapshot)[0], root) != (False, 0) or tree(root / "killed") != whole:
                odd.append(kills)
            shutil.rmtree(root / "killed")
        found["kills"], found["odd"] = kills, odd

        for name, number in (("int", signal.SIGINT), ("term", signal.SIGTERM)):
            found[name] = signalled(name, number, 5000)
            found[name + " again"] = run(name, "--checkpoint-every", "0", steps=LONG)
        found["same"] = tree(root / "int/release") == tree(root / "term/release")
        signalled("other", signal.SIGTERM, 2000)
        found["other"] = run("other", "--lr", "0.01", steps=LONG)
        found["seed"] = run("other", "--id", "a/c", "--seed", "1")

        (root / "file").mkdir()
        (root / "file/release").mkdir()
        (root / "file/release/a").write_text("")
        found["file"] = run("file")
        found["compile"] = run("compile", "--compile")

        for tool in ("wandb", "trackio"):
            (root / f"{{tool}}.yaml").write_text(f"tracker: {{{{tool: {{tool}}, project: tiny}}}}")
        found["trackio"] = run("trackio", str(root / "trackio.yaml"))
        found["wandb"] = signalled("wandb", signal.SIGTERM, 3000, str(root / "wandb.yaml"))
        found["wandb again"] = run("wandb", str(root / "wandb.yaml"), steps=LONG)
        shown = sorted((root / "wandb/checkpoints").rglob("run-*.wandb"))
        found["shown"] = [[path.parent.name[:12], path.name] for path in shown]
        words = (b"losses/mse_loss", b"metrics/explained_variance", b"metrics/l0", b"details/l1_coefficient")
        found["words"] = [all(word in path.read_bytes() for word in words) for path in shown]
        found["the same shown or not"] = tree(root / "wandb/release") == tree(root / "int/release")
        own = "checkpoints/a/b/wandb"
        found["in the way"] = [path for path in tree(root / "wandb") if "wandb" in path and not path.startswith(own)]
    """
    return child(script, root, collection, CXX="/no/compiler", WANDB_MODE="offline")


def test_the_command_killed_at_operations_on_files_ends_with_the_same_files(found):
    """Weights, golden vectors, configuration, log, manifest, snapshot, checkpoints: every byte, and nothing more."""
    assert found["kills"] > 100
    assert found["odd"] == []


@pytest.mark.parametrize(("name", "code"), [("int", 130), ("term", 143)])
def test_the_command_ends_in_order_when_it_is_asked_to(found, name, code):
    """One line, the exit code of shells, and the same command goes on."""
    ended, (line,) = found[name]
    assert ended == code
    assert line.startswith("stopped after step ")
    assert line.endswith(" of 150 and saved; the same command goes on from there")
    assert found[f"{name} again"][0] == 0
    assert found["same"]


def test_the_end_of_a_run_is_one_line_of_facts(found):
    """Nothing while it goes: this is no terminal; and then what was built of it."""
    facts, *_, built, following = found["int again"][1]
    assert facts.startswith("a/b: 150 steps, explained_variance ")
    assert " tokens/s, weights sha256 " in facts
    assert built.startswith("index.json: 1 artifact")
    assert following.startswith("next: saereg validate ")


def test_another_learning_rate_on_a_run_that_was_stopped_is_refused(found):
    """It is another run: the line says how to have it."""
    code, (line,) = found["other"]
    assert code == 2
    assert "is of another run: a/b.optimization.lr is 0.0003 there and 0.01 here; remove " in line
    assert found["seed"][0] == 0


def test_a_release_that_cannot_be_written_is_found_before_training(found):
    """A file stands where the folder of the dictionary is to be."""
    code, (line,) = found["file"]
    assert code == 2
    assert line.startswith("error: ")
    assert line.endswith("release/a/b: Not a directory")


def test_without_a_compiler_the_run_goes_on_and_says_so(found):
    """Where torch would say it in the middle of the first step."""
    code, said = found["compile"]
    assert code == 0
    assert said[0] == (
        "optimization.compile is left out: there is no C++ compiler (/no/compiler; CXX may name another); "
        "the run goes on uncompiled"
    )


def test_a_tracker_that_is_not_installed_is_one_line(found):
    """It is no part of any extra."""
    code, (line,) = found["trackio"]
    assert code == 2
    assert line == "error: tracker 'trackio' is not installed: pip install trackio, or leave `tracker` out"


def test_wandb_shows_what_saelens_shows_and_goes_on_under_one_id(found):
    """Real files of wandb, offline, beside the checkpoints; the release has the bytes of a run that was not shown."""
    assert found["wandb"][0] == 143
    assert found["wandb again"][0] == 0
    assert len(found["shown"]) == 2
    assert len({name for _, name in found["shown"]}) == 1
    assert {name for name, _ in found["shown"]} == {"offline-run-"}
    assert found["words"] == [True, True]
    assert found["the same shown or not"]
    assert found["in the way"] == []
    assert [line for line in found["wandb again"][1] if "wandb" in line and not line.startswith("next: ")] == []
