"""ReLU with an L1 penalty on SAELens' trainer: dense products while many latents are active, sparse ones afterwards."""

from dataclasses import dataclass

import torch
from sae_lens import register_sae_training_class
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from torch import Tensor

from saereg.trainers.steps.codes import DENSE_FROM, Code, DenseCode
from saereg.trainers.steps.handing import workspace_of
from saereg.trainers.steps.positions import above, code_at, share_above_zero
from saereg.trainers.steps.reconstruction import Gradients, can_step, products, reconstruct, rows_of


@dataclass
class SparseStandardTrainingSAEConfig(StandardTrainingSAEConfig):  # type: ignore[misc]
    """SAELens' own configuration, architecture name and all: what is saved loads in SAELens alone."""


class SparseStandardTrainingSAE(StandardTrainingSAE):  # type: ignore[misc]
    """SAELens' standard dictionary with a step whose work follows the number of active latents.

    The penalty is λ/n Σ f·‖W_dec‖. It adds λ/n·‖W_dec_j‖ to the gradient of every active latent, and
    λ/n·(Σ_n f_j)·W_dec_j/‖W_dec_j‖ to that of each decoder row.
    Source: `StandardTrainingSAE.calculate_aux_loss`, sae_lens 6.54 saes/standard_sae.py, with lp_norm = 1.
    """

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """Return losses of a batch; that which is differentiated brings its gradients along.

        `feature_acts` is sparse where few latents are active, else memory that the next step uses again;
        `hidden_pre` is empty: it is not kept.
        """
        if self.cfg.lp_norm != 1 or not can_step(self, step_input.sae_in):
            return super().training_forward_pass(step_input)
        with torch.no_grad():
            return self._step(step_input)

    def _step(self, step_input: TrainStepInput) -> TrainStepOutput:
        rows = rows_of(self, step_input.sae_in)
        gradients = Gradients.of(self)
        pre = workspace_of(self).matrix("pre", (len(rows.x), self.cfg.d_sae), rows.x)
        products(rows.u, self.W_enc.detach(), self.b_enc.detach(), pre)
        with torch.autocast(rows.x.device.type, enabled=False):
            code = self._code(pre)
            found = reconstruct(self, code, rows)
            norms, rate = self.W_dec.detach().norm(dim=-1), step_input.coefficients["l1"] / len(rows.x)
            totals = code.totals()
            gradients.set_main(code, found.g, self.W_dec.detach(), rows.u, penalty=norms * rate)
            # the norm has no direction at zero, where autograd takes 0 for it
            gradients.W_dec.addcmul_(self.W_dec, (totals * rate / norms).nan_to_num(0, 0, 0).unsqueeze(1))
            gradients.finish(self.W_enc.detach(), b_dec_is_subtracted=self.cfg.apply_b_dec_to_input)
            losses = {"mse_loss": found.loss, "l1_loss": rate * (totals @ norms)}
        loss = gradients.loss(self, losses["mse_loss"] + losses["l1_loss"])
        return TrainStepOutput(step_input.sae_in, found.x_hat, code.matrix(), rows.x.new_empty(0), loss, losses)

    def _code(self, pre: Tensor) -> Code:
        """Return f = ReLU(pre): dense, in the place of `pre`, or sparse."""
        if share_above_zero(pre) > DENSE_FROM:
            return DenseCode(pre.relu_())
        flat = above(pre, 0.0)
        return code_at(flat, pre.view(-1)[flat], (pre.shape[0], pre.shape[1]))


register_sae_training_class("saereg_standard", SparseStandardTrainingSAE, SparseStandardTrainingSAEConfig)
