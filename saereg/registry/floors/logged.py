"""Losses that a training wrote down: what is left of a curve where no snapshots were kept.

A line of a log is the loss of one batch, and noisy: lines are averaged in groups that are equally wide in log n, and a
group counts as much as it has lines. Lines of the warm-up, of the learning rate or of a sparsity coefficient, are left
out: no law of tokens holds while what is trained changes.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from saereg.registry.floors.rounding import rounded
from saereg.registry.floors.series import Key, Series, facts_of, in_order, layer_of, named
from saereg.registry.release import Release, ReleaseArtifact
from saereg.registry.trainings import log_lines, logged
from saereg.schemas.metrics import MetricId

GROUPS = 16
"""Groups of lines along log n."""

FEWEST_LINES = 40
"""Fewer lines than this are no curve."""

SPAN = 4.0
"""A curve has so many times the tokens at its end as at its start."""

Group = tuple[float, float, int]
"""(geometric mean of the tokens, mean loss, lines) of some lines of a log."""

_WARMING = ("lr", "l1_coefficient", "l0_coefficient")

_KINDS: tuple[tuple[MetricId, str], ...] = (("fvu_batch_mean", "explained_variance"), ("mse_per_row", "mse_loss"))
"""Loss → the key of a line that gives it; of the first, 1 − its value."""


def logged_series(release: Release, most: int) -> tuple[MetricId, list[Series], int] | None:
    """Return the logged loss, the curve of each training, by layer and name, and how many were left out; or None.

    Args:
        release: an open release; logs that are not on this machine are not fetched.
        most: logs read; canonical artifacts come first.
    """
    found = sorted(logged(release), key=lambda pair: (not pair[0].claim.canonical, pair[0].id))
    chosen: dict[Key, ReleaseArtifact] = {(artifact.id,): artifact for artifact, _ in found[:most]}
    groups = {(artifact.id,): _of_log(path) for artifact, path in found[:most]}
    for metric, _ in _KINDS:
        curves = {key: made[metric] for key, made in groups.items() if metric in made}
        if curves:
            names = named({key: facts_of(artifact) for key, artifact in chosen.items()})
            series = [_curve(names[key], chosen[key], curve) for key, curve in curves.items()]
            series.sort(key=lambda s: in_order(s.layer, s.name))
            return metric, series, len(found) - len(chosen)
    return None


def _of_log(path: Path) -> dict[MetricId, list[Group]]:
    """Return loss → its groups of lines; of one log at a time, as all lines of a hundred would not fit into memory."""
    lines = _warm(log_lines(path))
    return {metric: _groups(rows) for metric, word in _KINDS if (rows := _rows(lines, word))}


def _rows(lines: Sequence[Mapping[str, float]], word: str) -> list[tuple[float, float]]:
    """Return (tokens, loss) of every line after the warm-up, by tokens; nothing where they are no curve."""
    sign, offset = (-1.0, 1.0) if word == "explained_variance" else (1.0, 0.0)
    rows = [(line["tokens"], offset + sign * line[word]) for line in _warm(lines) if "tokens" in line and word in line]
    rows = sorted((n, loss) for n, loss in rows if n > 0 and loss > 0)
    return rows if len(rows) >= FEWEST_LINES and rows[-1][0] >= SPAN * rows[0][0] else []


def _curve(name: str, artifact: ReleaseArtifact, groups: Sequence[Group]) -> Series:
    return Series(
        name=name,
        layer=layer_of(artifact),
        artifacts=(artifact.id,),
        tokens=tuple(tokens for tokens, _, _ in groups),
        values=tuple(loss for _, loss, _ in groups),
        lines=tuple(lines for _, _, lines in groups),
        evaluation=None,
    )


def _groups(rows: list[tuple[float, float]]) -> list[Group]:
    means = []
    for group in _grouped(rows):
        tokens = math.exp(math.fsum(math.log(n) for n, _ in group) / len(group))
        loss = math.fsum(loss for _, loss in group) / len(group)
        means.append((rounded(tokens, 7), rounded(loss, 7), len(group)))
    return means


def _warm(lines: Sequence[Mapping[str, float]]) -> Sequence[Mapping[str, float]]:
    """Return the lines after every warm-up: from where each setting that is written down was at its largest."""
    start = 0
    for word in _WARMING:
        values = [line.get(word, 0.0) for line in lines]
        if top := max(values, default=0.0):
            start = max(start, next(i for i, value in enumerate(values) if value >= 0.999 * top))
    return lines[start:]


def _grouped(rows: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Return the lines in groups along log n, at least one line in each."""
    low, high = math.log(rows[0][0]), math.log(rows[-1][0])
    groups: dict[int, list[tuple[float, float]]] = {}
    for n, loss in rows:
        place = min(int((math.log(n) - low) / (high - low) * GROUPS), GROUPS - 1)
        groups.setdefault(place, []).append((n, loss))
    return [groups[place] for place in sorted(groups)]
