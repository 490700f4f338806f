"""Golden vectors on disk: inputs and what the source of the weights makes of them, for any library to replay."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.files.atomic import write_bytes_atomically
from saereg.registry.files.blocks import read_tensor, require_torch
from saereg.registry.files.header import read_header

if TYPE_CHECKING:
    from torch import Tensor

VERSION = "1"
TENSORS = ("x", "active", "activations", "x_hat")
TYPES = {"x": "float32", "active": "int64", "activations": "float32", "x_hat": "float32"}

MAX_REL_ERROR = {"float64": 1e-5, "float32": 1e-5, "bfloat16": 2e-2, "float16": 2e-3}
"""Type of the weights → largest relative reconstruction error of a faithful replay.

The source ran in that type and on any machine, the replay sums in float64, so the bound is for the source's rounding:
about a hundred times that of float32, a few times that of the half types. Active sets have no tolerance: a wrong
threshold or k shows there first. So the source must leave out rows in which a latent is within rounding of its cut, or
in which TopK has to choose between equal values.
"""


@dataclass(frozen=True)
class GoldenVectors:
    """Rows, their codes and their reconstructions.

    Attributes:
        x: inputs (n, d_in), or (n, n_sources, d_in), float32, in the units of the released dictionary's input.
        active: ids of active latents in rising order (n, m), int64, padded with −1; where sources have gates of their
            own, the id of a latent at a source is source · d_sae + latent.
        activations: their activations (n, m), float32, padded with 0.
        x_hat: reconstructions (n, d_out), or (n, n_sources, d_in), float32.
        made_by: the software and function that made them.
    """

    x: "Tensor"
    active: "Tensor"
    activations: "Tensor"
    x_hat: "Tensor"
    made_by: str


def write_golden(path: Path, golden: GoldenVectors) -> None:
    """Write golden vectors; equal vectors give equal bytes.

    Raises:
        OSError: when the file cannot be written; an old one stays whole.
    """
    tensors = {name: getattr(golden, name) for name in TENSORS}
    write_bytes_atomically(path, tensor_bytes(tensors, {"saereg_golden": VERSION, "made_by": golden.made_by}))


def sparse_golden(x: "Tensor", f: "Tensor", x_hat: "Tensor", made_by: str) -> GoldenVectors:
    """Return golden vectors of dense latents.

    Args:
        x: inputs, as in GoldenVectors.
        f: latents (n, F), or (n, K, F).
        x_hat: reconstructions.
        made_by: the software and function that made them.
    """
    import torch

    flat = f.flatten(1)
    width = max(1, int((flat != 0).sum(dim=1).max()))
    active = torch.full((len(flat), width), -1, dtype=torch.int64)
    values = torch.zeros(len(flat), width)
    for row, latents in enumerate(flat):
        ids = latents.nonzero().flatten()
        active[row, : len(ids)], values[row, : len(ids)] = ids, latents[ids].float()
    return GoldenVectors(x.float(), active, values, x_hat.float(), made_by)


def read_golden(path: Path) -> GoldenVectors:
    """Read and check golden vectors.

    Raises:
        WeightsError: when the file is none of golden vectors, or its tensors do not fit each other.
        OSError: when it cannot be read.
    """
    require_torch("reading golden vectors")
    header = read_header(path)
    if header.metadata.get("saereg_golden") != VERSION:
        raise WeightsError(path.name, f"its header does not say saereg_golden {VERSION}: no golden vectors")
    for name in TENSORS:
        if name not in header.tensors or header.tensors[name].torch_dtype != TYPES[name]:
            raise WeightsError(path.name, f"missing, or not {TYPES[name]}", name)
    shapes = {name: header.tensors[name].shape for name in TENSORS}
    if any(len(shape) < 2 or shape[0] != shapes["x"][0] for shape in shapes.values()):
        raise WeightsError(path.name, "its tensors do not have the same number of rows")
    if shapes["x"][0] == 0:
        raise WeightsError(path.name, "it holds no rows", "x")
    if shapes["active"] != shapes["activations"]:
        raise WeightsError(path.name, f"shape {shapes['activations']}, expected that of `active`", "activations")
    tensors = {name: read_tensor(path, header, name) for name in TENSORS}
    return GoldenVectors(**tensors, made_by=header.metadata.get("made_by", "unknown"))


def tensor_bytes(tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a safetensors file with its metadata in order of keys; the library itself leaves their order to chance."""
    from safetensors.torch import save

    raw: bytes = save(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=dict(metadata or {}) or None
    )
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + raw[8 + length :]
