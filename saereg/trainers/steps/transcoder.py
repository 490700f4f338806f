"""Training classes of transcoders, which SAELens has for inference only.

A transcoder reads x (B, d_in) at one site and predicts y (B, d_out) at another:

    f = σ(x·W_enc + b_enc),   ŷ = f·W_dec + b_dec (+ x·W_skipᵀ),   loss = mean over rows of ‖y − ŷ‖² + sparsity.

A batch holds both side by side: [x | y], (B, d_in + d_out). σ and the sparsity term are those of SAELens' own classes,
which these inherit: L1 of f·‖W_dec‖, JumpReLU with its step loss, TopK with the auxiliary loss of dead latents on
y − ŷ. The skip connection reads the raw x, as SAELens' SkipTranscoder does.
Sources: arXiv:2406.11944, eq. 3–5 (transcoders); arXiv:2501.18823, eq. 4 (skip transcoders); SAELens 6.54,
`saes/transcoder.py`, for names, shapes and the forward pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from sae_lens.registry import register_sae_training_class
from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
from sae_lens.saes.sae import TrainingSAE, TrainingSAEConfig, TrainStepInput, TrainStepOutput
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.saes.transcoder import TranscoderConfig
from sae_lens.training.activation_scaler import ActivationScaler
from torch import Tensor, nn


@dataclass
class _Transcodes(TrainingSAEConfig):  # type: ignore[misc]  # SAELens' own dataclass is abstract
    """What the configurations of all transcoders have beside that of their activation."""

    d_out: int = 0
    """Width of the output."""

    def __post_init__(self) -> None:
        if self.d_out <= 0 or self.apply_b_dec_to_input:
            raise ValueError("a transcoder needs `d_out`, and has no `apply_b_dec_to_input`")
        super().__post_init__()

    @property
    def has_skip(self) -> bool:
        """Whether x·W_skipᵀ is added to the output."""
        return "skip" in self.architecture()


@dataclass
class TopKTranscoderConfig(TranscoderConfig):  # type: ignore[misc]
    """What a released TopK transcoder has; not registered, as SAELens has no class that reads it."""

    k: int = 100
    """Active latents per row."""
    rescale_acts_by_decoder_norm: bool = False
    """Whether pre-activations are ranked times ‖W_dec‖."""

    @classmethod
    def architecture(cls) -> str:
        """Return the name of the architecture."""
        return "topk_transcoder"


@dataclass
class TranscoderTrainingConfig(_Transcodes, StandardTrainingSAEConfig):  # type: ignore[misc]
    """ReLU with an L1 penalty."""

    @classmethod
    def architecture(cls) -> str:
        """Return the name of the architecture."""
        return "transcoder"


@dataclass
class SkipTranscoderTrainingConfig(TranscoderTrainingConfig):
    """ReLU with an L1 penalty, and a skip connection."""

    @classmethod
    def architecture(cls) -> str:
        """Return the name of the architecture."""
        return "skip_transcoder"


@dataclass
class JumpReLUTranscoderTrainingConfig(_Transcodes, JumpReLUTrainingSAEConfig):  # type: ignore[misc]
    """JumpReLU with an L0 penalty."""

    @classmethod
    def architecture(cls) -> str:
        """Return the name of the architecture."""
        return "jumprelu_transcoder"


@dataclass
class JumpReLUSkipTranscoderTrainingConfig(JumpReLUTranscoderTrainingConfig):
    """JumpReLU with an L0 penalty, and a skip connection."""

    @classmethod
    def architecture(cls) -> str:
        """Return the name of the architecture."""
        return "jumprelu_skip_transcoder"


@dataclass
class TopKTranscoderTrainingConfig(_Transcodes, TopKTrainingSAEConfig):  # type: ignore[misc]
    """TopK."""

    @classmethod
    def architecture(cls) -> str:
        """Return the name of the architecture."""
        return "topk_transcoder"

    def get_inference_config_class(self) -> type[TranscoderConfig]:
        """Return the class that says which of the settings matter at inference."""
        return TopKTranscoderConfig

    def get_inference_sae_cfg_dict(self) -> dict[str, Any]:
        """Return the settings that matter at inference, under the name of this architecture."""
        found: dict[str, Any] = super().get_inference_sae_cfg_dict()
        return found | {"architecture": self.architecture()}


@dataclass
class TopKSkipTranscoderTrainingConfig(TopKTranscoderTrainingConfig):
    """TopK, and a skip connection."""

    @classmethod
    def architecture(cls) -> str:
        """Return the name of the architecture."""
        return "topk_skip_transcoder"


class TranscoderTraining(TrainingSAE[Any]):  # type: ignore[misc]  # the rest of it is that of an activation
    """What the training classes of all transcoders have in common; the class of an activation stands before it."""

    def initialize_weights(self) -> None:
        """Draw W_enc and W_dec independently, as their spaces differ; biases and W_skip are zero.

        Columns of W_enc and rows of W_dec have the norm `decoder_init_norm`, which for autoencoders is that of both
        in SAELens' TrainingSAE. Biases are set by the first batch: see `centre`. Zero W_skip: sparsify 1.3,
        `sparse_coder.py`, and SAELens' SkipTranscoder.
        """
        cfg = self.cfg
        norm = 0.1 if cfg.decoder_init_norm is None else cfg.decoder_init_norm
        options = {"dtype": self.dtype, "device": self.device}
        W_dec = torch.randn(cfg.d_sae, cfg.d_out, **options)
        W_enc = torch.randn(cfg.d_in, cfg.d_sae, **options)
        self.W_dec = nn.Parameter(W_dec * (norm / W_dec.norm(dim=1, keepdim=True)))
        self.W_enc = nn.Parameter(W_enc * (norm / W_enc.norm(dim=0, keepdim=True)))
        self.b_dec = nn.Parameter(torch.zeros(cfg.d_out, **options))
        if cfg.has_skip:
            self.W_skip = nn.Parameter(torch.zeros(cfg.d_out, cfg.d_in, **options))

    def _setup_activation_normalization(self) -> None:
        """Normalize inputs alone: what is predicted lives in another space."""
        super()._setup_activation_normalization()
        self.run_time_activation_norm_fn_out = lambda y: y

    def process_sae_in(self, sae_in: Tensor) -> Tensor:
        """Return what the encoder reads: x, normalized where the configuration says so, with nothing subtracted."""
        normalized: Tensor = self.run_time_activation_norm_fn_in(self.hook_sae_input(sae_in.to(self.dtype)))
        return normalized

    def transcode(self, x: Tensor, feature_acts: Tensor) -> Tensor:
        """Return ŷ (…, d_out) of rows x (…, d_in) and their latents (…, d_sae)."""
        y_hat: Tensor = self.decode(feature_acts)
        return y_hat + x.to(y_hat.dtype) @ self.W_skip.T if self.cfg.has_skip else y_hat

    def forward(self, x: Tensor) -> Tensor:
        """Return ŷ (…, d_out) of rows x (…, d_in)."""
        y_hat: Tensor = self.hook_sae_output(self.transcode(x, self.encode(x)))
        return y_hat

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """Return the losses of a batch [x | y], (B, d_in + d_out); what it calls `sae_in` is y, which is predicted."""
        x, y = step_input.sae_in.split([self.cfg.d_in, self.cfg.d_out], dim=-1)
        if step_input.n_training_steps == 0:
            self.centre(x, y)
        feature_acts, hidden_pre = self.encode_with_hidden_pre(x)
        y_hat = self.transcode(x, feature_acts)
        losses = {"mse_loss": self.mse_loss_fn(y_hat, y).sum(dim=-1).mean()}
        losses |= self.calculate_aux_loss(replace(step_input, sae_in=y), feature_acts, hidden_pre, y_hat)
        return TrainStepOutput(
            sae_in=y,
            sae_out=y_hat,
            feature_acts=feature_acts,
            hidden_pre=hidden_pre,
            loss=sum(losses.values()),
            losses=losses,
        )

    @torch.no_grad()
    def centre(self, x: Tensor, y: Tensor) -> None:
        """Set b_enc and b_dec so that pre-activations have mean 0, and ŷ without latents is the mean of y.

        Source: sparsify 1.3, `trainer.py`: the same as subtracting the mean from the input.
        """
        mean = self.process_sae_in(x).mean(dim=0)
        self.b_enc.data.copy_(-mean @ self.W_enc)
        self.b_dec.data.copy_(y.mean(dim=0))

    @torch.no_grad()
    def fold_activation_norm_scaling_factor(self, scaling_factor: tuple[float, float]) -> None:
        """Fold the scales (s_in, s_out) of inputs and outputs: ŷ(x) = ŷ'(s_in·x) / s_out from now on."""
        s_in, s_out = scaling_factor
        self.W_enc.data *= s_in
        self.W_dec.data /= s_out
        self.b_dec.data /= s_out
        if self.cfg.has_skip:
            self.W_skip.data *= s_in / s_out
        self.cfg.normalize_activations = "none"


