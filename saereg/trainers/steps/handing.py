"""Gradients that were made by hand, handed out to the parameters when a loss is differentiated."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Workspace:
    """Memory that a step uses again in the next one; it is no part of a dictionary's state and is never copied."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}
        self.step = 0

    def __reduce__(self) -> tuple[type["Workspace"], tuple[()]]:
        return Workspace, ()

    def matrix(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return memory of a shape, of the type and on the device of another tensor, with anything in it."""
        held = self._held.get(name)
        if held is None or held.shape != shape or held.dtype != like.dtype or held.device != like.device:
            held = self._held[name] = torch.empty(shape, dtype=like.dtype, device=like.device)
        return held

    def gradient(self, name: str, parameter: Tensor) -> Tensor:
        """Return memory for the gradient of a parameter.

        It is the memory of the last step, unless the parameter still holds a gradient, which may live there.
        """
        if parameter.grad is not None:
            return torch.empty_like(parameter, memory_format=torch.contiguous_format)
        return self.matrix(f"gradient of {name}", tuple(parameter.shape), parameter).detach()


def workspace_of(module: Any) -> Workspace:  # noqa: ANN401
    """Return the memory of a dictionary's steps."""
    held = module.__dict__.get("_workspace")
    if not isinstance(held, Workspace):
        held = module._workspace = Workspace()
    return held


def loss_of(value: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor], workspace: Workspace) -> Tensor:
    """Return a loss whose derivatives are given.

    Args:
        value: the loss, a scalar.
        parameters: what it depends on.
        gradients: dL/dp of each, of the same shape; they belong to the loss from now on.
        workspace: where the gradients lie; a later step on it takes their place.
    """
    workspace.step += 1
    loss: Tensor = _Handing.apply(value, list(gradients), workspace, *parameters)  # type: ignore[no-untyped-call]
    return loss


class _Handing(torch.autograd.Function):
    """The identity in the value; backward gives stored gradients, times that of the loss, once."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], workspace: Workspace, *_: Tensor) -> Tensor:  # noqa: ANN401
        ctx.gradients, ctx.workspace, ctx.step = gradients, workspace, workspace.step
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        if ctx.gradients is None or ctx.step != ctx.workspace.step:
            raise RuntimeError("the gradients of this step were handed out already, or a later step took their place")
        gradients, ctx.gradients = ctx.gradients, None
        if factor.is_cuda or float(factor) != 1:  # a comparison would make a GPU wait
            for gradient in gradients:
                gradient.mul_(factor)
        return None, None, None, *gradients
