"""Rows that are kept back from training, on their way into the release."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UsageError
from saereg.registry.files.blocks import write_tensors
from saereg.registry.files.digest import sha256_of

if TYPE_CHECKING:
    from torch import Tensor


def write_held_out(path: Path, tensors: "Mapping[str, Tensor]") -> None:
    """Write held-out rows once; the same rows again change nothing. Runs side by side may write one file.

    Args:
        path: the file.
        tensors: name → rows (n, …).

    Raises:
        UsageError: when other rows stand there already.
        OSError: when it cannot be written.
    """
    # compared as files, so that many rows are never in memory twice; the name is one that `remove_leftovers` knows
    candidate = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_tensors(candidate, {name: tensor.contiguous() for name, tensor in tensors.items()})
    try:
        if not path.exists():
            candidate.replace(path)
        elif sha256_of(path) != sha256_of(candidate):
            raise UsageError(f"{path} holds other rows; give this evaluation another name with evaluation.name")
    finally:
        candidate.unlink(missing_ok=True)
