"""The list of sources that a catalogue keeps beside it, to be built anew from."""

from typing import Literal

from pydantic import Field

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion


class ListedSource(Record):
    """One source, as its reader takes it."""

    kind: Literal["folder", "hub", "saelens", "inventory"]
    """What it is."""
    locator: str = Field(min_length=1)
    """Absolute path, `org/repo`, `sae_lens`, or `hf://org/repo/path`."""
    revision: str = ""
    """Branch, tag or commit that was asked for."""


class CatalogSources(Document):
    """Sources of a catalogue. Private to saereg: nothing else should read it."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    sources: tuple[ListedSource, ...]
    """Each source once."""
