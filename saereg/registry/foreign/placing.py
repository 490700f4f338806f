"""The rows of an inventory in our fields: what was said, what was inferred, and what found no field. Pure.

Every value of the document comes out once: in `said` or `metrics` of a row (what it says of all rows, in each), in
`release`, in `nothing` (cells that say nothing), or in `unplaced` with the reason.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from saereg.registry.foreign.document import Inventory, Leaf, Row
from saereg.registry.foreign.kinds import PER_SNAPSHOT, Inferred, of_kind, of_name
from saereg.registry.foreign.values import ABSENT, MisfitError, converted, number
from saereg.registry.foreign.words import (
    OF_ALL_ROWS,
    field_of_release,
    field_of_row,
    is_metric,
    is_of_training,
)
from saereg.schemas.metrics import MetricId

SAELENS = "cfg.json"
"""Name of a configuration of SAELens: its architectures are those of SAEs, unless they are called transcoders."""

WEIGHTS = re.compile(r"\.(?:safetensors|pt|pth|npz|bin|pkl)$")

_OUTSIDE = re.compile(r"[\x00-\x1f\x7f\\]|^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)")

GENERAL = frozenset({"explained_variance", "fvu", "l0", "dead_fraction", "ce_recovered", "l1_norm"})
"""Definitions of ours whose names others use for formulas of their own: there the name alone says nothing."""

Beside = Callable[[str], tuple[str, tuple[Leaf, ...]] | None]
"""Path of a row → name and values of the configuration beside its weights, where there is one."""

FROM_BESIDE = (
    "kind", "architecture", "d_in", "d_out", "d_sae", "k", "l1_coefficient", "seed", "steps", "n_sources", "model",
    "parameter", "hook", "layer", "dtype",
)  # fmt: skip
"""Fields that the configuration beside the weights may fill."""


@dataclass(frozen=True, slots=True)
class Said:
    """A value that the source states, in the type of its field."""

    field: str
    value: Any
    leaf: Leaf


@dataclass(frozen=True, slots=True)
class StatedNumber:
    """A metric that the source states.

    Attributes:
        name: what the source calls it.
        value: the number.
        leaf: where it stands.
        metric: definition, where the name says exactly which.
        kind: `training_running_mean` where the name says so.
    """

    name: str
    value: float
    leaf: Leaf
    metric: MetricId | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A value that has no place, and why."""

    leaf: Leaf
    why: str


@dataclass(frozen=True)
class PlacedRow:
    """One row that is a dictionary.

    Attributes:
        id: name in the release.
        path: file or folder.
        pointer: where the row stands.
        said: field → what its row, or the document for all rows, states.
        inferred: field → what was read from names and from files beside it; never a field of `said`.
        metrics: its numbers.
    """

    id: str
    path: str
    pointer: str
    said: Mapping[str, Said]
    inferred: Mapping[str, Inferred]
    metrics: tuple[StatedNumber, ...]

    def get(self, name: str) -> Any:  # noqa: ANN401 - of any type
        """Return what is known of a field, or None."""
        found = self.said.get(name) or self.inferred.get(name)
        return found.value if found else None

    @property
    def kind(self) -> str | None:
        """What kind of dictionary it is, in our words; its own word for it is `said["kind"]`."""
        return self.inferred["kind"].value if "kind" in self.inferred else None


@dataclass(frozen=True)
class Placement:
    """A whole inventory.

    Attributes:
        rows: rows that are dictionaries.
        release: field of the release → what is stated.
        nothing: values of known keys that say nothing, such as an empty cell.
        unplaced: all others.
    """

    rows: tuple[PlacedRow, ...]
    release: Mapping[str, Said]
    nothing: tuple[Leaf, ...]
    unplaced: tuple[Unplaced, ...]


@dataclass
class _Rest:
    """What is left over while rows are placed."""

    nothing: list[Leaf] = field(default_factory=list)
    unplaced: list[Unplaced] = field(default_factory=list)

    def refuse(self, leaves: Iterable[Leaf], why: str) -> None:
        self.unplaced += [Unplaced(leaf, why) for leaf in leaves]


