"""Records as plain values, leaf by leaf."""

from collections.abc import Callable, Iterator, Mapping

from saereg.registry.differences.rules import change
from saereg.schemas.difference import Change, ChangeKind, Value
from saereg.schemas.document import Record


def plain(record: Record) -> dict[str, Value]:
    """Return a record as JSON has it; what is absent is left out."""
    dumped: dict[str, Value] = record.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


WHOLE = frozenset({"source_checkpoint.tensors"})
"""Objects that are one value: which tensor was made from which is read together."""


def leaves(values: Mapping[str, Value], prefix: str = "") -> dict[str, Value]:
    """Return path → value of everything in nested objects, e.g. `normalization.kind`; a list is one value."""
    found: dict[str, Value] = {}
    for name, value in values.items():
        if isinstance(value, dict) and f"{prefix}{name}" not in WHOLE:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def leaf_changes(
    old: Mapping[str, Value], new: Mapping[str, Value], kind_of: Callable[[str], ChangeKind], prefix: str = ""
) -> Iterator[Change]:
    """Yield a change for every leaf that is not the same, in the order of the old ones, then of the new ones.

    Args:
        old: leaves before.
        new: leaves now.
        kind_of: path of a leaf → kind of change.
        prefix: what stands before the path.
    """
    for path in dict.fromkeys((*old, *new)):
        before, now = old.get(path), new.get(path)
        if before != now or type(before) is not type(now):
            yield change(kind_of(path), prefix + path, before, now)
