"""The configuration of `saereg train crosscoder`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from saereg.schemas.document import Record
from saereg.schemas.evaluation import Preprocess
from saereg.schemas.training import RunConfig, SiteKey

CrosscoderArchitecture = Literal["standard", "topk", "batchtopk", "jumprelu", "gated"]

CROSSCODER_SPARSITY: dict[CrosscoderArchitecture, str] = {
    "standard": "l1_coefficient",
    "topk": "k",
    "batchtopk": "k",
    "jumprelu": "l1_coefficient",
    "gated": "l1_coefficient",
}
"""Architecture → the one setting that decides how sparse it becomes."""


class CrosscoderSettings(Record):
    """The dictionary."""

    architecture: CrosscoderArchitecture
    """Activation, in SAELens' words."""
    d_sae: int = Field(gt=0)
    """Number of latents."""
    gate: Literal["shared", "per_source"] = "shared"
    """Whether all sources share one active set, or each has its own cut, for jumprelu."""
    k: float | None = Field(default=None, gt=0)
    """Active latents per row, for topk (whole) and batchtopk (average)."""
    l1_coefficient: float | None = Field(default=None, ge=0)
    """Coefficient λ of the sparsity penalty, for standard, jumprelu and gated."""
    target_l0: float | None = Field(default=None, gt=0)
    """L0 that the coefficient is steered to while training; null: the coefficient is fixed."""
    sparsity_warm_up_steps: int | None = Field(default=None, ge=0)
    """Steps over which the coefficient rises; null: all of them for jumprelu, as in Anthropic's update of January 2025,
    else none. A penalty of jumprelu that is whole from the start closes all latents before they mean anything."""
    preprocess: Preprocess = "none"
    """What is done to the rows of each source; its numbers are kept in the file and undone after decoding. Thresholds,
    bandwidth and coefficients are in the units that it gives, so that the defaults fit `scale` and `center_scale`."""
    decoder_init_norm: float = Field(default=0.1, gt=0)
    """Norm of every source's part of a decoder row at the start. Source: Anthropic, Circuits Updates, April 2024."""
    threshold: float | None = Field(default=None, gt=0)
    """Threshold at the start, for jumprelu: of a pre-activation times its decoder norm; encoder biases begin at 0 then.
    null: threshold and bias of each latent are taken from the first batch, so that it is active on 10,000/d_sae of its
    rows, and on half of them at most. Source: Anthropic, January 2025."""
    threshold_lr_factor: float = Field(default=1.0, gt=0)
    """Learning rate of the thresholds, relative to that of the rest, for jumprelu."""
    bandwidth: float = Field(default=2.0, gt=0)
    """Width of the kernel of the straight-through estimator, for jumprelu. Source: Anthropic, January 2025."""
    penalty: Literal["tanh", "tanh_quadratic"] = "tanh"
    """Sparsity penalty of jumprelu: Anthropic's of January 2025, or that of arXiv:2509.17196, eq. 9, which weighs
    frequent latents more."""
    tanh_scale: float = Field(default=4.0, gt=0)
    """c in tanh(c·f·‖W_dec‖), for jumprelu."""
    frequency_scale: float = Field(default=0.01, gt=0)
    """Frequency from which on the quadratic term of `tanh_quadratic` outweighs the linear one."""
    pre_act_coefficient: float = Field(default=3e-6, ge=0)
    """Weight of Σ relu(threshold − pre·‖W_dec‖), which brings dead latents back, for jumprelu."""
    aux_loss_coefficient: float = Field(default=0.03125, ge=0)
    """Weight of the auxiliary loss for dead latents, for topk and batchtopk. Source: Gao et al. 2024, Appendix A.2."""
    dead_after_steps: int = Field(default=1000, gt=0)
    """A latent is dead when it was not active for that many steps."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient of all weights together; null: gradients are taken as they are."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of the weights."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        needs = CROSSCODER_SPARSITY[self.architecture]
        for name in ("k", "l1_coefficient"):
            if (getattr(self, name) is not None) != (name == needs):
                raise ValueError(f"architecture {self.architecture!r} takes `{needs}`, and no other of the two")
        if self.k is not None and (self.k > self.d_sae or (self.architecture == "topk" and self.k != int(self.k))):
            raise ValueError("`k` must be at most d_sae, and whole for topk")
        if self.gate == "per_source" and self.architecture != "jumprelu":
            raise ValueError("gate 'per_source' is trained for architecture 'jumprelu'")
        if self.target_l0 is not None and (not self.l1_coefficient or self.target_l0 >= self.d_sae):
            raise ValueError("`target_l0` must be below d_sae, and needs an `l1_coefficient` above 0 to begin with")
        return self


class SourceSettings(Record):
    """Where the sources come from: stored activations, or stored rows of a parameter at pretraining snapshots."""

    axis: Literal["layer", "model", "snapshot"]
    """What changes from source to source."""
    collections: tuple[str, ...] = ()
    """Folders that `saereg train collect` wrote: one for axis `layer`, else one per source, of the same text."""
    sites: tuple[SiteKey, ...] = ()
    """Sites in the collection, for axis `layer`; the one site in each of them otherwise."""
    parameters: str | None = None
    """Folder that `saereg train snapshots` wrote, for axis `snapshot`."""
    steps: tuple[int, ...] = ()
    """Pretraining steps of it that are sources, rising; none: all of them. One alone gives an ordinary dictionary."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.parameters is not None:
            if self.axis != "snapshot" or self.collections or self.sites:
                raise ValueError("`parameters` are for axis 'snapshot', without `collections` and `sites`")
            if any(a >= b for a, b in zip(self.steps, self.steps[1:], strict=False)):
                raise ValueError("`steps` must rise")
        elif self.steps or not self.collections or not self.sites:
            raise ValueError("sources of activations need `collections` and `sites`, and no `steps`")
        elif self.axis == "layer" and len(self.collections) != 1:
            raise ValueError("axis 'layer' takes one collection, with a site per source")
        elif self.axis != "layer" and len(self.sites) != 1:
            raise ValueError(f"axis {self.axis!r} takes one site, and a collection per source")
        return self


class CrosscoderTrainConfig(RunConfig):
    """One crosscoder training run."""

    sources: SourceSettings
    """What the crosscoder reads."""
    crosscoder: CrosscoderSettings
    """The dictionary."""

    @property
    def warm_up_steps(self) -> int:
        """Steps over which the sparsity coefficient rises, where it is not steered."""
        given = self.crosscoder.sparsity_warm_up_steps
        whole = self.optimization.steps if self.crosscoder.architecture == "jumprelu" else 0
        return whole if given is None else given

    @model_validator(mode="after")
    def _one_step(self) -> Self:
        if self.optimization.compile:
            raise ValueError("`optimization.compile` is for SAEs: the step of crosscoders is written by hand")
        if self.optimization.step != "auto":
            raise ValueError("`optimization.step` is for SAEs: crosscoders have one step, which is sparse by itself")
        return self
