"""When the latents of a crosscoder over snapshots are born, live and die."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saereg.registry.features.latents import Latents
from saereg.registry.figures.artifacts import (
    chosen,
    crosscoders,
    decoder_norms,
    latents_of,
    left_out,
    one_of_each,
    slug,
    sort_of,
    sources_of,
    table,
    whole_ticks,
)
from saereg.registry.figures.axes import step_axis
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.norms import CAUTION
from saereg.registry.figures.profiles import (
    MOST_CELLS,
    MOST_ROWS,
    STATES,
    Lives,
    averaged,
    centre,
    lives,
    ordered,
    short,
)
from saereg.registry.figures.series import cut
from saereg.registry.figures.source_maps import across, latent_map, whole_width
from saereg.registry.figures.theme import CATEGORIES, NEUTRAL, SEQUENTIAL, finished
from saereg.registry.release import Release, ReleaseArtifact

if TYPE_CHECKING:
    import altair
    from torch import Tensor

MOST = 2
"""Crosscoders that get a figure."""

TENTH = 0.1
"""Share of its largest rate, or norm, from which on a latent counts as alive at a snapshot."""

AREA_HEIGHT, TURNOVER_HEIGHT = 190, 80
"""Pixels."""

COLOURS = dict(zip(STATES, (CATEGORIES[0], CATEGORIES[4], CATEGORIES[1], "#C9CED6", NEUTRAL), strict=True))
"""State → colour."""


@dataclass(frozen=True, eq=False)
class Course:
    """How active each latent of a crosscoder is at each snapshot.

    Attributes:
        level: (K, F): share of rows in which it is active, or its decoder norm over its largest one.
        alive: (K, F), bool.
        gated: whether the level is a share of rows.
        data: evaluation and rows, in words; of decoder norms empty.
    """

    level: "Tensor"
    alive: "Tensor"
    gated: bool
    data: str

    @property
    def words(self) -> str:
        """What the level is, and what alive means."""
        if self.gated:
            return (
                "A latent is alive at a snapshot where it is active in a row at least, and no less than a tenth as "
                f"often as at the snapshot where it is most often active. Colour: the share of rows. "
                f"Measured on {self.data}."
            )
        return (
            "All snapshots share one gate, so that activations do not tell them apart: a latent counts as alive at a "
            f"snapshot where its decoder norm is at least {TENTH:.0%} of its largest one. Colour: that ratio. {CAUTION}"
        )


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return one figure for each of a few crosscoders over snapshots."""
    able = [artifact for artifact in crosscoders(release, "snapshot") if artifact.folder.is_dir()]
    picked = chosen(one_of_each(able), MOST, sort_of)
    found = [(artifact, course) for artifact in picked if (course := course_of(artifact)) is not None]
    rest = left_out(len(found), len(able), "crosscoders over snapshots")
    return tuple(
        _drawing(artifact, course, slug("lifecycle", number, len(found)), rest)
        for number, (artifact, course) in enumerate(found)
    )


def course_of(artifact: ReleaseArtifact) -> Course | None:
    """Return how active each latent is at each snapshot; None where neither counts nor decoder norms are here.

    Raises:
        WeightsError: when a file is damaged.
        OSError: when it cannot be read.
    """
    latents = latents_of(artifact)
    if latents is not None and len(latents.fired) == sources_of(artifact).count:
        data = f"{latents.evaluation} ({latents.rows:,} rows)"
        alive = (latents.fired > 0) & (latents.fired >= TENTH * latents.fired.amax(0, keepdim=True))
        return Course(latents.frequency, alive, gated=True, data=data)
    norms = decoder_norms(artifact)
    return _of_norms(norms.T, latents) if norms is not None else None


def _of_norms(norms: "Tensor", latents: Latents | None) -> Course:
    level = norms / norms.amax(0, keepdim=True).clamp_min(1e-30)
    alive = level >= TENTH
    if latents is not None:
        alive = alive & (latents.fired.sum(0) > 0)
    return Course(level, alive, gated=False, data="")


def _drawing(artifact: ReleaseArtifact, course: Course, name: str, rest: str) -> Drawing:
    d_sae, found, steps = artifact.claim.d_sae, lives(course.alive), sources_of(artifact).steps
    title = f"Life of the latents of {cut(artifact.id)}"
    chart = _chart(course, found, steps)
    ever = int((found.birth < len(steps)).sum())
    counts = found.counts()["alive"]
    caption = (
        f"{course.words} Born: alive for the first time; dead: neither here nor later, after having been alive; "
        "dormant: not here, but before and later. Below: latents in the order of birth, then of death, then of where "
        f"they are most active; {d_sae - ever:,} of "
        f"{d_sae:,} are never alive and have no row there.{_binned(ever, len(steps))}{rest}"
    )
    alt = (
        f"Alive at step {steps[0]:,}: {counts[0]:,} of {d_sae:,} latents; at step {steps[-1]:,}: {counts[-1]:,}. "
        f"Never alive: {d_sae - ever:,}."
    )
    return Drawing(name, "lifecycle", title, caption, alt, finished(chart, title))


