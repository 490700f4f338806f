"""`semantics`: the function that the files mean, switch by switch: what all share, and what sets some apart."""

from collections.abc import Iterable, Mapping, Sequence

from saereg.registry.cards.marking import ABSENT, code, codes, text
from saereg.registry.cards.view import DOCS, Values, View, grouped
from saereg.schemas.index import IndexArtifact
from saereg.schemas.semantics import Normalization, Semantics

NAMED = 4
"""Ids that a row names."""

MOST_ROWS = 60
"""Rows of a table."""


def switches(entry: IndexArtifact) -> dict[str, str]:
    """Return switch → value of one artifact, those of the normalization among them."""
    found = {name: getattr(entry.semantics, name) for name in Semantics.model_fields if name != "normalization"}
    inner = entry.semantics.normalization
    found |= {"normalization": inner.kind}
    if inner != Normalization():
        names = [name for name in Normalization.model_fields if name != "kind"]
        found |= {f"normalization.{name}": getattr(inner, name) for name in names}
    return {name: _shown(value) for name, value in found.items() if value is not None}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def value(shown: str) -> str:
    """Return the value of a switch for a cell: names as code, yes, no and what is absent as they are."""
    return shown if shown in ("yes", "no", ABSENT) else code(shown)


def _unused(view: View, each: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the switches that mean nothing for any artifact here: they are those of other kinds."""
    kinds = {claim.kind for claim in view.claims}
    found = [] if "transcoder" in kinds else ["skip"]
    found += [] if "crosscoder" in kinds else ["bias_reduction", "gate"]
    if all(switches_of.get("threshold") == "none" for switches_of in each.values()):
        found += ["threshold", "threshold_units"]
    return found + (["reshape"] if all(s.get("reshape") == "none" for s in each.values()) else [])


def about(name: str) -> str:
    """Return what a switch says, from the schema."""
    if name == "normalization":
        return "What is done to the input before the encoder."
    fields = Normalization.model_fields if name.startswith("normalization") else Semantics.model_fields
    field = fields.get(name.rpartition(".")[2])
    said = " ".join((field.description or "").split()).split("; the formulas")[0] if field else ""
    return said if said.endswith(".") or not said else f"{said}."


def values(view: View) -> Values | None:
    """Return the switches; None where no artifact has evidence."""
    entries = [view.evidence[claim.id] for claim in view.claims if claim.id in view.evidence]
    if not entries:
        return None
    each = {entry.id: switches(entry) for entry in entries}
    names = list(dict.fromkeys(name for found in each.values() for name in found))
    unused = _unused(view, each)
    names = [name for name in names if name not in unused]
    shared = [name for name in names if len({found.get(name) for found in each.values()}) == 1]
    differing = [name for name in names if name not in shared]
    rows = [[code(name), value(each[entries[0].id][name]), about(name)] for name in shared]
    return {
        "unused": codes(unused, len(unused)) if unused else None,
        "count": len(entries),
        "shared": {"header": ["switch", "value", "what it says"], "rows": rows},
        "differing": _differing(differing, each, view),
        "notes": [{"switch": code(name), "about": about(name)} for name in differing],
        "assumptions": _assumptions(entries, view),
        "page": f"{DOCS}/semantics.md",
    }


def _differing(names: Sequence[str], each: dict[str, dict[str, str]], view: View) -> Values | None:
    """Return one row per combination of values."""
    if not names:
        return None
    groups = grouped(each, lambda name: tuple(each[name].get(switch, ABSENT) for switch in names))
    rows = [
        [listed(members, view), f"{len(members):,}", *map(value, combination)]
        for combination, members in groups.items()
    ]
    header = ["artifacts", "count", *map(code, names)]
    return {"header": header, "rows": rows[:MOST_ROWS], "more": max(len(rows) - MOST_ROWS, 0)}


def listed(ids: Sequence[str], view: View) -> str:
    """Return the first of some artifacts, and how many more there are; all of a kind or architecture by its name."""
    if len(ids) <= NAMED:
        return ", ".join(view.name(name) for name in ids)
    return codes(ids, 2)


def _assumptions(entries: Iterable[IndexArtifact], view: View) -> list[Values]:
    """Return what a reader had to take for granted, once for all artifacts that it was assumed of."""
    pairs = [(entry.id, assumption) for entry in entries for assumption in entry.assumptions]
    groups = grouped(pairs, lambda pair: pair[1])
    return [
        {
            "field": code(assumption.field),
            "value": code(assumption.value),
            "because": text(assumption.because).rstrip("."),
            "artifacts": listed([name for name, _ in members], view),
        }
        for assumption, members in list(groups.items())[:MOST_ROWS]
    ]
