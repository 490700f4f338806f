"""What a cell rests on, in words."""

from collections.abc import Collection, Iterable, Sequence

from saereg.registry.coverage.holdings import Holding, Synced
from saereg.registry.coverage.rules import Reason, Seen
from saereg.schemas.coverage import Evidence
from saereg.schemas.facts import AbsenceFact, BenchmarkFact, CheckpointFact, Citation, DictionaryFact, Fact

UNITS = {"percent": " %", "fraction": "", "points": " points"}
"""Unit of a number → what is written behind it."""


def evidence(seen: Seen, reasons: Sequence[Reason], sources: dict[str, Citation]) -> tuple[Evidence, ...]:
    """Return everything that is known for a cell, what decided it first.

    Args:
        seen: what is known.
        reasons: what decided.
        sources: key → source of facts.
    """
    facts = [_of_fact(fact, sources[fact.source], fact in reasons) for fact in seen.facts]
    held = [e for chosen in (True, False) for e in _of_holdings(seen.holdings, reasons, chosen)]
    none = [_of_registry(one) for one in reasons if isinstance(one, Synced)]
    return tuple(sorted([*held, *none, *facts], key=lambda one: not one.decides))


def _of_fact(fact: Fact, source: Citation, decides: bool) -> Evidence:
    return Evidence(
        kind="fact",
        text=sentence(fact),
        source=source.title,
        url=source.url,
        date=source.date,
        retrieved=source.retrieved,
        fact=fact.id,
        confirmed=fact.confirmed,
        decides=decides,
        note=" ".join(note for note in (fact.note, source.note) if note) or None,
    )


def sentence(fact: Fact) -> str:
    """Return what a fact says."""
    if isinstance(fact, CheckpointFact):
        again = ", trained again by others" if fact.retrained else ""
        return f"{_counted(fact.steps, 'step')} of {_names(fact.models)}{again}; {fact.access}"
    if isinstance(fact, DictionaryFact):
        where = fact.repo if fact.weights == "public" else "weights not released"
        return f"{fact.what} of {_names(fact.models)}; {where}"
    if isinstance(fact, BenchmarkFact):
        value = "no number" if fact.value is None else f"{fact.value:g}{UNITS[fact.unit]}"
        return f"{fact.model}: {fact.metric} {value}" + (f" ({fact.setting})" if fact.setting else "")
    return fact.text


def _names(models: Sequence[str], most: int = 3) -> str:
    return ", ".join(models[:most]) + (f" and {len(models) - most} more" if len(models) > most else "")


def _of_holdings(holdings: Sequence[Holding], reasons: Collection[Reason], decides: bool) -> Iterable[Evidence]:
    """Return one piece of evidence for each source and standing."""
    groups: dict[tuple[Synced, str], list[Holding]] = {}
    for held in holdings:
        if (held in reasons) is decides:
            groups.setdefault((held.source, held.standing), []).append(held)
    for (source, standing), found in groups.items():
        releases = tuple(sorted({held.release for held in found}))
        rows, withdrawn = sum(held.rows for held in found), sum(held.withdrawn for held in found)
        text = f"{_counted(rows, f'{standing} row')} in {_counted(len(releases), 'release')}"
        if withdrawn:
            text += f", and {withdrawn:,} withdrawn ones"
        yield Evidence(
            kind="catalogue",
            text=text,
            source=_name(source),
            retrieved=source.day,
            pin=source.pin,
            rows=rows,
            releases=releases,
            decides=decides,
        )


def _of_registry(source: Synced) -> Evidence:
    return Evidence(
        kind="catalogue",
        text="holds none",
        source=_name(source),
        retrieved=source.day,
        pin=source.pin,
        rows=0,
        decides=True,
    )


def _name(source: Synced) -> str:
    name = "SAELens" if source.is_registry else f"{source.kind} {source.locator}"
    return f"{name} ({source.tool})" if source.tool and not source.tool.startswith("saereg ") else name


def summary(reasons: Sequence[Reason]) -> str | None:
    """Return the number behind a decision in short, or None where there is none."""
    steps = [fact.steps for fact in reasons if isinstance(fact, CheckpointFact)]
    if steps:
        return _counted(max(steps), "step")
    held = [one for one in reasons if isinstance(one, Holding)]
    if held:
        return _counted(sum(one.rows for one in held), "row")
    values = sorted(fact.value for fact in reasons if isinstance(fact, BenchmarkFact) and fact.value is not None)
    if values:
        return f"{values[0]:g}" if values[0] == values[-1] else f"{values[0]:g}–{values[-1]:g}"
    if any(isinstance(one, Synced) for one in reasons):
        return "not listed"
    released = {fact.repo for fact in reasons if isinstance(fact, DictionaryFact) and fact.repo}
    return _counted(len(released), "release") if released else None


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def is_confirmed(reasons: Sequence[Reason]) -> bool:
    """Whether something that decides was confirmed; rows of a catalogue are."""
    facts = [one for one in reasons if isinstance(one, CheckpointFact | DictionaryFact | BenchmarkFact | AbsenceFact)]
    return len(facts) < len(reasons) or not facts or any(fact.confirmed for fact in facts)
