"""Some artifacts in memory, in order: narrowed by conditions, sorted, grouped, compared."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from saereg.registry.conditions.fields import ALIASES, FIELDS, SMALLER_IS_BETTER, Basis, resolve_field
from saereg.registry.conditions.memory import meets
from saereg.registry.conditions.tree import Condition
from saereg.registry.found import A, Aim, Count, Found, HasFields, Order, absent_last, best_steps, known_basis, rank

__all__ = ["ALIASES", "FIELDS", "SMALLER_IS_BETTER", "Found", "HasFields", "Selection", "meeting", "resolve_field"]


@dataclass(frozen=True)
class Selection(Found[A]):
    """Some artifacts in memory, in order.

    Attributes:
        artifacts: they.
        basis: whose numbers count; see `Found.basis`.
    """

    artifacts: tuple[A, ...]
    basis: Basis | None = None

    def __iter__(self) -> Iterator[A]:
        return iter(self.artifacts)

    def __len__(self) -> int:
        return len(self.artifacts)

    @overload
    def __getitem__(self, position: int) -> A: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[A, ...]: ...
    def __getitem__(self, position: int | slice) -> A | tuple[A, ...]:
        """Return the one at a place, or several."""
        return self.artifacts[position]

    def of(self, basis: Basis | None) -> "Selection[A]":
        """Return the same artifacts with the numbers of one basis; conditions that were asked before stay answered."""
        return Selection(self.artifacts, known_basis(basis))

    def meeting(self, condition: Condition) -> "Selection[A]":
        """Return those that also meet a condition."""
        return self._kept(a for a in self.artifacts if meets(condition, self._fields(a)))

    def ordered(self, orders: Sequence[Order]) -> "Selection[A]":
        """Return them sorted by some fields, the first one first; equals stay as they are."""
        found = list(self.artifacts)
        for by in reversed(orders):
            values = {id(a): self._fields(a)[by.field] for a in found}
            present = [a for a in found if values[id(a)] is not None]
            present.sort(key=lambda a, values=values: values[id(a)], reverse=by.down)  # type: ignore[misc]
            found = [*present, *(a for a in found if values[id(a)] is None)]
        return self._kept(found)

    def rows(self, fields: Sequence[str], limit: int | None = None) -> Iterator[tuple[Any, ...]]:
        """Yield some fields of each; of the first `limit` only."""
        for one in self.artifacts[:limit]:
            values = self._fields(one)
            yield tuple(values[name] for name in fields)

    def counted(self, fields: Sequence[str], best: Aim | None = None) -> list[Count]:
        """Return how many there are of each combination of values, sorted by them; absent values come last."""
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for *values, value in self.rows((*fields, best.field if best else "id")):
            groups.setdefault(tuple(values), []).append(value)
        return sorted((Count(values, len(them), _best(them, best)) for values, them in groups.items()), key=absent_last)

    def undominated(self, first: Aim, second: Aim) -> "Selection[A]":
        """Return those that none beats in one field without being worse in the other, the best in the first first."""
        points = [
            (rank(x, first), rank(y, second), n)
            for n, (x, y) in enumerate(self.rows((first.field, second.field)))
            if x is not None and y is not None
        ]
        kept = {point[:2] for point in best_steps(sorted(points))}
        return self._kept(self.artifacts[n] for x, y, n in sorted(points) if (x, y) in kept)

    def _kept(self, artifacts: Iterable[A]) -> "Selection[A]":
        return Selection(tuple(artifacts), self.basis)

    def _fields(self, one: A) -> dict[str, Any]:
        return one.fields if self.basis is None else one.fields_by(self.basis)


def _best(values: Iterable[Any], by: Aim | None) -> float | None:
    if by is None:
        return None
    return min((value for value in values if value is not None), key=lambda value: rank(value, by), default=None)


def meeting(selection: Selection[A], conditions: Iterable[str]) -> Selection[A]:
    """Return the artifacts that meet every condition, each written as for `saereg.registry.conditions.parsing`.

    Raises:
        UsageError: when one is no condition.
        UnknownNameError: when a field does not exist.
    """
    return selection.where(*conditions)
