"""In how many rows each latent was active, as a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UsageError, WeightsError
from saereg.registry.files.blocks import read_tensor, write_tensors
from saereg.registry.files.header import read_header
from saereg.registry.recompute.run import Recomputation
from saereg.schemas.recomputed import Recomputed

if TYPE_CHECKING:
    from torch import Tensor

FIRED, ROWS, DENSITY = "fired", "rows", "density"
"""Last part of the names of tensors: counts (F,) int64, N () int64, counts / N (F,) float64."""

KEYS = "keys"
"""Entry of the metadata: JSON, name of a dictionary and its rows → key of the record that the counts belong to."""

NOT_OURS = "is no file of saereg metrics recompute: choose another --densities"


def counted(path: Path) -> "dict[str, Tensor]":
    """Return key of the record → counts (F,), of a file that an earlier run wrote; nothing where there is none.

    Raises:
        UsageError: when the file is something else.
        OSError: when it cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        header = read_header(path)
        if KEYS not in header.metadata:
            raise UsageError(f"{path} {NOT_OURS}")
        return {
            key: read_tensor(path, header, f"{name}/{FIRED}")
            for name, key in json.loads(header.metadata.get(KEYS, "{}")).items()
            if f"{name}/{FIRED}" in header.tensors
        }
    except (WeightsError, ValueError, AttributeError) as error:
        raise UsageError(f"{error}; {path} {NOT_OURS}") from None


def write_densities(path: Path, run: Recomputation, known: "Mapping[str, Tensor]") -> None:
    """Write the counts of a run, and those that an earlier run had of the same.

    Args:
        path: the file; it is replaced.
        run: the run.
        known: key of the record → counts of an earlier run.

    Raises:
        OSError: when it cannot be written.
    """
    import torch

    records = [run.found[position] for position in sorted(run.found)]
    fresh = {fired.record.key: fired.counts for fired in run.fired.values()}
    several = len({record.target for record in records}) > 1
    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for record in records:
        counts = fresh.get(record.key, known.get(record.key))
        if counts is None:
            continue
        name = _name(record, several=several)
        names[name] = record.key
        tensors[f"{name}/{FIRED}"] = counts
        tensors[f"{name}/{ROWS}"] = torch.tensor(record.rows)
        tensors[f"{name}/{DENSITY}"] = counts.double() / record.rows
    # One entry, because safetensors writes several in an order that is another each time.
    write_tensors(path, tensors, {KEYS: json.dumps(names)})


def _name(record: Recomputed, *, several: bool) -> str:
    who = record.artifact or record.target
    return f"{record.target}:{who}/{record.evaluation}" if several and record.artifact else f"{who}/{record.evaluation}"
