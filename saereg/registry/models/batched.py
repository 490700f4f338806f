"""Run a model over contexts of any lengths: those of like lengths share a batch, padded at the right."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saereg.registry.models.hooks import Place, run_at
from saereg.registry.models.model import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

BATCH_TOKENS = 4096
"""Tokens of a forward pass, padding included; a longer context is a batch of its own."""


PADDING = 0
"""Id that stands behind the tokens of a shorter context: every vocabulary has it, and it is masked out."""


@dataclass(frozen=True)
class PaddedBatch:
    """Some contexts, side by side.

    Attributes:
        where: position of each context in the sequence they were taken from, (batch,).
        ids: token ids, (batch, longest).
        present: 1 at tokens, 0 at padding behind them, (batch, longest).
    """

    where: tuple[int, ...]
    ids: "Tensor"
    present: "Tensor"

    def inputs(self, device: str) -> "dict[str, Tensor | bool]":
        """Return the arguments of a forward pass.

        Padding stands behind the tokens, so positions, which count from the first token, are those of each context
        alone; a causal model never looks at it, and the mask hides it from one that looks both ways.
        """
        return {"input_ids": self.ids.to(device), "attention_mask": self.present.to(device)}


def padded_batches(contexts: "Sequence[Tensor]", most_tokens: int = BATCH_TOKENS) -> "Iterator[PaddedBatch]":
    """Yield contexts in batches, shortest first; each context is in one batch.

    Args:
        contexts: token ids, each (length,).
        most_tokens: bound of batch × longest; one context may exceed it.
    """
    waiting: list[int] = []
    for at in sorted(range(len(contexts)), key=lambda i: len(contexts[i])):
        if waiting and (len(waiting) + 1) * len(contexts[at]) > most_tokens:
            yield padded(contexts, waiting)
            waiting = []
        waiting.append(at)
    if waiting:
        yield padded(contexts, waiting)


def padded(contexts: "Sequence[Tensor]", where: Sequence[int]) -> PaddedBatch:
    """Return some of the contexts side by side, padded at the right.

    Args:
        contexts: token ids, each (length,).
        where: which of them.
    """
    import torch

    shape = (len(where), max(len(contexts[at]) for at in where))
    ids, present = torch.full(shape, PADDING, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    for row, at in enumerate(where):
        ids[row, : len(contexts[at])] = contexts[at]
        present[row, : len(contexts[at])] = 1
    return PaddedBatch(tuple(where), ids, present)


def at_places(
    loaded: LoadedModel, places: Iterable[Place], contexts: "Sequence[Tensor]", most_tokens: int = BATCH_TOKENS
) -> "list[dict[Place, Tensor]]":
    """Return what is at some places for every context, in the order of the contexts.

    Args:
        loaded: the model.
        places: where.
        contexts: token ids, each (length,).
        most_tokens: tokens of a forward pass.

    Returns:
        For each context: place → (length, width), on the CPU, in the type the model runs in.

    Raises:
        UsageError: when a module is not run in the forward pass, or has no tensor there.
    """
    places = tuple(places)
    found: list[dict[Place, Tensor]] = [{} for _ in contexts]
    for batch in padded_batches(contexts, most_tokens):
        held, _ = run_at(loaded.model, places, batch.inputs(loaded.device), stop=True)
        for place, tensor in held.items():
            for row, at in enumerate(batch.where):
                found[at][place] = tensor[row, : len(contexts[at])].cpu()
    return found
