"""A number and everything one must know to compute it again."""

from typing import Literal, get_args

from pydantic import Field

from saereg.schemas.document import Record, Sha256
from saereg.schemas.names import Key

MetricId = Literal[
    "explained_variance",
    "fvu",
    "mse_per_row",
    "mse_per_element",
    "l0",
    "l0_per_source_mean",
    "l0_any_source",
    "dead_fraction",
    "ce_recovered",
    "nmse_uncentred_row",
    "explained_variance_legacy_rowmean",
    "fve_centred_residual",
    "fve_scalar_var",
    "ev_saelens_uncentred",
]
"""Every metric definition that has a name here; `docs/metrics.md` gives the formulas."""

ClaimKind = Literal["recomputed", "training_running_mean", "training_window", "last_batch"]
"""How a stated number came about; only `recomputed` ones are properties of the released weights."""

DType = Literal["float64", "float32", "float16", "bfloat16"]
"""A floating-point type, as SAELens and torch name it."""

FLOATS: tuple[DType, ...] = get_args(DType)
"""The same, to iterate over."""


class Claim(Record):
    """A number that the author states."""

    metric: MetricId
    """Definition of the number."""
    value: float
    """The stated value."""
    evaluation: Key | None = None
    """Name of the evaluation (in the manifest's `evaluations`) it was computed on."""
    kind: ClaimKind = "recomputed"
    """How it came about."""
    tolerance: float | None = Field(default=None, gt=0)
    """Largest absolute difference that still agrees; default: half a unit of the last printed digit."""
    batch_rows: int | None = Field(default=None, gt=0)
    """Batch size, for definitions that depend on one."""


class Measurement(Record):
    """A number that saereg computed from the released weights."""

    metric: MetricId
    """Definition of the number."""
    value: float | None = None
    """The value, or null when it is not defined on this data."""
    reason: str | None = None
    """Why the value is null."""
    evaluation: Key
    """Name of the evaluation in the manifest."""
    data_sha256: Sha256
    """Digest of the evaluation file."""
    rows: int = Field(ge=0)
    """Rows evaluated."""
    tokens: int | None = Field(default=None, ge=0)
    """Tokens evaluated: the rows, where each row is one token; null for parameter rows."""
    dtype: DType
    """Type in which encode and decode ran."""
    accumulation: Literal["float64"] = "float64"
    """Type in which sums were kept."""
    tolerance: float = Field(default=1e-6, ge=0)
    """Largest absolute difference of a repetition, on this machine or another, that counts as equal."""
    minimum: float | None = None
    """Smallest value over the rows, where that is meaningful."""
    maximum: float | None = None
    """Largest value over the rows, where that is meaningful."""
    tool: dict[str, str]
    """Name → version of the software that computed it."""


class Verdict(Record):
    """What a measurement says of a claim."""

    claim: int = Field(ge=0)
    """Position of the claim in the artifact's `claims`."""
    verdict: Literal["verified", "differs", "not_verifiable"]
    """`verified` within tolerance, `differs`, or `not_verifiable` from the released files."""
    measured: float | None = None
    """The measured value, if there is one."""
    why: str | None = None
    """Reason, where the verdict is not `verified`."""
