"""A run that is stopped at any moment and started again ends like one that was never stopped, bit by bit."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from saereg.errors import DivergedError, InterruptedRunError, UsageError
from saereg.schemas.training import Optimization
from saereg.trainers.runs import checkpoints
from saereg.trainers.runs.loop import SAFETY
from tests.trainers.runs.members import STEPS, TinyMember, ended, go


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run ends with that nobody stopped."""
    return go(tmp_path_factory.mktemp("whole"))


def at(step, action):
    """Return a progress function that does something after a step."""
    return lambda seen: action() if seen.tokens == 8 * step and seen.said is None else None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", [1, 2, 3, STEPS - 1])
def test_a_signal_saves_and_the_run_goes_on_to_the_same_bytes(step, number, whole, tmp_path):
    """It comes after the checkpoint of a step could be made, so the next step is the one that is saved."""
    with pytest.raises(InterruptedRunError) as caught:
        go(tmp_path, checkpoint_every=0, progress=at(step, lambda: os.kill(os.getpid(), number)))
    assert (
        str(caught.value) == f"stopped after step {step + 1} of {STEPS} and saved; the same command goes on from there"
    )
    assert caught.value.signal == number
    assert [found for found, _ in checkpoints.steps(tmp_path / "state")] == [step + 1]
    assert go(tmp_path) == whole


def test_a_second_signal_ends_at_once(tmp_path):
    """The first gives the second back to whoever had it."""

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, progress=at(4, twice))
    assert [found for found, _ in checkpoints.steps(tmp_path / "state")] == [3]


def test_a_signal_in_the_last_step_stops_before_the_export(whole, tmp_path):
    """What stands then is the checkpoint of the last step, from which the same command exports."""
    members = (TinyMember(),)

    class Stopping(TinyMember):
        def step(self, batch):
            if self.steps == STEPS - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().step(batch)

    with pytest.raises(InterruptedRunError, match=f"after step {STEPS} of {STEPS}"):
        go(tmp_path, Stopping())
    assert go(tmp_path, *members) == whole


def test_signals_that_were_ignored_stay_ignored_and_handlers_come_back(tmp_path):
    """As under nohup, and in the background of a shell."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        go(tmp_path, progress=at(2, lambda: os.kill(os.getpid(), signal.SIGHUP)))
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_anywhere_costs_the_steps_since_the_last_checkpoint_and_no_byte(whole, tmp_path):
    """Lines of the log behind the checkpoint are dropped, and written again."""

    def fail():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        go(tmp_path, progress=at(8, fail))
    log = tmp_path / "tiny" / "training.log"
    assert len(log.read_text().splitlines()) == 8
    with log.open("a") as file:
        file.write('{"step": 9, "tok')
    assert go(tmp_path) == whole


STRIDE = 9
"""Of the operations on files of a run, each so many-th is where it is killed; benchmarks/killed_runs.py does all."""


@pytest.mark.slow
def test_killed_before_a_change_of_a_file_it_still_ends_with_the_same_bytes(tmp_path):
    """SIGKILL, in forks of one child, at operations on files of a run with checkpoints and snapshots."""
    script = f"""
        from pathlib import Path
        import shutil, torch
        torch.set_num_threads(1)
        from saereg.trainers.runs import checkpoints
        from tests.trainers.runs.killing import forked, tree
        from tests.trainers.runs.members import TinyMember, go

        def once(folder):
            def call():
                member = TinyMember()
                content = lambda: member.weights.detach().numpy().tobytes()
                export = lambda label: (folder / f"{{label}}.bin").write_bytes(content())
                go(folder, member, on_snapshot=export, snapshots=(5,), checkpoint_every=6)
                export("final")
                checkpoints.remove(folder / "state")
            return call

        root = Path({str(tmp_path)!r})
        once(root / "whole")()  # here, so that no fork has to import what torch imports on use
        whole, kills, dead = tree(root / "whole"), 1 - {STRIDE}, True
        while dead:
            folder = root / "killed"
            kills += {STRIDE}
            dead, code = forked(once(folder), root, kill_before=kills)
            assert dead or code == 0
            assert forked(once(folder), root) == (False, 0), kills
            assert tree(folder) == whole, (kills, tree(folder).keys())
            shutil.rmtree(folder)
        print(kills)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


def test_members_are_the_same_together_and_alone(tmp_path):
    """They share batches and nothing else."""
    both = go(tmp_path / "both", TinyMember("a", 1), TinyMember("b", 2))
    alone = [go(tmp_path / name, TinyMember(name, seed)) for name, seed in (("a", 1), ("b", 2))]
    assert sorted(both) == sorted([*alone[0], *alone[1]])


