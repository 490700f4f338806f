"""Recompute metrics from released weights on rows of any source, chunk by chunk.

Chunks do not depend on who works on them: the sums of a chunk are computed from its first row to its last, and chunks
are merged in order. So the digits are the same on one worker and on many.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import torch

from saereg import __version__
from saereg.errors import UsageError, WeightsError
from saereg.registry.metrics.batches import Batcher
from saereg.registry.metrics.definitions import (
    BATCH_MEANS,
    DEFINITIONS,
    FOREIGN,
    FOREIGN_PER_SOURCE,
    PER_SOURCE,
    Value,
)
from saereg.registry.metrics.moments import Moments, moments_of, require_finite
from saereg.registry.metrics.sums import Sums
from saereg.schemas.metrics import BATCHED, MOST_BATCH_SIZES, Claim, DType, Measurement, MetricId, Units

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.kernels.coded import Coded, Runner
    from saereg.registry.metrics.sources.rows import Rows

CHUNK_ROWS = 16_384
"""Least rows of a chunk; more where whole batches of every wanted size must fit in."""

DEFINITIONS_VERSION = 2
"""Raised whenever a formula, what is summed, or how rows are cut into chunks, changes.

Results under another one are not taken over.
"""

MOST_CHUNK_ROWS = 1 << 20
"""Beyond it the whole data are one chunk: batch sizes without a common multiple cannot be split."""


def in_bounds(claims: Iterable[Claim]) -> list[Claim]:
    """Return claims on one evaluation without those that name one more batch size than MOST_BATCH_SIZES."""
    sizes: dict[int | None, None] = {None: None}
    kept = []
    for claim in claims:
        if claim.batch_rows in sizes or len(sizes) <= MOST_BATCH_SIZES:
            sizes[claim.batch_rows] = None
            kept.append(claim)
    return kept


@dataclass(frozen=True)
class Wanted:
    """What is to be summed beside the canon.

    Attributes:
        batch_sizes: batch sizes of definitions that depend on one.
        units: units of the errors.
    """

    batch_sizes: tuple[int, ...] = ()
    units: tuple[Units, ...] = ("raw",)

    @classmethod
    def of(cls, claims: Iterable[Claim], batch_sizes: Iterable[int] = ()) -> "Wanted":
        """Return what some claims speak of, and perhaps more batch sizes."""
        claims = tuple(claims)
        sizes = {*batch_sizes, *(claim.batch_rows for claim in claims if claim.batch_rows is not None)}
        units: set[Units] = {"raw", *(claim.units for claim in claims)}
        return cls(tuple(sorted(sizes)), tuple(sorted(units, reverse=True)))


def chunks(rows: int, wanted: Wanted) -> tuple[tuple[int, int], ...]:
    """Return (first row, rows) of every chunk; each but the last holds whole batches of every wanted size."""
    step = math.lcm(*wanted.batch_sizes, 1)
    size = step * math.ceil(CHUNK_ROWS / step)
    if size > MOST_CHUNK_ROWS:
        size = rows
    return tuple((first, min(size, rows - first)) for first in range(0, rows, size))


def sums_of_chunk(
    runner: "Runner",
    rows: "Rows",
    first: int,
    count: int,
    wanted: Wanted,
    heard: Callable[[int], None] | None = None,
) -> Sums:
    """Run a dictionary over a chunk and return the sums.

    Args:
        runner: the dictionary.
        rows: the rows.
        first: number of the first one of the chunk.
        count: how many it has.
        wanted: what is to be summed.
        heard: called with the number of rows after each block of them.

    Raises:
        WeightsError: when the data do not fit the dictionary or are not finite.
    """
    total: dict[Units, Moments] = {}
    batchers = {(units, size): Batcher(size) for units in wanted.units for size in wanted.batch_sizes}
    with torch.no_grad():
        for at, x, target in _blocks(rows, first, count, runner.block_rows):
            try:
                coded = runner.run(x)
            except UsageError as error:
                raise WeightsError(rows.name, str(error)) from None
            if rows.has_target:  # else it is looked at as what is reconstructed
                require_finite(x, "input", at, rows.name)
            for units in wanted.units:
                truth, x_hat = _pair(coded, target, units, rows)
                if truth.shape != x_hat.shape:
                    raise _misfit(truth, x_hat, rows)
                moments = moments_of(truth, x_hat, coded.active, at * len(truth) // len(x), rows.name)
                total[units] = total[units].merge(moments) if units in total else moments
                for size in wanted.batch_sizes:
                    batchers[units, size].add(truth, x_hat, coded.active.counts)
            if heard is not None:
                heard(len(x))
    return Sums(total, {key: batcher.finish() for key, batcher in batchers.items()})


def _blocks(rows: "Rows", first: int, count: int, block_rows: int) -> "Iterator[tuple[int, Tensor, Tensor]]":
    for at in range(first, first + count, block_rows):
        x, target = rows.read(at, min(block_rows, first + count - at))
        yield at, x, target


def _misfit(truth: "Tensor", x_hat: "Tensor", rows: "Rows") -> WeightsError:
    said = f"targets are of shape {tuple(truth.shape[1:])}, but reconstructions {tuple(x_hat.shape[1:])}"
    why = "what reconstructs its input needs rows without targets" if rows.has_target else "it needs a `target`"
    return WeightsError(rows.name, f"{said}: {why}")


def _pair(coded: "Coded", target: "Tensor", units: Units, rows: "Rows") -> "tuple[Tensor, Tensor]":
    """Return what is to be reconstructed, and the reconstruction, in some units."""
    if units == "raw":
        truth, x_hat = target.to(coded.x_hat.device), coded.x_hat
        if coded.x_in.dim() > 2 or truth.numel() % len(coded.x_in):
            return truth, x_hat
        # positions of a text are rows of their own, heads of `hook_z` parts of one: neither are sources
        return truth.reshape(len(coded.x_in), -1), x_hat.reshape(len(coded.x_in), -1)
    if rows.has_target:
        raise WeightsError(rows.name, "normalized units are those of the input; targets have none")
    return coded.x_in, coded.x_hat_in


def total_sums(runner: "Runner", rows: "Rows", wanted: Wanted, heard: Callable[[int], None] | None = None) -> Sums:
    """Run a dictionary over all rows here and now, and return the sums; arguments as for `sums_of_chunk`.

    Raises:
        WeightsError: when the data do not fit the dictionary or are not finite, or there are none.
    """
    if not rows.rows:
        raise WeightsError(rows.name, "holds no rows")
    spans = chunks(rows.rows, wanted)
    return reduce(Sums.merge, (sums_of_chunk(runner, rows, first, count, wanted, heard) for first, count in spans))


@dataclass(frozen=True)
class Occasion:
    """What all measurements of one pass have in common.

    Attributes:
        evaluation: its name.
        data_sha256: digest of the data.
        are_tokens: whether each row is a token.
        excluded: tokens whose rows were left out.
        dtype: type in which encode and decode ran.
    """

    evaluation: str
    data_sha256: str
    are_tokens: bool
    excluded: tuple[str, ...]
    dtype: DType


def measurements(sums: Sums, occasion: Occasion, *, foreign: bool = False) -> tuple[Measurement, ...]:
    """Return every number that the sums give, the canon in raw units first.

    Args:
        sums: the sums.
        occasion: what they are of.
        foreign: whether to add the definitions of others.
    """
    found: list[Measurement] = []
    for units, moments in sums.moments.items():
        names = DEFINITIONS | (PER_SOURCE if moments.per_source else {})
        if foreign:
            names |= FOREIGN | (FOREIGN_PER_SOURCE if moments.per_source else {})
        for metric, definition in names.items():
            found.append(_measurement(metric, definition(moments), occasion, moments, units))
    if foreign:
        for (units, size), batches in sums.batches.items():
            moments = sums.moments[units]
            for metric, mean in BATCH_MEANS.items():
                found.append(_measurement(metric, mean(batches), occasion, moments, units, size))
    return tuple(found)


def _measurement(
    metric: MetricId, value: Value, occasion: Occasion, moments: Moments, units: Units, batch_rows: int | None = None
) -> Measurement:
    value = _finite(value)
    return Measurement(
        metric=metric,
        value=value.value,
        reason=value.reason,
        tolerance=value.tolerance,
        minimum=value.minimum,
        maximum=value.maximum,
        histogram=value.histogram,
        per_source=value.per_source,
        evaluation=occasion.evaluation,
        data_sha256=occasion.data_sha256,
        rows=moments.rows,
        tokens=moments.rows if occasion.are_tokens else None,
        batch_rows=batch_rows,
        units=units,
        excluded=occasion.excluded,
        dtype=occasion.dtype,
        tool={"saereg": __version__, "torch": str(torch.__version__)},
    )


def _finite(value: Value) -> Value:
    if value.value is None or (math.isfinite(value.value) and math.isfinite(value.tolerance)):
        return value
    return Value(None, "the sums are larger than float64 can hold")


def recorded(found: Sequence[Measurement], claims: Iterable[Claim]) -> tuple[Measurement, ...]:
    """Return what an index keeps of measurements: the canon in raw units, and what a claim or its verdict names."""
    canon = {*DEFINITIONS, *PER_SOURCE}
    named = {(c.metric, c.evaluation, c.batch_rows if c.metric in BATCHED else None, c.units) for c in claims}
    return tuple(
        m
        for m in found
        if (m.metric in canon and m.units == "raw") or (m.metric, m.evaluation, m.batch_rows, m.units) in named
    )
