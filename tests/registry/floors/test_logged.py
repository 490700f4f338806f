"""Floors from training logs, where no snapshots were kept."""

import json

import numpy as np

from saereg.registry.floors.fit import floors_of
from saereg.registry.floors.fitting import FitOptions
from tests.registry.floors.planted import Cell, planted

QUICK = FitOptions(resamples=200)


def release(folder, lines, names=("a",)):
    """Return a release of artifacts without losses, each with a log of these lines."""
    cells = []
    for n, name in enumerate(names):
        (folder / f"{name}.log").write_text(
            "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        )
        cells.append(Cell(n, None, 4096 * 1000, {}, log=f"{name}.log"))
    return planted(cells, folder)


def lines(steps=1000, warm=10, noise=0.03, key="explained_variance", **more):
    """Return a log: a warm-up in which nothing is learnt, then a law with the noise of batches."""
    random, found = np.random.default_rng(3), []
    for step in range(1, steps + 1):
        loss = 0.2 + 0.6 * (max(step, warm) / warm) ** -0.7
        loss *= np.exp(noise * random.standard_normal())
        value = 1 - loss if key == "explained_variance" else 300 * loss
        found.append({"step": step, "tokens": 4096 * step, key: value, "lr": 1e-3 * min(step / warm, 1)} | more)
    return found


def test_a_log_is_averaged_and_fitted(tmp_path):
    """The floor of noisy batches, by the loss that the log has: 1 − explained variance of a batch."""
    floors = floors_of(release(tmp_path, lines()), QUICK)
    assert (floors.metric, floors.basis, floors.evaluation) == ("fvu_batch_mean", "logged", None)
    (fit,) = floors.fits
    assert fit.artifacts == ("layer_0/w4096/k32/only",)
    assert (len(fit.tokens), fit.fitted) == (16, 11)
    assert fit.floor.interval.low <= 0.2 <= fit.floor.interval.high
    assert fit.relative_error < 0.05


def test_the_warm_up_is_no_part_of_a_curve(tmp_path):
    """The first tokens are those of the step at which the learning rate is there."""
    (fit,) = floors_of(release(tmp_path, lines(warm=50)), QUICK).fits
    assert fit.tokens[0] >= 50 * 4096


def test_a_log_without_explained_variance_gives_its_squared_error(tmp_path):
    """`mse_loss` is the squared error per row."""
    floors = floors_of(release(tmp_path, lines(key="mse_loss")), QUICK)
    assert floors.metric == "mse_per_row"
    assert 40 < floors.fits[0].floor.value < 80


def test_what_is_no_curve_is_passed_over(tmp_path):
    """Damaged lines, null and negative losses, too few steps, a file that is not there: none of it is a traceback."""
    odd = [
        '{"tokens": 1',
        "[]\n",
        "null\n",
        '{"tokens": "5", "explained_variance": null}\n',
        "\x00\n",
        "[" * 5000 + "\n",
    ]
    floors = floors_of(release(tmp_path, [*odd, *lines()]), QUICK)
    assert len(floors.fits) == 1
    assert floors_of(release(tmp_path, lines(steps=30)), QUICK) is None
    assert floors_of(release(tmp_path, [{"tokens": 5, "explained_variance": 0.5}] * 100), QUICK) is None
    there = release(tmp_path, lines())
    (tmp_path / "a.log").unlink()
    assert floors_of(there, QUICK) is None


def test_canonical_trainings_are_read_first_and_the_rest_is_counted(tmp_path, monkeypatch):
    """Of more logs than are read some are left out, and the number of them is said."""
    monkeypatch.setattr("saereg.registry.floors.fit.MOST_LOGS", 2)
    floors = floors_of(release(tmp_path, lines(), "abc"), QUICK)
    assert (len(floors.fits), floors.left_out) == (2, 1)
    assert [fit.series for fit in floors.fits] == ["layer 0", "layer 1"]
