"""Rows that are kept back from training, on their way into the release."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UsageError
from saereg.registry.files.blocks import write_tensors
from saereg.registry.files.digest import sha256_of
from saereg.registry.metrics.sources.texts import TEXT_SUFFIX, windows, write_text

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.metrics.sources.collected import RowText


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


def text_beside(path: str) -> str:
    """Return where the text of the rows of a file is."""
    return path.removesuffix(".safetensors") + TEXT_SUFFIX


def write_held_out_text(path: Path, text: "RowText | None", rows: range) -> None:
    """Write the text of held-out rows beside them: a few tokens around each, and nothing of the rest of the text.

    One that stands there is of the same rows, and replaced.

    Args:
        path: file of the rows, which stands.
        text: text of the collection that they are of; None: nothing is written.
        rows: their numbers in it.

    Raises:
        WeightsError: when the text of the collection is damaged.
        OSError: when it cannot be written.
    """
    if text is None:
        return
    import torch

    part = windows(text.parts(rows.start, rows.stop), torch.arange(rows.start, rows.stop))
    write_text(path.with_name(text_beside(path.name)), part, text.pieces, sha256_of(path))
