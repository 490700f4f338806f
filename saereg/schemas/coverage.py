"""What `saereg coverage --format json` prints: every cell of the table, by which rule, from what."""

from typing import Literal

from pydantic import Field

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion

Mark = Literal["yes", "partial", "no", "unknown"]
"""What a cell says."""


class Evidence(Record):
    """One thing that a cell is decided from, or that stands beside it."""

    kind: Literal["catalogue", "fact"]
    """`catalogue`: rows, or their absence, in one of its sources. `fact`: a sourced fact."""
    text: str
    """What it says."""
    source: str
    """Title of a fact's source, or kind and locator of a source of the catalogue."""
    url: str | None = None
    """Where a fact's source can be read."""
    date: str | None = None
    """When a fact's source was written."""
    retrieved: str
    """When it was looked up, or when the source of the catalogue was synced."""
    pin: str | None = None
    """Commit or sha256 of what was synced."""
    fact: str | None = None
    """Id of the fact."""
    rows: int | None = Field(default=None, ge=0)
    """Rows of the catalogue."""
    releases: tuple[str, ...] = ()
    """Releases that they are of."""
    confirmed: bool = True
    """False: the source was not read, or does not say so in words."""
    decides: bool = False
    """Whether the rule rests on it."""
    note: str | None = None
    """What else should be known."""


class CoverageCell(Record):
    """One cell."""

    mark: Mark
    """What it says."""
    rule: str
    """Id of the rule that decided."""
    summary: str | None = None
    """The number in short, e.g. `154 steps`."""
    confirmed: bool = True
    """False: what decides was not confirmed."""
    evidence: tuple[Evidence, ...] = ()
    """From what, that which decides first."""


class CoverageRow(Record):
    """One family, or one model."""

    id: str
    """Id of the family, or the model."""
    name: str
    """As it is shown."""
    family: str | None = None
    """Family of a model; null where it is in none."""
    models: tuple[str, ...] = ()
    """Models of the catalogue that were counted, as their sources write them."""
    cells: dict[str, CoverageCell]
    """Column → cell; `all` is the least of the others."""


class CoverageRule(Record):
    """How a cell is decided."""

    id: str
    """Id, e.g. `checkpoints-yes`."""
    column: str
    """Column: `checkpoints`, `saes`, `benchmark` or `all`."""
    mark: Mark | None = None
    """What a cell says by it; null: the least mark of the others."""
    sentence: str
    """The rule."""


class Coverage(Document):
    """The table."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    catalogue: str | None = None
    """File of the catalogue; null: facts only."""
    by: Literal["family", "model"]
    """What a row is."""
    columns: tuple[str, ...]
    """Columns, in order."""
    rows: tuple[CoverageRow, ...]
    """Rows, in order."""
    unplaced: tuple[str, ...] = ()
    """Models of the catalogue that are in no family."""
    nameless: int = Field(default=0, ge=0)
    """Rows of the catalogue that name no model."""
    rules: tuple[CoverageRule, ...]
    """Every rule, in the order in which they are tried; of a column the first that holds decides."""
