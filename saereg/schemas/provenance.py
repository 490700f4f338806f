"""What a release was made from: pinned where the author pinned it, absent where nobody said."""

from pydantic import Field

from saereg.schemas.document import Record, Sha256
from saereg.schemas.manifest import CodeRef
from saereg.schemas.names import Key, Revision


class ModelPin(Record):
    """A base model."""

    id: str
    """Repository id on the Hub (or package that carries the weights)."""
    revision: Revision | None = None
    """Commit of the weights."""
    step: int | None = None
    """Pretraining step, for a checkpoint of a trajectory."""
    weights_sha256: Sha256 | None = None
    """Digest of the weight file, where no Hub revision exists."""


class DatasetPin(Record):
    """A text data set."""

    id: str
    """Repository id on the Hub, or a name."""
    config: str | None = None
    """Configuration of the data set."""
    split: str | None = None
    """Split."""
    revision: Revision | None = None
    """Commit on the Hub."""
    sha256: Sha256 | None = None
    """Digest of the text, where no Hub revision exists."""


class CheckpointSet(Record):
    """The training checkpoints that artifacts were exported from."""

    count: int = Field(gt=0)
    """Different files."""
    sha256: Sha256
    """Digest of one line `path NUL sha256` per file, sorted by path."""


class Provenance(Record):
    """What the release was made from; it follows from the manifest and the rest of the index."""

    code: CodeRef | None = None
    """Training code."""
    configuration_sha256: Sha256
    """Digest of one line `id NUL sha256 of cfg.json NUL settings` per artifact, sorted by id; `settings` are `seed`,
    `sparsity` and `training` of the manifest as JSON on one line, keys sorted, defaults left out."""
    base_models: dict[Key, ModelPin] = Field(default_factory=dict)
    """Key in the manifest → base model."""
    datasets: dict[Key, DatasetPin] = Field(default_factory=dict)
    """Key in the manifest → data set."""
    source_checkpoints: CheckpointSet | None = None
    """Checkpoints; null where no artifact names one."""
    tools: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Name → versions of the software that trained an artifact or built the index, in their natural order."""
