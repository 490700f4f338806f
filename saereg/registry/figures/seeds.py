"""How far dictionaries that differ only in their seed find the same directions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice, takewhile
from typing import TYPE_CHECKING

from saereg.registry.figures.artifacts import latents_of, rounded, table
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.matching import DECODER, MOST_MATCHED, Directions, agreement, chance, directions, matched
from saereg.registry.figures.series import cut
from saereg.registry.figures.theme import CATEGORIES, NEUTRAL, SEQUENTIAL, WIDTH, finished
from saereg.registry.files.header import read_header
from saereg.registry.files.names import WEIGHTS_FILES
from saereg.registry.release import Release, ReleaseArtifact
from saereg.schemas.manifest import identity

if TYPE_CHECKING:
    import altair
    from torch import Tensor

MOST_GROUPS, MOST_SEEDS = 3, 6
"""Groups in the figure, and seeds of each: every pair of them is compared."""

BINS = 50
"""Bars of a histogram over cosines."""

GOOD = (0.7, 0.9)
"""Cosines from which on two directions are called the same. Source: arXiv:2501.16615, §3 for the first."""

SEED = 0
"""Seed of the choice of latents, and of the draw that tells what chance gives."""

MARKS = "/_-. "

SIDE, ROW_HEIGHT = 150, 150
"""Pixels of the matrix of pairs, and of the histogram beside it."""


@dataclass(frozen=True, eq=False)
class Group:
    """Dictionaries that differ only in their seed, compared.

    Attributes:
        name: what their ids have in common.
        seeds: their seeds, rising.
        largest: (a, b) → the largest cosines of drawn latents of a with those of b.
        random: those that chance gives.
        one_to_one: cosines of one-to-one pairs, of all pairs of dictionaries; None where they are too large for that.
        alive: whether only latents that are active somewhere count.
        of: how many seeds there are in all.
    """

    name: str
    seeds: tuple[int, ...]
    largest: "dict[tuple[int, int], Tensor]"
    random: "Tensor"
    one_to_one: "Tensor | None"
    alive: bool
    of: int

    def mean(self, a: int, b: int) -> float:
        """Return the mean of the largest cosines of two dictionaries, both directions alike."""
        return float((self.largest[a, b].mean() + self.largest[b, a].mean()) / 2)

    def pooled(self) -> "Tensor":
        """Return the largest cosines of all pairs."""
        import torch

        return torch.cat([self.largest[pair] for pair in sorted(self.largest)])

    @property
    def drawn(self) -> int:
        """Latents of each dictionary that were compared, at most."""
        return max(len(found) for found in self.largest.values())


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return the figure; none where no artifacts differ only in their seed."""
    families = same_but_seed(release)
    families.sort(key=lambda family: not any(artifact.claim.canonical for artifact in family))
    able = (group for family in families if (group := compared(family)) is not None)
    groups = list(islice(able, MOST_GROUPS))
    if not groups:
        return ()
    title = "Agreement of seeds"
    spec = finished(_chart(groups), title)
    return (Drawing("seed-agreement", "seed-agreement", title, _caption(groups, len(families)), _alt(groups), spec),)


def same_but_seed(release: Release) -> list[list[ReleaseArtifact]]:
    """Return the families of artifacts that differ in nothing but their seed, seeds rising."""
    found: dict[str, dict[int, ReleaseArtifact]] = {}
    for artifact in release:
        if artifact.claim.seed is not None:
            facts = identity(artifact.claim, release.manifest) | {"seed": None}
            found.setdefault(repr(sorted(facts.items())), {}).setdefault(artifact.claim.seed, artifact)
    return [[seeds[seed] for seed in sorted(seeds)] for seeds in found.values() if len(seeds) > 1]


def _has_decoder(artifact: ReleaseArtifact) -> bool:
    path = artifact.folder / WEIGHTS_FILES[artifact.claim.format]
    if not path.is_file():
        return False
    entry = read_header(path).tensors.get(DECODER)
    return entry is not None and len(entry.shape) > 1 and entry.shape[0] == artifact.claim.d_sae