def test_the_log_is_json_whatever_the_numbers_are(tmp_path):
    """Infinity is no word of JSON."""
    go(tmp_path, log_every=5)
    lines = [json.loads(line) for line in (tmp_path / "tiny/training.log").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 5, 10, 12]
    assert {line["odd"] for line in lines} == {None}


def test_checkpoints_by_time(tmp_path, monkeypatch):
    """However long steps take, no more than those minutes are lost."""
    clock = iter(range(0, 100_000, 50))
    monkeypatch.setattr("saereg.trainers.runs.loop.time.monotonic", lambda: float(next(clock)))
    saved = []
    monkeypatch.setattr("saereg.trainers.runs.checkpoints.save", lambda folder, step, tree: saved.append(step))
    go(tmp_path, checkpoint_every=0, checkpoint_minutes=3)
    assert saved == [4, 8, 12]


def test_a_snapshot_is_taken_once_and_again_only_behind_an_older_checkpoint(tmp_path):
    """What was exported after the checkpoint that a run goes on from is exported anew."""
    taken = []

    def fail():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        go(tmp_path, on_snapshot=taken.append, snapshots=(2, 7), progress=at(8, fail))
    go(tmp_path, on_snapshot=taken.append, snapshots=(2, 7))
    assert taken == [2, 7, 7]


@pytest.mark.parametrize(
    ("member", "line"),
    [
        ({"loss_at": (8, float("nan"))}, "tiny: the loss of step 8 is nan; "),
        ({"loss_at": (8, float("inf"))}, "tiny: the loss of step 8 is inf; "),
        ({"broken_at": 6}, "tiny: weights is no longer finite after step 6; "),
        ({"broken_at": 7}, "tiny: the loss of step 8 is nan; "),
    ],
)
def test_a_run_that_diverges_keeps_the_checkpoint_before(member, line, tmp_path):
    """Weights that are no numbers are found before they are saved, though the loss of their step was one."""
    with pytest.raises(DivergedError) as caught:
        go(tmp_path, TinyMember(**member))
    kept = 3 if "after step 6" in line else 6
    assert str(caught.value) == (
        f"{line}lower optimization.lr or look at the rows, in a run of another id; "
        f"the checkpoint of step {kept} is kept"
    )
    assert checkpoints.steps(tmp_path / "state")[-1][0] == kept


def test_weights_that_are_no_numbers_are_never_exported(tmp_path):
    """The check comes before a snapshot, too."""
    taken = []
    with pytest.raises(DivergedError, match="no checkpoint was made yet"):
        go(tmp_path, TinyMember(broken_at=2), on_snapshot=taken.append, snapshots=(2,))
    assert taken == []


def test_a_spike_can_be_allowed_and_the_run_goes_on(tmp_path):
    """`spike` changes no number, so it is no part of what a checkpoint must agree with."""
    member = {"loss_at": (11, 1e6)}
    assert "spike" in SAFETY <= set(Optimization.model_fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("saereg.trainers.runs.guard.SETTLED", 5)
        with pytest.raises(
            DivergedError, match=r"or allow it with a higher optimization\.spike; the checkpoint of step 9"
        ):
            go(tmp_path, TinyMember(**member))
        go(tmp_path, TinyMember(**member), spike=1e9)


def test_rows_that_end_early_are_one_line(tmp_path):
    """The batches are a promise of whoever makes them."""
    with pytest.raises(UsageError) as caught:
        go(tmp_path, source=lambda skip: iter([{"x": torch.zeros(8, 4)}] * (4 - skip)))
    assert str(caught.value) == "the rows end before step 5 of 12; the checkpoint of step 3 is kept"


def test_another_number_of_threads_is_told_of(tmp_path):
    """Sums are then added in another order: the run goes on, and does not claim what may not be so."""
    with pytest.raises(InterruptedRunError):
        go(tmp_path, progress=at(4, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    said, threads = [], torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        go(tmp_path, progress=lambda seen: said.append(seen.said) if seen.said else None)
    finally:
        torch.set_num_threads(threads)
    assert said == [
        f"step 5 was made with threads of torch {threads}, and here it is {threads + 1}: the run goes on, but may not "
        "end with the bytes of one that was never stopped"
    ]


def test_a_run_that_is_over_does_nothing_again(whole, tmp_path):
    """Its last checkpoint stands until it is removed: an export that was killed is made from it."""
    go(tmp_path)
    member = TinyMember()
    seen = []
    go(tmp_path, member, progress=seen.append)
    assert seen == []
    assert ended(tmp_path, member) == whole
