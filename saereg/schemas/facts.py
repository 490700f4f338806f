"""facts.yaml: what is known of families of models, each fact with its source and the day it was looked up."""

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion
from saereg.schemas.names import Key
from saereg.schemas.schedule import parse_schedule

Day = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")]
"""A day, in UTC."""

Text = Annotated[str, Field(min_length=1, max_length=500)]
"""A short text of one line."""

ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*(/[A-Za-z0-9][A-Za-z0-9_.\-]*)?$", max_length=200)]
"""A model: a repository id on the Hub, or a TransformerLens name."""

Repo = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*/[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=200)]
"""A repository on the Hub."""

Pattern = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.\-*]*$", max_length=100)]
"""The last part of a model's name, lower case; `*` stands for any characters."""

Subject = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9+_\-]*$", max_length=60)]
"""What a column of the table is about: `checkpoints`, `saes`, or the name of a benchmark."""

FIXED = ("checkpoints", "saes")
"""Columns that are no benchmarks."""


class Citation(Record):
    """Where facts come from."""

    title: Text
    """Title of the page or paper."""
    url: str = Field(pattern=r"^https://[^\s<>\"'|]+$", max_length=500)
    """Where it can be read; for a file of a repository at a commit."""
    date: str | None = Field(default=None, pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$")
    """When it was written, as far as it says so."""
    retrieved: Day
    """When it was looked up for these facts."""
    note: Text | None = None
    """What readers should know of it, e.g. that a copy was read."""


class Family(Record):
    """Models that were trained together."""

    id: Key
    """Short name, e.g. `pythia`."""
    name: Text
    """As it is written."""
    organisation: Text
    """Who trained them."""
    owners: tuple[Key, ...] = ()
    """Owners of its repositories on the Hub: a model of another owner is not taken for one of the family."""
    models: tuple[ModelId, ...] = Field(min_length=1)
    """Models that there are, as examples; every one must fit a pattern."""
    patterns: tuple[Pattern, ...] = Field(min_length=1)
    """What the last part of a model's name looks like, in any case."""
    aliases: dict[str, str] = Field(default_factory=dict)
    """Other name of a model, e.g. that of TransformerLens → last part of its id on the Hub, both lower case."""


class _Fact(Record):
    id: Key
    """Name of the fact; a later file replaces the fact of this name."""
    family: Key
    """Family that it is about."""
    source: Key
    """Key in `sources`."""
    confirmed: bool = True
    """Whether the source was read and says so; false: others cite it for this."""
    note: Text | None = None
    """What else should be known."""


class CheckpointFact(_Fact):
    """Checkpoints of training are public."""

    kind: Literal["checkpoints"]
    """What kind of fact it is."""
    models: tuple[ModelId, ...] = Field(min_length=1)
    """Models that have them."""
    schedule: str | tuple[int, ...] | None = None
    """Steps: a name such as `pythia-154`, `every:N:LAST`, or the steps; null where only their number is known."""
    count: int | None = Field(default=None, gt=0)
    """Number of steps, where the schedule is not given."""
    access: Text
    """How to get one, e.g. `revision=step3000`."""
    retrained: bool = False
    """Whether others trained the model again; these are not the weights that the organisation published."""

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if (self.schedule is None) == (self.count is None):
            raise ValueError("write either `schedule` or `count`")
        if self.schedule is not None and parse_schedule(self.schedule).size is None:
            raise ValueError("a rule of a schedule needs its last step here: every:N:LAST")
        return self

    @property
    def steps(self) -> int:
        """Number of steps."""
        size = self.count if self.schedule is None else parse_schedule(self.schedule).size
        return size or 0


class DictionaryFact(_Fact):
    """Somebody trained dictionaries."""

    kind: Literal["dictionaries"]
    """What kind of fact it is."""
    models: tuple[ModelId, ...] = Field(min_length=1)
    """Models that they are of."""
    weights: Literal["public", "unreleased"]
    """Whether others can get them."""
    repo: Repo | None = None
    """Repository on the Hub."""
    what: Text
    """What they are."""

    @model_validator(mode="after")
    def _place(self) -> Self:
        if self.weights == "public" and self.repo is None:
            raise ValueError("public weights have a `repo`")
        return self


class BenchmarkFact(_Fact):
    """A result of a benchmark."""

    kind: Literal["benchmark"]
    """What kind of fact it is."""
    benchmark: Subject
    """Name, e.g. MBPP."""
    model: ModelId
    """Model that was evaluated."""
    metric: Text
    """What was counted, e.g. pass@1."""
    value: float | None = None
    """The number; null where the source says only that there is one."""
    unit: Literal["percent", "fraction", "points"] = "percent"
    """Unit of the number."""
    setting: Text | None = None
    """How it was evaluated, e.g. `3-shot`."""


class AbsenceFact(_Fact):
    """A source says that there is none."""

    kind: Literal["absence"]
    """What kind of fact it is."""
    about: Subject
    """Of what there is none: `checkpoints`, `saes`, or a benchmark."""
    text: Text
    """What the source says, in short."""


Fact = Annotated[CheckpointFact | DictionaryFact | BenchmarkFact | AbsenceFact, Field(discriminator="kind")]
"""One fact; its `kind` says which."""


class Facts(Document):
    """Families of models and what is known of them."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    sources: dict[Key, Citation] = Field(default_factory=dict)
    """Key → where facts come from."""
    families: tuple[Family, ...] = ()
    """Families, in the order of the table."""
    facts: tuple[Fact, ...] = ()
    """What is known."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for what, ids in (("family", [f.id for f in self.families]), ("fact", [f.id for f in self.facts])):
            if twice := [name for name, count in Counter(ids).items() if count > 1]:
                raise ValueError(f"the {what} {twice[0]!r} stands twice")
        return self
