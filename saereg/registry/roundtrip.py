"""An export against the checkpoint it came from, tensor by tensor, in blocks of rows."""

from pathlib import Path

import torch
from torch import Tensor

from saereg.errors import WeightsError
from saereg.registry.blocks import read_span, read_tensor, row_blocks
from saereg.registry.header import Header, read_header
from saereg.registry.roundtrip_operations import DATA_MOVEMENT, apply
from saereg.registry.stream import row_norms
from saereg.schemas.index import RoundTrip, RoundTripTensor
from saereg.schemas.manifest import SourceCheckpoint, SourceTensor

WHOLE = frozenset({"transpose", "broadcast"})
"""Operations that need the whole source tensor; all others work on any block of rows."""

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
        norms = row_norms(checkpoint, _entry(source_header, "W_dec", checkpoint))
    for name, how in sorted(source.tensors.items()):
        if name not in header.tensors:
            raise WeightsError(weights.name, "is in source_checkpoint.tensors but not in the file", name)
        _entry(source_header, how.key, checkpoint)
        compared[name] = _compare(name, how, (weights, header), (checkpoint, source_header), norms)
    return RoundTrip(against=source.sha256, tensors=compared)


def disagreements(round_trip: RoundTrip, largest: dict[str, float]) -> dict[str, str]:
    """Return exported tensor → what is wrong, for every tensor that is not what its operation gives.

    Args:
        round_trip: the comparison.
        largest: tensor → its largest magnitude, the scale of a fold's rounding.
    """
    wrong = {}
    for name, tensor in round_trip.tensors.items():
        if tensor.operation in DATA_MOVEMENT:
            if not tensor.bitwise:
                wrong[name] = f"max_abs_diff {tensor.max_abs_diff:.3g}, expected the same bytes ({tensor.operation})"
        elif tensor.max_abs_diff > FOLD_TOLERANCE * max(largest.get(name, 1.0), 1e-30):
            wrong[name] = f"max_abs_diff {tensor.max_abs_diff:.3g} from {tensor.operation} of {tensor.key}"
    return wrong


def _entry(header: Header, key: str, path: Path):  # noqa: ANN202
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
    bitwise, largest = True, 0.0
    whole = None
    if how.operation in WHOLE:
        raw = read_tensor(checkpoint, source_header, how.key)
        whole = apply(how, raw, decoder_norm=None, shape=entry.shape)
    elif origin.shape != entry.shape:
        raise WeightsError(path.name, f"shape {entry.shape}, but {how.key} in the source is {origin.shape}", name)
    for first, block in row_blocks(path, entry):
        rows = len(block) if block.dim() else 1
        if whole is not None:
            expected = whole[first : first + rows] if whole.dim() else whole
        else:
            piece = read_span(checkpoint, origin, first, rows)
            expected = apply(how, piece, decoder_norm=_norms_for(name, norms, first, rows, entry.shape), shape=None)
        expected = expected.to(block.dtype)
        bitwise = bitwise and _same_bytes(expected, block)
        difference = (expected.double() - block.double()).abs()
        largest = max(largest, float(difference.nan_to_num(nan=torch.inf).max()) if difference.numel() else 0.0)
    movement = how.operation in DATA_MOVEMENT and how.scale is None
    return RoundTripTensor(
        key=how.key,
        operation=how.operation,
        bitwise=bitwise and movement,
        max_abs_diff=min(largest, float(torch.finfo(torch.float64).max)),
    )


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
