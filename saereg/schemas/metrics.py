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
    "density_below_1e_5",
    "density_below_1e_6",
    "ce_recovered",
    "ce_clean",
    "ce_spliced",
    "ce_ablated",
    "nmse_uncentred_row",
    "ev_uncentred",
    "ev_scalar_mean",
    "ev_saelens_uncentred",
    "r2_uniform_average",
    "l0_positive",
    "dead_rate_1e_6",
    "l1_norm",
    "l1_norm_per_source_mean",
    "explained_variance_legacy_rowmean",
    "explained_variance_batch_mean",
    "fvu_batch_mean",
    "ev_saelens_uncentred_batch_mean",
    "fve_centred_residual",
    "fve_scalar_var",
    "mse_row_over_batch",
    "l0_batch_mean",
    "ce_recovered_batch_mean",
]
"""Every metric definition that has a name here; `docs/metrics.md` gives the formulas."""

BATCHED: tuple[MetricId, ...] = (
    "explained_variance_legacy_rowmean",
    "explained_variance_batch_mean",
    "fvu_batch_mean",
    "ev_saelens_uncentred_batch_mean",
    "fve_centred_residual",
    "fve_scalar_var",
    "mse_row_over_batch",
    "l0_batch_mean",
    "ce_recovered_batch_mean",
)
"""Definitions that average over batches of rows: a number under one of them says nothing without its `batch_rows`."""

MOST_BATCH_SIZES = 32
"""Most batch sizes that are measured of what is claimed on one evaluation: each takes a pass over all rows."""

Units = Literal["raw", "normalized"]
"""`raw`: errors in the units of the site. `normalized`: in those that the encoder reads, after the dictionary's own
centring and scaling of its rows, and before they are undone."""

Ablation = Literal["zero", "mean"]
"""What stands in the place of activations in the ablated loss: zeros, or the mean row of the evaluation."""

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
    units: Units = "raw"
    """Units in which errors were taken."""
    rows: int | None = Field(default=None, gt=0)
    """Rows it was computed on, where that is known."""
    data_sha256: Sha256 | None = None
    """Digest of the data it was computed on, where that is known."""
    excluded: tuple[str, ...] | None = None
    """Tokens whose rows were left out, e.g. `bos`, `special`, `pad`; null: not said."""


class Histogram(Record):
    """Exact counts of whole numbers."""

    edges: tuple[int, ...] = Field(min_length=2)
    """Bounds of the bins: bin i holds edges[i] <= value < edges[i + 1]."""
    counts: tuple[int, ...] = Field(min_length=1)
    """Rows in each bin."""


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
    """Digest of the rows: sha256 of the evaluation file, or what `docs/manifest.md` says of rows in several files, of
    tokens, of parameters, and synthetic ones."""
    rows: int = Field(ge=0)
    """Rows evaluated."""
    tokens: int | None = Field(default=None, ge=0)
    """Tokens evaluated: the rows, where each row is one token; of a loss, the predicted tokens; null for parameter
    rows."""
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
    histogram: Histogram | None = None
    """How many rows have which value, for counts."""
    per_source: tuple[float | None, ...] = ()
    """The same at each source of a crosscoder, in the order of its source axis."""
    batch_rows: int | None = Field(default=None, gt=0)
    """Batch size, for definitions that depend on one."""
    units: Units = "raw"
    """Units in which errors were taken."""
    ablation: Ablation | None = None
    """What the loss was ablated with, for `ce_ablated` and `ce_recovered`."""
    excluded: tuple[str, ...] = ()
    """Tokens whose rows are not in the data."""
    tool: dict[str, str]
    """Name → version of the software that computed it."""


class Verdict(Record):
    """What a measurement says of a claim."""

    claim: int = Field(ge=0)
    """Position of the claim in the artifact's `claims`."""
    verdict: Literal["verified", "differs", "matches_another", "not_verifiable"]
    """`verified` within tolerance, `differs`, `matches_another` definition than the one it names, or `not_verifiable`
    from the released files."""
    measured: float | None = None
    """The measured value, if there is one."""
    why: str | None = None
    """Reason, where the verdict is not `verified`."""
    matches: MetricId | None = None
    """The definition that gives the stated number, where it is another than the claim names."""
    matches_value: float | None = None
    """The value under it; 1 − the stated number where one names the explained share and the other the unexplained."""
    matches_batch_rows: int | None = Field(default=None, gt=0)
    """Batch size at which it does, where it depends on one; null too where it does at several, none of which a claim
    names."""
    matches_units: Units | None = None
    """Units in which it does, where they are others than the claim names."""
