"""What tells the artifacts of a figure apart: their series, places, snapshots, and the words for numbers."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from saereg.registry.flat_fields import headline
from saereg.registry.release import Release, ReleaseArtifact
from saereg.registry.trainings import labelled_number, tokens_of, training_of
from saereg.schemas.manifest import CrosscoderArtifact
from saereg.schemas.metrics import Measurement

MOST_SERIES = 8
"""Series that colours and shapes tell apart."""

LONGEST = 60
"""Characters of a name in a figure: ids may be of 300."""

NAMES: Mapping[str, str] = {
    "explained_variance": "explained variance",
    "fvu": "variance unexplained",
    "l0": "active latents per row (L0)",
    "l0_per_source_mean": "active latents per row and source",
    "ce_recovered": "loss recovered",
    "mse_per_row": "squared error per row",
    "mse_per_element": "squared error per element",
    "dead_fraction": "dead latents",
}
"""Metric → what an axis calls it; the caption gives the id of the definition."""

Fields = dict[str, Any]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Entry:
    """One artifact as figures see it.

    Attributes:
        artifact: the artifact.
        fields: its flat fields, numbers measured before stated.
    """

    artifact: ReleaseArtifact
    fields: Fields

    @property
    def id(self) -> str:
        """Its id."""
        return self.artifact.id

    @cached_property
    def measured(self) -> dict[str, Measurement]:
        """Metric → the measurement that stands for it."""
        return headline(self.artifact.evidence.metrics) if self.artifact.evidence else {}

    @property
    def step(self) -> int | None:
        """Pretraining step of the model that it was trained on, where it is one."""
        steps: tuple[int, ...] = self.fields["steps"] or ()
        step: int | None = steps[0] if len(steps) == 1 else self.fields["model_step"]
        return step

    @property
    def sources(self) -> int:
        """Number of its sources; 1 for all but crosscoders of several."""
        return int(self.fields["n_sources"] or 1)

    @property
    def several(self) -> bool:
        """Whether it is a crosscoder of several sources."""
        return isinstance(self.artifact.claim, CrosscoderArtifact) and self.sources > 1

    @property
    def place(self) -> str:
        """Where it stands in its model, in words."""
        layer = self.fields["layer"]
        if layer is not None and not self.several:
            return f"layer {layer}"
        return str(self.fields["parameter"] or self.fields["site"] or "–")

    @property
    def setting(self) -> str:
        """What its training was set to, e.g. `k 32`; empty where nothing says it."""
        for name, word in SETTINGS:
            if (value := self.fields[name]) is not None:
                return f"{word} {value:g}"
        return ""

    def number(self, metric: str) -> float | None:
        """Return a number, measured before stated; None where it is another definition that stands in its place."""
        if metric == "l0" and self.fields["l0_definition"] != "l0":
            return None
        value = self.fields[metric]
        return float(value) if value is not None else None

    def is_measured(self, metric: str) -> bool:
        """Whether the number was measured from the weights, and is not what the author states."""
        return metric in self.measured and self.measured[metric].value is not None


def run_of(entry: Entry) -> Hashable:
    """Return what the snapshots of one training run have in common; of an artifact without snapshot its id."""
    return entry.id if entry.artifact.claim.snapshot is None else training_of(entry.artifact)


SETTINGS = (("k", "k"), ("target_l0", "target L0"), ("l1_coefficient", "L1"), ("l0_coefficient", "L0 coefficient"))
"""Sparsity setting → its word."""


def entries(release: Release) -> list[Entry]:
    """Return every artifact of a release, in the manifest's order."""
    return [Entry(artifact, artifact.fields) for artifact in release]


def snapshots_in_order(found: Iterable[Entry]) -> list[str]:
    """Return the snapshots of artifacts as numbers rise, not letters: `9M` before `50M`, `final` last."""
    tokens: dict[str, list[float]] = {}
    for entry in found:
        if (label := entry.fields["snapshot"]) is not None:
            number = labelled_number(label)
            known = number if number is not None else tokens_of(entry.artifact)
            tokens.setdefault(label, []).extend([known] if known is not None else [])
    far = float("inf")
    return sorted(tokens, key=lambda name: (name == "final", min(tokens[name], default=far), name))


def _width(entry: Entry) -> str:
    return f"d_sae {entry.fields['d_sae']}"


def _sources(entry: Entry) -> str:
    return "1 source" if entry.sources == 1 else f"{entry.sources} sources"


