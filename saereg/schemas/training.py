"""The configuration of `saereg train sae`: one YAML file, or the same names as flags."""

from typing import Literal, Self

from pydantic import Field, model_validator

from saereg.schemas.document import Document, Record
from saereg.schemas.names import ArtifactId, Key

TrainedArchitecture = Literal["standard", "topk", "batchtopk", "jumprelu", "gated"]
"""Architectures that SAELens' trainer is used for."""

SPARSITY: dict[TrainedArchitecture, str] = {
    "standard": "l1_coefficient",
    "topk": "k",
    "batchtopk": "k",
    "jumprelu": "l0_coefficient",
    "gated": "l1_coefficient",
}
"""Architecture → the one setting that decides how sparse it becomes."""

TrainedNormalization = Literal["none", "layer_norm", "expected_average_only_in"]
"""Input normalizations that a dictionary can be trained with."""


class SaeSettings(Record):
    """The dictionary."""

    architecture: TrainedArchitecture
    """SAELens training architecture."""
    d_sae: int = Field(gt=0)
    """Number of latents."""
    k: float | None = Field(default=None, gt=0)
    """Active latents per row, for topk (whole) and batchtopk (average)."""
    l1_coefficient: float | None = Field(default=None, ge=0)
    """L1 coefficient, for standard and gated."""
    l0_coefficient: float | None = Field(default=None, ge=0)
    """L0 coefficient, for jumprelu."""
    sparsity_warm_up_steps: int = Field(default=0, ge=0)
    """Steps over which the sparsity coefficient rises."""
    apply_b_dec_to_input: bool = True
    """Whether b_dec is subtracted before the encoder."""
    normalize_activations: TrainedNormalization = "none"
    """Input normalization during training; an average scale is folded into the export."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of the weights."""

    @model_validator(mode="after")
    def _sparsity_setting(self) -> Self:
        needs = SPARSITY[self.architecture]
        for name in sorted(set(SPARSITY.values())):
            value = getattr(self, name)
            if name == needs and value is None:
                raise ValueError(f"architecture {self.architecture!r} needs `{needs}`")
            if name != needs and value is not None:
                raise ValueError(f"architecture {self.architecture!r} has no `{name}`; it takes `{needs}`")
        if self.k is not None and (self.k > self.d_sae or (self.architecture == "topk" and self.k != int(self.k))):
            raise ValueError("`k` must be at most d_sae, and whole for topk")
        return self


class Optimization(Record):
    """The run."""

    tokens: int = Field(gt=0)
    """Token activations to train on; more than were collected means several passes."""
    batch_size: int = Field(default=2048, gt=0)
    """Rows per step."""
    lr: float = Field(default=3e-4, gt=0)
    """Peak learning rate."""
    lr_warm_up_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises."""
    lr_decay_steps: int = Field(default=0, ge=0)
    """Steps over which it falls to zero at the end."""
    log_every: int = Field(default=10, gt=0)
    """Steps between lines of the training log."""


class EvaluationSettings(Record):
    """Held-out rows that the release ships."""

    name: Key = "held-out"
    """Name of the evaluation; the site is appended to its file name."""
    rows: int = Field(default=4096, gt=0)
    """Rows kept back from training: the last ones of the collection."""


class ArtifactSettings(Record):
    """How the result is named."""

    id: ArtifactId
    """Id (and folder) in the release."""
    variant: str | None = None
    """What sets it apart."""
    canonical: bool = False
    """Whether it is the pick for its site."""


class TrainConfig(Document):
    """One SAE training run."""

    collection: str = Field(min_length=1)
    """Folder that `saereg train collect` wrote."""
    site: Key
    """Site in the collection."""
    sae: SaeSettings
    """The dictionary."""
    optimization: Optimization
    """The run."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Held-out rows."""
    artifact: ArtifactSettings
    """Name in the release."""
    seed: int = Field(default=0, ge=0)
    """Random seed: of the initial weights and of the order of rows."""
    device: str = "cpu"
    """Where to train."""
