"""The loss of a language model at every token, without ever holding the logits of a whole batch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saereg.errors import UsageError
from saereg.registry.models.batched import BATCH_TOKENS, PaddedBatch
from saereg.registry.models.hooks import Place, run_at
from saereg.registry.models.model import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

SLICE_BYTES = 64 * 2**20
"""Bytes of float32 logits that exist at once, where the model lets them be computed in slices."""

WHOLE_BYTES = 512 * 2**20
"""Bytes of float32 logits of a batch, where they only come all at once; one context may exceed it."""

PROBE_TOKENS = 4
"""Tokens of the trial: ids 0 to 3, which every vocabulary has."""


@dataclass(frozen=True)
class NextToken:
    """How to get losses out of a model.

    Attributes:
        loaded: the model.
        head: place of what its last linear map reads; None where something stands behind that map (a soft cap, a
            scale), so that its logits are taken from the model itself.
        vocabulary: number of logits.
    """

    loaded: LoadedModel
    head: Place | None
    vocabulary: int

    @classmethod
    def of(cls, loaded: LoadedModel) -> "NextToken":
        """Look at a model: run it over a few tokens, and see whether its logits are what its last map gives.

        Raises:
            UsageError: when it has no language-model head over the next token.
        """
        import torch

        if not loaded.causal:
            raise UsageError(f"{loaded.ref.id} does not predict the next token: it has no causal language-model head")
        head = loaded.model.get_output_embeddings()
        path = next((name for name, module in loaded.model.named_modules() if module is head and name), None)
        inputs: dict[str, Tensor | bool] = {"input_ids": torch.arange(PROBE_TOKENS, device=loaded.device)[None]}
        held, output = run_at(loaded.model, () if path is None else (Place(path),), inputs)
        is_last = path is not None and torch.equal(held[Place(path)], output.logits)
        place = Place(path, "input") if path is not None and is_last else None
        return cls(loaded, place, int(output.logits.shape[-1]))

    @property
    def batch_tokens(self) -> int:
        """Tokens of a forward pass."""
        if self.head is not None:
            return BATCH_TOKENS
        return max(1, min(BATCH_TOKENS, WHOLE_BYTES // (4 * self.vocabulary)))

    def losses(self, batch: PaddedBatch, places: tuple[Place, ...] = ()) -> "tuple[Tensor, dict[Place, Tensor]]":
        """Run the model, and return for each context the sum of its losses, and what is at some places.

        Token p is read and token p + 1 predicted, for all p of a context but its last.

        Returns:
            Σ_p −log P(token p + 1 | tokens ≤ p), shape (batch,), float64, on the CPU; place → (batch, longest, width).
        """
        import torch

        inputs = batch.inputs(self.loaded.device)
        wanted = places if self.head is None else (*places, self.head)
        held, output = run_at(self.loaded.model, wanted, inputs, stop=self.head is not None)
        states = output.logits if self.head is None else held[self.head]
        predicted = batch.present[:, 1:].bool().to(states.device)
        targets = batch.ids[:, 1:].to(states.device)[predicted]
        sums = torch.zeros(batch.ids.shape, dtype=torch.float64)[:, 1:]
        sums[predicted.cpu()] = self._of(states[:, :-1][predicted], targets)
        return sums.sum(1), {place: held[place] for place in places}

    def _of(self, states: "Tensor", targets: "Tensor") -> "Tensor":
        """Return −log P of each target, (n,), float64; states are (n, width), or logits (n, vocabulary)."""
        import torch

        step = max(1, SLICE_BYTES // (4 * self.vocabulary))
        found = torch.empty(len(targets), dtype=torch.float64)
        with torch.inference_mode():
            for first in range(0, len(targets), step):
                part = states[first : first + step]
                logits = part if self.head is None else self._module()(part)
                losses = torch.nn.functional.cross_entropy(
                    logits.float(), targets[first : first + step], reduction="none"
                )
                found[first : first + step] = losses.double().cpu()
        return found

    def _module(self) -> Any:  # noqa: ANN401
        return self.loaded.model.get_output_embeddings()