class ReLUTranscoderTraining(StandardTrainingSAE, TranscoderTraining):  # type: ignore[misc]
    """ReLU with SAELens' L1 penalty, Σ_i f_i‖W_dec_i‖."""


class JumpReLUTranscoderTraining(JumpReLUTrainingSAE, TranscoderTraining):  # type: ignore[misc]
    """JumpReLU with SAELens' step loss (arXiv:2407.14435, eq. 9), its thresholds kept at 0 or above."""


class TopKTranscoderTraining(TopKTrainingSAE, TranscoderTraining):  # type: ignore[misc]
    """TopK of pre-activations times ‖W_dec‖, with SAELens' auxiliary loss (arXiv:2406.04093, appendix A.2)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ŷ (…, d_out) of rows x (…, d_in); SAELens' own forward knows no skip connection."""
        return TranscoderTraining.forward(self, x)


class PairScaler(ActivationScaler):  # type: ignore[misc]
    """Scales of inputs and outputs of their own: each makes the mean norm of its rows √width, as SAELens' one does.

    Args:
        d_in: width of the input; what stands behind it in a batch is the output.
    """

    def __init__(self, d_in: int) -> None:
        super().__init__()
        self.d_in = d_in

    def scale(self, acts: Tensor) -> Tensor:
        """Return a batch [s_in·x | s_out·y], or the batch as it is where there are no scales."""
        scales: tuple[float, float] | None = self.scaling_factor
        if scales is None:
            return acts
        s_in, s_out = scales
        return torch.cat([acts[..., : self.d_in] * s_in, acts[..., self.d_in :] * s_out], dim=-1)

    def unscale(self, acts: Tensor) -> Tensor:
        """Undo `scale`."""
        scales: tuple[float, float] | None = self.scaling_factor
        if scales is None:
            return acts
        s_in, s_out = scales
        return torch.cat([acts[..., : self.d_in] / s_in, acts[..., self.d_in :] / s_out], dim=-1)

    @torch.no_grad()
    def estimate_scaling_factor(
        self, d_in: int, data_provider: Iterator[Tensor], n_batches_for_norm_estimate: int = 1000
    ) -> None:
        """Estimate both scales from the same batches.

        Args:
            d_in: width of the input.
            data_provider: batches [x | y].
            n_batches_for_norm_estimate: how many to take.
        """
        total, rows, width = torch.zeros(2, dtype=torch.float64), 0, d_in
        for _ in range(n_batches_for_norm_estimate):
            batch = next(data_provider)
            x, y = batch[..., :d_in], batch[..., d_in:]
            total += torch.stack([part.norm(dim=-1).double().sum() for part in (x, y)]).cpu()
            rows, width = rows + len(batch), y.shape[-1]
        norms = (total / rows).tolist()
        self.scaling_factor = (d_in**0.5 / norms[0], width**0.5 / norms[1])


CLASSES: dict[type[Any], tuple[type[Any], ...]] = {
    ReLUTranscoderTraining: (TranscoderTrainingConfig, SkipTranscoderTrainingConfig),
    JumpReLUTranscoderTraining: (JumpReLUTranscoderTrainingConfig, JumpReLUSkipTranscoderTrainingConfig),
    TopKTranscoderTraining: (TopKTranscoderTrainingConfig, TopKSkipTranscoderTrainingConfig),
}
"""Class of the dictionary → configurations that it is trained with."""

for _sae, _configs in CLASSES.items():
    for _config in _configs:
        register_sae_training_class(_config.architecture(), _sae, _config)