def compared(family: Sequence[ReleaseArtifact]) -> Group | None:
    """Return the comparison of a family; None where fewer than two have weights here, or one no latent ever active.

    Raises:
        WeightsError: when a file is damaged.
        OSError: when it cannot be read.
    """
    import torch

    here = [artifact for artifact in family if _has_decoder(artifact)]
    shown = here[:MOST_SEEDS]
    if len(shown) < 2:
        return None
    counts = [latents_of(artifact) for artifact in shown]
    counted = all(found is not None for found in counts)
    masks = [found.fired.sum(0) > 0 if found is not None and counted else None for found in counts]
    all_of_them = [_directions(artifact, mask) for artifact, mask in zip(shown, masks, strict=True)]
    if not all(of.latents for of in all_of_them) or len({of.width for of in all_of_them}) > 1:
        return None
    largest = agreement(all_of_them, SEED)
    random = chance(all_of_them[0].width, max(of.latents for of in all_of_them), SEED)
    pairs = [matched(a, b) for a, b in combinations(all_of_them, 2)]
    one_to_one = (
        None if any(pair is None for pair in pairs) else torch.cat([pair for pair in pairs if pair is not None])
    )
    seeds = tuple(int(str(artifact.claim.seed)) for artifact in shown)
    return Group(_common([artifact.id for artifact in shown]), seeds, largest, random, one_to_one, counted, len(here))


def _directions(artifact: ReleaseArtifact, alive: "Tensor | None") -> Directions:
    return directions(artifact.folder / WEIGHTS_FILES[artifact.claim.format], alive)


def _common(ids: Sequence[str]) -> str:
    """Return what ids begin with, without what announces the seed."""
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*ids, strict=False))
    start = "".join(letters[0] for letters in same).rstrip("0123456789").rstrip(MARKS)
    return cut(start.removesuffix("seed").rstrip(MARKS) or ids[0])


def shares(cosines: "Tensor") -> tuple[float, ...]:
    """Return the shares of cosines above each of `GOOD`."""
    return tuple(float((cosines > bound).double().mean()) for bound in GOOD)


def _caption(groups: Sequence[Group], families: int) -> str:
    drawn = max(group.drawn for group in groups)
    counted = "latents that are ever active" if all(group.alive for group in groups) else "latents"
    one = [group for group in groups if group.one_to_one is not None]
    matching = (
        f" One to one: the matching of largest total cosine, of dictionaries of up to {MOST_MATCHED:,} latents."
        if one
        else ""
    )
    rest = f" Shown are {len(groups)} of {families} groups, canonical ones first." if families > len(groups) else ""
    if any(group.of > len(group.seeds) for group in groups):
        rest += f" Of each group the first {MOST_SEEDS} seeds."
    return (
        "Dictionaries that differ only in their seed: of each latent the largest cosine of its decoder direction with "
        "any of the other dictionary. Left: the mean for each pair of seeds, both ways (MMCS, Sharkey et al. 2022); "
        "right: the distribution over all pairs; grey: where 98 % of random directions of the same number and width "
        "lie, a lower bound of chance, as the directions of one model share a subspace. Up to "
        f"{drawn:,} {counted} of each, chosen with seed {SEED}, against all of the other.{matching}{rest}"
    )


def _alt(groups: Sequence[Group]) -> str:
    words = []
    for group in groups:
        pooled = group.pooled()
        words.append(
            f"{group.name}: mean largest cosine {float(pooled.mean()):.3f} (chance {float(group.random.mean()):.3f}), "
            f"{shares(pooled)[0]:.0%} above {GOOD[0]}"
        )
    return "; ".join(words) + "."


def _chart(groups: Sequence[Group]) -> "altair.VConcatChart":
    import altair as alt

    low = min(min(float(group.pooled().min()), float(group.random.min())) for group in groups)
    low = min(math.floor(low * 10) / 10, 0.6)
    rows = [
        alt.hconcat(_matrix(group), _histogram(group, low, last=group is groups[-1]), spacing=34, title=_title(group))
        for group in groups
    ]
    return alt.vconcat(*rows, spacing=22)


def _title(group: Group) -> "altair.TitleParams":
    import altair as alt

    return alt.TitleParams(group.name, anchor="start", fontSize=12, fontWeight="normal", offset=2, limit=WIDTH)


