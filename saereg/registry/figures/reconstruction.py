"""Reconstruction curves: the variance that dictionaries leave unexplained, against the tokens they were trained on."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from saereg.registry.figures.artifacts import plural, rounded
from saereg.registry.figures.axes import log_axis, log_scale
from saereg.registry.figures.colouring import Colouring, colouring
from saereg.registry.figures.curves import Run, runs
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.logs import thinned
from saereg.registry.figures.series import Entry, cut, ends, entries, measured_on, run_of, sampled
from saereg.registry.figures.theme import HEIGHT, WIDTH, finished
from saereg.registry.release import Release
from saereg.registry.trainings import tokens_of

if TYPE_CHECKING:
    import altair

MOST_LOGGED, MOST_MEASURED, MOST_RUNS = 900, 500, 90
"""Points of all training logs together, points that were measured, and runs whose log is drawn."""


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return one figure; none where nothing says how an error fell while a dictionary was trained."""
    held = [entry for entry in entries(release) if _left(entry) is not None and (tokens_of(entry.artifact) or 0) > 0]
    logged = [run for run in runs(release) if run.log.across != "step" and len(_logged(run, 2)) > 1]
    if not logged and max(Counter(run_of(entry) for entry in held).values(), default=0) < 2:
        return ()
    shown, drawn = _few(held), sampled(logged, MOST_RUNS, lambda run: run.entry.id)
    colours = colouring([*shown, *(run.entry for run in drawn)], without=("snapshot", "step", "seed"))
    rows = [*_measured_rows(shown, colours), *_logged_rows(drawn, colours)]
    title, below = "Variance left unexplained while training", _below(shown, drawn)
    spec = finished(_chart(rows, colours, shown), title, below)
    caption = _caption(held, shown, logged, drawn, colours)
    return (Drawing("reconstruction", "reconstruction", title, caption, _alt(held, logged), spec),)


def _left(entry: Entry) -> float | None:
    """Return 1 − explained variance, where it is above 0: only that has a place on a logarithmic axis."""
    value = entry.number("explained_variance")
    return 1 - value if value is not None and value < 1 else None


