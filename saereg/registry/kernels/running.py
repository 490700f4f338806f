"""The right runner for a dictionary."""

from typing import TYPE_CHECKING

from saereg.errors import UsageError
from saereg.registry.architectures import architecture_of
from saereg.registry.kernels.matrices import Loaded, Matrices
from saereg.registry.kernels.plain import PlainRunner
from saereg.registry.kernels.plan import slab_plan
from saereg.registry.kernels.ranked import RANKED, ranked_runner
from saereg.registry.kernels.rules import ELEMENTWISE
from saereg.registry.kernels.slabs import SlabRunner
from saereg.registry.semantics import semantics_of

if TYPE_CHECKING:
    from saereg.registry.dictionary import Dictionary
    from saereg.registry.kernels.coded import Runner
    from saereg.schemas.artifact_config import ArtifactConfig

PLAIN_BYTES = 256 * 1024**2
"""Bytes of the latents of a block that is run by the dictionary itself."""


def runner_of(dictionary: "Dictionary", *, exact: bool = False) -> "Runner":
    """Return what runs a dictionary over many rows.

    Matching pursuit, temporal and cross-layer dictionaries are always run by their own encode and decode. All others
    run in slabs, with the same active sets and the same outputs up to rounding; bfloat16 and float16 weights on a CPU
    in float32, as `dtype` of the runner says.

    Args:
        dictionary: in memory, on any device.
        exact: whether to keep the order of operations of the dictionary itself, for bitwise comparisons.

    Raises:
        UsageError: for a device without numbers.
    """
    if dictionary.device.type == "meta":
        raise UsageError("device 'meta' holds no numbers: nothing can be measured on it")
    if exact or not has_fast_path(dictionary.cfg):
        return PlainRunner(dictionary, _plain_rows(dictionary))
    return fast_runner(Loaded(dictionary))


def fast_runner(matrices: Matrices) -> "Runner":
    """Return the runner of matrices whose configuration has a fast path."""
    if semantics_of(matrices.cfg).activation in RANKED:
        return ranked_runner(matrices)
    return SlabRunner(matrices, slab_plan(matrices))


def has_fast_path(cfg: "ArtifactConfig") -> bool:
    """Whether latents follow from one product, by a rule or by rank."""
    known = semantics_of(cfg).activation in (*ELEMENTWISE, *RANKED)
    return known and architecture_of(cfg).latents is not None


def _plain_rows(dictionary: "Dictionary") -> int:
    """Return rows whose latents fit; cross-layer dictionaries have those of every layer."""
    cfg = dictionary.cfg
    codes = max(getattr(cfg, "n_layers", 1), getattr(cfg, "n_sources", 1))
    return max(1, min(2048, PLAIN_BYTES // (dictionary.dtype.itemsize * cfg.d_sae * codes)))
