"""A dictionary in memory: its configuration and its tensors, nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.schemas.artifact_config import ArtifactConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """A typed configuration with the tensors that it implies, in canonical names and orientation.

    Attributes:
        cfg: configuration; `cfg.tensors()` is the expected table.
        weights: name → tensor.
        source: where it came from, for messages.
    """

    cfg: ArtifactConfig
    weights: Mapping[str, "Tensor"]
    source: str = "checkpoint"

    def check(self) -> "Checkpoint":
        """Return itself if every tensor is there with its shape.

        Raises:
            WeightsError: naming the first tensor that is missing, extra or of another shape.
        """
        expected = self.cfg.tensors()
        for name, spec in expected.items():
            if name not in self.weights:
                raise WeightsError(self.source, f"missing; expected shape {spec.shape}", name)
            if tuple(self.weights[name].shape) != spec.shape:
                found = tuple(self.weights[name].shape)
                raise WeightsError(self.source, f"shape {found}, expected {spec.shape} by the configuration", name)
        for name in self.weights:
            if name not in expected:
                raise WeightsError(self.source, "not a tensor of this architecture", name)
        return self


def first_difference(left: Checkpoint, right: Checkpoint) -> str | None:
    """Return a sentence on the first difference between two checkpoints, or None when all bytes agree.

    Tensors are compared as raw bytes, so −0.0 differs from 0.0 and equal NaNs are equal.
    """
    import torch

    if left.cfg != right.cfg:
        return "configurations differ"
    if set(left.weights) != set(right.weights):
        return f"tensors differ: {sorted(set(left.weights) ^ set(right.weights))}"
    for name in sorted(left.weights):
        a, b = left.weights[name], right.weights[name]
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{name}: {a.dtype} {tuple(a.shape)} against {b.dtype} {tuple(b.shape)}"
        if not torch.equal(a.contiguous().flatten().view(torch.uint8), b.contiguous().flatten().view(torch.uint8)):
            return f"{name}: bytes differ"
    return None
