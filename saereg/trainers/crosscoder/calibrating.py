"""The threshold of BatchTopK for single rows: the number that as many gate quantities exceed as training kept.

While training a batch is cut at its n·k largest gate quantities, and the running mean of those cuts follows weights
that still change. In the end the cut is made once through all calibration rows together: their mean L0 is k.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from saereg.trainers.crosscoder.model import Crosscoder

if TYPE_CHECKING:
    from saereg.trainers.crosscoder.sources import Stack

MOST_VALUES = 1 << 24
"""Gate quantities that are kept at once: as many rows are calibrated on as have so many kept ones, at least."""

LEAST_ROWS = 4096

SPAN = 256
"""Neighbouring rows that are read together; spans are spread evenly over the rows that are trained on."""


@torch.no_grad()
def calibrated(model: Crosscoder, stack: "Stack") -> torch.Tensor:
    """Return the threshold (): half way between the last gate quantity that is kept and the first that is not."""
    k = model.settings.k or 0.0
    wanted = min(stack.rows, max(LEAST_ROWS, int(MOST_VALUES / k)))
    kept, floor, rows = torch.empty(0, dtype=model.dtype, device=model.device), 0.0, 0
    for first, last in spans(stack.rows, wanted):
        gates = model.gates(model.pre_activations(model.normalized(stack.read(first, last))))
        kept, rows = torch.cat([kept, gates[gates > floor]]), rows + last - first
        most = round(k * wanted) + 1
        if len(kept) > 2 * most:
            kept = kept.topk(most).values
            floor = float(kept[-1])
    count = max(1, round(k * rows))
    top = model.group.top_values(kept.topk(min(count + 1, len(kept))).values, count + 1).double()
    if len(top) <= count:
        return model.threshold.new_zeros(())
    return ((top[count - 1] + top[count]) / 2).to(model.dtype)


def spans(rows: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of spans with about `wanted` of `rows` rows, evenly spread."""
    blocks = -(-rows // SPAN)
    taken = min(blocks, -(-wanted // SPAN))
    for number in range(taken):
        first = number * blocks // taken * SPAN
        yield first, min(rows, first + SPAN)
