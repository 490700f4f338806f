"""TopK whose encoder is its decoder transposed: one matrix, trained by the sum of what reaches it both ways."""

from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import register_sae_training_class
from sae_lens.saes.sae import SAEConfig
from sae_lens.saes.topk_sae import TopKSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
from torch import Tensor, nn

from saereg.trainers.steps.topk import RankedStep


@dataclass
class TiedTopKTrainingSAEConfig(TopKTrainingSAEConfig):  # type: ignore[misc]
    """As for TopK, of a kind of its own: SAELens' class has a second matrix, which a saved tied one lacks.

    Latents are ranked by pre-activations alone unless asked otherwise: ranking times ‖W_dec‖ is folded into the
    encoder of a release, which then is no longer its decoder transposed.
    """

    rescale_acts_by_decoder_norm: bool = False

    @classmethod
    def architecture(cls) -> str:
        """Return the name that it is registered under."""
        return "saereg_tied_topk"

    def get_inference_config_class(self) -> type[SAEConfig]:
        """Return SAELens' TopK: for use there are two matrices."""
        kind: type[SAEConfig] = TopKSAEConfig
        return kind


class TiedTopKTrainingSAE(RankedStep, TopKTrainingSAE):  # type: ignore[misc]
    """SAELens' TopK with the one matrix W_dec (F, d_in); its checkpoint holds W_dec, b_enc and b_dec."""

    @property
    def W_enc(self) -> Tensor:  # type: ignore[override]  # noqa: N802
        """W_dec transposed, (d_in, F), on the same memory."""
        return self.W_dec.T

    def initialize_weights(self) -> None:
        """Draw the initial weights as SAELens does, from the same random numbers."""
        made = {"dtype": self.dtype, "device": self.device}
        self.b_dec = nn.Parameter(torch.zeros(self.cfg.d_in, **made))
        self.b_enc = nn.Parameter(torch.zeros(self.cfg.d_sae, **made))
        W_dec = torch.empty(self.cfg.d_sae, self.cfg.d_in, **made)
        nn.init.kaiming_uniform_(W_dec)
        if self.cfg.decoder_init_norm is not None:
            W_dec *= self.cfg.decoder_init_norm / W_dec.norm(dim=-1, keepdim=True)
        self.W_dec = nn.Parameter(W_dec)

    @torch.no_grad()
    def fold_activation_norm_scaling_factor(self, scaling_factor: float) -> None:
        """Make it read unscaled inputs, and stay tied.

        It was trained on s·x: x̂ = 1/s·(Σ f·W_dec + b_dec) with f = ReLU((s·x − b_dec)·W_decᵀ + b_enc). With f/s in
        the place of f, both factors leave the matrix: W_dec stays, and the biases are divided by s. (SAELens, with two
        matrices, multiplies one by s and divides the other, and keeps f.) What is kept does not change, as all
        pre-activations of a row are divided by the same number.
        """
        self.b_enc.data /= scaling_factor
        self.b_dec.data /= scaling_factor
        self.cfg.normalize_activations = "none"

    def fold_W_dec_norm(self) -> None:  # noqa: N802
        """Refuse: the norms cannot go into an encoder that is the decoder."""
        raise NotImplementedError("decoder norms of a tied dictionary are folded when it is exported")

    def fold_activation_whitening(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Refuse: whitening makes encoder and decoder differ."""
        raise NotImplementedError("a tied dictionary cannot take up whitening")

    def process_state_dict_for_saving_inference(self, state_dict: dict[str, Any]) -> None:
        """Add the encoder that SAELens' TopK has, and fold norms where they rank."""
        state_dict["W_enc"] = state_dict["W_dec"].T.contiguous()
        super().process_state_dict_for_saving_inference(state_dict)


register_sae_training_class("saereg_tied_topk", TiedTopKTrainingSAE, TiedTopKTrainingSAEConfig)
