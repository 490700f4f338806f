"""What can be done with some artifacts, wherever they are: narrow, sort, group, compare them, make a table of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, Self, TypeVar, overload

from saereg.errors import UsageError
from saereg.registry.conditions.fields import (
    DESCRIBING,
    FIELDS,
    KINDS,
    METRICS,
    SMALLER_IS_BETTER,
    Basis,
    resolve_field,
)
from saereg.registry.conditions.keywords import by_keywords
from saereg.registry.conditions.parsing import parse
from saereg.registry.conditions.tree import Absent, And, Compare, Condition, both

if TYPE_CHECKING:
    from saereg.registry.frames import ArrowTable, PandasFrame, PolarsFrame


class HasFields(Protocol):
    """Whatever can be selected: it has the flat fields of `FIELDS`."""

    @property
    def fields(self) -> dict[str, Any]:
        """Field → value; absent ones are None."""

    def fields_by(self, basis: Basis | None) -> dict[str, Any]:
        """Return its fields with the numbers of one basis only."""


A = TypeVar("A", bound=HasFields)


@dataclass(frozen=True, slots=True)
class Order:
    """A field to sort by; artifacts without a value come last whichever way."""

    field: str
    down: bool = False


@dataclass(frozen=True, slots=True)
class Aim:
    """A field of which small or large values are the good ones."""

    field: str
    smaller: bool


class Count(NamedTuple):
    """Values of some fields, how many artifacts have them, and the best value of another field among these."""

    values: tuple[Any, ...]
    size: int
    best: float | None = None


class Found(ABC, Generic[A]):
    """Some artifacts, in order: a sequence that can be narrowed, sorted, grouped and turned into a table.

    A condition on a field that an artifact does not have is neither met nor not met, except `is absent`.
    """

    @property
    @abstractmethod
    def basis(self) -> Basis | None:
        """Whose numbers the fields of metrics are; None: measured ones, and where there is none stated ones."""

    @abstractmethod
    def __iter__(self) -> Iterator[A]: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, position: int) -> A: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[A, ...]: ...
    @abstractmethod
    def __getitem__(self, position: int | slice) -> A | tuple[A, ...]:
        """Return the one at a place, or several."""

    @abstractmethod
    def meeting(self, condition: Condition) -> Self:
        """Return those that also meet a condition."""

    @abstractmethod
    def ordered(self, orders: Sequence[Order]) -> Self:
        """Return them sorted by some fields, the first one first; equals stay as they are."""

    @abstractmethod
    def rows(self, fields: Sequence[str], limit: int | None = None) -> Iterator[tuple[Any, ...]]:
        """Yield some fields of each; of the first `limit` only."""

    @abstractmethod
    def counted(self, fields: Sequence[str], best: "Aim | None" = None) -> "list[Count]":
        """Return how many there are of each combination of values, sorted by them; absent values come last.

        Args:
            fields: full names of fields.
            best: a field of which the best value among them is wanted too.
        """

    @abstractmethod
    def undominated(self, first: Aim, second: Aim) -> Self:
        """Return those that none beats in one field without being worse in the other, the best in the first first."""

    def find(self, *, basis: Basis | None = None, **conditions: object) -> Self:
        """Return those that also meet these conditions, e.g. `find(kind="sae", layer=2, l0__lt=64)`.

        Operators are `lt`, `le`, `gt`, `ge`, `ne`, `in`, `contains` and `like`, written `field__operator`.

        Args:
            basis: `measured` or `stated`: take numbers of this basis only. Default: as before.
            conditions: what they must meet; None is what is absent.

        Raises:
            UnknownNameError: for a field or operator that does not exist.
            UsageError: when a field cannot be compared so.
        """
        found = self.of(basis) if basis is not None else self
        return found.meeting(by_keywords(conditions))

    @abstractmethod
    def of(self, basis: Basis | None) -> Self:
        """Return the same artifacts with the numbers of one basis; conditions that were asked before stay answered."""

    def where(self, *conditions: str) -> Self:
        """Return those that also meet conditions such as `l0 < 300 and ev > 0.9`.

        Raises:
            UsageError: when one is no condition, with the column at which it stops being one.
            UnknownNameError: when a field does not exist.
        """
        return self.meeting(both(And(()), *(parse(text) for text in conditions)))

    def sort(self, *fields: str) -> Self:
        """Return them sorted by fields, the first one first; `-field` reverses. Absent values come last.

        Raises:
            UnknownNameError: when a field does not exist.
            UsageError: when it has no order.
        """
        return self.ordered([order(name) for name in fields])

    def best(self, metric: str = "explained_variance") -> A:
        """Return the one with the best value of a metric; of several the first.

        Raises:
            UsageError: when none has a value.
        """
        name = resolve_field(metric)
        ranked = self.sort(name if name in SMALLER_IS_BETTER else f"-{name}")
        for one in ranked:
            if one.fields_by(self.basis)[name] is not None:
                return one
            break
        said = f" {self.basis}" if self.basis else ""
        raise UsageError(f"no artifact of the {len(self)} selected has a{said} {name}")

    def group(self, *fields: str) -> "Groups[Self]":
        """Return values → the artifacts that have them; of several fields the keys are tuples.

        Raises:
            UnknownNameError: when a field does not exist.
        """
        if not fields:
            raise UsageError("group needs a field")
        names = tuple(resolve_field(name) for name in fields)
        return Groups(self, names, {one.values: one.size for one in self.counted(names)})

    def frontier(self, first: str = "l0", second: str = "explained_variance") -> Self:
        """Return those that no other beats in one of two fields without being worse in the other.

        Equal ones all stay; those without one of the values are left out. They come with the best in `first` first.

        Args:
            first: a field. Of metrics it is known whether small or large is good; `+field` says that large values are
                good, `-field` that small ones are.
            second: another one.

        Raises:
            UsageError: when it is not known which values of a field are good ones, or it is no number.
        """
        return self.undominated(aim(first), aim(second))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return every field of each."""
        return [dict(zip(FIELDS, row, strict=True)) for row in self.rows(FIELDS)]

    def to_arrow(self) -> "ArrowTable":
        """Return a table of pyarrow, one row each, one column for every field.

        Raises:
            MissingExtraError: without the `tables` extra.
        """
        from saereg.registry.frames import arrow

        return arrow(self.rows(FIELDS))

    def to_pandas(self) -> "PandasFrame":
        """Return a data frame of pandas with nullable types: a whole number that is absent makes no column of floats.

        Raises:
            MissingExtraError: without the `tables` extra.
        """
        from saereg.registry.frames import pandas_frame

        return pandas_frame(self.rows(FIELDS))

    def to_polars(self) -> "PolarsFrame":
        """Return a data frame of polars.

        Raises:
            MissingExtraError: without the `tables` extra.
        """
        from saereg.registry.frames import polars_frame

        return polars_frame(self.rows(FIELDS))