TRAITS: Mapping[str, Callable[[Entry], str]] = {
    "place": lambda entry: entry.place,
    "kind": lambda entry: str(entry.fields["kind"]),
    "architecture": lambda entry: str(entry.fields["architecture"]),
    "sources": _sources,
    "d_sae": _width,
    "variant": lambda entry: str(entry.fields["variant"] or ""),
    "setting": lambda entry: entry.setting,
    "stream": lambda entry: str(entry.fields["stream"] or ""),
    "model": lambda entry: str(entry.fields["model_name"] or ""),
    "snapshot": lambda entry: str(entry.fields["snapshot"] or ""),
    "step": lambda entry: f"step {entry.step}" if entry.step is not None else "",
    "seed": lambda entry: f"seed {entry.fields['seed']}" if entry.fields["seed"] is not None else "",
}
"""What may set artifacts apart, the most telling first → its words."""


def series(found: Sequence[Entry], without: Iterable[str] = (), most: int = MOST_SERIES) -> dict[str, str]:
    """Return id → the series that an artifact belongs to, in words made of what tells the artifacts apart.

    A trait is left out where it tells no more of them apart, or where there would be more than `most` series with it.

    Args:
        found: the artifacts.
        without: traits that the figure shows in another way.
        most: how many series there may be.
    """
    labels: dict[str, tuple[str, ...]] = {entry.id: () for entry in found}
    for name, trait in TRAITS.items():
        if name in without:
            continue
        tried = {entry.id: (*labels[entry.id], *filter(None, [trait(entry)])) for entry in found}
        if len(set(labels.values())) < len(set(tried.values())) <= most:
            labels = tried
    return {identifier: cut(", ".join(words)) or "all" for identifier, words in labels.items()}


def sampled(values: Sequence[T], most: int, name: Callable[[T], str]) -> list[T]:
    """Return at most so many of some values, in their order: a sample that is the same every time.

    Every n-th of a grid would be of few of its layers or settings.

    Args:
        values: what there is.
        most: how many are wanted.
        name: what each is called; the digest of that decides.
    """
    if len(values) <= most:
        return list(values)
    ranked = sorted(range(len(values)), key=lambda n: hashlib.sha256(name(values[n]).encode()).digest())
    return [values[n] for n in sorted(ranked[:most])]


def evenly(values: Sequence[T], most: int) -> tuple[T, ...]:
    """Return at most so many of some values in order, evenly spaced, the first and the last among them."""
    if len(values) <= most:
        return tuple(values)
    return tuple(values[round(n * (len(values) - 1) / (most - 1))] for n in range(most))


def cut(text: str, longest: int = LONGEST) -> str:
    """Return a text of one line, its end cut off visibly."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def listed(words: Sequence[str], most: int = 3) -> str:
    """Return `a, b and c`, or `a, b, c and 5 more`."""
    shown = list(words[:most])
    rest = len(words) - len(shown)
    if rest:
        return f"{', '.join(shown)} and {rest} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def measured_on(found: Iterable[Entry], metrics: Sequence[str]) -> str:
    """Return the sentence of a caption: definitions, evaluations with their rows, and what is only stated."""
    found = list(found)
    places: dict[str, int] = {}
    stated = 0
    for entry in found:
        for metric in metrics:
            if entry.is_measured(metric):
                measurement = entry.measured[metric]
                places.setdefault(measurement.evaluation, measurement.rows)
        stated += any(entry.number(metric) is not None and not entry.is_measured(metric) for metric in metrics)
    words = [listed(list(metrics), 6)]
    if places:
        words.append(f"measured on {listed([f'{name} ({rows:,} rows)' for name, rows in places.items()])}")
    if stated:
        all_of = "all" if not places else f"{stated} of {len(found)} artifacts"
        words.append(f"{all_of} as the author states them, not measured")
    return ", ".join(words) + "."


def spread(numbers: Sequence[float], metric: str) -> str:
    """Return `explained variance from 0.51 to 0.75`."""
    name = NAMES.get(metric, metric)
    low, high = min(numbers), max(numbers)
    return f"{name} {low:.4g}" if low == high else f"{name} from {low:.4g} to {high:.4g}"


def ends(numbers: Sequence[float]) -> str:
    """Return the smallest and the largest of some numbers, `0.51–0.75`; one number where both read the same."""
    low, high = f"{min(numbers):.3g}", f"{max(numbers):.3g}"
    return low if low == high else f"{low}–{high}"


def fenced(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the bounds of a scale on which a few far-off numbers do not squeeze all others.

    Tukey's outer fences: three times the middle half beyond it; within them the bounds are the extremes themselves.
    """
    ordered = sorted(numbers)
    low, high = (ordered[int(share * (len(ordered) - 1))] for share in (0.25, 0.75))
    reach = 3 * (high - low)
    if reach == 0:
        return ordered[0], ordered[-1]
    inside = [number for number in ordered if low - reach <= number <= high + reach]
    return inside[0], inside[-1]
