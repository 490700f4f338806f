"""Which latents TopK and BatchTopK keep, of all processes together."""

import torch
from torch import Tensor

from saereg.trainers.crosscoder.group import Group


def top_of_rows(gates: Tensor, k: int, group: Group) -> Tensor:
    """Return where the k largest of each row are, (n, F); one process alone keeps exactly k even of equal ones."""
    found = gates.topk(min(k, gates.shape[-1]), dim=-1)
    cut = group.top_values(found.values, k)[..., -1:]
    return torch.zeros_like(gates, dtype=torch.bool).scatter(-1, found.indices, found.values >= cut)


def top_of_batch(gates: Tensor, count: int, floor: float, group: Group) -> tuple[Tensor, Tensor]:
    """Return where the `count` largest of all rows together are, and the smallest of them.

    Only positive ones are kept, so that there may be fewer; the cut is 0 where there are none.

    Args:
        gates: (n, F).
        count: how many.
        floor: a guess of a number that more than `count` exceed, which spares most of the work where it is right.
        group: the processes.
    """
    candidates = gates[gates > max(floor, 0.0)]
    if floor > 0 and int(group.sum_(torch.tensor(len(candidates), device=gates.device))) < count:
        candidates = gates[gates > 0]
    values = group.top_values(candidates, count)
    cut = values[-1] if len(values) else gates.new_zeros(())
    return (gates >= cut) & (gates > 0), cut
