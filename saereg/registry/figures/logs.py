"""Training logs as figures draw them: what they count by, the quantities in them, and few points of each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from saereg.registry.trainings import first_key, log_lines

ACROSS = ("tokens", "n_tokens", "n_training_samples", "details/n_training_samples", "training_samples", "step")
"""Keys of what a log counts by, the first one that its lines have; the last is no number of tokens."""

QUANTITIES: Mapping[str, tuple[str, ...]] = {
    "mse": ("mse_loss", "losses/mse_loss", "mse", "reconstruction_loss", "loss", "losses/overall_loss"),
    "ev": ("explained_variance", "metrics/explained_variance", "ev", "variance_explained"),
    "l0": ("l0", "metrics/l0", "l0_norm"),
}
"""Quantity → keys under which logs have it, the first one that its lines have. In the words of this software, of
SAELens' tracker and of small trainers."""


@dataclass(frozen=True)
class Log:
    """What a training log holds.

    Attributes:
        across: the key that it counts by.
        keys: quantity → the key that it is read from; those that the log has.
        points: (count, quantity → number) of every line that has any, as the count rises.
    """

    across: str
    keys: dict[str, str]
    points: tuple[tuple[float, dict[str, float]], ...]


def read_log(path: Path) -> Log | None:
    """Return what a training log holds; None where no line of it can be used."""
    lines = list(log_lines(path))
    across = first_key(lines, ACROSS, least=2)
    if across is None:
        return None
    keys = {name: key for name, candidates in QUANTITIES.items() if (key := first_key(lines, candidates))}
    points: dict[float, dict[str, float]] = {}
    for line in lines:
        found = {name: line[key] for name, key in keys.items() if key in line}
        if found and line.get(across, -1.0) >= 0:
            points[line[across]] = found  # of a run that was resumed, the later line
    return Log(across, keys, tuple(sorted(points.items()))) if len(points) > 1 else None


def thinned(log: Log, most: int) -> list[tuple[float, dict[str, float]]]:
    """Return some points of a log: its first, its last, and medians of equal steps of the logarithm between them.

    A curve of a training changes most at its beginning, where steps of equal length would have few points.

    Args:
        log: the log.
        most: how many points there may be; one more where they are thinned.
    """
    points = [point for point in log.points if point[0] > 0]
    if len(points) <= most:
        return points
    first, last = math.log(points[0][0]), math.log(points[-1][0])
    steps: dict[int, list[tuple[float, dict[str, float]]]] = {}
    for count, values in points:
        place = min(int((math.log(count) - first) / (last - first) * most), most - 1)
        steps.setdefault(place, []).append((count, values))
    return [points[0], *(_middle(steps[place]) for place in sorted(steps)[1:]), points[-1]]


def _middle(points: list[tuple[float, dict[str, float]]]) -> tuple[float, dict[str, float]]:
    names = {name for _, values in points for name in values}
    found = {name: median([values[name] for _, values in points if name in values]) for name in sorted(names)}
    return median([count for count, _ in points]), found
