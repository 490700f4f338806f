"""What an author says of a published version that should no longer be used. Nothing is ever deleted."""

from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from saereg.errors import UsageError
from saereg.schemas.document import Record
from saereg.schemas.names import ArtifactId

VERSION = r"^\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.\-]+)?$"
"""A semantic version."""


class Withdrawal(Record):
    """One version, or one artifact of it, that the author takes back."""

    version: str = Field(pattern=VERSION)
    """The published version."""
    artifact: ArtifactId | None = None
    """The artifact; null for the whole version."""
    kind: Literal["yanked", "deprecated"]
    """`yanked`: it is wrong, readers get it only when they ask for exactly it. `deprecated`: there is something
    better."""
    reason: str = Field(min_length=1, max_length=2000)
    """Why, for readers."""
    successor: str | None = None
    """What to use instead: a version, an artifact's id, or a reference such as `hf://org/repo@v1.1.0`."""
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    """Day, in UTC."""

    @classmethod
    def made(cls, **fields: str | None) -> Self:
        """Make a mark of what a user says.

        Raises:
            UsageError: with the first thing that does not fit.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = "".join(f"{part}: " for part in first["loc"][:1])
            raise UsageError(f"{name}{str(first['msg']).removeprefix('Value error, ')}") from None

    @model_validator(mode="after")
    def _another_one(self) -> Self:
        if self.successor is not None and self.successor in (self.version, f"v{self.version}"):
            raise ValueError("`successor` is the withdrawn version itself")
        return self