def _few(held: Sequence[Entry]) -> list[Entry]:
    """Return the artifacts that are drawn: of so many, those of a sample of the runs, with all their snapshots."""
    groups: dict[Hashable, list[Entry]] = {}
    for entry in held:
        groups.setdefault(run_of(entry), []).append(entry)
    longest = max(map(len, groups.values()), default=1)
    shown = sampled(list(groups.values()), max(MOST_MEASURED // longest, 2), lambda group: group[0].id)
    return [entry for group in shown for entry in group]


def _below(shown: Sequence[Entry], drawn: Sequence[Run]) -> str:
    words = (["points: on the data of an evaluation"] if shown else []) + (["lines: training log"] if drawn else [])
    return "; ".join(words) if len(words) > 1 else ""


def _measured_rows(shown: Sequence[Entry], colours: Colouring) -> Iterator[dict[str, Any]]:
    for entry in shown:
        left, tokens = _left(entry), tokens_of(entry.artifact)
        if left is not None and tokens is not None:
            words = {"run": cut(str(entry.id)), "group": _group(entry), "tokens": tokens, "left": rounded(left, 6)}
            basis = "measured" if entry.is_measured("explained_variance") else "stated"
            yield {"what": basis, **words, **colours.hue(entry)}


def _group(entry: Entry) -> str:
    """Return a name of a run: the id of an artifact without that of its snapshot."""
    return cut(str(run_of(entry)), 400)


def _logged_rows(drawn: Sequence[Run], colours: Colouring) -> Iterator[dict[str, Any]]:
    for run in drawn:
        for tokens, left in _logged(run, max(MOST_LOGGED // len(drawn), 8)):
            words = {"run": cut(run.entry.id), "tokens": rounded(tokens), "left": rounded(left)}
            yield {"what": "logged", **words, **colours.hue(run.entry)}


def _logged(run: Run, points: int) -> list[tuple[float, float]]:
    found = thinned(run.log, points) if "ev" in run.log.keys else []
    return [(tokens, 1 - values["ev"]) for tokens, values in found if values.get("ev", 1.0) < 1]


def _chart(rows: list[dict[str, Any]], colours: Colouring, shown: Sequence[Entry]) -> "altair.LayerChart":
    import altair as alt

    tokens, left = [row["tokens"] for row in rows], [row["left"] for row in rows]
    numbers = {name: n for n, name in enumerate(dict.fromkeys(row["group"] for row in rows if "group" in row))}
    for row in rows:
        if "group" in row:
            row["group"] = numbers[row["group"]]
    parameters = bool(shown) and all(entry.fields["stream"] == "parameter" for entry in shown)
    across = f"{'rows' if parameters else 'tokens'} seen in training"
    base = alt.Chart().encode(
        x=alt.X("tokens:Q", axis=log_axis(across, tokens), scale=log_scale(tokens, 0.02)),
        y=alt.Y("left:Q", axis=log_axis("1 − explained variance", left, form="~g"), scale=log_scale(left)),
        color=colours.channel(),
        tooltip=[
            alt.Tooltip("run:N", title="artifact"),
            alt.Tooltip("tokens:Q", format=".4~s"),
            alt.Tooltip("left:Q", title="1 − explained variance", format=".4~g"),
            alt.Tooltip("what:N", title="number"),
        ],
    )
    logs = base.transform_filter("datum.what == 'logged'").mark_line(strokeWidth=1.3, strokeOpacity=0.55)
    points = base.transform_filter("datum.what != 'logged'")
    shape = colours.shape()
    joined = points.mark_line(strokeWidth=1.3, strokeDash=[4, 3], strokeOpacity=0.8).encode(detail="group:N")
    layers = [
        logs.encode(detail="run:N") if any(row["what"] == "logged" for row in rows) else joined,
        points.transform_filter("datum.what == 'measured'").mark_point(filled=True, size=48).encode(**shape),
        points.transform_filter("datum.what == 'stated'").mark_point(filled=False, size=48).encode(**shape),
    ]
    return alt.layer(*layers, data=alt.InlineData(rows)).properties(width=WIDTH, height=HEIGHT + 40)


def _caption(
    held: Sequence[Entry], shown: Sequence[Entry], logged: Sequence[Run], drawn: Sequence[Run], colours: Colouring
) -> str:
    parts = []
    if held:
        parts.append(f"Points: 1 − {measured_on(held, ['explained_variance'])}")
        if any(not entry.is_measured("explained_variance") for entry in held):
            parts.append("Hollow points are stated.")
    if logged:
        keys = sorted({cut(run.log.keys["ev"]) for run in logged})
        parts.append(
            f"Lines: 1 − {' or '.join(keys)} of {plural(len(drawn), 'training log')}, of the batches of the training."
        )
    cuts = [(len(shown), len(held), "artifacts"), (len(drawn), len(logged), "logs")]
    parts += [f"Shown are {few:,} of {all_of:,} {what}, a sample." for few, all_of, what in cuts if few < all_of]
    parts.append("Dashed lines join the snapshots of one run." if not logged else "")
    return " ".join(filter(None, [*parts, "Both axes are logarithmic.", colours.words(points=True)]))


def _alt(held: Sequence[Entry], logged: Sequence[Run]) -> str:
    words = []
    if ranked := sorted((left, entry.id) for entry in held if (left := _left(entry)) is not None):
        (best, identifier), (worst, _) = ranked[0], ranked[-1]
        end = f" to {worst:.3g}" if len(ranked) > 1 else ""
        words.append(f"of {plural(len(ranked), 'artifact')} {best:.3g} ({cut(identifier)}){end} is left")
    if logged:
        first, last = ([_logged(run, 50)[side][1] for run in logged] for side in (0, -1))
        words.append(f"logs fall from {ends(first)} to {ends(last)}")
    return f"Share of the variance that is not explained against training: {'; '.join(words)}."


KIND = FigureKind(
    "reconstruction",
    "variance left unexplained against the training, logged and on the data of evaluations",
    "reconstruction needs snapshots of one training run whose tokens the manifest states, or training logs with "
    "`tokens` and `explained_variance`",
    draw,
)
