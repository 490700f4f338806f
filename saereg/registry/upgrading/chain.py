"""Which version of a document follows which. Within one major version each link changes plain values, and no more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from saereg.errors import UsageError
from saereg.registry.foreign.document import make_of
from saereg.schemas.document import SCHEMA_VERSION

FOREIGN = "0"
"""Version that an inventory of another make counts as."""


@dataclass(frozen=True)
class Link:
    """One step to a later version.

    Attributes:
        to: the later version.
        what: what changes, in a sentence.
        change: the document of the later version; without its `schema_version`. None for inventories, which
            `saereg.registry.upgrading.manifest.manifest_of` reads: it needs to be told what they do not say.
    """

    to: str
    what: str
    change: Callable[[dict[str, Any]], dict[str, Any]] | None


CHAIN: Mapping[str, Link] = {
    FOREIGN: Link("1.0", "rows of another make's index.json or manifest.json become a manifest", None),
}
"""Version → the link to the next one. A later schema adds its own: `"1.0": Link("1.1", …)`."""


def version_of(value: object) -> str | None:
    """Return the version of a document: `0` for an inventory of another make, None for what is no document at all.

    A document of ours without `schema_version` is one of today: the schema's default.
    """
    make = make_of(value)
    if make == "foreign":
        return FOREIGN
    return str(value.get("schema_version", SCHEMA_VERSION)) if make == "ours" and isinstance(value, dict) else None


def climb(
    value: dict[str, Any], source: object, chain: Mapping[str, Link] = CHAIN, newest: str = SCHEMA_VERSION
) -> tuple[dict[str, Any], tuple[Link, ...]]:
    """Return a document of ours in the newest version, and the links that led there; none where it is the newest.

    Args:
        value: the document, as plain values; it is not changed.
        source: its name, for messages.
        chain: version → link to the next.
        newest: the last version.

    Raises:
        UsageError: when it is of a version later than the newest, or of one that never was.
    """
    version, links = str(value.get("schema_version", newest)), list[Link]()
    if _number(version, source) > _number(newest, source):
        raise UsageError(
            f"{source}: schema version {version} is later than {newest}, the last that this saereg knows;"
            " use the saereg that wrote it, or a later one"
        )
    while version != newest:
        link = chain.get(version)
        if link is None or link.change is None:
            raise UsageError(f"{source}: there never was a schema version {version}; the last is {newest}")
        links.append(link)
        version = link.to
        value = {**link.change(dict(value)), "schema_version": version}
    return value, tuple(links)


def _number(version: str, source: object) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split(".", 1))
    except ValueError:
        raise UsageError(f"{source}: {version!r} is no schema version, such as {SCHEMA_VERSION}") from None
