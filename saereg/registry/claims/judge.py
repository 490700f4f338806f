"""What measurements say of a claim. Needs no torch: measurements come from the index or from a run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

from saereg.registry.claims.fits import (
    IN_UNITS,
    MOST_NAMED,
    Fit,
    agrees,
    crowd,
    fits,
    half_a_unit,
    is_coarse,
    is_turned,
    setting,
)
from saereg.schemas.metrics import BATCHED, MOST_BATCH_SIZES, Claim, Measurement, MetricId, Units, Verdict

_Key = tuple[MetricId, str, int | None, Units]

NOTHING: Mapping[str, float] = MappingProxyType({})
AT_HAND: Mapping[str, str] = MappingProxyType({})

WHY_NOT = {
    "training_running_mean": "a mean over training steps, while the weights still changed",
    "training_window": "a figure of the last training steps, not of the released weights",
    "last_batch": "a figure of one training batch",
}
"""Kind of claim → why released files cannot confirm it."""


@dataclass(frozen=True)
class Judgement:
    """A verdict, and what led to it.

    Attributes:
        verdict: the verdict.
        fits: definitions that give the stated number, where the one that it names does not.
        is_open: whether measurements of other definitions and batch sizes could say more.
        crowd: measurements that show that these definitions may give it by chance, where they may.
    """

    verdict: Verdict
    fits: tuple[Fit, ...] = ()
    is_open: bool = False
    crowd: tuple[Measurement, ...] = ()

    @property
    def evidence(self) -> tuple[Measurement, ...]:
        """What must be recorded to judge the same again."""
        return (*(m for fit in self.fits for m in fit.measurements), *self.crowd)


def tolerance_of(claim: Claim, usual: Mapping[str, float] = NOTHING) -> float:
    """Return the largest difference that agrees: as declared, as usual, or half a unit of the last printed digit.

    A whole number such as 0 or 41 counts as printed without decimals only for L0; a metric such as 0.96 is 0.005.
    """
    if claim.tolerance is not None:
        return claim.tolerance
    if claim.metric in usual:
        return usual[claim.metric]
    return half_a_unit(claim.value) or (0.5 if claim.metric.startswith("l0") else 1e-6)


def judge(
    claims: Iterable[Claim],
    measurements: Iterable[Measurement],
    usual: Mapping[str, float] = NOTHING,
    unavailable: Mapping[str, str] = AT_HAND,
) -> tuple[Verdict, ...]:
    """Return one verdict per claim.

    Args:
        claims: what the author states.
        measurements: what was computed; those under other definitions explain a claim that differs.
        usual: metric → tolerance, for claims that declare none.
        unavailable: evaluation → why it cannot be had here.
    """
    return tuple(judgement.verdict for judgement in judgements(claims, measurements, usual, unavailable))


def judgements(
    claims: Iterable[Claim],
    measurements: Iterable[Measurement],
    usual: Mapping[str, float] = NOTHING,
    unavailable: Mapping[str, str] = AT_HAND,
) -> tuple[Judgement, ...]:
    """Return one verdict per claim with what led to it; arguments as for `judge`."""
    found = tuple(measurements)
    by_key: dict[_Key, Measurement] = {(m.metric, m.evaluation, m.batch_rows, m.units): m for m in reversed(found)}
    given, claims = [], tuple(claims)
    for position, claim in enumerate(claims):
        stated = frozenset(c.batch_rows for c in claims if c.batch_rows is not None)
        why = _incomparable(claim, found, unavailable)
        if why is not None:
            given.append(Judgement(Verdict(claim=position, verdict="not_verifiable", why=why)))
        else:
            given.append(_Case(position, claim, tolerance_of(claim, usual), stated).judgement(found, by_key))
    return tuple(given)


def _incomparable(claim: Claim, found: Sequence[Measurement], unavailable: Mapping[str, str]) -> str | None:
    """Return why no measurement can be held against a claim, or None."""
    if claim.kind != "recomputed":
        return WHY_NOT[claim.kind]
    if claim.evaluation is None:
        return "the claim names no evaluation"
    here = next((m for m in found if m.evaluation == claim.evaluation), None)
    if here is None:
        return unavailable.get(claim.evaluation, f"{setting(claim)} was not measured on {claim.evaluation!r}")
    other = _other_data(claim, here)
    return f"computed on other data: {other}" if other else None


def _other_data(claim: Claim, here: Measurement) -> str | None:
    """Return in what the data of a claim are other than those that were measured, or None."""
    where = repr(here.evaluation)
    if claim.rows not in (None, here.rows):
        return f"{claim.rows} rows, and {where} has {here.rows}"
    if claim.excluded is not None and set(claim.excluded) != set(here.excluded):
        left_out, left_out_here = (", ".join(sorted(names)) or "nothing" for names in (claim.excluded, here.excluded))
        return f"{left_out} left out, and of {where} {left_out_here}"
    if claim.data_sha256 not in (None, here.data_sha256):
        return f"sha256 {str(claim.data_sha256)[:12]}…, and that of {where} is {here.data_sha256[:12]}…"
    return None


@dataclass(frozen=True)
class _Case:
    """A claim that can be held against measurements.

    Attributes:
        position: its place among the claims.
        claim: the claim.
        tolerance: the largest difference that agrees.
        stated: batch sizes that the claims name.
    """

    position: int
    claim: Claim
    tolerance: float
    stated: frozenset[int] = frozenset()

    def judgement(self, found: Sequence[Measurement], by_key: Mapping[_Key, Measurement]) -> Judgement:
        claim = self.claim
        if claim.metric in BATCHED and claim.batch_rows is None:
            return self._without_batch_rows([m for m in found if m.metric == claim.metric])
        batch_rows = claim.batch_rows if claim.metric in BATCHED else None
        measured = by_key.get((claim.metric, claim.evaluation or "", batch_rows, claim.units))
        if measured is None:
            units = f" in {claim.units} units" if claim.units != "raw" and claim.metric not in IN_UNITS else ""
            sizes = {m.batch_rows for m in found if m.evaluation == claim.evaluation and m.metric in BATCHED}
            many = f": it has claims at more than {MOST_BATCH_SIZES}" if len(sizes) >= MOST_BATCH_SIZES else ""
            return self._open(f"{setting(claim)} was not measured on {claim.evaluation!r}{units}{many}", is_open=False)
        if measured.value is not None and agrees(abs(measured.value - claim.value), self.tolerance, measured):
            return Judgement(Verdict(claim=self.position, verdict="verified", measured=measured.value))
        return self._not_as_named(measured, found)

    def _open(self, why: str | None, fitting: tuple[Fit, ...] = (), *, is_open: bool = True) -> Judgement:
        return Judgement(Verdict(claim=self.position, verdict="not_verifiable", why=why), fitting, is_open)

    def _without_batch_rows(self, found: Sequence[Measurement]) -> Judgement:
        why = f"{self.claim.metric} depends on the batch size: state its batch_rows"
        fitting = fits(self.claim, found, self.tolerance, self.stated)
        return self._open(why + (f"; {fitting[0].text} would agree" if fitting else ""), fitting)

    def _not_as_named(self, measured: Measurement, found: Sequence[Measurement]) -> Judgement:
        """Judge a claim that its own definition does not give.

        First by what needs no guess of a batch size: that is less, so less agrees with it by chance.
        """
        claim, value = self.claim, measured.value
        fitting = fits(claim, found, self.tolerance, self.stated)
        by_chance: tuple[Measurement, ...] = ()
        for pool in ([m for m in found if m.batch_rows in self.stated | {None}], found):
            those = fits(claim, pool, self.tolerance, self.stated)
            wonder = crowd(claim, value, pool, self.tolerance) if those and value is not None else ()
            by_chance += wonder
            if those and not wonder and not is_coarse(claim, self.tolerance):
                others = tuple(fit for fit in fitting if fit.measured.metric != those[0].measured.metric)
                return self._match(measured, (those[0], *others)[:MOST_NAMED], by_chance)
        if value is None:
            return self._open(measured.reason, fitting)
        why = f"measured {value:.6g}, {abs(value - claim.value):.2g} away; {self.tolerance:.2g} is allowed"
        if fitting:
            named = " and ".join(fit.text for fit in fitting)
            why += f", with which {named} would agree: too much to tell definitions apart"
        why += "".join(f"; {source}" for source in self._sources(measured))
        verdict = Verdict(claim=self.position, verdict="differs", measured=value, why=why)
        return Judgement(verdict, fitting, is_open=True, crowd=by_chance)

    def _sources(self, measured: Measurement) -> Iterable[str]:
        """Yield which sources of a crosscoder, or the mean over them, have the stated number."""
        values = {f"source {i} has": value for i, value in enumerate(measured.per_source) if value is not None}
        if values and len(values) == len(measured.per_source):
            values["the mean over sources is"] = sum(values.values()) / len(values)
        for what, value in values.items():
            if agrees(abs(value - self.claim.value), self.tolerance, measured):
                yield f"{what} {value:.6g}"

    def _match(self, measured: Measurement, fitting: tuple[Fit, ...], by_chance: tuple[Measurement, ...]) -> Judgement:
        """Judge a claim that another definition gives, or the same one at another batch size or in other units."""
        first, *others = fitting
        found, claim = first.measured, self.claim
        its = f"is {measured.value:.6g}" if measured.value is not None else f"has no value: {measured.reason}"
        also = f"; {' and '.join(fit.text for fit in others)} would agree too" if others else ""
        verdict = Verdict(
            claim=self.position,
            verdict="matches_another",
            measured=measured.value,
            why=f"{claim.value:g} is {first.text}; {setting(claim)} {its}{also}",
            matches=found.metric,
            matches_value=first.value,
            matches_batch_rows=first.batch_rows,
            matches_units=found.units if found.units != claim.units else None,
        )
        return Judgement(verdict, fitting, is_open=True, crowd=by_chance)


def correction(claim: Claim, verdict: Verdict) -> dict[str, str | int | float]:
    """Return the fields that a claim needs to name the definition that gives its number.

    None where no definition does, or at several batch sizes alike: which was meant, only the author knows.
    """
    found = verdict.matches
    if found is None or verdict.matches_value is None or (found in BATCHED and verdict.matches_batch_rows is None):
        return {}
    changed: dict[str, str | int | float] = {"metric": found}
    if verdict.matches_batch_rows is not None:
        changed["batch_rows"] = verdict.matches_batch_rows
    if verdict.matches_units is not None:
        changed["units"] = verdict.matches_units
    if is_turned(claim, found, verdict.matches_value):
        changed["value"] = float(1 - Decimal(repr(claim.value)))
    return changed
