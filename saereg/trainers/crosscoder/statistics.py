"""What the rows of each source are centred and scaled by: the mean row, and one number that makes the mean of ‖x‖² D.

As `saereg.registry.metrics.sources.parameters` has it: of all rows, in float64, in one pass (Chan, Golub and LeVeque,
1979), and rounded to float32 once.
"""

import math
from collections.abc import Mapping

import torch

from saereg.errors import UsageError
from saereg.registry.metrics.sources.parameters import Statistics
from saereg.schemas.evaluation import Preprocess
from saereg.trainers.crosscoder.model import InputNumbers
from saereg.trainers.rows.batches import StoredRows

PART_VALUES = 1 << 20
"""Numbers that are computed with at once."""


def input_numbers(places: Mapping[str, StoredRows], rows: int, preprocess: Preprocess) -> InputNumbers:
    """Return what is taken off and multiplied.

    Args:
        places: source → its rows.
        rows: how many of them count: those that are trained on.
        preprocess: which of the two is wanted.

    Raises:
        UsageError: when rows are not finite, or all of a source are equal.
    """
    if preprocess == "none":
        return InputNumbers()
    found = {key: statistics_of(place, rows) for key, place in places.items()}
    mean = torch.stack([one.mean for one in found.values()]).float() if preprocess != "scale" else None
    scales = [one.scale(preprocess) for one in found.values()]
    for key, scale in zip(found, scales, strict=True):
        if scale is not None and not math.isfinite(scale):
            raise UsageError(f"source {key}: all rows are equal, so they cannot be scaled; choose another preprocess")
    return InputNumbers(mean, None if preprocess == "center" else torch.tensor(scales, dtype=torch.float32))


def statistics_of(place: StoredRows, rows: int) -> Statistics:
    """Return mean row and mean ‖x − mean‖² of the first `rows` rows of a source."""
    count, square, mean = 0, 0.0, torch.zeros(1, dtype=torch.float64)
    step = max(1, PART_VALUES * 4 // place.row_bytes)
    for first in range(0, rows, step):
        x = place.read(first, min(rows, first + step)).double()
        centre = x.mean(0)
        total, shift = count + len(x), centre - mean
        square += float((x - centre).square().sum()) + float(shift.square().sum()) * count * len(x) / total
        mean, count = mean + shift * (len(x) / total), total
    return Statistics(mean, square / rows)
