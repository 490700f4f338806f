"""Data on which metrics are recomputed: what the rows are, where they come from, what was left out."""

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from saereg.schemas.document import Record, Sha256
from saereg.schemas.metrics import DType
from saereg.schemas.names import Key, ReleasePath

Preprocess = Literal["none", "center", "scale", "center_scale"]
"""What is done to rows before any dictionary sees them: at each source, take off the mean row; multiply by one number
so that the mean of ‖x‖² is d."""


MOST_ROWS, MOST_NUMBERS, MOST_ROW = 1 << 24, 1 << 36, 1 << 22
"""Most rows of a generator, most numbers in all of them, and most in one: more say nothing more of a dictionary, and a
release of a stranger could ask for a year of work."""

_NO_CHECKPOINT = re.compile(r"[\x00-\x1f\x7f\\]|^/|^[A-Za-z]:|^~|(?:^|/)\.{0,2}(?:/|$)")


def _checkpoint(value: str) -> str:
    """Refuse a name that leads out of the folder of checkpoints.

    Raises:
        ValueError: for an absolute path, `..` and the like.
    """
    if _NO_CHECKPOINT.search(value):
        raise ValueError("a revision, or a folder below that of the checkpoints: no '..', '.', backslash, first '/'")
    return value


class _Evaluation(Record):
    """What all evaluations have."""

    rows: int = Field(gt=0, le=10**9)
    """Rows of the data."""
    site: Key | None = None
    """Site they were collected at."""
    dataset: Key | None = None
    """Data set they come from."""
    excluded: tuple[str, ...] = ()
    """Tokens whose rows are not in the data, e.g. `bos`, `special`, `pad`."""
    preprocess: Preprocess = "none"
    """What was done to the rows, or is done when they are read: they are not in the units of the site then."""


class ActivationRows(_Evaluation):
    """Rows stored in the release."""

    source: Literal["activations"]
    """Kind of source."""
    path: ReleasePath
    """File in the release, or a folder of shards: safetensors files, read in the order of their names, in which `2`
    comes before `10`."""
    tensor: str = "x"
    """Name of the tensor of inputs, shape (rows, d_in), or (rows, n_sources, d_in) for a crosscoder."""
    target: str | None = None
    """Name of the tensor of targets, shape (rows, d_out), for a transcoder."""
    origin: Sha256 | None = None
    """Digest of the larger source that the rows were taken from, where `saereg build` made the file."""


class TokenRows(_Evaluation):
    """Rows that a model computes from tokens stored in the release."""

    source: Literal["tokens"]
    """Kind of source."""
    path: ReleasePath
    """Safetensors file in the release: `tokens` (n,) of all contexts one after another, special tokens included and
    no padding; `lengths` (contexts,); `kept` (n,), true at tokens that become rows, where some do not."""
    sites: tuple[Key, ...] = ()
    """Sites of the sources of a crosscoder, in their order, instead of `site`."""
    site_out: Key | None = None
    """Site of the targets, for a transcoder."""
    model_dtype: DType = "float32"
    """Type in which the model runs."""

    @model_validator(mode="after")
    def _names_its_sites(self) -> Self:
        if (self.site is None) == (not self.sites):
            raise ValueError("an evaluation of tokens needs `site`, or `sites` for a crosscoder, and not both")
        if self.sites and self.site_out is not None:
            raise ValueError("`site_out` goes with `site`: a crosscoder has no other targets than its sources")
        return self


class ParameterRows(_Evaluation):
    """Rows of a parameter tensor at some pretraining steps: row i is vocabulary entry i at every snapshot."""

    source: Literal["parameters"]
    """Kind of source."""
    tensor: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
    """Name of the tensor in the checkpoints, e.g. `embed_out.weight` for W_U of Pythia, (vocabulary, d_in)."""
    steps: tuple[int, ...] = Field(min_length=1)
    """Pretraining steps, in the order of the source axis."""
    revision: Annotated[str, AfterValidator(_checkpoint)] = Field(default="step{step}", max_length=200)
    """Revision on the Hub, or folder of local checkpoints, of a step; it stays below the folder that a user names."""
    sha256: tuple[Sha256, ...] = ()
    """Digest of the matrix at each of `steps`, of its bytes as the checkpoint has them: row by row, little-endian, in
    its own type. None at all: whatever a checkpoint of that name holds is taken."""

    @model_validator(mode="after")
    def _names_every_step(self) -> Self:
        if "{step}" not in self.revision and len(self.steps) > 1:
            raise ValueError("`revision` needs `{step}` in it, as there are several steps")
        if self.sha256 and len(self.sha256) != len(self.steps):
            raise ValueError(f"`sha256` has {len(self.sha256)} digests for {len(self.steps)} steps; one each, or none")
        return self


class SyntheticRows(_Evaluation):
    """Rows from a generator with a seed; their shape is what the dictionary reads."""

    source: Literal["synthetic"]
    """Kind of source."""
    rows: int = Field(gt=0, le=MOST_ROWS)
    """Rows to generate; at most 2^36 numbers are in all of them."""
    preprocess: Literal["none"] = "none"
    """Nothing is done to them: they are of any distribution that is wanted."""
    seed: int = Field(ge=0)
    """Seed."""
    distribution: Literal["normal", "sparse_directions"] = "normal"
    """`normal`: independent, mean 0 and variance 1. `sparse_directions`: sums of few of many random directions."""
    shape: tuple[Annotated[int, Field(gt=0, le=MOST_ROW)], ...] | None = Field(default=None, min_length=1, max_length=3)
    """Shape of one row where the dictionary leaves it open: (positions, d_in), or (heads, width) for `hook_z`."""

    @model_validator(mode="after")
    def _can_be_generated(self) -> Self:
        if problem := too_many(self.rows, self.shape or ()):
            raise ValueError(problem)
        return self


def too_many(rows: int, shape: tuple[int, ...]) -> str | None:
    """Return why rows of a shape are more than are generated, or None."""
    numbers = math.prod(shape)
    if numbers <= MOST_ROW and rows * numbers <= MOST_NUMBERS:
        return None
    return f"{rows} rows of {numbers} numbers are too many; at most 2^22 numbers are in a row, and 2^36 in all"


Evaluation = Annotated[ActivationRows | TokenRows | ParameterRows | SyntheticRows, Field(discriminator="source")]
"""Data on which metrics are recomputed."""

RECORD: TypeAdapter[Any] = TypeAdapter(Evaluation)
"""Reads one record."""
