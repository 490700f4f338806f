"""An export against the checkpoint it came from, tensor by tensor, in blocks of rows."""

from pathlib import Path

import torch
from torch import Tensor

from saereg.errors import WeightsError
from saereg.registry.blocks import read_span, read_tensor, row_blocks
from saereg.registry.header import Header, TensorEntry, read_header
from saereg.registry.roundtrip_operations import apply, decoder_norm
from saereg.registry.stream import decoder_norms
from saereg.schemas.index import RoundTrip, RoundTripTensor
from saereg.schemas.manifest import SourceCheckpoint, SourceTensor

DATA_MOVEMENT = frozenset({"identity", "transpose", "copy_of_tied"})
"""Operations that only move bytes; "bitwise" is said of these alone."""

WHOLE = frozenset({"transpose", "broadcast"})
"""Operations that need the whole source tensor; all others work on any block of rows."""

MAX_FLOAT = float(torch.finfo(torch.float64).max)

FOLD_TOLERANCE = 1e-6
"""Largest difference of a redone fold, relative to the largest magnitude of the tensor: float32 rounding."""


def compare_with_source(weights: Path, header: Header, checkpoint: Path, source: SourceCheckpoint) -> RoundTrip:
    """Redo every operation of an export and compare with the exported bytes.

    Memory holds two blocks; for a transposed tensor, also that tensor.

    Raises:
        WeightsError: when the source is no safetensors file or lacks a tensor.
        OSError: when a file cannot be read.
    """
    source_header = read_header(checkpoint)
    compared: dict[str, RoundTripTensor] = {}
    norms = None
    if any(how.operation in ("times_decoder_norm", "unit_decoder_norm") for how in source.tensors.values()):
        norms = decoder_norms(checkpoint, _entry(source_header, source.tensors["W_dec"].key, checkpoint), decoder_norm)
    for name, how in sorted(source.tensors.items()):
        if name not in header.tensors:
            raise WeightsError(weights.name, "is in source_checkpoint.tensors but not in the file", name)
        _entry(source_header, how.key, checkpoint)
        compared[name] = _compare(name, how, (weights, header), (checkpoint, source_header), norms)
    return RoundTrip(against=source.sha256, tensors=compared)


def disagreements(round_trip: RoundTrip, source: SourceCheckpoint, largest: dict[str, float]) -> dict[str, str]:
    """Return exported tensor → what is wrong, for every tensor that is not what its operation gives.

    Args:
        round_trip: the comparison.
        source: what the manifest says was done.
        largest: tensor → its largest magnitude, the scale of a fold's rounding.
    """
    wrong = {}
    for name, tensor in round_trip.tensors.items():
        difference = f"max_abs_diff {tensor.max_abs_diff:.3g}"
        if is_movement(source.tensors[name]):
            if not tensor.bitwise:
                wrong[name] = f"{difference}, expected the same bytes ({tensor.operation})"
        elif tensor.max_abs_diff > FOLD_TOLERANCE * max(largest.get(name, 1.0), 1e-30):
            wrong[name] = f"{difference} from {tensor.operation} of {tensor.key}"
    return wrong


def is_movement(how: SourceTensor) -> bool:
    """Whether an export only moves bytes: "bitwise" is said of nothing else."""
    return how.operation in DATA_MOVEMENT and how.scale is None and how.dtype_change is None


def _entry(header: Header, key: str, path: Path) -> TensorEntry:
    if key not in header.tensors:
        raise WeightsError(path.name, f"missing; the checkpoint holds {', '.join(sorted(header.tensors))}", key)
    return header.tensors[key]


def _compare(
    name: str,
    how: SourceTensor,
    exported: tuple[Path, Header],
    source: tuple[Path, Header],
    norms: Tensor | None,
) -> RoundTripTensor:
    (path, header), (checkpoint, source_header) = exported, source
    entry, origin = header.tensors[name], source_header.tensors[how.key]
    bitwise, largest, whole = True, 0.0, None
    if how.operation in WHOLE:
        whole = _redo(how, read_tensor(checkpoint, source_header, how.key), None, entry.shape)
    elif origin.shape != entry.shape:
        raise WeightsError(path.name, f"shape {entry.shape}, but {how.key} in the source is {origin.shape}", name)
    for first, block in row_blocks(path, entry):
        rows = len(block) if block.dim() else 1
        if whole is None:
            piece = read_span(checkpoint, origin, first, rows)
            expected = _redo(how, piece, _norms_for(name, norms, first, rows, entry.shape), None)
        else:
            expected = whole[first : first + rows] if whole.dim() else whole
        bitwise = bitwise and _same_bytes(expected, block)
        largest = max(largest, _max_abs_diff(expected, block))
    bitwise = bitwise and is_movement(how)
    return RoundTripTensor(key=how.key, operation=how.operation, bitwise=bitwise, max_abs_diff=min(largest, MAX_FLOAT))


def _redo(how: SourceTensor, source: Tensor, norms: Tensor | None, shape: tuple[int, ...] | None) -> Tensor:
    """Return scale, operation and declared change of type, in that order."""
    scaled = source if how.scale is None else source * how.scale
    result = apply(how.operation, scaled, decoder_norm=norms, shape=shape)
    return result.to(getattr(torch, how.dtype_change.partition("->")[2])) if how.dtype_change else result


def _max_abs_diff(expected: Tensor, block: Tensor) -> float:
    if expected.shape != block.shape:
        return MAX_FLOAT
    difference = (expected.double() - block.double()).abs()
    # Equal infinities and equal NaNs differ by nothing; whether their bytes agree is the business of `bitwise`.
    difference[(expected == block) | (expected.isnan() & block.isnan())] = 0.0
    return float(difference.nan_to_num(nan=MAX_FLOAT).max()) if difference.numel() else 0.0


def _norms_for(name: str, norms: Tensor | None, first: int, rows: int, shape: tuple[int, ...]) -> Tensor | None:
    """Return the decoder norms that belong to a block: those of its rows, where rows are latents."""
    if norms is None or len(shape) == 0:
        return norms
    rows_are_latents = shape[0] == len(norms) and name != "W_enc"
    return norms[first : first + rows] if rows_are_latents else norms


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    left, right = (t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(left, right)
