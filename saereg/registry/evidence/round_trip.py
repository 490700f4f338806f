"""An export against the checkpoint it came from, tensor by tensor, in blocks of rows."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from saereg.errors import WeightsError
from saereg.registry.evidence.operations import apply, cast, decoder_norm
from saereg.registry.evidence.stream import decoder_norms
from saereg.registry.files.blocks import read_columns, read_span, row_blocks
from saereg.registry.files.header import Header, TensorEntry, read_header
from saereg.schemas.index import RoundTrip, RoundTripTensor
from saereg.schemas.manifest import SourceCheckpoint, SourceTensor

DATA_MOVEMENT = frozenset({"identity", "transpose", "copy_of_tied"})
"""Operations that only move bytes; "bitwise" is said of these alone."""

FOLDS = frozenset({"times_decoder_norm", "unit_decoder_norm"})
"""Operations that need the norms of the source's decoder."""

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Types that can be computed with."""

MAX_FLOAT = float(torch.finfo(torch.float64).max)

FOLD_TOLERANCE = 1e-6
"""Largest difference of a redone fold, relative to the largest magnitude of the tensor: float32 rounding."""


def compare_with_source(weights: Path, header: Header, checkpoint: Path, source: SourceCheckpoint) -> RoundTrip:
    """Redo every operation of an export and compare with the exported bytes.

    Memory holds a few blocks, whatever the size of the tensors.

    Raises:
        WeightsError: when the source is no safetensors file or lacks a tensor, or an operation cannot be redone.
        OSError: when a file cannot be read.
    """
    source_header = read_header(checkpoint)
    compared: dict[str, RoundTripTensor] = {}
    norms = _norms(checkpoint, source_header, source)
    for name, how in sorted(source.tensors.items()):
        if name not in header.tensors:
            raise WeightsError(weights.name, "is in source_checkpoint.tensors but not in the file", name)
        _entry(source_header, how.key, checkpoint)
        compared[name] = _compare(name, how, (weights, header), (checkpoint, source_header), norms)
    return RoundTrip(against=source.sha256, tensors=compared)


def _norms(checkpoint: Path, header: Header, source: SourceCheckpoint) -> Tensor | None:
    """Return the norms of the source's decoder rows, scaled as its export is, or None when no operation needs them."""
    folds = [name for name, how in source.tensors.items() if how.operation in FOLDS]
    if not folds:
        return None
    if "W_dec" not in source.tensors:
        problem = f"{source.tensors[folds[0]].operation} needs to know which tensor of the source W_dec is"
        raise WeightsError(checkpoint.name, problem, folds[0])
    how = source.tensors["W_dec"]
    entry = _entry(header, how.key, checkpoint)
    if len(entry.shape) != 2 or entry.dtype not in FLOATS:
        raise WeightsError(checkpoint.name, f"{entry.dtype} {entry.shape} has no decoder norms", how.key)
    return decoder_norms(checkpoint, entry, lambda block: decoder_norm(_scaled(block, how)))


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
    _check_operation(name, how, origin, entry, path, norms)
    bitwise, largest = True, 0.0
    pairs = _transposed if how.operation == "transpose" else _row_by_row
    for expected, block in pairs(name, how, (path, entry), (checkpoint, origin), norms):
        if not _same_bytes(expected, block):
            bitwise, largest = False, max(largest, _max_abs_diff(expected, block))
    bitwise = bitwise and is_movement(how)
    return RoundTripTensor(key=how.key, operation=how.operation, bitwise=bitwise, max_abs_diff=min(largest, MAX_FLOAT))


def _check_operation(
    name: str, how: SourceTensor, origin: TensorEntry, entry: TensorEntry, path: Path, norms: Tensor | None
) -> None:
    """Refuse what cannot be redone: other shapes than the operation gives, or arithmetic on whole numbers."""
    shape = origin.shape[::-1] if how.operation == "transpose" and len(origin.shape) == 2 else origin.shape
    shape = entry.shape if how.operation == "broadcast" else shape
    if shape != entry.shape or (how.operation == "transpose" and len(shape) != 2):
        raise WeightsError(path.name, f"shape {entry.shape}, but {how.key} in the source is {origin.shape}", name)
    if how.operation == "broadcast" and math.prod(origin.shape) != 1:
        raise WeightsError("source checkpoint", f"cannot apply 'broadcast' to a tensor of shape {origin.shape}")
    if not is_movement(how) and origin.dtype not in FLOATS:
        raise WeightsError(path.name, f"cannot compute {how.operation} of {how.key}, which is {origin.dtype}", name)
    axis = {"times_decoder_norm": shape[-1:], "unit_decoder_norm": shape[:1]}.get(how.operation)
    if axis is not None and norms is not None and axis != norms.shape:
        problem = f"shape {shape}, but W_dec in the source has {len(norms)} rows: cannot redo {how.operation}"
        raise WeightsError(path.name, problem, name)


Place = tuple[Path, TensorEntry]
"""A tensor in a file."""


def _row_by_row(
    name: str, how: SourceTensor, exported: Place, source: Place, norms: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (what the operation gives, what was exported), in blocks of rows."""
    (path, entry), (checkpoint, origin) = exported, source
    for first, block in row_blocks(path, entry):
        rows = len(block) if block.dim() else 1
        scalar = how.operation == "broadcast"
        piece = read_span(checkpoint, origin, 0, 1) if scalar else read_span(checkpoint, origin, first, rows)
        yield _redo(how, piece, _norms_for(name, norms, first, rows, entry.shape), tuple(block.shape)), block


def _transposed(
    name: str, how: SourceTensor, exported: Place, source: Place, norms: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the same of a transposed matrix: rows of one file against columns of the other.

    The file with more rows is read by rows: its rows are the shorter ones, so the strips of the other are the longer.
    """
    (path, entry), (checkpoint, origin) = exported, source
    if origin.shape[0] >= entry.shape[0]:
        for first, piece in row_blocks(checkpoint, origin):
            block = read_columns(path, entry, first, len(piece))
            yield _redo(how, piece, None, tuple(block.shape)), block
    else:
        for first, block in row_blocks(path, entry):
            yield _redo(how, read_columns(checkpoint, origin, first, len(block)), None, tuple(block.shape)), block


def _scaled(source: Tensor, how: SourceTensor) -> Tensor:
    return source if how.scale is None else source * how.scale


def _redo(how: SourceTensor, source: Tensor, norms: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """Return scale, operation and declared change of type, in that order."""
    result = apply(how.operation, _scaled(source, how), decoder_norm=norms, shape=shape)
    return cast(result, how.dtype_change) if how.dtype_change else result


def _max_abs_diff(expected: Tensor, block: Tensor) -> float:
    if expected.shape != block.shape:
        return MAX_FLOAT
    expected, block = expected.double(), block.double()
    difference = (expected - block).abs()
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
