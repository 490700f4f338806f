"""A transfer matrix: every dictionary measured on every corpus, and what each loses away from home."""

from typing import Literal

from pydantic import Field

from saereg.schemas.document import SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256
from saereg.schemas.metrics import Measurement, MetricId
from saereg.schemas.names import Key


class TransferDictionary(Record):
    """One dictionary: a row of the matrix."""

    name: str = Field(min_length=1, max_length=300)
    """Name in the matrix."""
    reference: str
    """Where it was loaded from, as it was given."""
    architecture: str
    """Architecture, in the words of its configuration."""
    d_in: int = Field(gt=0)
    """Width of the input."""
    d_sae: int = Field(gt=0)
    """Number of latents."""
    weights_sha256: Sha256
    """Digest of the weights."""
    dataset: str | None = None
    """Key of the data set that its release says it was trained on."""
    dataset_id: str | None = None
    """Id of that data set, with its configuration."""
    home: Key | None = None
    """Corpus that stands for what it was trained on; null: not known."""
    home_because: str
    """What tells so, or why it is not known."""


class TransferCorpus(Record):
    """One corpus: a column of the matrix."""

    name: Key
    """Name in the matrix."""
    reference: str
    """Where its rows come from, as it was given."""
    rows: int = Field(gt=0)
    """Rows."""
    data_sha256: Sha256
    """Digest of the rows."""
    excluded: tuple[str, ...] = ()
    """Tokens whose rows were left out."""
    dataset: str | None = None
    """Key of the data set that its release says the rows come from."""
    dataset_id: str | None = None
    """Id of that data set, with its configuration."""


class Degradation(Record):
    """One metric of a dictionary on another corpus than its own, against the same metric at home."""

    metric: MetricId
    """Definition of both numbers."""
    kind: Literal["ratio", "difference"]
    """`ratio`: away / home, 1 where nothing is lost. `difference`: away − home, 0 where nothing is lost."""
    value: float | None = None
    """The value, or null when it is not defined."""
    reason: str | None = None
    """Why the value is null."""


class TransferCell(Record):
    """One dictionary on one corpus."""

    dictionary: str
    """Name of the dictionary."""
    corpus: Key
    """Name of the corpus."""
    at_home: bool
    """Whether this is the corpus that the dictionary was trained on."""
    measurements: tuple[Measurement, ...]
    """Every number of the canon, and what else was asked for."""
    degradation: tuple[Degradation, ...] = ()
    """Against the cell at home; empty there, and where no home is known."""

    def measurement(self, metric: MetricId) -> Measurement | None:
        """Return the measurement of a metric, in raw units, if it was computed."""
        return next((m for m in self.measurements if m.metric == metric and m.units == "raw"), None)

    def value(self, metric: MetricId) -> float | None:
        """Return the value of a metric, if it has one."""
        found = self.measurement(metric)
        return found.value if found else None


class TransferMatrix(Document):
    """Every dictionary on every corpus: cells in the order of dictionaries, then of corpora."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    generated_by: dict[str, str]
    """Name → version of the software that computed it."""
    dictionaries: tuple[TransferDictionary, ...] = Field(min_length=1)
    """Rows, in the order given."""
    corpora: tuple[TransferCorpus, ...] = Field(min_length=1)
    """Columns, in the order given."""
    cells: tuple[TransferCell, ...] = Field(min_length=1)
    """Row by row."""

    def cell(self, dictionary: str, corpus: str) -> TransferCell:
        """Return one cell.

        Raises:
            KeyError: when there is none of these names.
        """
        for cell in self.cells:
            if (cell.dictionary, cell.corpus) == (dictionary, corpus):
                return cell
        raise KeyError((dictionary, corpus))
