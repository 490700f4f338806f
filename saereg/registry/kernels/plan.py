"""How much is worked on at once: rows and latents whose product stays in cache, and blocks that fit in memory."""

import math
from dataclasses import dataclass

from saereg.registry.kernels.matrices import Matrices
from saereg.registry.kernels.rules import ELEMENTWISE
from saereg.registry.semantics import semantics_of

TILE_ROWS = 2048
"""Rows of a tile: products of fewer run at a lower rate."""

CPU_SLAB, DEVICE_SLAB = 2048, 16_384
"""Latents of a slab. On a CPU a tile of 2048 × 2048 float32 is 16 MB and stays in its last cache."""

BLOCK_BYTES = 64 * 1024**2
"""Bytes of the rows of a block, on a CPU: who sums over it holds some ten times as much."""

DEVICE_BLOCK_BYTES = 512 * 1024**2
"""Bytes of the rows of a block, on other devices."""

PRODUCT_BYTES = 200 * 1024**2
"""Bytes of the products that are ranked at once: torch ranks wide rows much faster than their parts."""

STREAM_ROWS = 8192
"""Rows of a block, at most, where weights are read again for every block."""

ROW_SUMS_BYTES = 48
"""Bytes per number of a reconstruction that summing its errors takes, in float64."""

COPIED_BYTES = 128 * 1024**2
"""Bytes of a slab of one matrix, where slabs are copies."""


@dataclass(frozen=True)
class Plan:
    """How much at once.

    Attributes:
        block_rows: rows of a block, for all of which a slab of the weights is used.
        tile_rows: rows of a tile.
        encoder_slab: latents of a slab of W_enc.
        decoder_slab: latents of a slab of W_dec.
    """

    block_rows: int
    tile_rows: int
    encoder_slab: int
    decoder_slab: int


def slab_plan(matrices: Matrices) -> Plan:
    """Return the plan for products that are looked at tile by tile."""
    rows = _block_rows(matrices)
    slab = min(matrices.cfg.d_sae, CPU_SLAB if matrices.device.type == "cpu" else DEVICE_SLAB)
    if matrices.are_copied:
        slab = min(slab, _copied_slab(matrices))
    return Plan(rows, min(rows, TILE_ROWS), slab, slab)


def ranked_plan(matrices: Matrices, group: int = 1, buffers: int = 1) -> Plan:
    """Return the plan for products that are ranked along all latents.

    Args:
        matrices: the dictionary's.
        group: latents that must not be torn apart.
        buffers: numbers of the size of the product that are needed at once.
    """
    rows, latents = _block_rows(matrices), matrices.cfg.d_sae
    tile = min(rows, TILE_ROWS)
    widest = max(1, PRODUCT_BYTES // (buffers * tile * matrices.dtype.itemsize))
    decoder = latents if not matrices.are_copied and width(matrices)[1] <= TILE_ROWS else 2 * CPU_SLAB
    if matrices.are_copied:
        widest, decoder = min(widest, _copied_slab(matrices)), min(decoder, _copied_slab(matrices))
    # slabs of one size, because a narrow last one would be ranked slowly
    slab = math.ceil(latents / math.ceil(latents / widest))
    slab = min(latents, math.ceil(slab / group) * group)
    return Plan(rows, tile, slab, min(latents, decoder))


def width(matrices: Matrices) -> tuple[int, int]:
    """Return (W, O): numbers of a row, and of its reconstruction."""
    tensors = matrices.cfg.tensors()
    return math.prod(tensors["W_enc"].shape[:-1]), math.prod(tensors["W_dec"].shape[1:])


def _block_rows(matrices: Matrices) -> int:
    on_cpu = matrices.device.type == "cpu"
    row = matrices.dtype.itemsize * max(width(matrices))
    rows = (BLOCK_BYTES if on_cpu else DEVICE_BLOCK_BYTES) // row
    return max(64, min(TILE_ROWS if on_cpu else 4 * TILE_ROWS, rows - rows % 64))


def _copied_slab(matrices: Matrices) -> int:
    return max(64, COPIED_BYTES // (matrices.dtype.itemsize * max(width(matrices))) // 64 * 64)


def stream_plan(matrices: Matrices, memory_bytes: int) -> Plan:
    """Return the plan for weights that are read again for every block of rows.

    A quarter of the memory goes to the slabs of both matrices, and another to products. Rows may take three quarters:
    they do so only where their errors are summed in float64, when slabs and products are gone.

    Args:
        matrices: the dictionary's.
        memory_bytes: what may be used; at least 64 rows and one latent (or group) are worked on at once.
    """
    (inputs, outputs), item, rules = width(matrices), matrices.dtype.itemsize, semantics_of(matrices.cfg)
    latents, cfg = matrices.cfg.d_sae, matrices.cfg
    ranks = rules.activation not in ELEMENTWISE
    group = latents // int(rules.k or 1) if rules.activation == "groupmax" else 1
    # those that rank hold one matrix at a time
    latent = item * (max(inputs, outputs) if ranks else inputs + outputs)
    slab = _at_most(memory_bytes // 4 // latent, latents)
    kept = 64 * int(rules.k or 1) * (getattr(cfg, "n_sources", 1) if rules.gate == "per_source" else 1) if ranks else 0
    row = 3 * item * (inputs + outputs) + ROW_SUMS_BYTES * outputs + item * latents + kept
    rows = max(64, min(STREAM_ROWS, 3 * memory_bytes // 4 // row) // 64 * 64)
    tile = min(rows, TILE_ROWS)
    products = memory_bytes // 4 // (4 * item * tile)
    if not ranks:
        slab = min(slab, CPU_SLAB if matrices.device.type == "cpu" else DEVICE_SLAB)
    encoder = min(latents, max(1, _at_most(products, slab) // group) * group)
    return Plan(rows, tile, encoder, encoder if not ranks else slab)


def _at_most(wanted: int, most: int) -> int:
    """Return a multiple of 64 latents, or fewer where so many do not fit."""
    wanted = min(wanted, most)
    return max(1, wanted if wanted < 64 else wanted // 64 * 64)
