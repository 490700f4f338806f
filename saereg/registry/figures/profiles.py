"""Latents over sources: who is alive where, and in which order rows of a heat map make sense."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MOST_ROWS, MOST_CELLS = 110, 6_000
"""Rows of a heat map, and its cells; more latents are averaged, neighbours of the order together."""

SMALLEST = 1e-30


def relative(norms: "Tensor") -> "Tensor":
    """Return ‖W_dec[j, k]‖ / Σ_l ‖W_dec[j, l]‖ of norms (F, K); 0 where a latent writes nothing anywhere."""
    return norms / norms.sum(1, keepdim=True).clamp_min(SMALLEST)


def by_peak(share: "Tensor") -> "Tensor":
    """Return the order of latents by the first source within a tenth of their largest share, then by centre of mass.

    The very largest of many nearly equal shares would be a matter of chance. Ties are broken by the size of the largest
    share, so that the order does not depend on the numbers of latents.

    Args:
        share: relative norms, (F, K).
    """
    largest = share.amax(1)
    near = (share >= 0.9 * largest.unsqueeze(1)).int().argmax(1)
    return ordered(near, centre(share), largest)


def centre(level: "Tensor") -> "Tensor":
    """Return the mean source of each row of (F, K), weighted by the row, (F,)."""
    import torch

    places = torch.arange(level.shape[1], dtype=level.dtype)
    return (level * places).sum(1) / level.sum(1).clamp_min(SMALLEST)


def ordered(*keys: "Tensor") -> "Tensor":
    """Return the order by the first key, then by the second, and so on."""
    import torch

    order = torch.arange(len(keys[0]))
    for key in reversed(keys):
        order = order[torch.argsort(key[order], stable=True)]
    return order


def averaged(rows: "Tensor", most: int = MOST_ROWS) -> "Tensor":
    """Return rows (F, K) averaged to `most` rows at most, neighbours together, as evenly as whole numbers allow."""
    import torch

    count = min(most, len(rows), max(1, MOST_CELLS // max(rows.shape[1], 1)))
    bounds = [len(rows) * n // count for n in range(count + 1)] if count else [0]
    return torch.stack([rows[low:high].mean(0) for low, high in pairwise(bounds)]) if count else rows


@dataclass(frozen=True, eq=False)
class Lives:
    """When latents are alive.

    Attributes:
        alive: whether each is alive at each source, (K, F), bool.
        birth: first source at which it is alive, (F,), K where there is none.
        end: source behind the last one at which it is alive, (F,), 0 where there is none.
    """

    alive: "Tensor"
    birth: "Tensor"
    end: "Tensor"

    def counts(self) -> "dict[str, list[int]]":
        """Return state → latents in it at each source; the four states add up to all latents.

        `not yet`: alive later only, `alive`, `dormant`: alive before and later, `dead`: alive before only. Those that
        are never alive are `never`, the same number at each source.
        """
        import torch

        sources = len(self.alive)
        never = self.birth == sources
        found: dict[str, list[int]] = {name: [] for name in STATES}
        for at in range(sources):
            before, after = (self.birth > at) & ~never, (self.end <= at) & ~never
            inside = ~(before | after | never)
            for name, mask in zip(
                STATES, (self.alive[at], inside & ~self.alive[at], after, before, never), strict=True
            ):
                found[name].append(int(torch.count_nonzero(mask)))
        return found

    def births(self) -> list[int]:
        """Return how many latents are alive at a source for the first time."""
        return [int((self.birth == at).sum()) for at in range(len(self.alive))]

    def deaths(self) -> list[int]:
        """Return how many latents are alive at the source before, and neither there nor later."""
        return [int(((self.end == at) & (self.end > 0)).sum()) for at in range(len(self.alive))]


STATES = ("alive", "dormant", "dead", "not yet born", "never alive")
"""What a latent can be at a source, in the order of `Lives.counts`."""


def lives(alive: "Tensor") -> Lives:
    """Return when latents are alive.

    Args:
        alive: (K, F), bool, sources in their order.
    """
    import torch

    sources = len(alive)
    places = torch.arange(sources).unsqueeze(1)
    birth = torch.where(alive, places, sources).amin(0)
    end = torch.where(alive, places + 1, 0).amax(0)
    return Lives(alive, birth, end)


def short(names: Sequence[str]) -> list[str]:
    """Return steps in thousands where that says the same: `143k`; other names as they are."""
    return [
        f"{int(name) // 1000}k" if name.isdigit() and int(name) and int(name) % 1000 == 0 else name for name in names
    ]
