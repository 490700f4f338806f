"""cfg.json as SAELens' trainer saves it in checkpoints. Such a file is a source to export from, never a release.

Source: SAELens 6.54, the `*TrainingSAEConfig` classes.
"""

from typing import Literal

from pydantic import Field

from saereg.schemas.cfg import (
    GatedConfig,
    JumpReluConfig,
    MatchingPursuitConfig,
    SaelensConfig,
    StandardConfig,
    TensorSpec,
)


class StandardTrainingConfig(StandardConfig):
    """ReLU + L1."""

    decoder_init_norm: float | None
    """Norm that decoder rows were initialized to."""
    l1_coefficient: float = 1.0
    """Coefficient of the L1 penalty."""
    lp_norm: float = 1.0
    """p of the penalty."""
    l1_warm_up_steps: int = 0
    """Steps over which the coefficient rises."""


class GatedTrainingConfig(GatedConfig):
    """Gated, with L1 on the gate path."""

    decoder_init_norm: float | None
    """Norm that decoder rows were initialized to."""
    l1_coefficient: float = 1.0
    """Coefficient of the L1 penalty."""
    l1_warm_up_steps: int = 0
    """Steps over which the coefficient rises."""


class JumpReluTrainingConfig(JumpReluConfig):
    """JumpReLU with a straight-through estimator."""

    decoder_init_norm: float | None
    """Norm that decoder rows were initialized to."""
    jumprelu_init_threshold: float = 0.01
    """Initial threshold."""
    jumprelu_bandwidth: float = 0.05
    """Bandwidth of the estimator."""
    jumprelu_sparsity_loss_mode: Literal["step", "tanh", "quadratic"] = "step"
    """Form of the sparsity loss."""
    l0_coefficient: float = 1.0
    """Coefficient of the sparsity loss."""
    l0_warm_up_steps: int = 0
    """Steps over which the coefficient rises."""
    pre_act_loss_coefficient: float | None = None
    """Coefficient of the pre-activation loss."""
    jumprelu_tanh_scale: float = 4.0
    """Scale of the tanh loss."""
    jumprelu_ste_to_input: bool = False
    """Whether the estimator's gradient reaches the encoder."""
    target_l0: float | None = None
    """Target of the quadratic loss."""

    def tensors(self) -> dict[str, TensorSpec]:
        """Return the JumpReLU tensors; `threshold` stays float32 whatever the type of the rest."""
        return super().tensors() | {"threshold": TensorSpec(shape=(self.d_sae,), dtype="float32")}


class _TopKTraining(SaelensConfig):
    decoder_init_norm: float | None
    """Norm that decoder rows were initialized to."""
    k: int = Field(gt=0)
    """Active latents per row."""
    use_sparse_activations: bool = False
    """Whether training used sparse tensors."""
    aux_loss_coefficient: float = 1.0
    """Coefficient of the loss that revives dead latents."""
    rescale_acts_by_decoder_norm: bool = True
    """Whether pre-activations are ranked times ‖W_dec‖."""


class TopKTrainingConfig(_TopKTraining):
    """TopK with auxiliary loss."""

    architecture: Literal["topk"]
    """Name of the architecture."""


class AbsTopKTrainingConfig(_TopKTraining):
    """AbsTopK with auxiliary loss."""

    architecture: Literal["abstopk"]
    """Name of the architecture."""


class BatchTopKTrainingConfig(_TopKTraining):
    """BatchTopK: k · rows latents per batch; a running threshold makes it a JumpReLU for inference."""

    architecture: Literal["batchtopk"]
    """Name of the architecture."""
    k: float = Field(gt=0)  # type: ignore[assignment]
    """Active latents per row, on average over a batch."""
    topk_threshold_lr: float = 0.01
    """Rate of the running threshold."""

    def tensors(self) -> dict[str, TensorSpec]:
        """Return the standard tensors and the scalar `topk_threshold`, float64, in units of pre × ‖W_dec‖."""
        return super().tensors() | {"topk_threshold": TensorSpec(shape=(), dtype="float64")}


class MatryoshkaBatchTopKTrainingConfig(BatchTopKTrainingConfig):
    """BatchTopK with nested reconstruction losses (arXiv:2503.17547)."""

    architecture: Literal["matryoshka_batchtopk"]  # type: ignore[assignment]
    """Name of the architecture."""
    matryoshka_widths: list[int] = Field(default_factory=list)
    """Widths of the nested dictionaries."""
    use_matryoshka_aux_loss: bool = False
    """Whether the auxiliary loss works per level."""


class MatchingPursuitTrainingConfig(MatchingPursuitConfig):
    """Matching pursuit."""

    decoder_init_norm: float | None
    """Norm that decoder rows were initialized to."""


TRAINING: dict[str, type[SaelensConfig]] = {
    "standard": StandardTrainingConfig,
    "gated": GatedTrainingConfig,
    "jumprelu": JumpReluTrainingConfig,
    "topk": TopKTrainingConfig,
    "abstopk": AbsTopKTrainingConfig,
    "batchtopk": BatchTopKTrainingConfig,
    "matryoshka_batchtopk": MatryoshkaBatchTopKTrainingConfig,
    "matching_pursuit": MatchingPursuitTrainingConfig,
}
"""Every training architecture of SAELens 6.54."""
