"""Figures of a release, each drawn from its own evidence: one specification, a picture for cards, one for papers."""

from collections.abc import Mapping

from saereg.registry.figures import (
    curves,
    floors,
    frequency,
    frontier,
    heatmap,
    lifecycle,
    norms,
    reconstruction,
    seeds,
    sparsity,
    trajectories,
    transfer,
)
from saereg.registry.figures.figure import FigureKind

FIGURES: Mapping[str, FigureKind] = {
    "heatmap": heatmap.KIND,
    "curves": curves.KIND,
    "reconstruction": reconstruction.KIND,
    "frontier": frontier.KIND,
    "trajectories": trajectories.KIND,
    "loss-floor": floors.KIND,
    "sparsity": sparsity.KIND,
    "frequency-magnitude": frequency.KIND,
    "transfer": transfer.KIND,
    "decoder-norms": norms.KIND,
    "lifecycle": lifecycle.KIND,
    "seed-agreement": seeds.KIND,
}
"""Name → kind, in the order in which cards and pages show them."""