def _binned(ever: int, snapshots: int) -> str:
    rows = min(MOST_ROWS, MOST_CELLS // snapshots)
    return f" Neighbours are averaged to {rows} rows." if ever > rows else ""


def _chart(course: Course, found: Lives, steps: Sequence[int]) -> "altair.VConcatChart":
    import altair as alt

    names = short([str(step) for step in steps])
    parts = [_states(found, steps), _turnover(found, names)]
    mask = found.birth < len(steps)
    if bool(mask.any()):
        level, birth, end = course.level[:, mask], found.birth[mask], found.end[mask]
        order = ordered(birth, end, centre(level.T), level.amax(0))
        parts.append(_map(averaged(level.T[order]), int(mask.sum()), names, course))
    return alt.vconcat(*parts, spacing=14).resolve_scale(color="independent")


def _states(found: Lives, steps: Sequence[int]) -> "altair.Chart":
    import altair as alt

    order = [name for name in STATES if any(found.counts()[name])]
    rows = [
        {"step": step, "state": name, "n": found.counts()[name][at], "order": order.index(name)}
        for name in order
        for at, step in enumerate(steps)
    ]
    scale = alt.Scale(domain=order, range=[COLOURS[name] for name in order])
    legend = alt.Legend(orient="top", title=None, symbolType="square", direction="horizontal", columns=5)
    axis = alt.Axis(format=",d", minExtent=46, tickMinStep=1)
    marks = alt.Chart(table(rows)).mark_area(line={"strokeWidth": 0.8}, opacity=0.9).encode(
        x=step_axis(steps),
        y=alt.Y("n:Q", title="latents", stack="zero", axis=axis),
        color=alt.Color("state:N", scale=scale, sort=order, legend=legend),
        order="order:Q",
        tooltip=["step:Q", "state:N", "n:Q"],
    )  # fmt: skip
    return marks.properties(width=whole_width(len(steps)), height=AREA_HEIGHT)


def _turnover(found: Lives, names: Sequence[str]) -> "altair.Chart":
    import altair as alt

    born, died = found.births(), found.deaths()
    rows = [
        {"source": name, "change": word, "n": sign * count}
        for word, sign, counts in (("born", 1, [0, *born[1:]]), ("dead from here on", -1, died))
        for name, count in zip(names, counts, strict=True)
    ]
    words = ["born", "dead from here on"]
    scale = alt.Scale(domain=words, range=[CATEGORIES[2], CATEGORIES[1]])
    legend = alt.Legend(orient="top", title=None, symbolType="square", direction="horizontal")
    axis = alt.Axis(
        minExtent=46, values=whole_ticks(-max(died), max([0, *born[1:]])), labelExpr="format(abs(datum.value), ',d')"
    )
    marks = alt.Chart(table(rows)).mark_bar().encode(
        x=across(names, None),
        y=alt.Y("n:Q", title="change", axis=axis),
        color=alt.Color("change:N", scale=scale, sort=words, legend=legend),
        tooltip=["source:N", "change:N", "n:Q"],
    )  # fmt: skip
    return marks.properties(width=whole_width(len(names)), height=TURNOVER_HEIGHT)


def _map(rows: "Tensor", latents: int, names: Sequence[str], course: Course) -> "altair.Chart":
    import altair as alt

    title, form = ("share of rows", "~%") if course.gated else ("norm over its largest", "~r")
    legend = alt.Legend(title=title, orient="bottom", gradientLength=260, tickCount=5, format=form)
    scale = alt.Scale(scheme=SEQUENTIAL, type="sqrt" if course.gated else "linear", domainMin=0)
    colour = alt.Color("level:Q", scale=scale, legend=legend)
    return latent_map(rows, latents, names, colour, "level", ("snapshot (pretraining step)", "latents by birth"))


KIND = FigureKind(
    name="lifecycle",
    about="when the latents of a crosscoder over snapshots are born, live and die",
    needs="lifecycle needs a crosscoder over two or more snapshots, with counts of its latents or its decoder norms",
    draw=draw,
)