def _matrix(group: Group) -> "altair.LayerChart":
    import altair as alt

    names = [str(seed) for seed in group.seeds]
    rows = [
        {"a": names[a], "b": names[b], "mean": rounded(group.mean(a, b), 4)}
        for a in range(len(names))
        for b in range(len(names))
        if a != b
    ]
    data = alt.Chart(table(rows))
    scale = alt.Scale(paddingInner=0.04, domain=names)
    x = alt.X("a:N", sort=names, title="seed", scale=scale, axis=alt.Axis(labelAngle=0, domain=False, ticks=False))
    y = alt.Y("b:N", sort=names, title="seed", scale=scale, axis=alt.Axis(domain=False, ticks=False))
    colour = alt.Color("mean:Q", scale=alt.Scale(scheme=SEQUENTIAL, domain=[0, 1]), legend=None)
    cells = data.mark_rect().encode(x=x, y=y, color=colour, tooltip=["a:N", "b:N", "mean:Q"])
    ink = alt.condition("datum.mean > 0.6", alt.value("#1F2328"), alt.value("#FFFFFF"))
    words = data.mark_text(fontSize=12 if len(names) < 5 else 10).encode(
        x=x, y=y, text=alt.Text("mean:Q", format=".2f"), color=ink
    )  # fmt: skip
    return alt.layer(cells, words).properties(width=SIDE, height=SIDE)


def _histogram(group: Group, low: float, *, last: bool) -> "altair.LayerChart":
    import altair as alt

    width = WIDTH - SIDE - 90
    x = alt.X(
        "low:Q",
        title="largest cosine with the other dictionary" if last else None,
        scale=alt.Scale(domain=[low, 1], nice=False),
        axis=alt.Axis(tickCount=6),
    )
    y = alt.Y("share:Q", title="share of latents", axis=alt.Axis(format="~%", tickCount=3, minExtent=34))
    band = alt.Chart(table([_band(group.random)]))
    grey = band.mark_rect(color=NEUTRAL, opacity=0.35).encode(x=x, x2="high:Q", tooltip=["low:Q", "high:Q"])
    bars = alt.Chart(table(_bars(group.pooled(), low))).mark_rect(color=CATEGORIES[0], opacity=0.9).encode(
        x=x, x2="high:Q", y=y, y2=alt.datum(0), tooltip=["low:Q", "high:Q", "share:Q"]
    )  # fmt: skip
    layers = [grey, bars]
    rules = alt.Chart(table([{"low": bound} for bound in GOOD]))
    layers.append(rules.mark_rule(color=NEUTRAL, strokeDash=[4, 3]).encode(x=x))
    note = alt.Chart(table([{"words": _note(group)}])).mark_text(align="right", baseline="bottom", fontSize=11)
    layers.append(note.encode(text="words:N", x=alt.value(width), y=alt.value(-6)))
    return alt.layer(*layers).properties(width=width, height=ROW_HEIGHT)


def _note(group: Group) -> str:
    first, second = shares(group.pooled())
    words = [f"above {GOOD[0]}: {first:.0%}", f"above {GOOD[1]}: {second:.0%}"]
    if group.one_to_one is not None:
        words.append(f"one to one above {GOOD[0]}: {shares(group.one_to_one)[0]:.0%}")
    return " · ".join([*words, f"chance: {float(group.random.mean()):.2f}"])


def _band(random: "Tensor") -> dict[str, float]:
    """Return where the middle 98 % of random directions have their largest cosines."""
    import torch

    low, high = torch.quantile(random, torch.tensor([0.01, 0.99], dtype=random.dtype)).tolist()
    return {"low": rounded(low, 4), "high": rounded(high, 4)}


def _bars(cosines: "Tensor", low: float) -> list[dict[str, float]]:
    import torch

    counts = torch.histc(cosines.clamp(low, 1.0), bins=BINS, min=low, max=1.0)
    step = (1.0 - low) / BINS
    return [
        {
            "low": rounded(low + n * step),
            "high": rounded(low + (n + 1) * step),
            "share": rounded(count / len(cosines), 4),
        }
        for n, count in enumerate(counts.tolist())
        if count
    ]


KIND = FigureKind(
    name="seed-agreement",
    about="how far dictionaries that differ only in their seed find the same directions",
    needs="seed-agreement needs two or more artifacts that differ only in their seed, with their weights",
    draw=draw,
)
