"""Where every value of an inventory went: into the manifest, or among what could not be placed. Nothing is lost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from saereg.registry.foreign.document import Inventory, Leaf
from saereg.registry.foreign.placing import Placement, Unplaced

NO_FIELD = "the manifest has no field for it"


@dataclass(frozen=True, slots=True)
class Moved:
    """A value that stands in the manifest.

    Attributes:
        leaf: where it stood.
        pointer: where it stands.
        became: what stands there.
    """

    leaf: Leaf
    pointer: str
    became: Any


@dataclass(frozen=True, slots=True)
class Supposed:
    """A value of the manifest that the inventory does not say in so many words.

    Attributes:
        pointer: where it stands in the manifest.
        value: the value.
        because: what it was read from, or which option gave it.
    """

    pointer: str
    value: Any
    because: str


@dataclass(frozen=True)
class Upgraded:
    """A manifest made of an inventory.

    Attributes:
        document: the manifest, as plain values.
        moved: values that were taken over.
        unplaced: values that were not, and why.
        supposed: values that it has beside.
        nothing: cells that say nothing.
    """

    document: dict[str, Any]
    moved: tuple[Moved, ...]
    unplaced: tuple[Unplaced, ...]
    supposed: tuple[Supposed, ...]
    nothing: tuple[Leaf, ...]


@dataclass
class Account:
    """What is noted while a manifest is made."""

    moved: dict[str, Moved] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    supposed: dict[str, Supposed] = field(default_factory=dict)
    lacking: dict[str, list[str]] = field(default_factory=dict)

    def move(self, leaf: Leaf, pointer: str, became: Any) -> None:  # noqa: ANN401 - a value of JSON
        """Note that a value was taken over; what all rows say is noted once."""
        became = list(became) if isinstance(became, tuple) else became
        self.moved.setdefault(leaf.pointer, Moved(leaf, pointer, became))

    def suppose(self, pointer: str, value: Any, because: str) -> None:  # noqa: ANN401
        """Note a value that the inventory does not say."""
        self.supposed.setdefault(pointer, Supposed(pointer, value, because))

    def refuse(self, leaf: Leaf, why: str) -> None:
        """Note why a value has no place, or not with all that it says."""
        self.reasons.setdefault(leaf.pointer, why)

    def lack(self, name: str, row: str) -> None:
        """Note that a field which the manifest needs is not known of a row."""
        self.lacking.setdefault(name, []).append(row)

    def closed(self, document: dict[str, Any], inventory: Inventory, placement: Placement) -> Upgraded:
        """Return the result: what was neither moved nor says nothing is unplaced, whatever the reason."""
        reasons = {one.leaf.pointer: one.why for one in placement.unplaced} | self.reasons
        silent = {leaf.pointer for leaf in placement.nothing}
        every = [*inventory.facts, *(leaf for row in inventory.rows for leaf in row.leaves)]
        return Upgraded(
            document,
            tuple(one for pointer, one in self.moved.items() if pointer not in self.reasons),
            tuple(_unplaced(every, self.moved, reasons, silent)),
            tuple(self.supposed.values()),
            tuple(leaf for leaf in placement.nothing if leaf.pointer not in reasons),
        )


def _unplaced(
    every: Iterable[Leaf], moved: Mapping[str, Moved], reasons: Mapping[str, str], silent: set[str]
) -> Iterable[Unplaced]:
    for leaf in every:
        if leaf.pointer in reasons:
            yield Unplaced(leaf, reasons[leaf.pointer])
        elif leaf.pointer not in moved and leaf.pointer not in silent:
            yield Unplaced(leaf, NO_FIELD)
