"""A dictionary in its place in a language model, and the losses of the model clean, spliced and ablated."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saereg.errors import UsageError, WeightsError
from saereg.registry.kernels.coded import Runner
from saereg.registry.metrics.sources.tokens import ModelRows
from saereg.registry.models.batched import PaddedBatch, padded_batches
from saereg.registry.models.hooks import Place, replaced
from saereg.registry.models.next_token import NextToken
from saereg.registry.models.pinned import ONE_AT_A_TIME


@dataclass(frozen=True)
class Splice:
    """A dictionary in its place in a model.

    Attributes:
        runner: the dictionary.
        rows: what it reads.
        model: the model.
        read: place that the dictionary reads.
        write: place that it reconstructs: the same, except for a transcoder.
        fill: row that stands there in the ablated pass, (width,); None: zeros.
    """

    runner: Runner
    rows: ModelRows
    model: NextToken
    read: Place
    write: Place
    fill: Tensor | None

    @classmethod
    def of(cls, runner: Runner, rows: ModelRows, fill: Tensor | None = None) -> "Splice":
        """Find the places of some rows in their model.

        Raises:
            UsageError: when the model has no next-token loss.
            DataUnavailableError: when it is not on this machine.
            WeightsError: when it is another than the manifest names, or has no such places.
        """
        site = rows.places[0]
        with ONE_AT_A_TIME:
            read, write = rows.place(site), rows.place(rows.target or site)
            return cls(runner, rows, NextToken.of(rows.model(site.model)), read, write, fill)

    def losses(self, contexts: Sequence[Tensor], kept: Sequence[Tensor]) -> Tensor:
        """Return the sums of losses (clean, spliced, ablated) of every context, (contexts, 3), float64.

        Args:
            contexts: token ids, each (length,).
            kept: which of them are rows, each (length,): there the activation is replaced; elsewhere it stays clean.

        Raises:
            WeightsError: when the dictionary does not fit the site.
        """
        found = torch.zeros(len(contexts), 3, dtype=torch.float64)
        for batch in padded_batches(contexts, self.model.batch_tokens):
            with ONE_AT_A_TIME:
                found[list(batch.where)] = self._of_batch(batch, _mask(batch, kept))
        return found

    def _of_batch(self, batch: PaddedBatch, mask: Tensor) -> Tensor:
        places = (self.read,) if self.read == self.write else (self.read, self.write)
        clean, held = self.model.losses(batch, places)
        x, old = held[self.read], held[self.write]
        at = mask.to(old.device)
        fill = old.new_zeros(()) if self.fill is None else self.fill.to(old.device, old.dtype)
        passes = [clean]
        for new in (self._reconstructed(x[at]).to(old.device, old.dtype), fill.expand(int(at.sum()), old.shape[-1])):
            value = old.clone()
            value[at] = new
            with replaced(self.model.loaded.model, self.write, value):
                passes.append(self.model.losses(batch)[0])
        return torch.stack(passes, 1)

    def _reconstructed(self, x: Tensor) -> Tensor:
        """Return x_hat of rows (n, width), as wide as the site that is written."""
        if not len(x):
            return x.new_zeros(())
        try:
            rows = (self.rows.shaped(block, self.rows.places[0]) for block in torch.split(x, self.runner.block_rows))
            return torch.cat([self.runner.run(block).x_hat.flatten(1) for block in rows])
        except UsageError as problem:
            raise WeightsError(self.rows.name, str(problem)) from None


def _mask(batch: PaddedBatch, kept: Sequence[Tensor]) -> Tensor:
    """Return which positions of a batch are rows, (batch, longest)."""
    mask = torch.zeros(batch.ids.shape, dtype=torch.bool)
    for row, at in enumerate(batch.where):
        mask[row, : len(kept[at])] = kept[at]
    return mask
