"""The rule by which an author chose the canonical artifacts: read it, and work out whom it chooses. Pure."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.query import SMALLER_IS_BETTER, resolve_field
from saereg.schemas.metrics import MetricId

Aim = Literal["lowest", "highest", "closest"]

Basis = Literal["measured", "claimed"]

METRICS: tuple[str, ...] = get_args(MetricId)

GRAMMAR = "`lowest METRIC`, `highest METRIC`, `best METRIC` or `METRIC closest to NUMBER`, then ` per FIELD, FIELD`"
"""What a rule looks like, for messages."""

_EXTREME = re.compile(r"(lowest|highest|best) (\w+)")
_CLOSEST = re.compile(r"(\w+) closest to ([-+0-9.,e]+)")
_FIELDS = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+")


@dataclass(frozen=True)
class Rule:
    """A rule that can be evaluated.

    Attributes:
        metric: definition of the number that decides.
        aim: which of the numbers wins.
        target: the number to be close to, for aim `closest`.
        per: fields; one artifact is chosen for each of their combinations, or one in all where there are none.
    """

    metric: str
    aim: Aim
    target: float = 0.0
    per: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What the chosen artifact has, e.g. `the lowest fvu`."""
        if self.aim == "closest":
            return f"the {self.metric} closest to {self.target:g}"
        return f"the {self.aim} {self.metric}"

    def cost(self, value: float) -> float:
        """Return a number that is smallest for the artifact of choice."""
        return {"lowest": value, "highest": -value, "closest": abs(value - self.target)}[self.aim]


@dataclass(frozen=True)
class Number:
    """A number, and by how much it may differ when it is computed again."""

    value: float
    tolerance: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """An artifact, as far as a rule looks at it.

    Attributes:
        id: its id.
        canonical: whether it is flagged.
        fields: the flat fields of `saereg.registry.query`.
        measured: metric → number from the index.
        claimed: metric → number that the author states, however it came about.
    """

    id: str
    canonical: bool
    fields: Mapping[str, Any]
    measured: Mapping[str, Number]
    claimed: Mapping[str, Number]

    def numbers(self, basis: Basis) -> Mapping[str, Number]:
        """Return its numbers of one kind."""
        return self.measured if basis == "measured" else self.claimed


@dataclass(frozen=True)
class Choice:
    """What a rule says of one group of artifacts.

    Attributes:
        group: field → value that they share.
        basis: whose numbers were compared; None where there are none.
        best: ids of those that the rule chooses, several where they tie; any one of them is right.
        flagged: ids of those that are flagged.
        values: id → the number that was compared; artifacts without one are absent.
    """

    group: Mapping[str, Any]
    basis: Basis | None
    best: tuple[str, ...]
    flagged: tuple[str, ...]
    values: Mapping[str, float]


def parse_rule(text: str) -> Rule:
    """Return a rule.

    Args:
        text: `lowest METRIC`, `highest METRIC`, `best METRIC` or `METRIC closest to NUMBER`, then perhaps
            ` per FIELD, FIELD`. Metrics and fields are those of `saereg ls`, short names such as `ev` included.

    Raises:
        UsageError: when it is no such sentence.
        UnknownNameError: when the metric or a field does not exist.
    """
    words = " ".join(text.lower().rstrip(" .").split())
    head, _, tail = words.partition(" per ")
    per = tuple(resolve_field(name) for name in _FIELDS.split(tail) if name)
    if " per " in words and not per:
        raise UsageError(f"`per` names no field; write {GRAMMAR}")
    if match := _EXTREME.fullmatch(head):
        metric = _metric(match[2])
        best: Aim = "lowest" if metric in SMALLER_IS_BETTER else "highest"
        aims: dict[str, Aim] = {"lowest": "lowest", "highest": "highest", "best": best}
        return Rule(metric, aims[match[1]], per=per)
    if match := _CLOSEST.fullmatch(head):
        return Rule(_metric(match[1]), "closest", _number(match[2]), per)
    raise UsageError("it is of no known form")


def _metric(name: str) -> str:
    full = "explained_variance" if name == "ev" else name
    if full not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    return full


def _number(text: str) -> float:
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{text!r} is no number")
    return value


def choices(rule: Rule, candidates: Iterable[Candidate]) -> tuple[Choice, ...]:
    """Return whom the rule chooses in each group, in the order in which the groups appear.

    Measured numbers are compared where every artifact of the group has one, else the claims where every artifact has
    one, else whichever more of them have. An artifact that lacks a field of the rule, such as the layer of a parameter
    dictionary, is in no group, unless none has it.

    Args:
        rule: the rule.
        candidates: the artifacts; leave out those that are declared to have failed.
    """
    pool = tuple(candidates)
    present = tuple(name for name in rule.per if any(one.fields[name] is not None for one in pool))
    groups: dict[tuple[Any, ...], list[Candidate]] = defaultdict(list)
    for one in pool:
        key = tuple(one.fields[name] for name in present)
        if None not in key:
            groups[key].append(one)
    return tuple(_choice(rule, dict(zip(present, key, strict=True)), group) for key, group in groups.items())


def _choice(rule: Rule, group: Mapping[str, Any], members: list[Candidate]) -> Choice:
    flagged = tuple(one.id for one in members if one.canonical)
    known: Counter[Basis] = Counter()
    for basis in get_args(Basis):
        known[basis] = sum(rule.metric in one.numbers(basis) for one in members)
    basis = max(known, key=lambda name: known[name])  # of two that are known as often it is the first: measured
    numbers = {one.id: found for one in members if (found := one.numbers(basis).get(rule.metric)) is not None}
    if not numbers:
        return Choice(group, None, (), flagged, {})
    # The winner is never in doubt by more than what a repetition of its own measurement may change.
    winner = min(numbers.values(), key=lambda number: rule.cost(number.value))
    limit = rule.cost(winner.value) + winner.tolerance
    best = tuple(name for name, number in numbers.items() if rule.cost(number.value) - number.tolerance <= limit)
    return Choice(group, basis, best, flagged, {name: number.value for name, number in numbers.items()})
