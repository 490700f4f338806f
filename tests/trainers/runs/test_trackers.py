"""A tracker is never the reason why a run ends."""

import pytest

from saereg.errors import UsageError
from saereg.schemas.training import Tracker
from saereg.trainers.runs.loop import Places, RunPlan, run
from saereg.trainers.runs.trackers import Tracked, tracked
from tests.trainers.runs.members import STEPS, TinyMember, batches, places


class Failing:
    """A run of a tracker whose network goes away."""

    url = "https://shown.example/run"

    def __init__(self):
        self.seen = []

    def log(self, facts, step):
        if step > 4:
            raise ConnectionError("no\nroute")
        self.seen.append((step, facts["loss"]))

    def finish(self):
        raise ConnectionError


def test_a_tracker_that_fails_is_left_out_and_told_of_once(tmp_path):
    """The run goes on to its end."""
    failing, said, usual = Failing(), [], places(tmp_path, "tiny")
    shown = Tracked(failing)
    run(
        [TinyMember()],
        batches,
        RunPlan(STEPS, 8),
        Places(usual.checkpoints, usual.logs, {"tiny": shown}),
        {},
        progress=lambda seen: said.append(seen.said) if seen.said else None,
    )
    shown.finish()
    assert said == ["shown at https://shown.example/run", "the tracker is left out from step 5 on: no route"]
    assert [step for step, _ in failing.seen] == [1, 2, 3, 4]


def test_a_tracker_that_cannot_begin_is_one_line_before_the_first_step(tmp_path, monkeypatch):
    """wandb has its own checks of what a project may be called."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = {"a": Tracker(tool="wandb", project="a/b:c")}
    with pytest.raises(UsageError) as caught, tracked(settings, {"a": {}}, tmp_path / "state"):
        pass
    assert str(caught.value).startswith("wandb cannot begin a run: ")
    assert str(caught.value).endswith("; leave `tracker` out to train without")
    assert "\n" not in str(caught.value)
