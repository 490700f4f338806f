"""What a measurement says of a claim. Needs no torch: measurements come from the index or from a run."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType

from saereg.schemas.metrics import Claim, Measurement, Verdict

WHY_NOT = {
    "training_running_mean": "a mean over training steps, while the weights still changed",
    "training_window": "a figure of the last training steps, not of the released weights",
    "last_batch": "a figure of one training batch",
}
"""Kind of claim → why released files cannot confirm it."""


def tolerance_of(claim: Claim, usual: Mapping[str, float] = MappingProxyType({})) -> float:
    """Return the largest difference that agrees: as declared, as usual, or half a unit of the last printed digit.

    A whole number such as 0 or 41 counts as printed without decimals only for L0; a metric such as 0.96 is 0.005.
    """
    if claim.tolerance is not None:
        return claim.tolerance
    if claim.metric in usual:
        return usual[claim.metric]
    exponent = Decimal(repr(claim.value)).normalize().as_tuple().exponent
    digits = -int(exponent) if isinstance(exponent, int) else 0
    return float(0.5 * 10.0 ** -max(digits, 0)) if digits > 0 else 0.5 if claim.metric.startswith("l0") else 1e-6


def judge(
    claims: Iterable[Claim], measurements: Iterable[Measurement], usual: Mapping[str, float] = MappingProxyType({})
) -> tuple[Verdict, ...]:
    """Return one verdict per claim.

    Args:
        claims: what the author states.
        measurements: what was computed.
        usual: metric → tolerance, for claims that declare none.
    """
    found: dict[tuple[str, str], Measurement] = {(m.metric, m.evaluation): m for m in measurements}
    return tuple(_judge(position, claim, found, tolerance_of(claim, usual)) for position, claim in enumerate(claims))


def _judge(position: int, claim: Claim, found: dict[tuple[str, str], Measurement], tolerance: float) -> Verdict:
    if claim.kind != "recomputed":
        return Verdict(claim=position, verdict="not_verifiable", why=WHY_NOT[claim.kind])
    if claim.evaluation is None:
        return Verdict(claim=position, verdict="not_verifiable", why="the claim names no evaluation")
    measured = found.get((claim.metric, claim.evaluation))
    if measured is None:
        why = f"{claim.metric} was not measured on {claim.evaluation!r}"
        return Verdict(claim=position, verdict="not_verifiable", why=why)
    if measured.value is None:
        return Verdict(claim=position, verdict="not_verifiable", why=measured.reason)
    difference = abs(measured.value - claim.value)
    # A claim that was rounded from exactly half a unit, or printed with all its digits, must not fail on a machine that
    # adds in another order. One part in 1e12 more, because decimal fractions have no exact float64.
    if difference <= (tolerance + measured.tolerance) * (1 + 1e-12):
        return Verdict(claim=position, verdict="verified", measured=measured.value)
    why = f"measured {measured.value:.6g}, {difference:.2g} away; {tolerance:.2g} is allowed"
    return Verdict(claim=position, verdict="differs", measured=measured.value, why=why)
