"""parameters.json: what `saereg train snapshots` keeps beside its files. A working file, no part of a release."""

from typing import Self

from pydantic import Field, model_validator

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256
from saereg.schemas.evaluation import ParameterRows, Preprocess
from saereg.schemas.metrics import DType
from saereg.schemas.names import ReleasePath, Revision
from saereg.schemas.site import BaseModelRef


class StoredSnapshot(Record):
    """The parameter at one pretraining step: a safetensors file with the tensor `x`, shape (rows, d_in)."""

    step: int = Field(ge=0)
    """Pretraining step."""
    revision: str = Field(min_length=1)
    """Revision on the Hub, or name of the folder of the checkpoint."""
    path: ReleasePath
    """File in the folder."""
    sha256: Sha256
    """Digest of the file."""
    commit: Revision | None = None
    """Commit on the Hub that the revision was."""
    matrix_sha256: Sha256 | None = None
    """Digest of the matrix as the checkpoint has it, before any cast; null in files of earlier versions."""


class StoredParameter(Document):
    """One parameter tensor of a model at some steps of its pretraining, row by row the same vocabulary entry."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    model: BaseModelRef
    """The model; its schedule says of which steps there are checkpoints."""
    parameter: str = Field(min_length=1)
    """What the field calls it: `W_U`, `W_E`, or the tensor's own name."""
    tensor: str = Field(min_length=1)
    """Name of the tensor in the checkpoints, e.g. `embed_out.weight`."""
    revision: str = Field(min_length=1)
    """How revisions or folders are called, with `{step}` in it."""
    rows: int = Field(gt=0)
    """Rows of the tensor."""
    d_in: int = Field(gt=0)
    """Width of the tensor."""
    dtype: DType
    """Type in which it is stored."""
    tied: bool = False
    """Whether the checkpoints hold one matrix for W_U and W_E."""
    vocabulary: int | None = Field(default=None, gt=0)
    """Entries of the tokenizer, where it is known: rows behind them pad the matrix to a rounder size."""
    snapshots: tuple[StoredSnapshot, ...] = ()
    """The steps, rising."""
    target_steps: tuple[int, ...]
    """Steps that were asked for."""
    tool: dict[str, str] = Field(default_factory=dict)
    """Name → version of the software."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        steps = [snapshot.step for snapshot in self.snapshots]
        if steps != sorted(set(steps)):
            raise ValueError("`snapshots` must rise by step")
        return self

    def evaluation(self, steps: tuple[int, ...] | None = None, preprocess: Preprocess = "none") -> ParameterRows:
        """Return what a manifest says of these rows: it points back to the checkpoints, not to the files here.

        The checkpoints are pinned by the digest of the matrix at each step, where all of these steps have one.

        Args:
            steps: some of the steps; None: all that are stored.
            preprocess: what is done to the rows when they are read.
        """
        wanted = tuple(snapshot.step for snapshot in self.snapshots) if steps is None else steps
        known = {snapshot.step: snapshot.matrix_sha256 for snapshot in self.snapshots}
        digests = tuple(sha256 for step in wanted if (sha256 := known.get(step)) is not None)
        return ParameterRows(
            source="parameters",
            tensor=self.tensor,
            steps=wanted,
            revision=self.revision,
            rows=self.rows,
            preprocess=preprocess,
            sha256=digests if len(digests) == len(wanted) else (),
        )

    def unpinned(self) -> Self:
        """Return the same without digests of matrices, as earlier versions wrote it."""
        snapshots = tuple(one.model_copy(update={"matrix_sha256": None}) for one in self.snapshots)
        return self.model_copy(update={"snapshots": snapshots})
