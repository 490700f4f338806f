"""The frontier of explained variance and active latents, over sparsity sweeps, architectures and seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

from saereg.registry.figures.artifacts import rounded
from saereg.registry.figures.axes import log_axis, log_scale, room, wide
from saereg.registry.figures.colouring import Colouring, colouring
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.series import NAMES, Entry, cut, entries, fenced, measured_on, sampled, spread
from saereg.registry.figures.theme import HEIGHT, NEUTRAL, WIDTH, finished
from saereg.registry.found import Aim
from saereg.registry.query import Selection
from saereg.registry.release import Release

if TYPE_CHECKING:
    import altair

EV = "explained_variance"
DEFINITIONS = {"l0": "frontier", "l0_per_source_mean": "frontier-sources"}
"""Definition of the active latents → name of its figure; two definitions are never in one."""

MOST_POINTS, MOST_LINES = 700, 32
"""Points of one figure, those on the frontiers above all; and frontiers that get a line."""

ONE_SET = "one active set"
"""What is said of crosscoders whose sources share their active latents."""

BAD = 0.0
"""Artifacts that explain less are left out where they would squeeze all others."""


@dataclass(frozen=True)
class Point:
    """One setting: an artifact, or the same one trained with several seeds.

    Attributes:
        entries: the artifacts.
        l0: mean over them.
        ev: likewise.
        best: whether no other point of the figure it can be compared with is better in one and no worse in the other.
    """

    entries: tuple[Entry, ...]
    best: bool

    @property
    def l0(self) -> float:
        """Mean of the active latents."""
        return mean(self.l0s)

    @property
    def ev(self) -> float:
        """Mean of the explained variance."""
        return mean(self.evs)

    @property
    def l0s(self) -> list[float]:
        """Active latents of each."""
        return [_active(entry) or 0.0 for entry in self.entries]

    @property
    def evs(self) -> list[float]:
        """Explained variance of each."""
        return [entry.number(EV) or 0.0 for entry in self.entries]

    @property
    def measured(self) -> bool:
        """Whether both numbers of all of them were measured."""
        return all(entry.is_measured(EV) and entry.is_measured(_definition(entry)) for entry in self.entries)


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return a figure for each definition of active latents of which two artifacts have numbers."""
    found = [entry for entry in entries(release) if entry.number(EV) is not None]
    drawings = (_draw(found, metric) for metric in DEFINITIONS)
    return tuple(drawing for drawing in drawings if drawing is not None)


def _draw(found: Sequence[Entry], metric: str) -> Drawing | None:
    here = [entry for entry in found if entry.several == (metric != "l0") and _active(entry) is not None]
    kept = [entry for entry in here if (_active(entry) or 0) > 0]
    low = _lowest(kept)
    kept = [entry for entry in kept if low is None or (entry.number(EV) or 0.0) >= low]
    if len({(_active(entry), entry.number(EV)) for entry in kept}) < 2:
        return None
    every = _points(kept)
    shown = _few(every)
    colours = colouring([entry for point in shown for entry in point.entries], without=("seed", "setting", "snapshot"))
    colours = colours.marked({entry.id for entry in kept if _one_set(entry)}, ONE_SET)
    title = "Explained variance against active latents" + (" per source" if metric != "l0" else "")
    spec = finished(_chart(shown, metric, colours), title)
    left = [entry for entry in here if entry not in kept]
    caption = _caption(here, every, shown, metric, colours) + _left_out(left)
    return Drawing(DEFINITIONS[metric], "frontier", title, caption, _alt(every, metric), spec)


def _lowest(found: Sequence[Entry]) -> float | None:
    """Return the explained variance below which artifacts are left out, or None."""
    values = [entry.number(EV) or 0.0 for entry in found]
    if not values or min(values) >= BAD or max(values) <= BAD:
        return None
    low, _ = fenced(values)
    return min(low, BAD) if min(values) < min(low, BAD) else None


def _definition(entry: Entry) -> str:
    return "l0_per_source_mean" if entry.number("l0_per_source_mean") is not None else "l0"


def _active(entry: Entry) -> float | None:
    """Return its active latents, at each source where it has several: under the definition that stands for it."""
    return entry.number(_definition(entry))


def _one_set(entry: Entry) -> bool:
    """Whether it has several sources and one active set for all of them, so that `l0` is the count at each source."""
    return entry.several and _definition(entry) == "l0"


