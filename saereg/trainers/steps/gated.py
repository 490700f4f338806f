"""Gated dictionaries whose inputs are normalized row by row: the gate learns from what it reads."""

import torch
from sae_lens.saes.gated_sae import GatedTrainingSAE
from sae_lens.saes.sae import TrainStepInput
from torch import Tensor


class NormalizedGatedTrainingSAE(GatedTrainingSAE):  # type: ignore[misc]
    """SAELens' gated dictionary, with its auxiliary losses on normalized inputs.

    The step of the gate has no gradient, so that W_enc and b_gate learn to gate by the auxiliary losses alone. SAELens'
    own method computes these on x, although the gate reads x′ = LN(x); here both read x′, and the reconstruction via
    the gate is brought back to the units of x before it is compared with x. Without normalization it computes the same
    as SAELens.

    Source: Rajamanoharan et al. 2024, Improving Dictionary Learning with Gated Sparse Autoencoders, eq. 8;
    `GatedTrainingSAE.calculate_aux_loss`, sae_lens 6.54 saes/gated_sae.py.
    """

    def calculate_aux_loss(
        self, step_input: TrainStepInput, feature_acts: Tensor, hidden_pre: Tensor, sae_out: Tensor
    ) -> dict[str, Tensor]:
        """Return λ/n Σ ReLU(π)·‖W_dec‖ and 1/n Σ ‖x̂_gate − x‖², with π = (x′ − b_dec)·W_enc + b_gate."""
        x = step_input.sae_in.to(self.dtype)
        centred = self.run_time_activation_norm_fn_in(x) - self.b_dec * self.cfg.apply_b_dec_to_input
        gate = torch.relu(centred @ self.W_enc + self.b_gate)
        l1_loss = step_input.coefficients["l1"] * torch.sum(gate * self.W_dec.norm(dim=1), dim=-1).mean()
        via_gate = self.run_time_activation_norm_fn_out(gate @ self.W_dec + self.b_dec)
        return {"l1_loss": l1_loss, "auxiliary_reconstruction_loss": (via_gate - x).pow(2).sum(dim=-1).mean()}
