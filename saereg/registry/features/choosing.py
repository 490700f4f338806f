"""Which latents of a dictionary are looked at: those that a user names, any, or some of every frequency."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from saereg.errors import UsageError
from saereg.registry.features.latents import Latents
from saereg.schemas.features import MOST_LATENTS

How = Literal["given", "random", "strata"]
"""Named by the user; at random of all; at random within strata of their frequency."""


@dataclass(frozen=True)
class Choice:
    """How latents are chosen.

    Attributes:
        count: how many; of those that are named, all.
        seed: seed of the draws.
        how: how.
        given: numbers of latents, where they are named.
    """

    count: int = 12
    seed: int = 0
    how: How = "strata"
    given: Sequence[int] = ()

    def of(self, latents: Latents) -> list[int]:
        """Return the numbers of the chosen ones, rising; fewer where there are no more.

        Raises:
            UsageError: for a number that no latent has, or more latents than a view holds.
        """
        width = latents.fired.shape[1]
        wanted = len(set(self.given)) if self.how == "given" else self.count
        if not 1 <= wanted <= MOST_LATENTS:
            raise UsageError(f"{wanted} latents: a view holds 1 to {MOST_LATENTS}")
        if self.how == "given":
            return _named(self.given, width)
        # random() alone: of a seed Python promises the same numbers in every version for nothing else
        chance = random.Random(f"latents/{self.seed}")  # nothing is kept secret by it
        if self.how == "random":
            return sorted(_drawn(range(width), self.count, chance))
        frequency = latents.fired.amax(0)
        alive = frequency.nonzero().squeeze(1)
        ranked = alive[frequency[alive].argsort(stable=True)].tolist()
        return sorted(_of_strata(ranked, self.count, chance))


def _named(given: Sequence[int], width: int) -> list[int]:
    for index in given:
        if not 0 <= index < width:
            raise UsageError(f"latent {index}: the dictionary has latents 0 to {width - 1}")
    return sorted(set(given))


def _of_strata(ranked: Sequence[int], count: int, chance: random.Random) -> list[int]:
    """Draw one of each of `count` strata of latents that stand in the order of their frequency."""
    strata = min(count, len(ranked))
    found = []
    for stratum in range(strata):
        low, high = len(ranked) * stratum // strata, len(ranked) * (stratum + 1) // strata
        found.append(ranked[low + int(chance.random() * (high - low))])
    return found


def _drawn(numbers: Sequence[int], count: int, chance: random.Random) -> list[int]:
    """Draw without replacement: by Floyd's method (Bentley 1987, "Programming pearls: a sample of brilliance")."""
    found: dict[int, None] = {}
    for last in range(max(0, len(numbers) - count), len(numbers)):
        drawn = numbers[int(chance.random() * (last + 1))]
        found[numbers[last] if drawn in found else drawn] = None
    return list(found)
