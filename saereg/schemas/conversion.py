"""conversion.json: what a dictionary was converted from, what was assumed, and the proof that it is the same."""

from typing import Literal

from pydantic import Field

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256
from saereg.schemas.index import GoldenFacts, RoundTripTensor
from saereg.schemas.recipe import SourceTensor
from saereg.schemas.semantics import Assumption, Semantics


class ConvertedFile(Record):
    """One file of the source or of the result."""

    name: str
    """Name in its folder."""
    size: int = Field(ge=0)
    """Bytes."""
    sha256: Sha256
    """Digest of the bytes."""


class Conversion(Document):
    """One dictionary, from one layout to another."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    generated_by: dict[str, str]
    """Name → version of the software that converted."""
    source_format: str
    """Layout it was read in."""
    source: tuple[ConvertedFile, ...]
    """Weight files it was read from."""
    format: str
    """Layout it was written in."""
    written: tuple[ConvertedFile, ...]
    """Weight files that were written."""
    semantics: Semantics
    """The function, switch by switch."""
    assumptions: tuple[Assumption, ...]
    """What the source does not say."""
    plan: dict[str, SourceTensor]
    """Written tensor → where it comes from; with `file: ` in front where several weight files were written."""
    tensors: dict[str, RoundTripTensor]
    """Written tensor → comparison of its bytes, read back, with those of the source."""
    left_out: tuple[str, ...] = ()
    """Tensors of the source that are none of the dictionary's."""
    golden: GoldenFacts | None = None
    """The publisher's own forward in the source's names, replayed on what was written."""
    read_back: Literal["equal"] = "equal"
    """What was written, read again, has the configuration and the tensors that were to be written."""