def _points(found: Sequence[Entry]) -> list[Point]:
    best = {artifact.id for group in _comparable(found).values() for artifact in _frontier(group)}
    same: dict[Any, list[Entry]] = {}
    for entry in found:
        claim = entry.artifact.claim
        settings = (claim.kind, claim.architecture, entry.place, entry.sources, claim.d_sae, claim.sparsity)
        others = (claim.variant, claim.snapshot, entry.step, entry.fields["stream"], entry.fields["model"], claim.tied)
        seeded = claim.id if claim.seed is None else None
        same.setdefault((*settings, *others, claim.decoder_norm, seeded), []).append(entry)
    return [Point(tuple(them), any(entry.id in best for entry in them)) for them in same.values()]


def _comparable(found: Sequence[Entry]) -> dict[Any, list[Entry]]:
    """Return artifacts by what their numbers were measured on: a frontier over two sites would compare the sites."""
    groups: dict[Any, list[Entry]] = {}
    for entry in found:
        data = entry.measured[EV].data_sha256 if entry.is_measured(EV) else None
        key = (entry.place, entry.fields["stream"], entry.fields["model"], entry.sources, data)
        groups.setdefault(key, []).append(entry)
    return groups


def _frontier(group: Sequence[Entry]) -> Selection[Any]:
    """Return those on the frontier, as the catalogue has it; `l0` stands for a count per source where it is one."""
    whole = Selection(tuple(entry.artifact for entry in group))
    return whole.undominated(Aim("l0", smaller=True), Aim(EV, smaller=False))


