"""What a run asks of a dictionary in training, whichever trainer it belongs to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.trainers.runs.state import Tree

Facts = Mapping[str, float]
"""Name → number, as a line of the training log has them: the losses, `l0`, `explained_variance`, `dead_fraction`, `lr`
and the coefficient of sparsity under its own name."""


@dataclass(frozen=True)
class Stepped:
    """One step that was taken.

    Attributes:
        loss: the whole loss of its batch, before the step.
        facts: computes the facts of the step; they cost something, so they are asked for only where they are written.
        shown: computes what a tracker shows of the step, where that is more than the facts.
    """

    loss: float
    facts: Callable[[], Facts]
    shown: Callable[[], Mapping[str, object]] | None = None


class Member(Protocol):
    """One dictionary in training. A run steps all its members on the same batches."""

    @property
    def name(self) -> str:
        """Id of the artifact that it becomes."""

    def step(self, batch: "Mapping[str, Tensor]") -> Stepped:
        """Take one step of training on one batch: key of a place → rows (batch, width), float32, unscaled."""

    def state(self) -> "Tree":
        """Return all that the rest of the run depends on: weights, optimizer, schedules, counters, generators.

        Weights do not stand under a key `optimizer`, and its moments do: before the first step, the room that a run
        needs is told from the rest. All tensors are finite as long as the run is worth going on with: a checkpoint
        with one that is not is never saved.
        """

    def load(self, state: "Tree") -> None:
        """Continue from a state, bit by bit as if there had been no interruption."""
