"""What a training run shows while it goes."""

import io
import sys

import pytest

from saereg.cli.progress import Watched, training_bar
from saereg.trainers.runs.loop import Seen

FACTS = {"explained_variance": 0.91234, "l0": 32.04, "dead_fraction": 0.0125, "lr": 3e-4}


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes half a second each time it is looked at."""
    now = iter(range(10_000))
    monkeypatch.setattr("saereg.cli.progress.time.monotonic", lambda: next(now) / 2)


def test_a_terminal_shows_facts_and_pace(monkeypatch, clock):
    """EV, L0, dead fraction and tokens per second; and the words of a run between them."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    with training_bar("train a/b") as progress:
        progress(Seen("a/b", 0, 4000, {}, "left out"))
        for tokens in range(1000, 5000, 1000):
            progress(Seen("a/b", tokens, 4000, FACTS))
    shown = sys.stderr.getvalue()
    assert "train a/b" in shown
    assert "left out\n" in shown
    assert "EV 0.912  L0 32.0  dead 1.2%  2,000 tokens/s" in shown
    assert "100%" in shown


def test_a_pipe_shows_nothing_but_what_is_to_be_read(capsys, clock):
    """Logs of a scheduler stay short."""
    with training_bar("train a/b") as progress:
        progress(Seen("a/b", 100, 200, FACTS))
        progress(Seen("a/b", 100, 200, {}, "the checkpoint is damaged"))
        progress(Seen("a/b", 200, 200, FACTS))
    assert capsys.readouterr().err == "the checkpoint is damaged\n"
    assert progress.facts() == ["200 tokens/s"]


def test_a_run_that_was_over_has_no_pace():
    """It took no step."""
    assert Watched("train x").facts() == []
