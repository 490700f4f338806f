"""Dictionaries larger than memory: their matrices are read slab by slab of latents, once per block of rows.

A block of rows is as large as memory allows, so that reading the weights costs less than multiplying with them. W_enc
is read in the order of its file: in blocks of rows over which products accumulate, or, where a layout has it
transposed, in slabs of latents.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from saereg.registry.kernels.matrices import Stored
from saereg.registry.kernels.plan import stream_plan
from saereg.registry.kernels.ranked import RANKED, RankedRunner
from saereg.registry.kernels.slabs import SlabRunner
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig

if TYPE_CHECKING:
    from saereg.registry.kernels.coded import Runner
    from saereg.registry.readings.reading import Reading

MEMORY_SHARE = 0.5
"""Share of the memory at hand that may be used where nobody says how much."""

WEIGHTS_SHARE = 0.5
"""Share of the memory that may be used up to which weights are loaded; larger ones are streamed."""

STREAM_BYTES = 1_792 * 1024**2
"""Bytes that streaming uses where nobody says how much: more gives larger blocks, which gain little from there on."""

CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""Files of Linux that say how much memory a container may use, and does, in versions 2 and 1."""


def streamed_runner(reading: "Reading", device: str = "cpu", memory_bytes: int = STREAM_BYTES) -> "Runner":
    """Return what runs a dictionary from its files.

    Weights that are not finite are found when they are loaded; streamed ones give reconstructions that are not.

    Args:
        reading: the dictionary, with a fast path: its latents follow from one product.
        device: torch device.
        memory_bytes: what the runner and its caller's sums may use on that device, beside Python and torch themselves.

    Raises:
        WeightsError: when its tensors are not what the configuration says.
        OSError: when a file cannot be read.
    """
    cfg = reading.checked().cfg
    dtype: torch.dtype = getattr(torch, cfg.torch_dtype)
    for other in getattr(cfg, "dtypes", {}).values():
        dtype = torch.promote_types(dtype, getattr(torch, other))
    matrices = Stored(cfg, reading.recipes(), dtype, torch.device(device), memory_bytes // 8)
    plan = stream_plan(matrices, memory_bytes)
    return RankedRunner(matrices, plan) if semantics_of(cfg).activation in RANKED else SlabRunner(matrices, plan)


def weights_bytes(cfg: ArtifactConfig) -> int:
    """Return the bytes of a dictionary's tensors in memory."""
    found = 0
    for spec in cfg.tensors().values():
        count = 1
        for size in spec.shape:
            count *= size
        found += count * getattr(torch, spec.dtype or cfg.torch_dtype).itemsize
    return found


def available_bytes(device: str = "cpu") -> int:
    """Return the free memory of a device, of the container at most; of others than CUDA's that of the machine."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    found = [_of_machine()]
    for limit, used in CGROUP_LIMITS:
        try:
            found.append(int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no container, or "max"
            continue
    return max(0, min(found))


def _of_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    # half of all: systems without that file do not say what is free
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
