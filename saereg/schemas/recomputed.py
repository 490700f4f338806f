"""What `saereg metrics recompute` writes: one line per dictionary and evaluation."""

from pydantic import Field

from saereg.schemas.document import Record, Sha256
from saereg.schemas.metrics import Measurement


class Recomputed(Record):
    """The measurements of one dictionary on one evaluation."""

    target: str
    """Release, file or folder, as it was named."""
    artifact: str | None = None
    """Id of the artifact in its release; null for a dictionary that is in none."""
    evaluation: str
    """Key of the evaluation in the manifest, or the rows as `--data` names them."""
    rows: int = Field(gt=0)
    """Rows evaluated."""
    data_sha256: Sha256
    """Digest of the data."""
    weights_sha256: Sha256
    """Digest of the weight file; of several, that of one line `sha256  name` for each."""
    device: str
    """Torch device."""
    key: Sha256
    """Digest of all that decides the result: weights, configuration, data, definitions, and what was asked for."""
    measurements: tuple[Measurement, ...]
    """The numbers."""
