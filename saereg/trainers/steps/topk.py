"""TopK on SAELens' trainer without dense work for sparse codes: one product with the encoder, all else sums of rows."""

from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import register_sae_training_class
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from torch import Tensor

from saereg.trainers.steps.codes import Code, ranked
from saereg.trainers.steps.handing import workspace_of
from saereg.trainers.steps.reconstruction import (
    Auxiliary,
    Gradients,
    auxiliary_loss,
    can_step,
    dead_latents,
    products,
    reconstruct,
    rows_of,
)

NUMBERS = {"cpu": 1 << 24, "cuda": 1 << 29}
"""Pre-activations in memory at once: what the largest matrix of a step takes."""

LEAST_ROWS = 512
"""Rows that are multiplied at once at least: with fewer, the product itself becomes slower."""


@dataclass
class SparseTopKTrainingSAEConfig(TopKTrainingSAEConfig):  # type: ignore[misc]
    """SAELens' own configuration, architecture name and all: what is saved loads in SAELens alone."""


class RankedStep:
    """The step of every dictionary that keeps the best latents; a mixin before one of SAELens' TopK classes.

    Where latents are ranked times ‖W_dec‖ (`rescale_acts_by_decoder_norm`), SAELens multiplies pre-activations by the
    norms and divides what is kept by them again, so neither the values nor their gradients depend on them: they only
    decide what is kept, and are in the activations that are reported.
    """

    cfg: Any
    W_enc: Tensor
    W_dec: Tensor
    b_enc: Tensor
    b_dec: Tensor

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """Return losses of a batch; that which is differentiated brings its gradients along.

        `feature_acts` is sparse where the code is, and `hidden_pre` is empty: it is not kept.
        """
        if not can_step(self, step_input.sae_in):
            return super().training_forward_pass(step_input)  # type: ignore[misc]
        with torch.no_grad():
            return self._step(step_input)

    def chosen(self, u: Tensor, norms: Tensor | None, dead: Tensor | None) -> tuple[Code, Tensor | None]:
        """Return the latents that are kept, with what the decoder multiplies, and what dead ones are ranked by.

        Args:
            u: what is encoded, (n, d_in).
            norms: ‖W_dec‖ where that is in the ranks, (F,).
            dead: latents, (d,), whose ranks (n, d) are wanted too.
        """
        picked, of_dead = [], []
        for part in torch.split(u, block_rows(u, self.cfg.d_sae)):
            ranks = self.ranks(part, norms)
            picked.append(ranks.topk(self.cfg.k, dim=-1, sorted=False))
            if dead is not None:
                of_dead.append(ranks[:, dead])
        values = torch.cat([one.values for one in picked]).relu_()
        latents = torch.cat([one.indices for one in picked])
        code = ranked(latents, values if norms is None else values / norms[latents], self.cfg.d_sae, rectified=True)
        return code, torch.cat(of_dead) if of_dead else None

    def ranks(self, u: Tensor, norms: Tensor | None) -> Tensor:
        """Return what latents are ranked by (n, F), in memory that is used again."""
        shape = (max(len(u), block_rows(u, self.cfg.d_sae)), self.cfg.d_sae)
        ranks = workspace_of(self).matrix("ranks", shape, u)[: len(u)]
        products(u, self.W_enc.detach(), self.b_enc.detach(), ranks)
        return ranks if norms is None else ranks.mul_(norms)

    def _step(self, step_input: TrainStepInput) -> TrainStepOutput:
        rows = rows_of(self, step_input.sae_in)
        gradients, norms, dead = Gradients.of(self), self._norms(), self._dead(step_input.dead_neuron_mask)
        code, of_dead = self.chosen(rows.u, norms, dead)
        with torch.autocast(rows.x.device.type, enabled=False):
            found = reconstruct(self, code, rows)
            gradients.set_main(code, found.g, self.W_dec.detach(), rows.u)
            aux = found.loss.new_zeros(())
            if dead is not None and of_dead is not None:
                theirs = Auxiliary(dead, of_dead, None if norms is None else norms[dead], self.cfg.aux_loss_coefficient)
                aux = auxiliary_loss(theirs, self.W_dec.detach(), rows, found, gradients)
            gradients.finish(self.W_enc.detach(), b_dec_is_subtracted=self.cfg.apply_b_dec_to_input)
        losses = {"mse_loss": found.loss, "auxiliary_reconstruction_loss": aux}
        loss = gradients.loss(self, found.loss + aux)
        # where ‖W_dec‖ ranks, it is in the activations
        f = code.matrix(norms)
        return TrainStepOutput(step_input.sae_in, found.x_hat, f, rows.x.new_empty(0), loss, losses)

    def _norms(self) -> Tensor | None:
        if not self.cfg.rescale_acts_by_decoder_norm:
            return None
        # a row of zeros ranks last; what is kept of it is divided by its norm again
        norms: Tensor = self.W_dec.detach().norm(dim=-1)
        return norms.clamp_(min=torch.finfo(norms.dtype).tiny)

    def _dead(self, mask: Tensor | None) -> Tensor | None:
        """Return the dead latents, where there are some and they have a loss."""
        return dead_latents(mask) if self.cfg.aux_loss_coefficient else None


def block_rows(u: Tensor, d_sae: int) -> int:
    """Return how many of the rows (n, d_in) are encoded at once, so that blocks are equal but for the last one."""
    most = max(LEAST_ROWS, NUMBERS[u.device.type] // d_sae)
    blocks = -(-len(u) // most)
    return -(-len(u) // max(1, blocks))


class SparseTopKTrainingSAE(RankedStep, TopKTrainingSAE):  # type: ignore[misc]
    """SAELens' TopK with a step that does no dense work for sparse codes."""


register_sae_training_class("saereg_topk", SparseTopKTrainingSAE, SparseTopKTrainingSAEConfig)