S = TypeVar("S", bound=Found[Any])


@dataclass(frozen=True)
class Groups(Mapping[Any, S]):
    """Values of one or several fields → the artifacts that have them, sorted by the values.

    Attributes:
        whole: what was grouped.
        fields: by which fields.
        sizes: values → how many there are.
    """

    whole: S = field(repr=False)
    fields: tuple[str, ...]
    sizes: dict[tuple[Any, ...], int] = field(repr=False)

    def __iter__(self) -> Iterator[Any]:
        return (key[0] if len(self.fields) == 1 else key for key in self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, key: Any) -> S:  # noqa: ANN401
        values = (key,) if len(self.fields) == 1 else key
        if values not in self.sizes:
            raise KeyError(key)
        parts = (
            Absent(name) if value is None else Compare(name, "same", value)
            for name, value in zip(self.fields, values, strict=True)
        )
        return self.whole.meeting(both(And(()), *parts))

    def count(self) -> dict[Any, int]:
        """Return values → how many artifacts have them."""
        return dict(zip(self, self.sizes.values(), strict=True))


def absent_last(one: Count) -> tuple[tuple[bool, Any], ...]:
    """Return what counts are sorted by: their values, and absent ones last."""
    return tuple((value is None, 0 if value is None else value) for value in one.values)


def best_steps(points: Iterable[Sequence[float]]) -> Iterator[Sequence[float]]:
    """Yield of points, sorted by both coordinates with small ones first, those that no other dominates, once each."""
    lowest: float | None = None
    for point in points:
        if lowest is None or point[1] < lowest:
            lowest = point[1]
            yield point


def rank(value: float, by: Aim) -> float:
    """Return a number that is small where a value is good."""
    return value if by.smaller else -value


def order(name: str) -> Order:
    """Return what `field` or `-field` says of an order.

    Raises:
        UnknownNameError: when there is no such field.
        UsageError: when it has no order.
    """
    full = resolve_field(name.strip().removeprefix("-"))
    if KINDS[full] == "steps":
        raise UsageError(f"{full} is a list of steps, which has no order; sort by n_sources or another field")
    return Order(full, name.strip().startswith("-"))


def aim(name: str) -> Aim:
    """Return which values of a field are good ones: what its sign says, else what the metric says.

    Raises:
        UnknownNameError: when there is no such field.
        UsageError: when that is not known, or the field is no number.
    """
    sign, plain = (name[0], name[1:]) if name[:1] in ("+", "-") else ("", name)
    full = resolve_field(plain.strip())
    if KINDS[full] not in ("whole", "number"):
        raise UsageError(f"{full} is no number, so there is no frontier of it")
    if not sign and (full in DESCRIBING or full not in METRICS):
        raise UsageError(f"it depends on you whether small values of {full} are good ones: write -{full} or +{full}")
    return Aim(full, sign == "-" or (not sign and full in SMALLER_IS_BETTER))


def known_basis(basis: str | None) -> Basis | None:
    """Return a basis.

    Raises:
        UsageError: when there is no such basis.
    """
    if basis == "measured":
        return "measured"
    if basis == "stated":
        return "stated"
    if basis is None:
        return None
    raise UsageError(f"basis {basis!r}: expected measured or stated")
