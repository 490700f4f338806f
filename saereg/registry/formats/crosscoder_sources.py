"""What the sources of a crosscoder are called. Most layouts number them; their names change no number."""

from collections.abc import Sequence
from typing import Literal, cast

from saereg.errors import UsageError
from saereg.registry.readings.given import Given
from saereg.schemas.manifest import Sources
from saereg.schemas.semantics import Assumption

Axis = Literal["layer", "model"]


def named_sources(
    given: Given, count: int, axis: Axis, names: Sequence[str] = ()
) -> tuple[Sources, tuple[Assumption, ...]]:
    """Return the sources, as given (`sources=base,chat`, `axis=model`), as named by the files, or numbered.

    Args:
        given: what the caller says.
        count: number of sources.
        axis: what the layout runs over, where the caller says nothing.
        names: what the files call them; empty: nothing.

    Raises:
        UsageError: when the caller names another number of sources.
    """
    said, assumed = given.text("sources"), []
    chosen = given.text("axis", ("layer", "model"))
    if said is not None:
        names = [name.strip() for name in said.split(",")]
        if len(names) != count or not all(names):
            raise UsageError(f"sources={said}: expected {count} names with commas between them")
    elif not names:
        names = [f"source-{index}" for index in range(count)]
        because = "the files number the sources and do not name them; this changes no number"
        assumed.append(Assumption(field="sources", value=", ".join(names), because=because))
    if chosen is None:
        because = "the files do not say what changes from source to source; this changes no number"
        assumed.append(Assumption(field="axis", value=axis, because=because))
    return Sources(axis=cast(Axis, chosen or axis), sites=tuple(map(as_key, names))), tuple(assumed)


def as_key(name: str) -> str:
    """Return a name in the characters that a key may have."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in name).lstrip("_.-")
    return plain[:120] or "source"
