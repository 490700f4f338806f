"""Training logs of any length: what is kept of them is bounded, and still the whole curve."""

import json
from itertools import pairwise

from saereg.registry import trainings
from saereg.registry.trainings import log_lines


def lines_of(tmp_path, count):
    """Return what is kept of a log with so many lines."""
    path = tmp_path / "training.log"
    path.write_text("".join(f"{json.dumps({'tokens': n, 'mse_loss': 1.0})}\n" for n in range(count)))
    return [line["tokens"] for line in log_lines(path)]


def test_a_long_log_is_thinned_evenly(tmp_path, monkeypatch):
    """The first and the last line are kept, and equal steps between them."""
    monkeypatch.setattr(trainings, "MOST_LINES", 10)
    kept = lines_of(tmp_path, 100)
    assert len(kept) <= 12
    assert (kept[0], kept[-1]) == (0, 99)
    assert {b - a for a, b in pairwise(kept[:-1])} == {16.0}


def test_a_short_log_is_kept_whole(tmp_path, monkeypatch):
    """Up to the most lines, and one more."""
    monkeypatch.setattr(trainings, "MOST_LINES", 10)
    assert lines_of(tmp_path, 10) == list(range(10))


def test_odd_lines_are_passed_over(tmp_path):
    """Deep ones, whole numbers without end, other JSON, bytes that are no text; and the last line may be one."""
    path = tmp_path / "training.log"
    odd = [b'{"a": ' * 9_000, b'{"tokens": 1' + b"0" * 400 + b"}", b"[1]", b"\xff\xfe", b'{"tokens": NaN}', b"{"]
    path.write_bytes(b"\n".join([b'{"tokens": 1, "mse_loss": true, "l0": 2}', *odd]))
    assert log_lines(path) == [{"tokens": 1.0, "l0": 2.0}, {}, {}]
