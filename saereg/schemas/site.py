"""Where in a base model a dictionary reads and writes."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from saereg.schemas.document import Record, Sha256
from saereg.schemas.names import Key, Revision
from saereg.schemas.schedule import parse_schedule


class BaseModelRef(Record):
    """A language model, pinned."""

    id: str = Field(min_length=1)
    """Repository id on the Hub (or package that carries the weights)."""
    revision: Revision | None = None
    """Commit of the weights."""
    step: int | None = Field(default=None, ge=0)
    """Pretraining step, for a checkpoint of a trajectory."""
    license: str | None = None
    """Licence of the weights."""
    weights_sha256: Sha256 | None = None
    """Digest of the weight file, where no Hub revision exists."""
    n_layers: int | None = Field(default=None, gt=0)
    """Number of transformer layers."""
    d_model: int | None = Field(default=None, gt=0)
    """Width of the residual stream."""
    context_size: int | None = Field(default=None, gt=0)
    """Longest context of the model in tokens, e.g. its `max_position_embeddings`."""
    schedule: str | tuple[int, ...] | None = None
    """Pretraining steps of which there are checkpoints: `pythia-154`, `every:1000:143000`, or a list of steps."""
    final_norm: bool = True
    """Whether a norm stands between the last layer and `hidden_states[-1]`; false for post-norm models such as BERT."""

    @field_validator("schedule")
    @classmethod
    def _is_a_schedule(cls, value: str | tuple[int, ...] | None) -> str | tuple[int, ...] | None:
        if value is not None:
            parse_schedule(value)
        return value


class Site(Record):
    """One place in one base model."""

    model: Key
    """Key of the base model in the manifest."""
    layer: int | None = Field(default=None, ge=0)
    """Layer, counted from 0; null for parameters and embeddings."""
    stream: Literal["residual", "mlp", "attention", "embedding", "parameter"] = "residual"
    """What kind of tensor it is."""
    module: str | None = None
    """Module path in transformers, e.g. `model.layers.31`."""
    io: Literal["input", "output"] = "output"
    """Whether the module's input or output is taken."""
    hook_name: str | None = None
    """TransformerLens name, e.g. `blocks.31.hook_resid_post`; never a transformers path."""
    hidden_states_index: int | None = None
    """Index into transformers' `hidden_states`, where it gives exactly the same tensor; else null."""
    post_final_norm: bool = False
    """True when the tensor is deliberately the one *after* the model's final norm."""
    parameter: str | None = None
    """Name of a parameter tensor, e.g. `W_U`, for dictionaries of weights."""
    reason: str | None = None
    """Why the record is as it is, e.g. why no hidden_states index is given."""

    @model_validator(mode="after")
    def _names_a_place(self) -> Self:
        if self.stream == "parameter" and not self.parameter:
            raise ValueError("a site of stream 'parameter' needs `parameter`, such as 'W_U'")
        if self.stream != "parameter" and not (self.module or self.hook_name):
            raise ValueError("a site needs `module` (transformers path) or `hook_name` (TransformerLens)")
        return self


class TokenPolicy(Record):
    """Which tokens became rows."""

    bos: bool
    """Whether a beginning-of-sequence token was prepended."""
    separator: Literal["none", "bos", "eos", "sep"] = "none"
    """Token between documents."""
    excluded: tuple[str, ...] = ()
    """Tokens whose activations were dropped, e.g. `pad`, `bos`, `special`."""
    packing: Literal["none", "documents", "mixed"] = "documents"
    """How documents were cut into contexts."""
    context_size: int | None = Field(default=None, gt=0)
    """Tokens per context, special tokens included."""
    buckets: tuple[tuple[int, int], ...] = ()
    """(shortest, longest) of each length bucket, in tokens."""
    seed: int | None = None
    """Seed of the lengths that were drawn from the buckets."""


class DatasetRef(Record):
    """A text data set, pinned."""

    id: str = Field(min_length=1)
    """Repository id on the Hub, or a name."""
    config: str | None = None
    """Configuration of the data set."""
    split: str | None = None
    """Split."""
    revision: Revision | None = None
    """Commit on the Hub."""
    sha256: Sha256 | None = None
    """Digest of the text, where no Hub revision exists."""
    license: str | None = None
    """Licence of the text."""
    documents: int | None = Field(default=None, ge=0)
    """Documents used."""
    columns: tuple[str, ...] | None = None
    """Columns that hold the text, of which the first that a row has is taken; null: `text`."""
    rendering: Literal["contents", "roles"] | None = None
    """How a conversation became text: the contents of its messages with a blank line between, or those with `role: `
    before each; null where there are no conversations."""
