"""The one place with the formula of each operation between a source checkpoint and an export.

An exporter applies them (`export_tensors`), a validator applies them again (`round_trip`), both through `apply`. With
n = ‖W_dec‖ per latent:

identity, copy_of_tied   y = x
transpose                y = xᵀ
exp                      y = exp(x)
broadcast                y = x everywhere, x a scalar
times_decoder_norm       y = x · n       over the last axis: W_enc (d_in, d_sae), b_enc (d_sae,), threshold (d_sae,)
unit_decoder_norm        y = x / n       over the first axis: W_dec (d_sae, d_in)

`scale` multiplies before the operation, `dtype_change` casts after it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.schemas.manifest import SourceTensor

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_NORM = 1e-8
"""Floor of a decoder norm in a division, as in SAELens' `get_W_dec_norm`."""


def decoder_norm(W_dec: "Tensor") -> "Tensor":
    """Return the norm of each latent's decoder row, at least SMALLEST_NORM.

    Args:
        W_dec: (d_sae, d_out).

    Returns:
        (d_sae,), in the type of `W_dec`.

    Source: SAELens 6.54, `SAE.get_W_dec_norm`.
    """
    norm: Tensor = W_dec.norm(dim=-1)
    return norm.clamp(min=SMALLEST_NORM)


def apply(
    operation: str,
    source: "Tensor",
    *,
    decoder_norm: "Tensor | None" = None,
    shape: tuple[int, ...] | None = None,
) -> "Tensor":
    """Return what an operation makes of a tensor; the formulas stand at the top of this module.

    Args:
        operation: name, as in `SourceTensor.operation`.
        source: tensor of the source checkpoint.
        decoder_norm: (d_sae,), for the operations that need it.
        shape: shape of the result, for `broadcast`.

    Raises:
        WeightsError: when the operation is unknown, or lacks what it needs.
    """
    if operation in ("identity", "copy_of_tied"):
        return source
    if operation == "transpose":
        return source.T.contiguous()
    if operation == "exp":
        return source.exp()
    if operation == "broadcast" and shape is not None and source.numel() == 1:
        return source.new_empty(shape).copy_(source.reshape(()))
    if operation == "times_decoder_norm" and decoder_norm is not None:
        return source * decoder_norm
    if operation == "unit_decoder_norm" and decoder_norm is not None:
        return source / decoder_norm.unsqueeze(1)
    raise WeightsError("source checkpoint", f"cannot apply {operation!r} to a tensor of shape {tuple(source.shape)}")


def export_tensors(
    plan: Mapping[str, SourceTensor], source: Mapping[str, "Tensor"], shapes: Mapping[str, tuple[int, ...]]
) -> "dict[str, Tensor]":
    """Return every exported tensor, made from a source checkpoint as a plan says.

    Args:
        plan: exported name → where it comes from; norms are those of the tensor behind `W_dec`.
        source: tensors of the source checkpoint.
        shapes: exported name → shape.

    Raises:
        WeightsError: when a source tensor is missing, or an operation cannot be applied.
    """
    folded = any(spec.operation.endswith("decoder_norm") for spec in plan.values())
    norm = decoder_norm(_scaled(plan["W_dec"], source)) if folded else None
    return {name: _export(spec, source, norm, shapes.get(name)) for name, spec in plan.items()}


def _export(
    spec: SourceTensor, source: Mapping[str, "Tensor"], norm: "Tensor | None", shape: tuple[int, ...] | None
) -> "Tensor":
    result = apply(spec.operation, _scaled(spec, source), decoder_norm=norm, shape=shape)
    return cast(result, spec.dtype_change) if spec.dtype_change else result


def _scaled(spec: SourceTensor, source: Mapping[str, "Tensor"]) -> "Tensor":
    if spec.key not in source:
        raise WeightsError("source checkpoint", "missing", spec.key)
    tensor = source[spec.key]
    return tensor if spec.scale is None else tensor * spec.scale


def cast(tensor: "Tensor", change: str) -> "Tensor":
    """Cast as `from->to` says.

    Raises:
        WeightsError: when the tensor is of another type than `from`.
    """
    import torch

    before, _, after = change.partition("->")
    if str(tensor.dtype) != f"torch.{before}" or not isinstance(getattr(torch, after, None), torch.dtype):
        raise WeightsError("source checkpoint", f"is {tensor.dtype}, and cannot be cast {change}")
    return tensor.to(getattr(torch, after))