def place(inventory: Inventory, beside: Beside = lambda path: None) -> Placement:
    """Return an inventory in our fields.

    Args:
        inventory: rows as they stand in the document.
        beside: what reads the configuration beside the weights of a row.
    """
    rest = _Rest()
    release, common = _facts(inventory.facts, rest)
    rows: list[PlacedRow] = []
    taken: dict[str, str] = {}
    used: set[str] = set()
    for row in inventory.rows:
        found = _row(row, common, beside, taken, rest)
        if found is not None:
            rows.append(found)
            taken[found.id] = found.pointer
            used |= {name for name, said in found.said.items() if said is common.get(name)}
    rest.refuse((said.leaf for name, said in common.items() if name not in used), "every row says it otherwise")
    return Placement(tuple(rows), release, tuple(rest.nothing), tuple(rest.unplaced))


def _facts(leaves: Iterable[Leaf], rest: _Rest) -> tuple[dict[str, Said], dict[str, Said]]:
    """Return what a document says of the release, and of all rows."""
    release: dict[str, Said] = {}
    common: dict[str, Said] = {}
    for leaf in leaves:
        name, found = field_of_release(leaf.keys), release
        if name is None:
            of_row = field_of_row(leaf.keys)
            name, found = (of_row, common) if of_row in OF_ALL_ROWS else (None, common)
        _put(found, name, leaf, rest, listed=name in ("authors", "sister_releases"))
    return release, common


def _put(found: dict[str, Said], name: str | None, leaf: Leaf, rest: _Rest, *, listed: bool = False) -> None:
    """Put a value into its field, or among the rest."""
    if name is None:
        rest.refuse([leaf], "no field of that meaning")
    elif leaf.value in ABSENT and not isinstance(leaf.value, bool):
        rest.nothing.append(leaf)
    elif name in found:
        rest.refuse([leaf], f"{found[name].leaf.key} says {name} too")
    else:
        try:
            value = _texts(leaf.value) if listed else converted(name, leaf.value)
        except MisfitError as problem:
            rest.refuse([leaf], f"{name}: {problem}")
        else:
            found[name] = Said(name, value, leaf)


def _texts(value: object) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        raise MisfitError("no list of texts")
    return tuple(texts)


def _row(
    row: Row, common: Mapping[str, Said], beside: Beside, taken: Mapping[str, str], rest: _Rest
) -> PlacedRow | None:
    """Return one row; None, and all its values among the rest, where it is no one dictionary."""
    said: dict[str, Said] = {}
    metrics: list[StatedNumber] = []
    own = _Rest()
    for leaf in row.leaves:
        name = field_of_row(leaf.keys)
        if name == "quality" or (name is None and is_metric(leaf.keys)):
            _measure(metrics, leaf, own)
        else:
            _put(said, name, leaf, own)
    why, identifier, path = _named(row, said, taken)
    if why is not None:
        rest.refuse(row.leaves, why)
        return None
    rest.nothing += own.nothing
    rest.unplaced += own.unplaced
    stated = {**{name: fact for name, fact in common.items() if name not in said}, **said}
    inferred = _inferred(identifier, path, stated, beside)
    return PlacedRow(identifier, path, row.pointer, stated, inferred, tuple(metrics))


def _measure(metrics: list[StatedNumber], leaf: Leaf, rest: _Rest) -> None:
    if leaf.value in ABSENT and not isinstance(leaf.value, bool):
        rest.nothing.append(leaf)
        return
    try:
        if isinstance(leaf.value, str) and field_of_row(leaf.keys) == "quality":
            found = converted("quality", leaf.value)
        else:
            found = ((leaf.keys[-1], number(leaf.value)),)
    except MisfitError as problem:
        rest.refuse([leaf], str(problem))
        return
    of_training = "training_running_mean" if is_of_training(leaf.keys) else None
    metrics += [StatedNumber(name, value, leaf, definition(name), of_training) for name, value in found]


def definition(name: str) -> MetricId | None:
    """Return the definition that a name says exactly, or None: `explained_variance` is a word for a dozen formulas."""
    return next((known for known in get_args(MetricId) if known == name and known not in GENERAL), None)


