"""The table: families or models × checkpoints, dictionaries and benchmarks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.coverage.evidence import evidence, is_confirmed, summary
from saereg.registry.coverage.families import placed, same_model
from saereg.registry.coverage.holdings import Held, Holding
from saereg.registry.coverage.rules import LEAST, Seen, decide, least, listed
from saereg.schemas.coverage import Coverage, CoverageCell, CoverageRow
from saereg.schemas.facts import FIXED, AbsenceFact, BenchmarkFact, CheckpointFact, DictionaryFact, Fact, Facts, Family

DEFAULT = ("checkpoints", "saes", "MBPP")
"""Columns that are shown unless others are asked for."""

ALL = "all"
"""The last column."""

KINDS: Mapping[str, type[CheckpointFact] | type[DictionaryFact]] = {
    "checkpoints": CheckpointFact,
    "saes": DictionaryFact,
}
"""Column that is no benchmark → facts that it is decided from, beside those of absence."""


@dataclass
class _Line:
    """A row in the making.

    Attributes:
        id: what it is called.
        name: as it is shown.
        family: of a model, or the family itself.
        model: name of the model in all its spellings; None for a family.
        holdings: what the catalogue holds of it.
    """

    id: str
    name: str
    family: Family | None
    model: str | None = None
    holdings: list[Holding] = field(default_factory=list)


def coverage(
    facts: Facts, held: Held | None, columns: Sequence[str] = DEFAULT, by: Literal["family", "model"] = "family"
) -> Coverage:
    """Return the table.

    Args:
        facts: what is known of families.
        held: what a catalogue holds, where there is one.
        columns: `checkpoints`, `saes` and benchmarks, in order; `all` is added.
        by: what a row is.

    Raises:
        UnknownNameError: when nothing is known of a column.
        UsageError: when a column is named twice, or none.
    """
    names = resolved(columns, facts)
    homes = {model: _home(model, facts.families) for model in {one.model for one in (held.holdings if held else ())}}
    lines = _families(facts, held, homes) if by == "family" else _models(facts, held, homes)
    return Coverage(
        catalogue=str(held.path) if held else None,
        by=by,
        columns=(*names, ALL),
        rows=tuple(_row(line, names, facts, held) for line in lines),
        unplaced=tuple(sorted(model for model, family in homes.items() if family is None)),
        nameless=held.nameless if held else 0,
        rules=listed(),
    )


def row_of(found: Coverage, name: str, facts: Facts) -> CoverageRow:
    """Return a row by its id or name in any case; that of a model by each of its spellings.

    Raises:
        UnknownNameError: when there is none.
    """
    wanted, home = name.strip().lower(), _home(name, facts.families)
    for row in found.rows:
        if wanted in (row.id.lower(), row.name.lower(), row.id.lower().rpartition("/")[2]):
            return row
    for row in found.rows:
        if home is not None and row.family == home.id and same_model(row.id, home) == same_model(name, home):
            return row
    raise UnknownNameError(found.by, name, [row.id for row in found.rows])


def resolved(columns: Sequence[str], facts: Facts) -> tuple[str, ...]:
    """Return columns as the facts write them, whatever their case; `all` is left out.

    Raises:
        UnknownNameError: when nothing is known of one.
        UsageError: when one is named twice, or there is none.
    """
    known = {name.lower(): name for name in (*benchmarks(facts), *FIXED, ALL)}
    found = []
    for name in columns:
        if name.lower() not in known:
            raise UnknownNameError("column", name, known.values())
        found.append(known[name.lower()])
    found = [name for name in found if name != ALL]
    if not found:
        raise UsageError(f"name at least one column: {', '.join(known.values())}")
    if twice := [name for name in found if found.count(name) > 1]:
        raise UsageError(f"the column {twice[0]!r} is named twice")
    return tuple(found)


def benchmarks(facts: Facts) -> tuple[str, ...]:
    """Return the benchmarks of which something is known, sorted."""
    results = {fact.benchmark for fact in facts.facts if isinstance(fact, BenchmarkFact)}
    absent = {fact.about for fact in facts.facts if isinstance(fact, AbsenceFact)} - set(FIXED)
    first: dict[str, str] = {}
    for name in sorted(results | absent):
        first.setdefault(name.lower(), name)
    return tuple(first.values())


def _home(model: str, families: Sequence[Family]) -> Family | None:
    found = placed(model, families)
    return found[0] if found else None


def _families(facts: Facts, held: Held | None, homes: Mapping[str, Family | None]) -> Iterable[_Line]:
    lines = {family.id: _Line(family.id, family.name, family) for family in facts.families}
    for one in held.holdings if held else ():
        if (family := homes[one.model]) is not None:
            lines[family.id].holdings.append(one)
    return lines.values()


def _models(facts: Facts, held: Held | None, homes: Mapping[str, Family | None]) -> Iterable[_Line]:
    """Return one line for every model that a fact is about or the catalogue holds something of, families together."""
    known = {family.id: family for family in facts.families}
    lines: dict[tuple[str, str], _Line] = {}

    def line(model: str, family: Family | None) -> _Line:
        key = (family.id if family else "", same_model(model, family))
        return lines.setdefault(key, _Line(model, model, family, key[1]))

    for family in facts.families:  # spellings of the Hub come first, and name the lines
        for model in family.models:
            line(model, family)
    for fact in facts.facts:
        for model in _about(fact):
            line(model, known[fact.family])
    for one in held.holdings if held else ():
        line(one.model, homes[one.model]).holdings.append(one)
    place = {family.id: at for at, family in enumerate(facts.families)}
    told = {(f.family, same_model(m, known[f.family])) for f in facts.facts for m in _about(f)}
    shown = [one for key, one in lines.items() if one.holdings or key in told]
    return sorted(shown, key=lambda one: (place[one.family.id] if one.family else len(place), one.model or ""))


def _about(fact: Fact) -> tuple[str, ...]:
    """Return the models that a fact is about; none where it is about the whole family."""
    if isinstance(fact, AbsenceFact):
        return ()
    return (fact.model,) if isinstance(fact, BenchmarkFact) else fact.models


def _row(line: _Line, columns: Sequence[str], facts: Facts, held: Held | None) -> CoverageRow:
    cells = {column: _cell(line, column, facts, held) for column in columns}
    mark = least(cell.mark for cell in cells.values())
    sure = all(cell.confirmed for cell in cells.values() if cell.mark == mark)
    return CoverageRow(
        id=line.id,
        name=line.name,
        family=None if line.model is None or line.family is None else line.family.id,
        models=tuple(sorted({one.model for one in line.holdings})),
        cells=cells | {ALL: CoverageCell(mark=mark, rule=LEAST.id, confirmed=sure)},
    )


def _cell(line: _Line, column: str, facts: Facts, held: Held | None) -> CoverageCell:
    is_saes = column == "saes"
    seen = Seen(
        facts=tuple(fact for fact in facts.facts if _concerns(fact, line) and _says(fact, column)),
        holdings=tuple(line.holdings) if is_saes else (),
        registries=tuple(one for one in held.sources if one.is_registry) if is_saes and held else (),
    )
    rule, reasons = decide(column if column in FIXED else "benchmark", seen)
    return CoverageCell(
        mark=rule.mark,
        rule=rule.id,
        summary=summary(reasons),
        confirmed=is_confirmed(reasons),
        evidence=evidence(seen, reasons, facts.sources),
    )


def _concerns(fact: Fact, line: _Line) -> bool:
    if line.family is None or fact.family != line.family.id:
        return False
    models = _about(fact)
    return line.model is None or not models or line.model in {same_model(model, line.family) for model in models}


def _says(fact: Fact, column: str) -> bool:
    if isinstance(fact, AbsenceFact):
        return fact.about.lower() == column.lower()
    if isinstance(fact, BenchmarkFact):
        return fact.benchmark.lower() == column.lower()
    return column in KINDS and isinstance(fact, KINDS[column])
