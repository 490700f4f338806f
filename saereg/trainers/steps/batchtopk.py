"""BatchTopK on SAELens' trainer, on the same sparse passes: the k·n best latents of a whole batch."""

from dataclasses import dataclass

import torch
from sae_lens import register_sae_training_class
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor

from saereg.trainers.steps.codes import DENSE_FROM, Code, DenseCode
from saereg.trainers.steps.positions import best_of_all, code_at
from saereg.trainers.steps.topk import RankedStep


@dataclass
class SparseBatchTopKTrainingSAEConfig(BatchTopKTrainingSAEConfig):  # type: ignore[misc]
    """SAELens' own configuration, architecture name and all: what is saved loads in SAELens alone."""


class SparseBatchTopKTrainingSAE(RankedStep, BatchTopKTrainingSAE):  # type: ignore[misc]
    """SAELens' BatchTopK with a step that does no dense work for sparse codes."""

    def chosen(self, u: Tensor, norms: Tensor | None, dead: Tensor | None) -> tuple[Code, Tensor | None]:
        """Return the k·n latents of the batch that rank highest and are above zero; all are ranked at once."""
        ranks = self.ranks(u, norms)
        flat = best_of_all(ranks, int(self.cfg.k * len(ranks)))
        values = ranks.view(-1)[flat]
        code: Code = code_at(flat, values, (len(u), self.cfg.d_sae), norms)
        if len(flat) > ranks.numel() * DENSE_FROM:
            code = DenseCode(code.matrix().to_dense())
        return code, None if dead is None else ranks[:, dead]

    def _step(self, step_input: TrainStepInput) -> TrainStepOutput:
        output = super()._step(step_input)
        self.update_topk_threshold(output.feature_acts)
        output.metrics["topk_threshold"] = self.topk_threshold
        return output

    @torch.no_grad()
    def update_topk_threshold(self, acts_topk: Tensor) -> None:
        """Move the threshold for inference towards the smallest activation above zero, as SAELens does."""
        if acts_topk.is_sparse:
            # one row of numbers: SAELens looks for the smallest of all, wherever they are
            acts_topk = acts_topk._values().unsqueeze(0)
        super().update_topk_threshold(acts_topk)


register_sae_training_class("saereg_batchtopk", SparseBatchTopKTrainingSAE, SparseBatchTopKTrainingSAEConfig)