def _named(row: Row, said: Mapping[str, Said], taken: Mapping[str, str]) -> tuple[str | None, str, str]:
    """Return why a row is no one dictionary (or None), its id and its path."""
    path = said["path"].value if "path" in said else None
    identifier = said["id"].value if "id" in said else row.name or (WEIGHTS.sub("", path) if path else None)
    if not identifier:
        return "the row names neither an id nor a path", "", ""
    for name in (identifier, path or ""):
        if _OUTSIDE.search(name):
            return "its name leads out of the folder, or has characters that cannot be seen", "", ""
        if odd := sorted(set(name) & set("{}*?")):
            return f"{' '.join(odd)} in its name: it stands for several files, and which is not said", "", ""
    if identifier in taken:
        return f"{taken[identifier]} has the same name", "", ""
    return None, identifier, path or identifier


def _inferred(identifier: str, path: str, said: Mapping[str, Said], beside: Beside) -> dict[str, Inferred]:
    """Return what a row does not say and its configuration, its words and its names do, the surest first."""
    found: list[Inferred] = []
    name, leaves = beside(path) or ("", ())
    for leaf in leaves:
        of = field_of_row(leaf.keys)
        if of in FROM_BESIDE and leaf.value not in ABSENT:
            try:
                found.append(Inferred(of, converted(of, leaf.value), f"{name}: {leaf.key}"))
            except MisfitError:
                continue
    found = [one for item in found for one in (of_kind(item.value, item.because) if item.field == "kind" else (item,))]
    if name.endswith(SAELENS) and (shape := next((one for one in found if one.field == "architecture"), None)):
        found.append(Inferred("kind", "transcoder" if shape.value.endswith("transcoder") else "sae", shape.because))
    words = [said["kind"].value] if "kind" in said else []
    found += of_kind(words[0], f"kind: {words[0]}") if words else ()
    folders = path.split("/")
    if not words and (folder := next(filter(_is_kind, folders[:-1]), None)):
        found += of_kind(folder, f"path: {folder}")
    per_snapshot = any(PER_SNAPSHOT.match(word.lower()) for word in (*words, *folders))
    names = {"id": identifier} | ({"path": WEIGHTS.sub("", path)} if WEIGHTS.sub("", path) != identifier else {})
    for key, text in names.items():
        found += of_name(text, key, per_snapshot=per_snapshot)
    found += _implied(said)
    return _first(found, said)


def _is_kind(folder: str) -> bool:
    return any(one.field == "kind" for one in of_kind(folder, ""))


def _implied(said: Mapping[str, Said]) -> Iterable[Inferred]:
    if "parameter" in said:
        yield Inferred("stream", "parameter", f"{said['parameter'].leaf.key}: {said['parameter'].value}")
    if "hook" in said and (match := re.search(r"(?:blocks|layers|h)\.([0-9]{1,4})(?:\.|$)", said["hook"].value)):
        yield Inferred("layer", int(match[1]), f"{said['hook'].leaf.key}: {said['hook'].value}")
    status = str(said["status"].value).lower() if "status" in said else ""
    if re.search(r"\bcanonical\b", status) and not re.search(r"\b(?:not|non|no)\b", status):
        yield Inferred("canonical", True, f"status: {said['status'].value}")
    if "architecture" in said and str(said["architecture"].leaf.value).lower().startswith("tied"):
        yield Inferred("tied", True, f"{said['architecture'].leaf.key}: {said['architecture'].leaf.value}")


def _first(found: Iterable[Inferred], said: Mapping[str, Said]) -> dict[str, Inferred]:
    """Return the first inference of each field; variants are several words, of which each tells something."""
    kept: dict[str, Inferred] = {}
    for one in found:
        before = kept.get(one.field)
        if one.field in said and one.field != "kind":
            continue
        if before is None:
            kept[one.field] = one
        elif one.field == "variant" and str(one.value) not in str(before.value):
            kept["variant"] = Inferred("variant", f"{before.value}-{one.value}", f"{before.because}, {one.because}")
    return kept
