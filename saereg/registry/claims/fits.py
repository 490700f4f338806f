"""Which definition gives a stated number: every measurement of the same family that agrees with it, likeliest first.

Needs no torch. The formulas of the field give 0.76, 0.80 and 0.96 for the same reconstruction, and all are printed as
"explained variance"; so a number that is wrong by its name may be right by another.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from saereg.schemas.metrics import BATCHED, Claim, Measurement, MetricId, Units

EXPLAINED: tuple[MetricId, ...] = (
    "explained_variance",
    "ev_saelens_uncentred",
    "explained_variance_legacy_rowmean",
    "fve_centred_residual",
    "explained_variance_batch_mean",
    "fve_scalar_var",
    "ev_saelens_uncentred_batch_mean",
    "ev_scalar_mean",
    "ev_uncentred",
    "r2_uniform_average",
)
"""Shares of the variance that are explained, those that are published most often first."""

UNEXPLAINED: tuple[MetricId, ...] = ("fvu", "nmse_uncentred_row", "fvu_batch_mean")
"""Shares that are not: what 1 − a share of the others is a share of."""

NAMED_BOTH_WAYS: tuple[MetricId, ...] = (
    "explained_variance",
    "fvu",
    "explained_variance_batch_mean",
    "fvu_batch_mean",
)
"""Shares whose rest has a name of its own, so that nothing needs to be taken from 1."""

SQUARED: tuple[MetricId, ...] = ("mse_per_row", "mse_per_element", "mse_row_over_batch")
"""Mean squared errors."""

SILENT: tuple[MetricId, ...] = ("dead_fraction", "dead_rate_1e_6", "density_below_1e_5", "density_below_1e_6")
"""Shares of latents that are never or hardly ever active."""

L1: tuple[MetricId, ...] = ("l1_norm", "l1_norm_per_source_mean")
"""Sums of the sizes of latents."""

FAMILIES: tuple[tuple[MetricId, ...], ...] = (
    (*EXPLAINED, *UNEXPLAINED),
    SQUARED,
    ("l0", "l0_per_source_mean", "l0_any_source", "l0_positive", "l0_batch_mean"),
    SILENT,
    ("ce_recovered", "ce_recovered_batch_mean"),
    ("ce_spliced", "ce_clean", "ce_ablated"),
    L1,
)
"""Definitions that are taken for each other, the likeliest first. Nothing is compared across families."""

SHARES: tuple[MetricId, ...] = (*FAMILIES[0], *SILENT, *FAMILIES[4])
"""Definitions on the scale of 0 to 1."""

IN_UNITS: tuple[MetricId, ...] = (*FAMILIES[0], *SQUARED)
"""Definitions that depend on the units of the errors."""

COARSE = 0.02
"""A claim that allows more than this, of 1 for shares and of itself else, fits too many definitions to tell which."""

CROWDED = 0.1
"""A definition is not named where a wrong number as far off as the claim fits one by chance more often than this."""

MOST_NAMED = 3
"""How many definitions that fit are named."""


@dataclass(frozen=True)
class Fit:
    """A definition that gives a stated number.

    Attributes:
        measured: its measurement; of several batch sizes that agree, one that is stated, or the smallest.
        turned: whether it is 1 − the measurement that does.
        largest: its measurement at the largest batch size that agrees, where several do and none of them is stated.
    """

    measured: Measurement
    turned: bool = False
    largest: Measurement | None = None

    @property
    def value(self) -> float:
        """The measured value."""
        return self.measured.value or 0.0

    @property
    def batch_rows(self) -> int | None:
        """The batch size, where it depends on one and no other would do as well."""
        return self.measured.batch_rows if self.largest is None else None

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """What must be recorded to find the same again."""
        return (self.measured,) if self.largest is None else (self.measured, self.largest)

    @property
    def text(self) -> str:
        """Which definition it is, and its value."""
        named = setting(self.measured)
        if self.largest is not None:
            sizes = f"several batch_rows from {self.measured.batch_rows} to {self.largest.batch_rows}"
            named = named.replace(f"batch_rows {self.measured.batch_rows}", sizes)
        return f"{'1 − ' if self.turned else ''}{named} ({self.value:.6g})"


def setting(of: Measurement | Claim) -> str:
    """Return a definition with all that it depends on: its batch size and units, where they are not usual."""
    at = f" at batch_rows {of.batch_rows}" if of.batch_rows is not None and of.metric in BATCHED else ""
    return f"{of.metric}{at}" + (" in normalized units" if of.units != "raw" and of.metric in IN_UNITS else "")


def half_a_unit(value: float) -> float | None:
    """Return half a unit of the last printed digit; None for a whole number, of which nobody knows how it was rounded.

    A document holds 0.960 and 0.96 as the same number: of the two the coarser is meant.
    """
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    digits = -int(exponent) if isinstance(exponent, int) else 0
    return 0.5 * 10.0**-digits if digits > 0 else None


def agrees(distance: float, tolerance: float, measured: Measurement) -> bool:
    """Whether a difference is within a tolerance and what the measurement may differ by from machine to machine.

    A claim that was rounded from exactly half a unit, or printed with all its digits, must not fail on a machine that
    adds in another order. One part in 1e12 more, because decimal fractions have no exact float64.
    """
    return distance <= (tolerance + measured.tolerance) * (1 + 1e-12)


def is_coarse(claim: Claim, tolerance: float) -> bool:
    """Whether a claim allows so much that agreement says nothing of a definition."""
    return tolerance > COARSE * (1.0 if claim.metric in SHARES else abs(claim.value))


def fits(
    claim: Claim, measurements: Iterable[Measurement], tolerance: float, stated: Collection[int] = ()
) -> tuple[Fit, ...]:
    """Return the definitions that give a stated number, the likeliest first, at most `MOST_NAMED`.

    Each definition is named once, with the likeliest units and batch size. Likeliest is what agrees with all printed
    digits, then the definition that the claim names with other settings, then the order of the tables; distance does
    not count, as any value that rounds to the printed digits is as good as any other.

    Args:
        claim: the stated number.
        measurements: all that is known of its dictionary; those of other evaluations are left out.
        tolerance: the largest difference that agrees.
        stated: batch sizes that other claims name.
    """
    family = _family(claim)
    printed = min(half_a_unit(claim.value) or tolerance, tolerance)
    groups: dict[tuple[bool, bool, bool, int, Units], list[Fit]] = {}
    for found in rivals(claim, measurements):
        turned = is_turned(claim, found.metric, found.value or 0.0)
        distance = abs(_seen(claim, found) - claim.value)
        if agrees(distance, tolerance, found):
            place = -1 if found.metric == claim.metric else family.index(found.metric)
            rank = (not agrees(distance, printed, found), turned, found.units != claim.units, place, found.units)
            groups.setdefault(rank, []).append(Fit(found, turned))
    best: dict[tuple[MetricId, bool], Fit] = {}
    for rank in sorted(groups):
        fit = _of_one_size(groups[rank], claim, stated)
        best.setdefault((fit.measured.metric, fit.turned), fit)
    return tuple(best.values())[:MOST_NAMED]


def rivals(claim: Claim, measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """Return the measurements that a claim may be taken for: those of its family and evaluation that have a value."""
    family = _family(claim)
    return tuple(
        m
        for m in measurements
        if m.metric in family and m.evaluation == claim.evaluation and m.value is not None
        if m.units == claim.units or m.metric in IN_UNITS
    )


def is_turned(claim: Claim, metric: MetricId, value: float) -> bool:
    """Whether 1 − a value is held against a claim: of an explained share against an unexplained one, if it is nearer.

    Not where the rest has a name of its own, which is measured too.
    """
    of_both_kinds = (claim.metric in EXPLAINED) != (metric in EXPLAINED)
    if claim.metric not in FAMILIES[0] or not of_both_kinds or metric in NAMED_BOTH_WAYS:
        return False
    return abs(1 - value - claim.value) < abs(value - claim.value)


def crowd(claim: Claim, value: float, measurements: Iterable[Measurement], tolerance: float) -> tuple[Measurement, ...]:
    """Return measurements that show agreement of a claim with another definition to be no wonder; none where it is one.

    A wrong number agrees by chance with what lies around the measured value. How often, is the part of all numbers as
    far from it as the claim, within a factor of two, that is within the tolerance of something measured.

    Args:
        claim: a stated number that differs.
        value: the value of the definition that it names.
        measurements: all that it was held against.
        tolerance: the largest difference that agrees.

    Returns:
        Few that cover more than `CROWDED` of those numbers together, those next to the claim first; none where not even
        all do.
    """
    away = abs(claim.value - value)
    near, far = max(away / 2, tolerance), 2 * away
    low, high = min(0.0, value, claim.value), max(1.0, value, claim.value) if claim.metric in SHARES else float("inf")
    sides = [(max(value - far, low), value - near), (value + near, min(value + far, high))]
    whole = sum(max(end - start, 0.0) for start, end in sides)
    found: list[Measurement] = []
    covered = 0.0
    around = sorted(rivals(claim, measurements), key=lambda m: abs(_seen(claim, m) - claim.value))
    for least in (tolerance, 0.0):  # Those that cover little besides what others do, only if they are needed.
        for m in around:
            reach = [(_seen(claim, one), tolerance + one.tolerance) for one in (*found, m)]
            more = sum(_covered(reach, side) for side in sides)
            if more > covered + least:
                found, covered = [*found, m], more
            if covered > CROWDED * whole:
                return tuple(found)
    return ()


def _covered(reach: Sequence[tuple[float, float]], within: tuple[float, float]) -> float:
    """Return how much of a span is as near to values as each reaches."""
    start, end = within
    total = 0.0
    for low, high in sorted((value - far, value + far) for value, far in reach):
        left, right = max(low, start), min(high, end)
        if right > left:
            total, start = total + right - left, right
    return total


def _family(claim: Claim) -> tuple[MetricId, ...]:
    return next((family for family in FAMILIES if claim.metric in family), ())


def _seen(claim: Claim, measured: Measurement) -> float:
    """Return a measured value as a claim would state it."""
    value = measured.value or 0.0
    return 1 - value if is_turned(claim, measured.metric, value) else value


def _of_one_size(alike: Sequence[Fit], claim: Claim, stated: Collection[int]) -> Fit:
    """Return one of the fits of a definition: that of a batch size which is stated, or of all that agree."""
    by_size = sorted(alike, key=lambda fit: fit.measured.batch_rows or 0)
    chosen = [fit for fit in by_size if fit.measured.batch_rows == claim.batch_rows]
    chosen += [fit for fit in by_size if fit.measured.batch_rows in stated]
    first, last = by_size[0].measured, by_size[-1].measured
    if chosen or first.batch_rows == last.batch_rows:
        return (chosen or by_size)[0]
    return Fit(first, by_size[0].turned, last)
