"""How a cell is decided: of each column the first rule that holds.

Silence is `unknown`, never `no`, with one exception that names who was asked: `saes-not-listed`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from saereg.registry.coverage.holdings import Holding, Synced
from saereg.schemas.coverage import CoverageRule, Mark
from saereg.schemas.facts import AbsenceFact, BenchmarkFact, CheckpointFact, DictionaryFact, Fact

ENOUGH = 10
"""Steps that make a schedule: with fewer, training is seen at points, not followed."""

PUBLIC = ("verified", "foreign")
"""Standings of releases that count: built and checked, or listed by an inventory that others load from."""

ORDER: tuple[Mark, ...] = ("no", "unknown", "partial", "yes")
"""Marks, the least first."""


@dataclass(frozen=True)
class Seen:
    """What is known of one family, or one model, for one column.

    Attributes:
        facts: those of this column, absence among them.
        holdings: rows of the catalogue; empty for other columns than `saes`.
        registries: synced sources that list dictionaries of the whole field.
    """

    facts: tuple[Fact, ...] = ()
    holdings: tuple[Holding, ...] = ()
    registries: tuple[Synced, ...] = ()


Reason = Fact | Holding | Synced
"""One thing that a decision rests on."""


@dataclass(frozen=True)
class Rule:
    """One way to decide a cell.

    Attributes:
        id: its name.
        column: `checkpoints`, `saes` or `benchmark`.
        mark: what the cell says then.
        sentence: the rule in words.
        reasons: returns what it rests on; nothing where it does not hold, None where it holds without any.
    """

    id: str
    column: str
    mark: Mark
    sentence: str
    reasons: "Callable[[Seen], Iterable[Reason] | None]"


def _schedules(seen: Seen) -> list[Reason]:
    found = [fact for fact in seen.facts if isinstance(fact, CheckpointFact)]
    return [fact for fact in found if fact.steps >= ENOUGH and fact.confirmed and not fact.retrained]


def _some_steps(seen: Seen) -> list[Reason]:
    return [fact for fact in seen.facts if isinstance(fact, CheckpointFact)]


def _held(seen: Seen) -> list[Reason]:
    return [held for held in seen.holdings if held.standing in PUBLIC and held.rows]


def _released(seen: Seen) -> list[Reason]:
    found = [fact for fact in seen.facts if isinstance(fact, DictionaryFact)]
    return [fact for fact in found if fact.weights == "public" and fact.confirmed]


def _some_dictionaries(seen: Seen) -> list[Reason]:
    return [*(held for held in seen.holdings if held.rows), *(f for f in seen.facts if isinstance(f, DictionaryFact))]


def _registries(seen: Seen) -> list[Reason]:
    return list(seen.registries)


def _results(seen: Seen) -> list[Reason]:
    found = [fact for fact in seen.facts if isinstance(fact, BenchmarkFact)]
    return [fact for fact in found if fact.value is not None and fact.confirmed]


def _some_results(seen: Seen) -> list[Reason]:
    return [fact for fact in seen.facts if isinstance(fact, BenchmarkFact)]


def _absences(seen: Seen) -> list[Reason]:
    found = [fact for fact in seen.facts if isinstance(fact, AbsenceFact)]
    return [fact for fact in found if fact.confirmed] or list(found)


def _silence(seen: Seen) -> None:
    return None


RULES = (
    Rule(
        "checkpoints-schedule",
        "checkpoints",
        "yes",
        f"A source that was read gives {ENOUGH} or more public steps of training of at least one model.",
        _schedules,
    ),
    Rule(
        "checkpoints-some",
        "checkpoints",
        "partial",
        f"There are public checkpoints, but fewer than {ENOUGH} steps, or of models that others trained again, or"
        " nobody confirmed them.",
        _some_steps,
    ),
    Rule(
        "checkpoints-absent",
        "checkpoints",
        "no",
        "A source says that there are none, or, unconfirmed, lists what there is and has none.",
        _absences,
    ),
    Rule("checkpoints-silent", "checkpoints", "unknown", "No source says anything.", _silence),
    Rule(
        "saes-catalogued",
        "saes",
        "yes",
        "The catalogue holds dictionaries that are not withdrawn, of a verified release or of an inventory that others"
        " load from.",
        _held,
    ),
    Rule("saes-released", "saes", "yes", "A source that was read names a public release of dictionaries.", _released),
    Rule(
        "saes-some",
        "saes",
        "partial",
        "Dictionaries were trained, but the catalogue holds only unverified releases of them, or the weights are not"
        " public, or nobody confirmed them.",
        _some_dictionaries,
    ),
    Rule(
        "saes-absent",
        "saes",
        "no",
        "A source says that there are none, or, unconfirmed, lists what there is and has none.",
        _absences,
    ),
    Rule(
        "saes-not-listed",
        "saes",
        "no",
        "The registry of SAELens was synced on the day shown, and neither it nor any other source of the catalogue"
        " holds one that is not withdrawn.",
        _registries,
    ),
    Rule("saes-silent", "saes", "unknown", "No source says anything.", _silence),
    Rule("benchmark-result", "benchmark", "yes", "A source that was read gives a number.", _results),
    Rule(
        "benchmark-some",
        "benchmark",
        "partial",
        "A source is cited for a number that nobody confirmed, or says that there is one without giving it.",
        _some_results,
    ),
    Rule(
        "benchmark-absent",
        "benchmark",
        "no",
        "A source says that there is none, or, unconfirmed, lists what there is and has none.",
        _absences,
    ),
    Rule("benchmark-silent", "benchmark", "unknown", "No source says anything.", _silence),
)
"""Every rule; of a column the first that holds decides, and the last always holds."""

LEAST = CoverageRule(
    id="all-least",
    column="all",
    mark=None,
    sentence=f"The least of the other columns, in the order {', '.join(ORDER)}.",
)
"""The rule of the last column."""


def decide(column: str, seen: Seen) -> tuple[Rule, tuple[Reason, ...]]:
    """Return the first rule that holds, and what it rests on.

    Args:
        column: `checkpoints`, `saes` or `benchmark`.
        seen: what is known.
    """
    for rule in RULES:
        if rule.column == column and ((reasons := rule.reasons(seen)) is None or reasons):
            return rule, tuple(reasons or ())
    raise LookupError(column)


def least(marks: Iterable[Mark]) -> Mark:
    """Return the least of some marks."""
    return min(marks, key=ORDER.index)


def listed() -> tuple[CoverageRule, ...]:
    """Return every rule in words."""
    return (*(CoverageRule(id=r.id, column=r.column, mark=r.mark, sentence=r.sentence) for r in RULES), LEAST)
