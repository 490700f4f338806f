"""What an emitter is told, and what it answers."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Wishes:
    """What the user asked for beside the release.

    Attributes:
        where: conditions on artifacts, as for `saereg ls --where`; all must hold.
        name: what the other registry shall call it.
        model: what the other registry calls the base model.
        files: root of a copy of the repository that holds files in the layout of the other library.
    """

    where: tuple[str, ...] = ()
    name: str | None = None
    model: str | None = None
    files: Path | None = None


@dataclass(frozen=True)
class LeftOut:
    """One artifact that the other registry cannot have.

    Attributes:
        id: the artifact.
        why: the reason, as half a sentence.
    """

    id: str
    why: str


@dataclass(frozen=True)
class Emitted:
    """What the other registry needs.

    Attributes:
        text: the document, which ends with a line end.
        count: artifacts in it.
        left_out: artifacts that are not in it.
        notes: what whoever sends it should know, one line each.
        rows: for a registry that has rows: release key → rows, as they stand in the text.
    """

    text: str
    count: int
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    rows: dict[str, dict[str, object]] = field(default_factory=dict)


def first_few(words: Iterable[str], most: int = 5) -> str:
    """Return words for a sentence; of many, the first ones and how many more there are."""
    listed = list(words)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
