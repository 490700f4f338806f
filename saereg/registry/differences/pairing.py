"""Which of the old ones is which of the new ones: nothing is paired that could be paired otherwise."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

Key = Callable[[T], Hashable | None]
"""What two things must have equal to be one; None: it says nothing of this one."""


@dataclass(frozen=True)
class Pairs(Generic[T]):
    """What was found.

    Attributes:
        pairs: (old, new, name of the key that they share), in the order of the new ones.
        removed: old ones without a new one, in their order.
        added: new ones without an old one, in their order.
        ambiguous: (name of a key, old ones, new ones) that share it so that several could be one; all of them are among
            the removed and added.
    """

    pairs: tuple[tuple[T, T, str], ...]
    removed: tuple[T, ...]
    added: tuple[T, ...]
    ambiguous: tuple[tuple[str, tuple[T, ...], tuple[T, ...]], ...] = ()


def paired(old: Sequence[T], new: Sequence[T], keys: Sequence[tuple[str, Key[T], Key[T]]]) -> Pairs[T]:
    """Return old and new ones in pairs: under each key in turn those of which it names exactly one on either side.

    Args:
        old: those before.
        new: those now.
        keys: (name, key of old ones, key of new ones), the surest first.
    """
    found: dict[int, tuple[T, T, str]] = {}
    lost, come = dict(enumerate(old)), dict(enumerate(new))
    unclear: dict[tuple[tuple[int, ...], tuple[int, ...]], str] = {}
    for name, key_of_old, key_of_new in keys:
        if not lost or not come:
            break
        before, now = _grouped(lost.items(), key_of_old), _grouped(come.items(), key_of_new)
        for key in (key for key in before if key in now):
            if len(before[key]) == len(now[key]) == 1:
                (a,), (b,) = before[key], now[key]
                found[b] = (lost.pop(a), come.pop(b), name)
            else:
                unclear.setdefault((tuple(before[key]), tuple(now[key])), name)
    left = [
        (name, tuple(lost[i] for i in olds), tuple(come[i] for i in news))
        for (olds, news), name in unclear.items()
        if lost.keys() >= set(olds) and come.keys() >= set(news)
    ]
    return Pairs(tuple(found[b] for b in sorted(found)), tuple(lost.values()), tuple(come.values()), tuple(left))


def _grouped(things: Iterable[tuple[int, T]], key_of: Key[T]) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for position, thing in things:
        key = key_of(thing)
        if key is not None:
            groups.setdefault(key, []).append(position)
    return groups
