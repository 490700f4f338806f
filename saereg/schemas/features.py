"""features.json of an artifact: a few of its latents, with what makes them active and what they write."""

from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256
from saereg.schemas.names import ArtifactId, Key

MOST_LATENTS = 2_000
"""Most latents in one view: a view is a sample, the whole dictionary is in its weights."""


class ActivationHistogram(Record):
    """How many rows have an activation of which size."""

    edges: tuple[float, ...] = Field(min_length=2)
    """Bounds of the bins, rising: bin i holds edges[i] <= activation < edges[i + 1], the last its upper bound too."""
    counts: tuple[int, ...] = Field(min_length=1)
    """Rows in each bin, of those in which the latent is active."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(f"{len(self.counts)} bins have {len(self.edges)} bounds; one more is needed than bins")
        if any(left >= right for left, right in pairwise(self.edges)):
            raise ValueError("`edges` must rise")
        return self


class Context(Record):
    """A piece of text around a row in which a latent is strongly active."""

    row: int = Field(ge=0)
    """The row in the evaluation."""
    activation: float
    """Activation there; of a crosscoder with a gate for each source the largest of its sources."""
    at_sources: tuple[float, ...] = ()
    """Activation there at each source of a crosscoder whose sources have gates of their own."""
    tokens: tuple[str, ...] = ()
    """The pieces of text, special ones as they are written; empty where the evaluation has no text."""
    activations: tuple[float, ...] = ()
    """Activation at each piece; 0 where the latent is not active or the piece is no row."""
    peak: int | None = Field(default=None, ge=0)
    """Position of the row in `tokens`."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.tokens) != len(self.activations):
            raise ValueError(f"{len(self.tokens)} tokens have {len(self.activations)} activations")
        if self.peak is not None and self.peak >= len(self.tokens):
            raise ValueError(f"`peak` is {self.peak}, and there are {len(self.tokens)} tokens")
        return self


class ReadoutEntry(Record):
    """One entry of the vocabulary and what a latent does to it."""

    token: str
    """The entry, as it is written."""
    value: float
    """Logit that a unit of the latent adds (`logits`), or its activation at this row (`vocabulary`)."""
    row: int | None = Field(default=None, ge=0)
    """Number of the entry in the vocabulary."""
    at_sources: tuple[float, ...] = ()
    """Activation at each source of a crosscoder whose sources have gates of their own (`vocabulary`)."""


class LatentView(Record):
    """One latent."""

    index: int = Field(ge=0)
    """Its number, 0 ≤ index < d_sae."""
    frequency: float = Field(ge=0, le=1)
    """Share of rows in which it is active."""
    per_source: tuple[float, ...] = ()
    """The same at each source of a crosscoder whose sources have gates of their own."""
    mean_active: float | None = None
    """Mean activation over the rows in which it is active (mean size where some are negative); null without any."""
    maximum: float | None = None
    """Largest activation (largest size where some are negative); null without any."""
    decoder_norms: tuple[float, ...] = ()
    """‖W_dec‖ of the latent, at each source of a crosscoder."""
    histogram: ActivationHistogram | None = None
    """Sizes of its activations; null where it is never active."""
    contexts: tuple[Context, ...] = ()
    """Rows with the largest activations, the largest first."""
    promoted: tuple[ReadoutEntry, ...] = ()
    """Entries of the vocabulary with the largest values, the largest first (by size, of activations)."""
    suppressed: tuple[ReadoutEntry, ...] = ()
    """Those with the smallest, the smallest first (`logits`)."""


class FeatureView(Document):
    """Some latents of one artifact, from the evaluation data that its release ships."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    generated_by: dict[str, str]
    """Name → version of the software that wrote it."""
    artifact: ArtifactId
    """Id in the manifest."""
    weights_sha256: Sha256
    """Digest of its weights."""
    evaluation: Key
    """Name of the evaluation in the manifest."""
    data_sha256: Sha256
    """Digest of its rows."""
    rows: int = Field(gt=0)
    """Rows that were encoded: the first ones of the evaluation."""
    rows_in_all: int | None = Field(default=None, gt=0)
    """Rows of the evaluation, where not all were encoded."""
    chosen: Literal["given", "random", "strata"]
    """How the latents were chosen: named by the user, at random, or at random within strata of their frequency."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of the choice."""
    readout: Literal["logits", "vocabulary", "none"]
    """`logits`: decoder direction times the unembedding. `vocabulary`: the rows are the vocabulary itself."""
    readout_note: str | None = None
    """What the readout leaves out (a final norm, a later layer), or why there is none."""
    text_note: str | None = None
    """Why contexts have no text, where they have none."""
    latents: tuple[LatentView, ...] = Field(max_length=MOST_LATENTS)
    """The latents, by their number."""
