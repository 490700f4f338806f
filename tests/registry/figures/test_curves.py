"""Training curves and reconstruction curves: what logs say, whatever else is in them."""

import math

import pytest

from saereg.registry.figures import curves, reconstruction
from saereg.registry.figures.logs import Log, read_log, thinned
from saereg.schemas.document import canonical
from tests.registry.figures.evidence import SNAPSHOTS, grid, release, rows_of, sae, write_log


def line(n, **more):
    """Return a line of a log."""
    return {"step": n, "tokens": 100 * n, "mse_loss": 50 / n, "explained_variance": 1 - 1 / n, "l0": 8.0} | more


@pytest.fixture
def one(tmp_path):
    """A release of one artifact whose log is to be written."""
    made = release([(sae("a", 0, training={"tokens": 1000}), {"explained_variance": 0.95})], tmp_path)
    return made, tmp_path / "a/training.log"


def test_points_are_the_lines_of_the_log(one):
    """Count and numbers, one point a line."""
    made, path = one
    write_log(path, [line(n) for n in range(1, 11)])
    (drawing,) = curves.draw(made)
    points = {row["tokens"]: (row["mse"], row["ev"], row["l0"]) for row in rows_of(drawing.spec)}
    assert points[300] == (16.667, 0.66667, 8.0)
    assert len(points) == 10
    assert len(drawing.spec["vconcat"]) == 3
    assert "reconstruction error is mse_loss" in drawing.caption
    assert "reconstruction error goes from 50 to 5" in drawing.alt


def test_what_is_odd_in_a_log_is_passed_over(one):
    """NaN, null, text, lists, half a line, an abyss of brackets, a huge number: the rest is drawn."""
    made, path = one
    odd = ["", "epoch 1: loss 3", "[1, 2]", "null", '{"tokens": 500', '{"a":' * 90_000, '{"tokens": 1e999, "l0": 1}']
    nan = ['{"tokens": 300, "mse_loss": NaN, "l0": 4}', '{"tokens": 400, "mse_loss": null, "explained_variance": "x"}']
    huge = ['{"tokens": ' + "9" * 400 + ', "l0": 1}', '{"tokens": -5, "l0": 1}', '{"tokens": true, "l0": 1}']
    write_log(path, [line(1), *odd, *nan, *huge, line(6)])
    (drawing,) = curves.draw(made)
    assert [row["tokens"] for row in rows_of(drawing.spec)] == [100, 300, 600]
    assert rows_of(drawing.spec)[1] == {"run": "a", "tokens": 300, "l0": 4, "series": "all"}


@pytest.mark.parametrize("text", ["", "training started\n", "\x00\xff\x00", '{"lr": 0.1}\n{"lr": 0.2}\n', "{}\n" * 50])
def test_a_log_without_numbers_draws_nothing(one, text):
    """Nor does one that is no log at all, or no file."""
    made, path = one
    assert curves.draw(made) == ()
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    assert curves.draw(made) == ()


def test_words_of_other_trainers_are_understood(one):
    """SAELens' tracker has its own keys; where there are only steps the axis says so."""
    made, path = one
    saelens = [{"details/n_training_samples": n, "losses/mse_loss": 9 / n, "metrics/l0": n} for n in (1, 2, 3)]
    write_log(path, saelens)
    (drawing,) = curves.draw(made)
    assert [row["mse"] for row in rows_of(drawing.spec)] == [9, 4.5, 3]
    assert "losses/mse_loss" in drawing.caption
    write_log(path, [{"step": n, "loss": 9 / n} for n in (1, 2, 3)])
    (drawing,) = curves.draw(made)
    assert drawing.spec["vconcat"][-1]["encoding"]["x"]["axis"]["title"] == "step of the training"


def test_a_resumed_run_counts_once(one):
    """Of two lines of one count the later one stands."""
    made, path = one
    write_log(path, [line(1), line(2), line(2, l0=5.0), line(3)])
    (drawing,) = curves.draw(made)
    assert [row["l0"] for row in rows_of(drawing.spec)] == [8, 5, 8]


def test_long_logs_become_medians_that_keep_both_ends():
    """Equal steps of the logarithm; the last point is that of the log."""
    points = tuple((float(n), {"mse": 1000.0 / n + (50 if n % 7 == 0 else 0)}) for n in range(1, 5001))
    few = thinned(Log("tokens", {"mse": "mse"}, points), 40)
    assert len(few) <= 41
    assert (few[0], few[-1]) == (points[0], points[-1])
    counts = [count for count, _ in few]
    assert counts == sorted(counts)
    assert all(values["mse"] < 1000.0 / count * 1.2 for count, values in few[10:-1] if count < 5000)


def test_144_runs_are_24_lines_coloured_by_layer(tmp_path):
    """The snapshots of a run share its log: the one of `final` has all of it; the figure stays below 300 kB."""
    made = grid(24, tmp_path)
    for artifact in made:
        tokens = SNAPSHOTS[artifact.claim.snapshot]
        write_log(tmp_path / artifact.id / "training.log", [line(n, tokens=tokens * n // 200) for n in range(1, 201)])
    (drawing,) = curves.draw(made)
    rows = rows_of(drawing.spec)
    assert {row["run"] for row in rows} == {f"{n}/final" for n in range(24)}
    assert {row["layer"] for row in rows} == set(range(24))
    assert len(canonical(drawing.spec)) < 300_000
    assert "What the logs of 24 training runs say" in drawing.caption


def test_reconstruction_joins_snapshots_and_the_log(tmp_path):
    """Points are 1 − the measured explained variance at the tokens of the manifest; the line is the log's."""
    made = grid(2, tmp_path)
    write_log(tmp_path / "0/final/training.log", [line(n, tokens=10**6 * n) for n in range(1, 101)])
    (drawing,) = reconstruction.draw(made)
    rows = rows_of(drawing.spec)
    measured = {row["run"]: row for row in rows if row["what"] == "measured"}
    for artifact in made:
        point = measured[artifact.id]
        assert math.isclose(point["left"], 1 - artifact.fields["explained_variance"], rel_tol=1e-5)
        assert point["tokens"] == SNAPSHOTS[artifact.claim.snapshot]
    logged = [row for row in rows if row["what"] == "logged"]
    assert logged[-1]["tokens"] == 10**8
    assert math.isclose(logged[-1]["left"], 0.01, rel_tol=1e-3)
    assert "Both axes are logarithmic." in drawing.caption


def test_reconstruction_needs_a_course():
    """Artifacts of one moment each say nothing of how an error fell."""
    found = [(sae(f"{n}", n, training={"tokens": 10}), {"explained_variance": 0.5}) for n in range(3)]
    assert reconstruction.draw(release(found)) == ()


def test_a_log_is_read_up_to_a_bound(tmp_path, monkeypatch):
    """What a stranger calls a log may be larger than memory."""
    monkeypatch.setattr("saereg.registry.trainings.MOST_BYTES", 4000)
    write_log(tmp_path / "log", [line(n) for n in range(1, 2000)])
    log = read_log(tmp_path / "log")
    assert log is not None
    assert 10 < len(log.points) < 100
