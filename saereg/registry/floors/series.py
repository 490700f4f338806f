"""Which artifacts of a release are snapshots of one training, and what was lost at each of them."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from saereg.registry.files.natural import natural_key
from saereg.registry.release import Release, ReleaseArtifact
from saereg.registry.trainings import tokens_of, training_of
from saereg.schemas.manifest import Sparsity, sites_of
from saereg.schemas.metrics import Measurement, MetricId

LOSSES: tuple[MetricId, ...] = ("fvu", "mse_per_row", "nmse_uncentred_row")
"""Losses that are fitted, the first that is there. Within a series `fvu` is `mse_per_row` over a constant, so that both
have one exponent; but floors in `fvu` can be compared over layers: they are shares of a variance."""

ACTIVE: tuple[MetricId, ...] = ("l0", "l0_per_source_mean")
"""Numbers of active latents, the first that is defined."""

Key = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Point:
    """One artifact as a point of a law.

    Attributes:
        member: the artifact.
        tokens: training tokens n.
        loss: L(n).
        l0: measured active latents k, where they are known.
        series: what it shares with the other snapshots of its training.
        group: what it shares with all artifacts of one site that differ in tokens, width, sparsity or seed.
        evaluation: what it was measured on.
    """

    member: ReleaseArtifact
    tokens: float
    loss: float
    l0: float | None
    series: Key
    group: Key
    evaluation: str | None

    @property
    def artifact(self) -> str:
        """Id of the artifact."""
        return self.member.id

    @property
    def d_sae(self) -> int:
        """Number of latents F."""
        return self.member.claim.d_sae

    @property
    def sparsity(self) -> Sparsity:
        """Sparsity setting of its training."""
        return self.member.claim.sparsity

    @property
    def layer(self) -> int | None:
        """Layer of its site, where it has one."""
        return layer_of(self.member)


@dataclass(frozen=True)
class Series:
    """Losses along one training.

    Attributes:
        name: what its points have in common, for people; unique among all series.
        layer: layer of its site, where it has one.
        artifacts: ids of the artifacts behind the points.
        tokens: n, rising.
        values: L(n).
        lines: of how many numbers each value is the mean.
        evaluation: what all of them were measured on; None for logged ones.
    """

    name: str
    layer: int | None
    artifacts: tuple[str, ...]
    tokens: tuple[float, ...]
    values: tuple[float, ...]
    lines: tuple[int, ...]
    evaluation: str | None

    @property
    def unit(self) -> str:
        """What its points are."""
        return "groups of lines" if self.evaluation is None else "snapshots"


def measured_points(release: Release) -> tuple[MetricId, list[Point]] | None:
    """Return the loss that most artifacts have, and every artifact as a point of it; None where none is measured.

    Within a group all points are measured on the same rows: on those of the evaluation that most of them have.
    """
    counts = {metric: sum(1 for artifact in release.artifacts if _losses(artifact, metric)) for metric in LOSSES}
    metric = max(LOSSES, key=lambda name: counts[name])
    points = list(_points(release, metric)) if counts[metric] > 1 else []
    return (metric, points) if points else None


def _points(release: Release, metric: MetricId) -> Iterable[Point]:
    groups: dict[Key, list[tuple[ReleaseArtifact, Key, dict[tuple[str, str], float]]]] = defaultdict(list)
    for artifact in release.artifacts:
        losses = _losses(artifact, metric)
        if losses and tokens_of(artifact):
            series, group = keys_of(artifact)
            groups[group].append((artifact, series, losses))
    for group, members in groups.items():
        where = Counter(key for _, _, losses in members for key in losses)
        evaluation = min(where, key=lambda key: (-where[key], key))
        for artifact, series, losses in members:
            if evaluation in losses:
                yield _point(artifact, losses[evaluation], evaluation[0], series, group)


def _point(artifact: ReleaseArtifact, loss: float, evaluation: str | None, series: Key, group: Key) -> Point:
    return Point(
        member=artifact,
        tokens=tokens_of(artifact) or 0.0,
        loss=loss,
        l0=_active(artifact, evaluation),
        series=series,
        group=group,
        evaluation=evaluation,
    )


def _losses(artifact: ReleaseArtifact, metric: MetricId) -> dict[tuple[str, str], float]:
    """Return (evaluation, digest of its rows) → loss of an artifact, where the loss is a positive number."""
    found = artifact.evidence.metrics if artifact.evidence else ()
    return {
        (m.evaluation, m.data_sha256): m.value
        for m in found
        if m.metric == metric and _plain(m) and m.value is not None and m.value > 0
    }


def _plain(measurement: Measurement) -> bool:
    value = measurement.value
    return measurement.units == "raw" and measurement.batch_rows is None and value is not None and math.isfinite(value)


def _active(artifact: ReleaseArtifact, evaluation: str | None) -> float | None:
    found = (
        {m.metric: m.value for m in artifact.evidence.metrics if m.evaluation == evaluation and _plain(m)}
        if (artifact.evidence)
        else {}
    )
    return next((value for name in ACTIVE if (value := found.get(name))), None)


def keys_of(artifact: ReleaseArtifact) -> tuple[Key, Key]:
    """Return what an artifact shares with the snapshots of its training, and with the others of its site."""
    series = training_of(artifact)
    return series, tuple((name, value) for name, value in series if name not in ("d_sae", "sparsity", "seed"))


def layer_of(artifact: ReleaseArtifact) -> int | None:
    """Return the layer of its site, of a crosscoder that of its first one; None where it has none."""
    site = artifact.release.manifest.sites.get(sites_of(artifact.claim)[0])
    return site.layer if site else None


def facts_of(artifact: ReleaseArtifact) -> dict[str, str]:
    """Return what can tell the series of an artifact from others, in words: the first is always said."""
    claim, fields = artifact.claim, artifact.fields
    layer, site = layer_of(artifact), str(fields["site"] or claim.kind)
    steps, setting = fields["steps"] or ([] if fields["model_step"] is None else [fields["model_step"]]), claim.sparsity
    penalty = setting.l1_coefficient if setting.l1_coefficient is not None else setting.l0_coefficient
    return {
        "place": str(fields["parameter"] or site) if layer is None else f"layer {layer}",
        "architecture": claim.architecture,
        "d_sae": f"{claim.d_sae} latents",
        "k": "" if setting.k is None else f"k {setting.k:g}",
        "penalty": "" if penalty is None else f"λ {penalty:g}",
        "target": "" if setting.target_l0 is None else f"target L0 {setting.target_l0:g}",
        "variant": claim.variant or "",
        "seed": "" if claim.seed is None else f"seed {claim.seed}",
        "steps": f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} steps" if steps else "",
        "site": site,
        "kind": claim.kind,
    }


def named(facts: Mapping[Key, Mapping[str, str]]) -> dict[Key, str]:
    """Return key → a name for people: the place, and as little more as tells all apart; a number where nothing does."""
    words: dict[Key, list[str]] = {key: [said["place"]] for key, said in facts.items()}
    for fact in next(iter(facts.values()), {}):
        longer = {key: [*said, facts[key][fact]] for key, said in words.items()}
        if len({*map(tuple, longer.values())}) > len({*map(tuple, words.values())}):
            words = longer
    names = {key: " · ".join(word for word in said if word) for key, said in words.items()}
    counts, seen = Counter(names.values()), Counter[str]()
    for key, name in names.items():
        if counts[name] > 1:
            seen[name] += 1
            names[key] = f"{name} ({seen[name]})"
    return names


def series_of(points: Iterable[Point]) -> list[Series]:
    """Return every training of which there are snapshots, by layer and name."""
    rows: dict[Key, dict[float, Point]] = defaultdict(dict)
    for point in sorted(points, key=lambda point: (point.tokens, point.artifact)):
        rows[point.series].setdefault(point.tokens, point)
    several = {key: list(found.values()) for key, found in rows.items() if len(found) > 1}
    if not several:
        return []
    names = named({key: facts_of(next(iter(rows[key].values())).member) for key in sorted(rows, key=repr)})
    made = [_series(names[key], found) for key, found in several.items()]
    return sorted(made, key=lambda s: in_order(s.layer, s.name))


def in_order(layer: int | None, name: str) -> Key:
    """Return the key by which series are sorted: by layer, then by name, in which 512 stands before 4096."""
    return layer is None, layer or 0, natural_key(name)


def _series(name: str, points: list[Point]) -> Series:
    return Series(
        name=name,
        layer=points[0].layer,
        artifacts=tuple(p.artifact for p in points),
        tokens=tuple(p.tokens for p in points),
        values=tuple(p.loss for p in points),
        lines=(1,) * len(points),
        evaluation=points[0].evaluation,
    )
