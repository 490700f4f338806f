"""Find out which definition, batch size and units give a number that its own definition does not.

This takes a second pass over the data, so it is made only for evaluations of which some claim differs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saereg.registry.claims.judge import AT_HAND, NOTHING, judgements
from saereg.schemas.metrics import Claim, Measurement, Units, Verdict

if TYPE_CHECKING:
    from saereg.registry.metrics.evaluate import Subject

BATCH_SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Batch sizes to try where a claim names none, or one at which it differs."""

MOST_VALUES = 1 << 27
"""Numbers in the rows that are held in memory for batches of one units: larger batches are only tried where a claim
states them, and those that do not fit together have a pass over the data each."""


@dataclass(frozen=True)
class Diagnosed:
    """What was found of the claims of one dictionary.

    Attributes:
        measurements: what an index records: what was measured first, and what explains claims that differ.
        verdicts: one per claim.
    """

    measurements: tuple[Measurement, ...]
    verdicts: tuple[Verdict, ...]


def diagnose(
    subjects: Sequence["Subject"],
    measured: Iterable[Measurement],
    claims: Sequence[Claim],
    usual: Mapping[str, float] = NOTHING,
    unavailable: Mapping[str, str] = AT_HAND,
) -> Diagnosed:
    """Judge the claims of a dictionary, and look for the definition of every number that differs.

    Args:
        subjects: the dictionary on each evaluation that could be opened.
        measured: what `measure` found on them.
        claims: what the author states.
        usual: metric → tolerance, for claims that declare none.
        unavailable: evaluation → why it cannot be had here.

    Raises:
        WeightsError: when the data do not fit the dictionary or are not finite.
        OSError: when they cannot be read.
    """
    known = list(measured)
    first = judgements(claims, known, usual, unavailable)
    suspects = (claims[one.verdict.claim] for one in first if one.is_open)
    wanted = {claim.evaluation for claim in suspects if _is_of_rows(claim)}
    if not wanted:
        return Diagnosed(tuple(known), tuple(one.verdict for one in first))
    pool = known + [m for subject in subjects if subject.name in wanted for m in _under_every_definition(subject)]
    then = judgements(claims, pool, usual, unavailable)
    evidence = [m for one in then for m in one.evidence]
    return Diagnosed(tuple(_without_doubles([*known, *evidence])), tuple(one.verdict for one in then))


def sizes_to_try(claims: Iterable[Claim], rows: int, width: int) -> tuple[int, ...]:
    """Return the batch sizes at which numbers may have been computed: the usual ones, those of the claims, all rows.

    Args:
        claims: what is stated of these data.
        rows: how many there are.
        width: numbers in a row.
    """
    stated = {claim.batch_rows for claim in claims if claim.batch_rows is not None}
    return tuple(sorted(stated | {size for size in (*BATCH_SIZES, rows) if size <= min(rows, MOST_VALUES // width)}))


def in_passes(sizes: Iterable[int], width: int) -> tuple[tuple[int, ...], ...]:
    """Return batch sizes in groups whose rows fit into memory together; a size that does not fit stands alone."""
    groups: list[tuple[int, ...]] = []
    for size in sizes:
        if groups and (sum(groups[-1]) + size) * width <= MOST_VALUES:
            groups[-1] = (*groups[-1], size)
        else:
            groups.append((size,))
    return tuple(groups)


def _is_of_rows(claim: Claim) -> bool:
    """Whether a metric is computed from rows and what a dictionary makes of them, and not from a model's loss."""
    return not claim.metric.startswith("ce_")


def _under_every_definition(subject: "Subject") -> tuple[Measurement, ...]:
    import torch

    from saereg.registry.metrics.engine import Wanted, in_bounds, measurements, total_sums

    claims = in_bounds(c for c in subject.claims if c.evaluation == subject.name and _is_of_rows(c))
    x, target = subject.rows.read(0, 1)
    with torch.no_grad():
        coded = subject.runner.run(x)
    has_one_unit = subject.rows.has_target or coded.x_hat_in is coded.x_hat
    units: tuple[Units, ...] = ("raw",) if has_one_unit else ("raw", "normalized")
    width = target[0].numel()
    found: list[Measurement] = []
    for sizes in in_passes(sizes_to_try(claims, subject.rows.rows, width), width):
        sums = total_sums(subject.runner, subject.rows, Wanted(sizes, units))
        found += measurements(sums, subject.occasion, foreign=True)
    return tuple(_without_doubles(found))


def _without_doubles(found: Iterable[Measurement]) -> Iterable[Measurement]:
    by_key: dict[tuple[object, ...], Measurement] = {}
    for m in found:
        by_key.setdefault((m.metric, m.evaluation, m.batch_rows, m.units), m)
    return by_key.values()
