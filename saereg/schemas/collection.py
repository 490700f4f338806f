"""collection.json: what `saereg train collect` keeps beside its shards. A working file, no part of a release."""

from typing import Literal

from pydantic import Field

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256
from saereg.schemas.names import Key, ReleasePath
from saereg.schemas.site import BaseModelRef, DatasetRef, Site, TokenPolicy


class Shard(Record):
    """One safetensors file: the tensor `x` of activations, shape (rows, d_in), or the tokens that the rows are of."""

    path: ReleasePath
    """File in the collection."""
    rows: int = Field(gt=0)
    """Rows in it."""
    sha256: Sha256
    """Digest of the file."""


class CollectedSite(Record):
    """One site and its shards, in the order of the tokens."""

    site: Site
    """Where the activations were taken."""
    d_in: int = Field(gt=0)
    """Their width."""
    shards: tuple[Shard, ...] = ()
    """Finished shards."""


class CollectedText(Record):
    """The text that the rows are of: its tokens, and the pieces of text that these stand for."""

    vocabulary: ReleasePath
    """File with the text of every entry of the vocabulary."""
    sha256: Sha256
    """Digest of that file."""
    shards: tuple[Shard, ...] = ()
    """Files of contexts, one for each shard of activations: the contexts that its rows are of, and a few around."""


class Cursor(Record):
    """Where to resume: the batch in which the last finished shard ends is run again, the same tokens together."""

    document: int = Field(default=0, ge=0)
    """Document of the corpus in which that batch starts, from 0."""
    token: int = Field(default=0, ge=0)
    """Token of that document, from 0."""
    stored: int = Field(default=0, ge=0)
    """Rows of that batch that finished shards hold already."""
    batch: int = Field(default=0, ge=0)
    """Number of that batch, from 0: the lengths of its contexts are drawn by it where the packing is mixed."""


class Collection(Document):
    """Activations of one model on one corpus at one or more sites, row by row the same tokens."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    model: BaseModelRef
    """The model that was run."""
    dataset: DatasetRef
    """The text that it read."""
    tokens: TokenPolicy
    """Which tokens became rows."""
    batch_contexts: int = Field(gt=0)
    """Contexts per forward pass at most; the last bits of activations depend on it."""
    batch_tokens: int | None = Field(default=None, gt=0)
    """Tokens per forward pass at most, padding included; null: any number."""
    model_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type in which the model ran."""
    shard_rows: int = Field(gt=0)
    """Rows per shard."""
    sites: dict[Key, CollectedSite]
    """Key → site and shards."""
    texts: CollectedText | None = None
    """The text; null where the tokenizer is of a kind that saereg does not know, and in files of earlier versions."""
    dtype: Literal["float16", "float32"]
    """Type in which activations are stored."""
    rows: int = Field(default=0, ge=0)
    """Rows per site so far."""
    target_rows: int = Field(gt=0)
    """Rows per site that were asked for."""
    cursor: Cursor | None = None
    """Where to resume; null when the collection is complete."""
    tool: dict[str, str] = Field(default_factory=dict)
    """Name → version of the software."""
