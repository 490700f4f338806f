"""The configuration of `saereg train sae`: one YAML file, or the same names as flags."""

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from saereg.schemas.document import Document, Record
from saereg.schemas.names import ArtifactId, Key

TrainedArchitecture = Literal[
    "standard",
    "topk",
    "batchtopk",
    "matryoshka_batchtopk",
    "jumprelu",
    "gated",
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
    "topk_transcoder",
    "topk_skip_transcoder",
]
"""Architectures that SAELens' trainer is used for; the transcoders by training classes of our own."""

SPARSITY: dict[TrainedArchitecture, str] = {
    "standard": "l1_coefficient",
    "topk": "k",
    "batchtopk": "k",
    "matryoshka_batchtopk": "k",
    "jumprelu": "l0_coefficient",
    "gated": "l1_coefficient",
    "transcoder": "l1_coefficient",
    "skip_transcoder": "l1_coefficient",
    "jumprelu_transcoder": "l0_coefficient",
    "jumprelu_skip_transcoder": "l0_coefficient",
    "topk_transcoder": "k",
    "topk_skip_transcoder": "k",
}
"""Architecture → the one setting that decides how sparse it becomes."""

SETTINGS_OF: dict[str, str] = {
    "threshold": "l0_coefficient",
    "bandwidth": "l0_coefficient",
    "pre_act_loss_coefficient": "l0_coefficient",
    "aux_loss_coefficient": "k",
}
"""Setting → the sparsity setting of the architectures that have it."""

WHOLE_K = ("topk", "topk_transcoder", "topk_skip_transcoder")
"""Architectures that keep exactly k latents of every row."""

TrainedNormalization = Literal["none", "layer_norm", "expected_average_only_in"]
"""Input normalizations that a dictionary can be trained with."""

_COUNT = re.compile(r"(\d+(?:\.\d+)?)([KMB]?)")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


def token_count(value: object) -> object:
    """Return the number that `50M`, `1.5B` or `300000` says; what is no text as it is.

    Raises:
        ValueError: for any other text.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 3e8
    match = _COUNT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        if isinstance(value, str):
            raise ValueError(f"{value!r} is no number of tokens; write it out, or as 300K, 50M or 1.5B")
        return value
    number = float(match[1]) * _UNITS[match[2]]
    return int(number) if number == int(number) else number


def token_label(count: int) -> str:
    """Return how a number of tokens is called in names: `50M`, `1500K`, `2048`."""
    for unit in ("B", "M", "K"):
        if count % _UNITS[unit] == 0:
            return f"{count // _UNITS[unit]}{unit}"
    return str(count)


def _as_in_the_collection(value: object) -> object:
    """Name the key of a site where it is written as `saereg train collect` takes it.

    Raises:
        ValueError: for `residual:12`.
    """
    if isinstance(value, str) and ":" in value:
        raise ValueError(f"{value!r} is called {value.replace(':', '-')!r} in the collection; write that")
    return value


SiteKey = Annotated[Key, BeforeValidator(_as_in_the_collection)]
"""Key of a site in a collection, such as `residual-12`."""

TokenCount = Annotated[int, BeforeValidator(token_count), Field(gt=0)]
"""A number of tokens: whole, or in words such as `50M`."""


class SaeSettings(Record):
    """The dictionary."""

    architecture: TrainedArchitecture
    """Training architecture, in SAELens' words."""
    d_sae: int = Field(gt=0)
    """Number of latents."""
    k: float | None = Field(default=None, gt=0)
    """Active latents per row, for topk (whole) and batchtopk (average)."""
    l1_coefficient: float | None = Field(default=None, ge=0)
    """L1 coefficient, for standard, gated and transcoder; where it is steered to a target, a guess to begin below."""
    l0_coefficient: float | None = Field(default=None, ge=0)
    """L0 coefficient, for jumprelu; where it is steered to a target, a guess to begin below."""
    target_l0: float | None = Field(default=None, gt=0)
    """L0 that the coefficient is steered to while training; null: the coefficient is fixed."""
    sparsity_warm_up_steps: int = Field(default=0, ge=0)
    """Steps over which the sparsity coefficient rises."""
    tied: bool = False
    """Whether W_enc is W_dec transposed, for topk."""
    matryoshka_widths: tuple[int, ...] = ()
    """Widths of the nested dictionaries, rising, for matryoshka_batchtopk; d_sae is added where it is missing."""
    decoder_norm: Literal["free", "unit"] = "free"
    """`unit`: every row of W_dec is kept at norm 1, and its gradient has no part along it."""
    apply_b_dec_to_input: bool = True
    """Whether b_dec is subtracted before the encoder; never for transcoders."""
    normalize_activations: TrainedNormalization = "none"
    """Input normalization during training; an average scale is folded into the export."""
    threshold: float | None = Field(default=None, gt=0)
    """Threshold at the start, for jumprelu; null: SAELens' 0.01."""
    bandwidth: float | None = Field(default=None, gt=0)
    """Width of the kernel of the straight-through estimator, for jumprelu; null: SAELens' 0.05."""
    aux_loss_coefficient: float | None = Field(default=None, ge=0)
    """Weight of the auxiliary loss for dead latents, for topk and batchtopk; null: SAELens' 1."""
    pre_act_loss_coefficient: float | None = Field(default=None, ge=0)
    """Weight of the loss that lifts the pre-activations of dead latents, for jumprelu, such as 3e-6; null: none."""
    dead_after_steps: int = Field(default=1000, gt=0)
    """A latent is dead when it was not active for that many steps."""
    resample_steps: tuple[int, ...] = ()
    """Steps after which dead latents are given new directions, for standard and gated."""
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
        if self.k is not None and (self.k > self.d_sae or (self.architecture in WHOLE_K and self.k != int(self.k))):
            raise ValueError("`k` must be at most d_sae, and whole for topk")
        return self

    @model_validator(mode="after")
    def _settings_of_some(self) -> Self:
        for name, owner in SETTINGS_OF.items():
            if getattr(self, name) is not None and SPARSITY[self.architecture] != owner:
                raise ValueError(f"architecture {self.architecture!r} has no `{name}`")
        if self.target_l0 is not None and (self.k is not None or self.target_l0 >= self.d_sae):
            raise ValueError("`target_l0` must be below d_sae, and goes with a coefficient, not with `k`")
        if self.target_l0 is not None and not (self.l1_coefficient or self.l0_coefficient):
            raise ValueError("`target_l0` needs a coefficient above 0 to begin with")
        if self.tied and self.architecture != "topk":
            raise ValueError(f"`tied` is for topk; found {self.architecture!r}")
        if self.tied and self.decoder_norm == "unit":
            raise ValueError("`tied` with `decoder_norm: unit` would fix the encoder's scale too; choose one")
        widths = self.matryoshka_widths
        if bool(widths) != (self.architecture == "matryoshka_batchtopk"):
            raise ValueError("`matryoshka_widths` and architecture 'matryoshka_batchtopk' go together")
        if any(a >= b for a, b in zip((0, *widths), (*widths, self.d_sae + 1), strict=True)):
            raise ValueError("`matryoshka_widths` must rise from above 0 to at most d_sae")
        if self.resample_steps and self.architecture not in ("standard", "gated", "transcoder", "skip_transcoder"):
            raise ValueError(f"`resample_steps` are for standard and gated; found {self.architecture!r}")
        return self

    @property
    def is_transcoder(self) -> bool:
        """Whether it reads one site and predicts another."""
        return self.architecture.endswith("transcoder")