def _few(points: Sequence[Point]) -> list[Point]:
    """Return the points that are drawn: those of the frontiers, and of the others as many as there is room for."""
    if len(points) <= MOST_POINTS:
        return list(points)
    best = sampled([point for point in points if point.best], MOST_POINTS // 2, _id)
    rest = sampled([point for point in points if not point.best], MOST_POINTS - len(best), _id)
    return [*best, *rest]


def _id(point: Point) -> str:
    return point.entries[0].id


def _rows(points: Sequence[Point], colours: Colouring) -> Iterator[dict[str, Any]]:
    for point in points:
        entry, several = point.entries[0], len(point.entries) > 1
        hue = colours.hue(entry)
        who = f"mean of {len(point.entries)} seeds, as {cut(entry.id, 44)}" if several else cut(entry.id)
        ends = {
            "l0_low": min(point.l0s),
            "l0_high": max(point.l0s),
            "ev_low": min(point.evs),
            "ev_high": max(point.evs),
        }
        row = {"what": "mean" if several else "one", "l0": rounded(point.l0, 6), "ev": rounded(point.ev, 6), "who": who}
        row |= {"basis": "measured" if point.measured else "stated", "setting": entry.setting} | hue
        yield row | ({name: rounded(value, 6) for name, value in ends.items()} if several else {})
        if several:
            for l0, ev, one in zip(point.l0s, point.evs, point.entries, strict=True):
                yield {"what": "seed", "l0": rounded(l0, 6), "ev": rounded(ev, 6), "who": cut(one.id), **hue}


def _lines(points: Sequence[Point], colours: Colouring) -> list[dict[str, Any]]:
    """Return the vertices of the frontiers of all that can be compared, where they are few enough to be told apart."""
    groups = _comparable([entry for point in points for entry in point.entries])
    steps = [(n, _frontier(group)) for n, group in enumerate(groups.values())]
    steps = [(n, line) for n, line in steps if len(line) > 1]
    rows = []
    for n, line in steps if len(steps) <= MOST_LINES else []:
        for artifact in line:
            entry = Entry(artifact, artifact.fields)
            hue = {"layer": entry.fields["layer"]} if colours.by_layer else {}
            l0, ev = _active(entry), entry.number(EV)
            rows.append({"what": "line", "line": n, "l0": rounded(l0 or 0.0, 6), "ev": rounded(ev or 0.0, 6), **hue})
    return rows


def _chart(points: Sequence[Point], metric: str, colours: Colouring) -> "altair.LayerChart":
    import altair as alt

    marks = list(_rows(points, colours))
    lines = _lines(points, colours)
    rows = [*marks, *lines]
    l0s, evs = [row["l0"] for row in rows], [row["ev"] for row in rows]
    log = wide(l0s, 2)
    title = NAMES[metric]
    x_axis = log_axis(title, l0s, form="~g") if log else alt.Axis(title=title)
    x_scale = log_scale(l0s, 0.05) if log else alt.Scale(domain=room(l0s), zero=False)
    y = alt.Y("ev:Q", axis=alt.Axis(title=NAMES[EV]), scale=alt.Scale(domain=room(evs), zero=False))
    base = alt.Chart().encode(x=alt.X("l0:Q", axis=x_axis, scale=x_scale), y=y)
    whole = base.encode(
        color=colours.channel(),
        tooltip=[
            alt.Tooltip("who:N", title="artifact"),
            alt.Tooltip("l0:Q", title=title, format=".4~g"),
            alt.Tooltip("ev:Q", title=NAMES[EV], format=".4~f"),
            alt.Tooltip("setting:N"),
            alt.Tooltip("basis:N"),
        ],
    )
    layers = [*_line_layer(base, lines, colours), *_seed_layers(whole, marks), *_point_layers(whole, marks, colours)]
    return alt.layer(*layers, data=alt.InlineData(rows)).properties(width=WIDTH, height=HEIGHT + 40)


def _line_layer(base: "altair.Chart", lines: Sequence[Any], colours: Colouring) -> "list[altair.Chart]":
    if not lines:
        return []
    there = base.transform_filter("datum.what == 'line'")
    line = there.mark_line(strokeWidth=1.4, strokeDash=[5, 3], strokeOpacity=0.9, color=NEUTRAL).encode(detail="line:N")
    return [line.encode(color=colours.channel()) if colours.by_layer else line]


def _seed_layers(whole: "altair.Chart", marks: Sequence[dict[str, Any]]) -> "list[altair.Chart]":
    """Return the spread over seeds: each of them as a small dot, and bars from the least to the most."""
    if all(row["what"] != "seed" for row in marks):
        return []
    means = whole.transform_filter("datum.what == 'mean'")
    return [
        means.mark_rule(strokeWidth=1.3).encode(x="l0_low:Q", x2="l0_high:Q"),
        means.mark_rule(strokeWidth=1.3).encode(y="ev_low:Q", y2="ev_high:Q"),
        whole.transform_filter("datum.what == 'seed'").mark_circle(size=16, fillOpacity=0.7),
    ]


def _point_layers(whole: "altair.Chart", marks: Sequence[dict[str, Any]], colours: Colouring) -> "list[altair.Chart]":
    shape = colours.shape()
    size = 70 if len(marks) < 150 else 34
    layers = []
    for basis, filled in (("measured", True), ("stated", False)):
        if any(row.get("basis") == basis for row in marks):
            there = whole.transform_filter(f"datum.basis == '{basis}'")
            layers.append(there.mark_point(filled=filled, size=size, fillOpacity=0.85, strokeWidth=1.4).encode(**shape))
    return layers


def _caption(
    here: Sequence[Entry], every: Sequence[Point], shown: Sequence[Point], metric: str, colours: Colouring
) -> str:
    ids = sorted({_definition(entry) for entry in here}, reverse=True)
    parts = [measured_on(here, [EV, *ids])]
    if metric != "l0":
        parts.append("Crosscoders of several sources: at each source those latents count that are active there.")
        if any(_one_set(entry) for entry in here):
            parts.append(f"Those with {ONE_SET} for all sources are placed by l0, which is their count at each.")
    if any(len(point.entries) > 1 for point in every):
        parts.append(
            "Artifacts that differ in nothing but the seed are one point, their mean; small dots are the seeds."
        )
    if any(not point.measured for point in every):
        parts.append("Hollow points are stated, not measured.")
    groups = _comparable([entry for point in shown for entry in point.entries])
    lines = sum(len(_frontier(group)) > 1 for group in groups.values())
    if 0 < lines <= MOST_LINES:
        parts.append(
            "Dashed: the frontier of artifacts measured on the same data, of which none is better in one number "
            "without being worse in the other."
        )
    if len(groups) > 1:
        parts.append(f"Only artifacts measured on the same data compare: here are {len(groups)} such groups.")
    if len(shown) < len(every):
        parts.append(f"Shown are {len(shown):,} of {len(every):,} settings: the frontiers first, of the rest a sample.")
    return " ".join(filter(None, [*parts, colours.words(points=True)]))


def _left_out(left: Sequence[Entry]) -> str:
    if not left:
        return ""
    worst = min(left, key=lambda entry: entry.number(EV) or 0.0)
    lowest = f"the lowest {cut(worst.id)} with {worst.number(EV):.3g}"
    return f" Left out: {len(left)} that explain too little to share an axis, or have no active latent; {lowest}."


def _alt(points: Sequence[Point], metric: str) -> str:
    least, most = (choose(points, key=lambda point: point.l0) for choose in (min, max))
    ends = f"{spread([point.ev for point in points], EV)}, {spread([point.l0 for point in points], metric)}"
    at = f"at the fewest active latents {least.ev:.3g} is explained, at the most {most.ev:.3g}"
    return f"Points of {len(points)} settings: {ends}; {at}."


KIND = FigureKind(
    "frontier",
    "explained variance against active latents, over sweeps, architectures and seeds",
    "frontier needs two artifacts with explained_variance and l0 (or l0_per_source_mean); saereg build measures them",
    draw,
)
