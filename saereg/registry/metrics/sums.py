"""All sums of one pass over some rows; sums of neighbouring rows merge."""

from collections.abc import Mapping
from dataclasses import dataclass

from saereg.registry.metrics.batches import BatchSums
from saereg.registry.metrics.moments import Moments
from saereg.schemas.metrics import Units


@dataclass(frozen=True)
class Sums:
    """Sums over some rows.

    Attributes:
        moments: units of the errors → sums over rows.
        batches: (units, batch size) → sums over batches.
    """

    moments: Mapping[Units, Moments]
    batches: Mapping[tuple[Units, int], BatchSums]

    def merge(self, other: "Sums") -> "Sums":
        """Return the sums over both sets of rows; both must end at the end of a batch, or at the end of the data."""
        return Sums(
            {units: moments.merge(other.moments[units]) for units, moments in self.moments.items()},
            {key: sums.merge(other.batches[key]) for key, sums in self.batches.items()},
        )
