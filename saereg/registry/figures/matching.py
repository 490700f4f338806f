"""How far two dictionaries have the same directions: of each latent, the largest cosine with any of the other.

    best(a → B) = max_b cos(W_dec[a], W_dec[b])         over all latents b of B that are ever active
    MMCS(A, B)  = ½ · (mean over a of best(a → B) + mean over b of best(b → A))

Directions of a crosscoder are those of all its sources joined. The mean of the largest cosines is of Sharkey, Braun and
Millidge, "Taking features out of superposition with sparse autoencoders", 2022; that dictionaries of different seeds
share only some latents is of Paulo and Belrose, arXiv:2501.16615, who match one to one.

Of a large dictionary some latents are drawn, and compared with all of the other; that is read in blocks, so that
memory does not grow with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.files.blocks import read_span, row_blocks
from saereg.registry.files.header import TensorEntry, read_header

if TYPE_CHECKING:
    from torch import Tensor

DECODER = "W_dec"

MOST_DRAWN = 1_024
"""Latents that are drawn of each dictionary, at most."""

DRAWN_BYTES = 16 * 1024 * 1024
"""Bytes of the drawn directions of one dictionary, at most; fewer are drawn of very wide ones."""

MOST_PRODUCTS = 2**36
"""Products of one comparison, at most: some seconds of a processor; fewer are drawn of very large dictionaries."""

BLOCK_BYTES = 16 * 1024 * 1024
"""Bytes that are read at a time: large enough that the product is what takes the time."""

FEWEST_DRAWN = 32

MOST_MATCHED = 2_048
"""Latents up to which all are matched one to one, at the least total cost: its time grows with their cube."""

MATCHED_BYTES = 64 * 1024 * 1024
"""Bytes of the directions of a dictionary up to which all are matched one to one."""

MOST_CHANCES, CHANCE_DRAWS = 256, 2**22
"""Random directions, and draws for them in all, that tell what chance gives."""

SMALLEST = 1e-30


@dataclass(frozen=True, eq=False)
class Directions:
    """The decoder directions of one dictionary, in its file.

    Attributes:
        path: file of its weights.
        entry: tensor of its decoder, (F, …): one row is one latent.
        alive: whether each latent is ever active, (F,), bool; None: not known, all count.
    """

    path: Path
    entry: TensorEntry
    alive: "Tensor | None" = None

    @property
    def latents(self) -> int:
        """Number of latents that count."""
        return self.entry.shape[0] if self.alive is None else int(self.alive.sum())

    @property
    def width(self) -> int:
        """Numbers in one direction, all sources together."""
        width = 1
        for size in self.entry.shape[1:]:
            width *= size
        return width

    def blocks(self) -> "Iterator[tuple[Tensor, Tensor]]":
        """Yield (numbers of latents, their unit directions (B, width), float32) of those that count."""
        import torch

        for first, block in row_blocks(self.path, self.entry, BLOCK_BYTES):
            numbers = torch.arange(first, first + len(block))
            if self.alive is not None:
                keep = self.alive[first : first + len(block)]
                numbers, block = numbers[keep], block[keep]
            if len(numbers):
                yield numbers, _unit(block)

    def rows(self, numbers: "Tensor") -> "Tensor":
        """Return the unit directions of some latents, (N, width), float32."""
        import torch

        return _unit(torch.cat([read_span(self.path, self.entry, number, 1) for number in numbers.tolist()]))


def directions(path: Path, alive: "Tensor | None" = None) -> Directions:
    """Return the decoder directions of a file of weights.

    Raises:
        WeightsError: when it has no decoder, or another number of latents.
        OSError: when it cannot be read.
    """
    entry = read_header(path).tensors.get(DECODER)
    if entry is None or len(entry.shape) < 2:
        raise WeightsError(path.name, f"holds no {DECODER} of two or more axes")
    if alive is not None and len(alive) != entry.shape[0]:
        raise WeightsError(path.name, f"{DECODER} has {entry.shape[0]} latents, and {len(alive)} were counted")
    return Directions(path, entry, alive)


def _unit(block: "Tensor") -> "Tensor":
    import torch

    rows = block.flatten(1).float()
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norms.clamp_min(SMALLEST)


def drawn(of: Directions, others: Sequence[Directions], seed: int) -> "Tensor":
    """Return the numbers of the latents that stand for a dictionary, rising: all of them where they are few.

    Args:
        of: the dictionary.
        others: those that it is compared with.
        seed: seed of the choice.
    """
    import torch

    numbers = torch.arange(of.entry.shape[0]) if of.alive is None else of.alive.nonzero().flatten()
    largest = max(other.latents for other in others) * of.width
    room = min(MOST_DRAWN, DRAWN_BYTES // (4 * of.width), MOST_PRODUCTS // max(largest, 1))
    count = min(len(numbers), max(room, FEWEST_DRAWN))
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed))
    return numbers[order[:count]].sort().values


def best(samples: "Tensor", other: Directions) -> "Tensor":
    """Return the largest cosine of each direction with any of a dictionary, (N,), float64.

    Args:
        samples: unit directions, (N, width).
        other: the dictionary, of the same width.
    """
    import torch

    found = torch.full((len(samples),), -1.0)
    for _, block in other.blocks():
        found = torch.maximum(found, (samples @ block.T).amax(1))
    return found.double().clamp(-1.0, 1.0)


def agreement(dictionaries: Sequence[Directions], seed: int = 0) -> "dict[tuple[int, int], Tensor]":
    """Return (a, b) → the largest cosines of latents of dictionary a with those of dictionary b, for a ≠ b.

    Each dictionary is read once for its own drawn latents, and once for those of all others together.

    Args:
        dictionaries: two or more, of the same width, with latents that count.
        seed: seed of the choice of latents; the same latents of a dictionary are compared with every other.
    """
    import torch

    samples = []
    for n, of in enumerate(dictionaries):
        samples.append(of.rows(drawn(of, [*dictionaries[:n], *dictionaries[n + 1 :]], seed)))
    found: dict[tuple[int, int], Tensor] = {}
    for b, other in enumerate(dictionaries):
        rest = [a for a in range(len(dictionaries)) if a != b]
        together = best(torch.cat([samples[a] for a in rest]), other)
        first = 0
        for a in rest:
            found[a, b] = together[first : first + len(samples[a])]
            first += len(samples[a])
    return found


def chance(width: int, latents: int, seed: int = 0) -> "Tensor":
    """Return the largest cosines of some random directions with `latents` others, (N,), float64.

    The cosine of a direction with a random one of dimension d is z / √(z² + χ²_{d−1}), z standard normal: it is drawn
    from this law, which is that of drawing all the directions themselves, without their memory.

    Args:
        width: dimension d of the directions.
        latents: number of others.
        seed: seed of the draw.
    """
    import numpy as np
    import torch

    random = np.random.default_rng(seed)
    count = max(FEWEST_DRAWN, min(MOST_CHANCES, CHANCE_DRAWS // latents))
    found = []
    for _ in range(count):
        z = random.standard_normal(latents)
        rest = random.chisquare(width - 1, latents) if width > 1 else 0.0
        found.append(float((z / np.sqrt(z * z + rest)).max()))
    return torch.tensor(found, dtype=torch.float64)


def matched(a: Directions, b: Directions) -> "Tensor | None":
    """Return the cosines of the pairs of the one-to-one matching of largest total cosine; None where one is too large.

    Source: Paulo and Belrose, arXiv:2501.16615, by the Hungarian algorithm as scipy has it.
    """
    import torch

    if max(a.latents, b.latents) > MOST_MATCHED or max(a.latents, b.latents) * a.width * 4 > MATCHED_BYTES:
        return None
    from scipy.optimize import linear_sum_assignment

    left, right = (torch.cat([block for _, block in of.blocks()]) for of in (a, b))
    cosines = (left @ right.T).double()
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    return cosines[torch.from_numpy(rows), torch.from_numpy(columns)].clamp(-1.0, 1.0)
