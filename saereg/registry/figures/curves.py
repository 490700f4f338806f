"""Training curves: error, explained variance and active latents of every run, as its log tells them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saereg.registry.figures.artifacts import plural, rounded
from saereg.registry.figures.colouring import Colouring, colouring
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.lines import Horizontal, Quantity, stacked
from saereg.registry.figures.logs import Log, read_log, thinned
from saereg.registry.figures.series import Entry, cut, ends, listed, sampled
from saereg.registry.figures.theme import finished
from saereg.registry.release import Release
from saereg.registry.trainings import logged

PANELS = (("mse", "reconstruction error"), ("ev", "explained variance"), ("l0", "active latents (L0)"))
"""Quantity of a log → what its axis is called."""

EV_FROM = -0.2
"""Where the axis of explained variance begins when a run had one below -1, beside which nothing else could be seen."""

MOST_RUNS = 144
"""Runs that are drawn; of more a sample is."""

MOST_KEPT = 10_000
"""Points of a log up to which all are kept until they are drawn."""

MOST_POINTS, LEAST_EACH = 1300, 9
"""Points of all runs together, and of each run at least."""


@dataclass(frozen=True)
class Run:
    """One training run: the artifact of its last snapshot, and its log."""

    entry: Entry
    log: Log


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return one figure with a panel for each quantity that the logs have."""
    found = list(runs(release))
    if not found:
        return ()
    shown, unread = found, max(len(logged(release)) - MOST_RUNS, 0)
    colours = colouring([run.entry for run in shown], without=("snapshot",))
    points = max(MOST_POINTS // len(shown), LEAST_EACH)
    rows = [row for run in shown for row in _rows(run, colours, points)]
    lowest = min((row["ev"] for row in rows if "ev" in row), default=0.0)
    if lowest < -1:
        rows = [row | {"ev": None} if row.get("ev", 0.0) < EV_FROM else row for row in rows]
    panels = [(name, title) for name, title in PANELS if any(row.get(name) is not None for row in rows)]
    if not panels:
        return ()
    across = "tokens" if all(run.log.across != "step" for run in shown) else "step"
    counts = _across([row["tokens"] for row in rows], across, [run.entry for run in shown])
    chart = stacked(rows, [Quantity(name, words, name == "ev") for name, words in panels], counts, colours)
    title = "Training curves over layers" if colours.by_layer else "Training curves"
    caption = _caption(shown, len(found) + unread, panels, points, across, colours)
    caption += f" Explained variances below {EV_FROM} are left out; the lowest is {lowest:.3g}." if lowest < -1 else ""
    return (Drawing("curves", "curves", title, caption, _alt(shown, panels), finished(chart, title)),)


def runs(release: Release) -> Iterator[Run]:
    """Yield the runs whose logs are here; of the snapshots of one run the last one, whose log has all of it.

    Of more than MOST_RUNS a sample is read, and of a long log some points are kept: memory does not grow with them.
    """
    for artifact, path in sampled(logged(release), MOST_RUNS, lambda pair: pair[0].id):
        if (log := read_log(path)) is not None and log.keys:
            if len(log.points) > MOST_KEPT:
                log = replace(log, points=tuple(thinned(log, MOST_POINTS)))
            yield Run(Entry(artifact, artifact.fields), log)


def _rows(run: Run, colours: Colouring, points: int) -> Iterator[dict[str, Any]]:
    name = cut(run.entry.id)
    for count, values in thinned(run.log, points):
        row: dict[str, Any] = {"run": name, "tokens": rounded(count)}
        row |= {key: rounded(value) for key, value in values.items()}
        yield row | colours.hue(run.entry)


def _across(counts: Sequence[float], across: str, found: Sequence[Entry]) -> Horizontal:
    rows = all(entry.fields["stream"] == "parameter" for entry in found)
    unit = "step of the training" if across == "step" else f"{'rows' if rows else 'tokens'} seen in training"
    return Horizontal("tokens", unit, counts)


def _caption(
    shown: Sequence[Run], of: int, panels: Sequence[tuple[str, str]], points: int, across: str, colours: Colouring
) -> str:
    keys = {name: sorted({run.log.keys[name] for run in shown if name in run.log.keys}) for name, _ in panels}
    read = listed([f"{title} is {listed([cut(key) for key in keys[name]])}" for name, title in panels])
    parts = [f"What the logs of {plural(len(shown), 'training run')} say, not measured again: {read}."]
    if any(len(run.log.points) > points for run in shown):
        parts.append(f"Each line has at most {points} points, medians of equal steps of log {across}.")
    if of > len(shown):
        parts.append(f"Shown are {len(shown)} of {of:,} runs, a sample.")
    if any(run.entry.fields["snapshot"] for run in shown):
        parts.append("Of the snapshots of one run the last one's log is shown.")
    return " ".join(filter(None, [*parts, colours.words()]))


def _alt(shown: Sequence[Run], panels: Sequence[tuple[str, str]]) -> str:
    words = []
    for name, title in panels:
        both = [(values[0], values[-1]) for run in shown if len(values := _values(run, name)) > 1]
        if both:
            first, last = ([pair[side] for pair in both] for side in (0, 1))
            words.append(f"{title} goes from {ends(first)} to {ends(last)}")
    return f"{'Line' if len(shown) == 1 else 'Lines'} of {plural(len(shown), 'training run')}: {'; '.join(words)}."


def _values(run: Run, name: str) -> list[float]:
    return [values[name] for _, values in run.log.points if name in values]


KIND = FigureKind(
    "curves",
    "error, explained variance and active latents over the training of every run",
    "curves needs training logs in the release (training.log, one JSON object a line, with `tokens` and `mse_loss`, "
    "`explained_variance` or `l0`); of a release on the Hub, pull it first",
    draw,
)
