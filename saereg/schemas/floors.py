"""Loss floors: where a loss is heading, fitted to the early snapshots of a training, with what is not known said."""

from typing import Literal

from pydantic import Field

from saereg.schemas.document import Record
from saereg.schemas.metrics import MetricId
from saereg.schemas.names import Key


class Interval(Record):
    """Bounds that a bootstrap gives."""

    low: float
    """Lower bound."""
    high: float
    """Upper bound."""


class Estimate(Record):
    """A fitted number."""

    value: float
    """Least squares."""
    interval: Interval | None = None
    """Bootstrap interval of the level that `LossFloors.level` names; null where there are too few points for one."""


class FloorPrediction(Record):
    """What the fit says of a number of training tokens."""

    tokens: float = Field(gt=0)
    """Training tokens."""
    predicted: float
    """Loss that the fit gives."""
    interval: Interval | None = None
    """Bootstrap interval: of a new measurement, its noise included, in `predictions`; of the law alone in `curve`."""
    measured: float | None = None
    """Loss that was measured there; null in `curve`."""


class FloorFit(Record):
    """One series of snapshots and the law L(n) = L∞ + a·n^−b fitted to its early part."""

    series: str = Field(min_length=1)
    """What its snapshots have in common, for people: `layer 3`."""
    layer: int | None = None
    """Layer, where that is what sets the series apart."""
    evaluation: Key | None = None
    """Evaluation that its losses were measured on; null for logged ones."""
    artifacts: tuple[str, ...] = ()
    """Ids of the artifacts of its snapshots, in the order of their tokens; of logged losses, the one artifact."""
    tokens: tuple[float, ...]
    """Training tokens n of every snapshot, rising; of logged losses, of every group of lines."""
    values: tuple[float, ...]
    """Loss L(n) at each of them."""
    fitted: int = Field(ge=0)
    """How many of them, from the first, the fit saw; the rest is held out."""
    floor: Estimate | None = None
    """L∞, in the units of the metric; null where there is no fit."""
    floor_of_all: Estimate | None = None
    """L∞ fitted to all snapshots, the held-out ones too: what the early floor is compared with."""
    scale: Estimate | None = None
    """a."""
    exponent: Estimate | None = None
    """b."""
    identified: bool
    """Whether the points determine the floor: false where any of many floors fits them as well, where the law does not
    describe them, and where the held-out snapshots contradict it."""
    reason: str | None = None
    """Why it is not identified, or why there is no fit."""
    plausible: Interval | None = None
    """Floors that fit the early snapshots about as well as the best one, by the profile of the squared error."""
    noise: float | None = Field(default=None, ge=0)
    """Standard deviation of a loss about the law, as a share of the loss; shared in part by all series."""
    predictions: tuple[FloorPrediction, ...] = ()
    """The held-out snapshots."""
    relative_error: float | None = None
    """Mean of |predicted − measured| / measured over the held-out snapshots."""
    curve: tuple[FloorPrediction, ...] = ()
    """The law with its band, from the first snapshot to ten times the last one, for drawing."""


class JointFloor(Record):
    """One law over the series of one site: L(n, F, k) = L∞ + a·n^−b + c·F^−d + g·k^−h, of what the release varies."""

    series: str = Field(min_length=1)
    """What its artifacts have in common, for people: `layer 3`."""
    layer: int | None = None
    """Layer, where that is known."""
    metric: MetricId
    """The loss: always a measured one."""
    evaluation: Key | None = None
    """Evaluation that it was measured on."""
    terms: tuple[Literal["tokens", "d_sae", "l0"], ...]
    """Variables of the law: tokens n, latents F, measured active latents k."""
    parameters: dict[Literal["floor", "a", "b", "c", "d", "g", "h"], Estimate] = Field(default_factory=dict)
    """Parameter → estimate: `floor` is L∞, and of each term its scale and its exponent. Empty where there is no fit."""
    points: int = Field(ge=0)
    """Artifacts fitted."""
    identified: bool
    """Whether the points determine the floor, and tell the terms apart."""
    reason: str | None = None
    """Why not."""
    predictions: int = Field(default=0, ge=0)
    """Held-out snapshots."""
    relative_error: float | None = None
    """Mean of |predicted − measured| / measured over the held-out snapshots."""


class LossFloors(Record):
    """Every fit of a release, and how they were made."""

    metric: MetricId
    """The loss."""
    evaluation: Key | None = None
    """Evaluation that it was measured on, where that is one for all series."""
    basis: Literal["measured", "logged"]
    """`measured`: recomputed from the weights of the snapshots. `logged`: what the training wrote down."""
    level: float = Field(gt=0, lt=1)
    """Level of the intervals, e.g. 0.9."""
    resamples: int = Field(ge=0)
    """Bootstrap resamples."""
    seed: int = Field(ge=0)
    """Seed of the resampling."""
    fits: tuple[FloorFit, ...]
    """Series by series."""
    joint: tuple[JointFloor, ...] = ()
    """Laws over tokens, latents and L0 at once, one for each site where at least three values of them are there."""
    left_out: int = Field(default=0, ge=0)
    """Series that were not fitted because there are more than are fitted."""
