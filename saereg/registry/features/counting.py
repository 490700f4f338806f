"""One pass over the rows of an evaluation: how often, and how strongly, every latent of a dictionary is active.

What is active is found as for all other numbers of a release, in the same blocks of rows. The codes of a pass are kept
where they fit in MEMO_CODES, so that contexts and histograms of chosen latents cost no second one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from saereg.errors import UsageError, WeightsError
from saereg.registry.features.latents import Latents
from saereg.registry.semantics import row_shape

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.kernels.coded import Runner
    from saereg.registry.kernels.encoding import Codes
    from saereg.registry.metrics.sources.rows import Rows

MOST_ROWS = 65_536
"""Rows that are encoded, the first ones of an evaluation: so many tell a frequency of 1 in 1,000 to within 12 %."""

MEMO_CODES = 1 << 23
"""Active latents that are kept in memory, of 20 bytes each at most; of denser codes, rows are encoded again."""


@dataclass(frozen=True)
class Block:
    """Some codes of one block of rows.

    Attributes:
        first: number of its first row.
        count: rows of the block.
        codes: the codes, with rows counted from `first`.
    """

    first: int
    count: int
    codes: "Codes"


@dataclass
class Encoded:
    """The active latents of the first rows of an evaluation, as often as they are asked for, and always the same.

    Attributes:
        runner: the dictionary.
        source: the rows.
        limit: how many are encoded at most.
        memo: codes that are kept at most.
    """

    runner: "Runner"
    source: "Rows"
    limit: int = MOST_ROWS
    memo: int = MEMO_CODES
    _kept: list[Block] | None = field(default=None, init=False, repr=False)

    def __iter__(self) -> Iterator[Block]:
        """Yield all codes, block by block.

        Raises:
            WeightsError: when the rows do not fit the dictionary, or a number is not finite.
            OSError: when they cannot be read.
        """
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Block] = []
        held = 0
        for block in self._encoded():
            held += len(block.codes.values)
            if held <= self.memo:
                kept.append(block)
            else:
                kept.clear()
            yield block
        if held <= self.memo:
            self._kept = kept

    def _encoded(self) -> Iterator[Block]:
        from saereg.registry.kernels.encoding import codes_of, config_of

        total, step, begin = min(self.source.rows, self.limit), self.runner.block_rows, 0
        width = math.prod(row_shape(config_of(self.runner)))
        for first in range(0, total, step):
            x, _ = self.source.read(first, min(step, total - first))
            self._require_finite(x, f"rows {first} to {first + len(x) - 1} hold a value")
            count = x.numel() // width  # of texts, each position is a row
            try:
                for codes in codes_of(self.runner, x):
                    self._require_finite(codes.values, "the dictionary gives an activation")
                    yield Block(begin, count, codes)
            except UsageError as error:
                raise WeightsError(self.source.name, str(error)) from None
            begin += count

    def _require_finite(self, values: "Tensor", what: str) -> None:
        if not bool(values.isfinite().all()):
            raise WeightsError(self.source.name, f"{what} that is not finite")


@dataclass(frozen=True)
class Occasion:
    """What latents were counted on.

    Attributes:
        evaluation: name of the evaluation in the manifest.
        data_sha256: digest of its rows.
        weights_sha256: digest of the weights.
    """

    evaluation: str
    data_sha256: str
    weights_sha256: str


def counted(encoded: Encoded, occasion: Occasion) -> Latents:
    """Count every latent; sums are of float64, in the order of the rows.

    Of a dictionary whose activations may be negative, sizes |f| are summed and compared.

    Args:
        encoded: the active latents.
        occasion: what is written with the numbers.

    Raises:
        WeightsError: when the rows do not fit the dictionary, or a number is not finite.
        OSError: when they cannot be read.
    """
    import torch

    from saereg.registry.kernels.encoding import config_of, sources_of

    cfg = config_of(encoded.runner)
    shape = sources_of(cfg), cfg.d_sae
    fired = torch.zeros(shape, dtype=torch.int64)
    total, maximum = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float32)
    rows = 0
    for block in encoded:
        rows, codes = block.first + block.count, block.codes
        if not len(codes.values):
            continue
        low, high = int(codes.latents.min()), int(codes.latents.max()) + 1
        at, sizes = codes.latents - low, codes.values.abs()
        fired[codes.source, low:high] += torch.bincount(at, minlength=high - low)
        total[codes.source, low:high] += torch.bincount(at, sizes.double(), minlength=high - low)
        maximum[codes.source, low:high].scatter_reduce_(0, at, sizes.float(), "amax")
    return Latents(fired, total, maximum, rows, occasion.evaluation, occasion.data_sha256, occasion.weights_sha256)