class Optimization(Record):
    """The run."""

    tokens: TokenCount
    """Rows to train on; more than were collected means several passes."""
    batch_size: int = Field(default=2048, gt=0)
    """Rows per step."""
    lr: float = Field(default=3e-4, gt=0)
    """Peak learning rate."""
    lr_warm_up_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises."""
    lr_decay_steps: int = Field(default=0, ge=0)
    """Steps over which it falls to zero at the end."""
    snapshots: tuple[TokenCount, ...] = ()
    """Numbers of tokens, such as `50M`, after which the dictionary is exported as an artifact of its own."""
    log_every: int = Field(default=1, gt=0)
    """Steps between lines of the training log."""
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    """Minutes between checkpoints to resume from, so that a power cut costs no more on any machine; 0: none by time.
    There is one in any case when the run is stopped, and after the last step."""
    checkpoint_every: int = Field(default=0, ge=0)
    """Steps between checkpoints to resume from, beside those by time; 0: none by steps."""
    spike: float = Field(default=100.0, gt=1)
    """The run is stopped when a loss is this many times its running mean."""
    step: Literal["auto", "saelens"] = "auto"
    """`auto`: a step that does no dense work for sparse codes, where there is one; `saelens`: SAELens' own."""
    autocast: bool = False
    """Whether matrix products run in bfloat16, where the device can."""
    compile: bool = False
    """Whether torch.compile is used."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(a >= b for a, b in zip((0, *self.snapshots), (*self.snapshots, self.tokens), strict=True)):
            raise ValueError("`snapshots` must rise, and end before `tokens`: what is there then is called final")
        return self

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return -(-self.tokens // self.batch_size)


class EvaluationSettings(Record):
    """Held-out rows that the release ships."""

    name: Key = "held-out"
    """Name of the evaluation; the site is appended to its file name."""
    rows: int = Field(default=4096, gt=0)
    """Rows kept back from training: the last ones of the collection."""


class ArtifactSettings(Record):
    """How the result is named."""

    id: ArtifactId
    """Id (and folder) in the release; a snapshot has its label behind it."""
    variant: str | None = None
    """What sets it apart."""
    canonical: bool = False
    """Whether it is the pick for its site."""
    expected_failure: str | None = None
    """Why it is shipped although it is bad, where a run is meant to show that."""


class Tracker(Record):
    """Where a run is shown while it goes, beside its log."""

    tool: Literal["wandb", "trackio"]
    """Which one; it must be installed."""
    project: str = Field(min_length=1)
    """Project there."""
    name: str | None = None
    """Name of the run; null: the id of the artifact."""


class RunConfig(Document):
    """What every training run says."""

    optimization: Optimization
    """The run; a row of a crosscoder holds all its sources."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Held-out rows of activations; parameters are evaluated on all rows."""
    artifact: ArtifactSettings
    """Name in the release."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the initial weights, and of the order of rows where `order_seed` is null."""
    order_seed: int | None = Field(default=None, ge=0)
    """Seed of the order of rows: dictionaries that share it share a pass over the rows in a sweep."""
    device: str = "auto"
    """Where to train: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    tracker: Tracker | None = None
    """Where it is shown while it goes."""

    @property
    def order(self) -> int:
        """Seed of the order of rows."""
        return self.seed if self.order_seed is None else self.order_seed


class TrainConfig(RunConfig):
    """One SAE training run."""

    collection: str = Field(min_length=1)
    """Folder that `saereg train collect` wrote."""
    site: SiteKey
    """Site in the collection."""
    site_out: SiteKey | None = None
    """Site that a transcoder predicts."""
    sae: SaeSettings
    """The dictionary."""

    @model_validator(mode="after")
    def _sites(self) -> Self:
        if (self.site_out is not None) != self.sae.is_transcoder:
            raise ValueError("`site_out` is for transcoders, which need it")
        return self
