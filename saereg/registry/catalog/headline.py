"""Which of several numbers stands for an artifact in a query where only one can."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saereg.registry.catalog.rows import Metric

STANDS_FOR: dict[str, tuple[str, ...]] = {
    "l0": ("l0", "l0_per_source_mean"),
    "explained_variance": ("explained_variance",),
}
"""Field → definitions that may stand in it, the first one first: where each source of a crosscoder has its own active
set there is no `l0`, and the count per source is what readers compare with that of an SAE."""

UNDEFINED = {
    "l0": ("l0", "mean_l0", "L0", "average_l0", "avg_l0", "l0_mean"),
    "explained_variance": ("variance_explained", "explained_variance", "ev", "EV"),
}
"""Field → what sources call such a number without saying how it is defined; taken last."""

_BASES = ("measured", "stated")


def headline(metrics: "Sequence[Metric]", name: str) -> "Metric | None":
    """Return the number that stands for one of `STANDS_FOR`, or None; see `pick`."""
    return pick(metrics, name)


def pick(metrics: "Sequence[Metric]", name: str) -> "Metric | None":
    """Return the number that stands for a definition, or for one of `STANDS_FOR`; None where there is none.

    Measured ones before stated ones; of a running mean of the training nothing is taken where another number is there;
    a defined number before one without definition; raw units before normalized ones; then the first.
    """
    return min(_standing(metrics, name), default=(None, None), key=lambda pair: pair[0] or ())[1]


def _standing(metrics: "Iterable[Metric]", name: str) -> "Iterable[tuple[tuple[int, ...], Metric]]":
    definitions = STANDS_FOR.get(name, (name,))
    for position, metric in enumerate(metrics):
        if metric.metric in definitions:
            rank = definitions.index(metric.metric)
        elif metric.metric is None and metric.name in UNDEFINED.get(name, ()):
            rank = len(definitions)
        else:
            continue
        kept = metric.kind in (None, "recomputed")
        yield (_BASES.index(metric.basis), not kept, rank, metric.units != "raw", position), metric
