"""Where the latents of a crosscoder write: their decoder norms at each source."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from saereg.registry.figures.artifacts import (
    chosen,
    crosscoders,
    decoder_norms,
    left_out,
    one_of_each,
    rounded,
    slug,
    sort_of,
    source_axis,
    source_names,
    source_words,
    sources_of,
    table,
)
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.profiles import averaged, by_peak, relative, short
from saereg.registry.figures.series import cut
from saereg.registry.figures.source_maps import across, latent_map, whole_width
from saereg.registry.figures.theme import CATEGORIES, HEIGHT, SEQUENTIAL, WIDTH, finished
from saereg.registry.release import Release, ReleaseArtifact

if TYPE_CHECKING:
    import altair
    from torch import Tensor

MOST = 2
"""Crosscoders that get a figure."""

BINS = 50
"""Bars of the histogram over relative norms of two sources."""

REGIONS = ((0.0, 0.1, "only the first"), (0.4, 0.6, "shared"), (0.9, 1.0, "only the second"))
"""Bounds of the relative norm at the second of two sources. Source: arXiv:2504.02922, §2."""

PROFILE_HEIGHT = 80
"""Pixels of what stands above the heat map."""

CAUTION = (
    "A small norm at a source can be an artefact of the L1 penalty, which presses decoder norms to zero where the "
    "latent is not absent (arXiv:2504.02922): it is a hint, no proof."
)
"""What every caption says."""


def draw(release: Release) -> tuple[Drawing, ...]:
    """Return one figure for each of a few crosscoders."""
    able = [artifact for artifact in crosscoders(release) if _has(artifact)]
    found = [
        (artifact, norms)
        for artifact in chosen(one_of_each(able), MOST, sort_of)
        if (norms := decoder_norms(artifact)) is not None and bool(norms.any())
    ]
    rest = left_out(len(found), len(able), "crosscoders")
    return tuple(
        _drawing(artifact, norms, slug("decoder-norms", number, len(found)), rest)
        for number, (artifact, norms) in enumerate(found)
    )


def _has(artifact: ReleaseArtifact) -> bool:
    return artifact.folder.is_dir()


def _drawing(artifact: ReleaseArtifact, norms: "Tensor", name: str, rest: str) -> Drawing:
    title = f"Relative decoder norms of {cut(artifact.id)}"
    share = relative(norms)[norms.sum(1) > 0]
    chart, what, alt = _two(artifact, share) if norms.shape[1] == 2 else _many(artifact, share)
    d_sae, count = artifact.claim.d_sae, sources_of(artifact).count
    silent = len(norms) - len(share)
    none = f" {silent:,} latents that write nothing are left out." if silent else ""
    caption = f"{what} Of the released weights, {d_sae:,} latents, {count} sources.{none} {CAUTION}{rest}"
    return Drawing(name, "decoder-norms", title, caption, alt, finished(chart, title))


def regions(share: "Tensor") -> dict[str, int]:
    """Return region → latents in it, by the relative norm at the second of two sources, (F,); `between`: the rest."""
    found = {name: int(((share >= low) & (share <= high)).sum()) for low, high, name in REGIONS}
    return found | {"between": len(share) - sum(found.values())}


def _two(artifact: ReleaseArtifact, share: "Tensor") -> "tuple[altair.LayerChart, str, str]":
    import altair as alt
    import torch

    first, second = (cut(name, 28) for name in source_words(artifact))
    counts = torch.histc(share[:, 1], bins=BINS, min=0.0, max=1.0).long().tolist()
    bars = [{"low": n / BINS, "high": (n + 1) / BINS, "n": count} for n, count in enumerate(counts) if count]
    found, words = regions(share[:, 1]), {"only the first": f"only {first}", "only the second": f"only {second}"}
    bands = [
        {"low": low, "high": high, "region": words.get(name, name), "middle": (low + high) / 2,
         "words": f"{words.get(name, name)}: {found[name]:,}"}
        for low, high, name in REGIONS
    ]  # fmt: skip
    x = alt.X("low:Q", title=f"share of the decoder norm at {second}", scale=alt.Scale(domain=[0, 1], nice=False))
    zones = alt.Chart(table(bands))
    sort = [band["region"] for band in bands]
    colour = alt.Color(
        "region:N",
        sort=sort,
        legend=None,
        scale=alt.Scale(domain=sort, range=[CATEGORIES[1], CATEGORIES[2], CATEGORIES[3]]),
    )
    shade = zones.mark_rect(opacity=0.2).encode(x=x, x2="high:Q", color=colour)
    rects = alt.Chart(table(bars)).mark_rect(color=CATEGORIES[0], stroke=CATEGORIES[0], strokeWidth=0.6)
    marks = rects.encode(
        x=x, x2="high:Q", y=alt.Y("n:Q", title="latents", axis=alt.Axis(format=",d", tickMinStep=1)), y2=alt.datum(0),
        tooltip=["low:Q", "high:Q", "n:Q"],
    )  # fmt: skip
    texts = [
        zones.transform_filter(f"datum.low {sign}").mark_text(align=align, baseline="bottom", limit=200).encode(
            text="words:N", x=alt.value(at), y=alt.value(-5)
        )
        for sign, align, at in (("< 0.2", "left", 0), ("== 0.4", "center", WIDTH / 2), ("> 0.8", "right", WIDTH))
    ]  # fmt: skip
    what = (
        f"Histogram of ‖b‖ / (‖a‖ + ‖b‖), a and b the decoder directions of a latent at {first} and at {second}. "
        "Shaded, with their counts: up to 0.1, from 0.4 to 0.6, and from 0.9 on."
    )
    said = ", ".join(f"{words.get(name, name)} {count:,}" for name, count in found.items())
    return alt.layer(shade, marks, *texts).properties(width=WIDTH, height=HEIGHT), what, f"Latents by region: {said}."


def _many(artifact: ReleaseArtifact, share: "Tensor") -> "tuple[altair.VConcatChart, str, str]":
    import altair as alt

    names = short([cut(name, 24) for name in source_names(artifact)])
    even = share * share.shape[1]
    peaks = share.argmax(1).bincount(minlength=share.shape[1]).tolist()
    profile = [
        {"source": name, "mean": rounded(mean, 4), "peaks": peak}
        for name, mean, peak in zip(names, even.mean(0).tolist(), peaks, strict=True)
    ]
    rows = averaged(even[by_peak(share)])
    parts = (*_profiles(profile, names), _map(rows, len(share), names, source_axis(artifact)))
    most = max(range(len(peaks)), key=peaks.__getitem__)
    binned = f", {len(share):,} of them averaged to {len(rows)} rows" if len(rows) < len(share) else ""
    what = (
        f"‖W_dec‖ of a latent at a source over the sum of its norms at all sources, times {share.shape[1]}: 1 is an "
        "even share. Above: its mean over latents, and how many latents have their largest share at each source. "
        f"Below: the latents by the first source within a tenth of their largest share{binned}."
    )
    alt_text = f"{max(peaks):,} of {len(share):,} latents have their largest share at {source_words(artifact)[most]}."
    return alt.vconcat(*parts, spacing=12), what, alt_text


def _profiles(profile: Sequence[dict[str, object]], names: Sequence[str]) -> "tuple[altair.Chart, altair.Chart]":
    import altair as alt

    data, size = alt.Chart(table(profile)), {"width": whole_width(len(names)), "height": PROFILE_HEIGHT}
    axis = {"tickCount": 3, "minExtent": 46}
    mean = alt.Y("mean:Q", title="mean share", axis=alt.Axis(**axis), scale=alt.Scale(zero=False))
    line = data.mark_line(color=CATEGORIES[1], point=alt.OverlayMarkDef(size=24, color=CATEGORIES[1]))
    peaks = alt.Y("peaks:Q", title="peaks here", axis=alt.Axis(format=",d", tickMinStep=1, **axis))
    bars, x = data.mark_bar(color=CATEGORIES[0]), across(names, None)
    return (
        line.encode(x=x, y=mean, tooltip=["source:N", "mean:Q"]).properties(**size),
        bars.encode(x=x, y=peaks, tooltip=["source:N", "peaks:Q"]).properties(**size),
    )


def _map(rows: "Tensor", latents: int, names: Sequence[str], title: str) -> "altair.Chart":
    import altair as alt

    scale = alt.Scale(scheme=SEQUENTIAL, type="sqrt", domainMin=0)
    legend = alt.Legend(title="times the even share", orient="bottom", gradientLength=260, tickCount=5)
    colour = alt.Color("times:Q", scale=scale, legend=legend)
    return latent_map(rows, latents, names, colour, "times", (title, "latents"))


KIND = FigureKind(
    name="decoder-norms",
    about="relative decoder norms of crosscoders over their sources",
    needs="decoder-norms needs a crosscoder of two or more sources, with its weights or decoder_analysis.safetensors",
    draw=draw,
)
