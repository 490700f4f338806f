"""Active latents of many rows as triples (row, latent, activation): encoded, and not decoded.

Rows are cut into blocks as for everything else that runs over them, so a latent is active here where it is active
there, and nothing of the size rows × latents is ever in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saereg.registry.kernels.passage import passage
from saereg.registry.kernels.plain import PlainRunner
from saereg.registry.kernels.ranked import RankedRunner
from saereg.registry.kernels.slabs import SlabRunner, found
from saereg.registry.semantics import semantics_of
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig

if TYPE_CHECKING:
    from saereg.registry.kernels.coded import Runner
    from saereg.schemas.artifact_config import ArtifactConfig

PLAIN_SLAB = 1 << 22
"""Numbers of a dense code that are looked through at once."""


@dataclass(frozen=True)
class Codes:
    """Some of the active latents of a block of rows, on the CPU.

    A pair (row, latent) stands at most once in all codes of a block and a source.

    Attributes:
        source: of a crosscoder with a gate for each source, or of a dictionary across layers, which; else 0.
        rows: row of each, counted from the first row of the block, (m,), int64.
        latents: latent of each, (m,), int64.
        values: its activation, never 0, (m,), float32 at least.
    """

    source: int
    rows: Tensor
    latents: Tensor
    values: Tensor


def sources_of(cfg: "ArtifactConfig") -> int:
    """Return S, how many activations a latent has at one row: one for each source (or layer) with a gate of its own."""
    if isinstance(cfg, CrossLayerConfig):
        return cfg.n_layers
    if isinstance(cfg, CrosscoderConfig) and semantics_of(cfg).gate == "per_source":
        return cfg.n_sources
    return 1


def config_of(runner: "Runner") -> "ArtifactConfig":
    """Return the configuration of the dictionary that a runner runs."""
    if isinstance(runner, SlabRunner | RankedRunner):
        return runner.matrices.cfg
    assert isinstance(runner, PlainRunner)  # noqa: S101  # there is no other one
    return runner.dictionary.cfg


def codes_of(runner: "Runner", x: Tensor) -> Iterator[Codes]:
    """Encode a block of rows.

    Args:
        runner: the dictionary.
        x: rows as `Runner.run` reads them; to a temporal dictionary each position of a text is a row.

    Raises:
        UsageError: when they have another shape than the dictionary reads.
    """
    with torch.no_grad():
        if isinstance(runner, SlabRunner):
            parts = _of_slabs(runner, x)
        elif isinstance(runner, RankedRunner):
            parts = _of_ranks(runner, x)
        else:
            assert isinstance(runner, PlainRunner)  # noqa: S101  # there is no other one
            parts = _of_dense(runner, x)
        yield from parts


def _codes(source: int, rows: Tensor, latents: Tensor, values: Tensor) -> Codes:
    wide = torch.promote_types(values.dtype, torch.float32)
    return Codes(source, rows.cpu(), latents.cpu(), values.to(wide).cpu())


def _of_slabs(runner: SlabRunner, x: Tensor) -> Iterator[Codes]:
    """Yield the codes of latents that are decided one by one, slab by slab."""
    matrices, plan = runner.matrices, runner.plan
    rows, sources = passage(matrices, x).encoded_rows(), sources_of(matrices.cfg)
    own_gates = semantics_of(matrices.cfg).gate == "per_source"
    products, tile = matrices.products(rows), max(1, min(len(rows), plan.tile_rows))
    for first in range(0, matrices.cfg.d_sae, plan.encoder_slab):
        stop = min(matrices.cfg.d_sae, first + plan.encoder_slab)
        W_enc = None if products is not None else matrices.encoder(first, stop)
        rule = runner.rule.part(first, stop)
        bound = rule.bound()
        for row in range(0, len(rows), tile):
            part = rows[row : row + tile]
            product = part @ W_enc if W_enc is not None else _given(products)[row : row + tile, first:stop]
            pairs = found(product.contiguous(), ~(product <= bound))  # not "greater": what is not a number must pass
            at = pairs.rows() + row
            for source in range(sources):
                own = rule.of_source(source) if own_gates else rule
                values = own.values(pairs.values, pairs.latents)
                keep = values != 0
                yield _codes(source, at[keep], pairs.latents[keep] + first, values[keep])


def _given(products: Tensor | None) -> Tensor:
    assert products is not None  # noqa: S101  # else there are columns
    return products


def _of_ranks(runner: RankedRunner, x: Tensor) -> Iterator[Codes]:
    """Yield the codes of latents that are decided by rank."""
    latents, values = runner.kept(x)
    for source, (which, kept) in enumerate(zip(latents, values, strict=True)):
        rows, places = (kept != 0).nonzero(as_tuple=True)
        yield _codes(source, rows, which[rows, places], kept[rows, places])


def _of_dense(runner: PlainRunner, x: Tensor) -> Iterator[Codes]:
    """Yield the codes of a dictionary that encodes in its own way."""
    f = runner.dictionary.encode(x.to(runner.dictionary.device))
    latents = f.shape[-1]
    sources = sources_of(runner.dictionary.cfg)
    f = f.reshape(-1, sources, latents)
    step = max(1, PLAIN_SLAB // latents)
    for source in range(sources):
        for first in range(0, len(f), step):
            part = f[first : first + step, source]
            rows, which = part.nonzero(as_tuple=True)
            yield _codes(source, rows + first, which, part[rows, which])


def decoder_rows(runner: "Runner", latents: Sequence[int]) -> Tensor | None:
    """Return rows of W_dec, (N, O) or (N, K, D) of a crosscoder, on the CPU; None where a latent has more than one.

    Args:
        runner: the dictionary.
        latents: which rows.
    """
    if isinstance(config_of(runner), CrossLayerConfig):
        return None
    if isinstance(runner, PlainRunner):
        found = runner.dictionary.weights["W_dec"][list(latents)]
    else:
        assert isinstance(runner, SlabRunner | RankedRunner)  # noqa: S101  # there is no other one
        parts = [runner.matrices.decoder(latent, latent + 1) for latent in latents]
        found = torch.cat(parts).reshape(len(latents), *config_of(runner).tensors()["W_dec"].shape[1:])
    return found.float().cpu()
