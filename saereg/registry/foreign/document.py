"""Which documents are inventories: told by their shape, since every publisher names the keys otherwise. Pure.

An inventory is a list of objects, or an object that holds one; of these objects, the rows, some name an id or a path
and one thing more. What else the document says, it says of all rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from saereg.registry.foreign.words import field_of_row

Make = Literal["ours", "foreign", "neither"]

LISTS = ("artifacts", "saes", "rows", "items", "entries", "inventory", "dictionaries", "models", "files")
"""Keys that hold the rows, the likeliest first; any other key is taken where it holds the only list of objects."""

SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of a document: a scalar, a list of scalars, or an empty object.

    Attributes:
        pointer: JSON pointer of it.
        keys: keys that lead to it, from its row or from the document.
        value: what stands there.
    """

    pointer: str
    keys: tuple[str, ...]
    value: Any

    @property
    def key(self) -> str:
        """Its keys as they are shown: `quality.mean_l0`."""
        return ".".join(self.keys)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an inventory.

    Attributes:
        pointer: JSON pointer of it.
        leaves: its values.
        name: its key, where the rows are the values of an object.
    """

    pointer: str
    leaves: tuple[Leaf, ...]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """A document of rows.

    Attributes:
        rows: its rows.
        facts: what it says beside them.
    """

    rows: tuple[Row, ...]
    facts: tuple[Leaf, ...]


def make_of(value: object) -> Make:
    """Tell whose document it is: one of saereg's (of whatever version), an inventory of another make, or neither."""
    if is_ours(value):
        return "ours"
    return "foreign" if parse(value) is not None else "neither"


OURS = ("release", "generated_by", "sites", "base_models")
"""Objects that only a manifest or index of saereg has; it need not have all of them to be meant as one."""


def is_ours(value: object) -> bool:
    """Whether a document is, or was meant to be, a manifest or index of saereg."""
    if not isinstance(value, dict) or not ("$schema" in value or isinstance(value.get("schema_version"), str)):
        return False
    return any(isinstance(value.get(key), dict) for key in OURS)


def parse(value: object) -> Inventory | None:
    """Return the rows of an inventory, or None where a document has not its shape."""
    place = _rows_of(value)
    if place is None:
        return None
    key, listed = place
    prefix = "" if key is None else f"/{_escaped(key)}"
    rows = tuple(
        Row(f"{prefix}/{_escaped(str(name))}", tuple(leaves(row, f"{prefix}/{_escaped(str(name))}")), _named(name))
        for name, row in (listed.items() if isinstance(listed, dict) else enumerate(listed))
    )
    if not any(_is_of_dictionary(row) for row in rows):
        return None
    rest = {name: other for name, other in value.items() if name != key} if isinstance(value, dict) else {}
    return Inventory(rows, tuple(leaves(rest)) if rest else ())


def leaves(value: object, pointer: str = "", keys: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield every value in what a document holds, in order; together they are all that it says."""
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from leaves(child, f"{pointer}/{_escaped(key)}", (*keys, key))
    elif isinstance(value, list) and not all(isinstance(item, SCALARS) for item in value):
        for number, child in enumerate(value):
            yield from leaves(child, f"{pointer}/{number}", (*keys, str(number)))
    else:
        yield Leaf(pointer, keys, value)


def _rows_of(value: object) -> tuple[str | None, Any] | None:
    if isinstance(value, list):
        return (None, value) if _are_rows(value) else None
    if not isinstance(value, dict):
        return None
    holding = [key for key, child in value.items() if _are_rows(child)]
    known = [key for key in LISTS if key in holding]
    if known or len(holding) == 1:
        key = (known or holding)[0]
        return key, value[key]
    mapped = [key for key in LISTS if isinstance(value.get(key), dict) and _are_rows(list(value[key].values()))]
    return (mapped[0], value[mapped[0]]) if mapped else None


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) and row for row in value)


def _is_of_dictionary(row: Row) -> bool:
    """Whether a row names an id or a path, and something else of a dictionary."""
    fields = {field_of_row(leaf.keys) for leaf in row.leaves} - {None}
    named = row.name is not None or bool(fields & {"id", "path"})
    return named and bool(fields - {"id", "path", "name", "size", "weights_sha256", "model_revision"})


def _named(name: Any) -> str | None:  # noqa: ANN401 - a key or a position
    return name if isinstance(name, str) else None


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def at(value: object, pointer: str) -> object:
    """Return what stands at a pointer of a document.

    Raises:
        KeyError: when there is nothing.
    """
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise KeyError(pointer)
    return value
