"""ReLU, JumpReLU, BatchTopK's threshold and gated, slab by slab of latents.

For a few thousand latents the product of a block of rows stays in the cache of the processor; there it is compared
with the bound of its rule, and what passes is decoded from a part of W_dec that stays in cache, too. No matrix of all
latents of a block ever exists, so memory does not grow with F or with the number of rows.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from saereg.registry.kernels.coded import Coded
from saereg.registry.kernels.matrices import Matrices
from saereg.registry.kernels.pairs import Pairs, add_decoded, add_product, is_dense
from saereg.registry.kernels.passage import passage
from saereg.registry.kernels.plan import Plan, width
from saereg.registry.kernels.rules import Rule, rule_of
from saereg.registry.kernels.scratch import Scratch
from saereg.registry.kernels.tally import Tally
from saereg.registry.semantics import semantics_of
from saereg.schemas.cfg_crosscoder import CrosscoderConfig


@dataclass(frozen=True)
class SlabRunner:
    """A dictionary whose latents are decided one by one.

    Attributes:
        matrices: its tensors.
        plan: how much at once.
        rule: how its latents follow from products.
        scratch: memory for products.
    """

    matrices: Matrices
    plan: Plan
    rule: Rule = field(init=False)
    scratch: Scratch = field(default_factory=Scratch, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Read the vectors, once."""
        object.__setattr__(self, "rule", rule_of(self.matrices.cfg, self.matrices.vectors))

    @property
    def block_rows(self) -> int:
        """Rows at once, at most."""
        return self.plan.block_rows

    @property
    def dtype(self) -> str:
        """Type in which it runs."""
        return str(self.matrices.dtype).removeprefix("torch.")

    def run(self, x: Tensor) -> Coded:
        """Encode and decode some rows.

        Raises:
            UsageError: when they have another shape than the dictionary reads.
        """
        with torch.no_grad():
            way = passage(self.matrices, x)
            tile, latents = self.plan.tile_rows * self.plan.encoder_slab, self.matrices.cfg.d_sae
            with self.scratch.lent(tile, self.matrices.dtype, self.matrices.device) as buffer:
                block = _Block(self.matrices, self.rule, self.plan, way.encoded_rows(), buffer)
                for first in range(0, latents, self.plan.encoder_slab):
                    block.add_slab(slice(first, min(latents, first + self.plan.encoder_slab)))
            return way.coded(block.total, block.tally.active())


class _Block:
    """One block of rows, while its slabs are added."""

    def __init__(self, matrices: Matrices, rule: Rule, plan: Plan, x: Tensor, product: Tensor) -> None:
        cfg, rows = matrices.cfg, len(x)
        sources = None
        if isinstance(cfg, CrosscoderConfig) and semantics_of(cfg).gate == "per_source":
            sources = cfg.n_sources
        self.matrices, self.rule, self.x, self.sources = matrices, rule, x, sources
        self.tile_rows = max(1, min(rows, plan.tile_rows))
        # sums over slabs need more digits than half precision has
        wide = torch.promote_types(matrices.dtype, torch.float32)
        self.total = torch.zeros(rows, width(matrices)[1], dtype=wide, device=x.device)
        self.tally = Tally(rows, cfg.d_sae, sources, x.device)
        self.products = matrices.products(x)
        self.product = product
        self.mask = torch.empty(self.product.shape, dtype=torch.bool, device=x.device)

    def add_slab(self, latents: slice) -> None:
        """Encode and decode some neighbouring latents, for all rows."""
        W_enc = None if self.products is not None else self.matrices.encoder(latents.start, latents.stop)
        W_dec = self.matrices.decoder(latents.start, latents.stop)
        rule = self.rule.part(latents.start, latents.stop)
        bound = rule.bound()
        for first in range(0, len(self.x), self.tile_rows):
            rows = slice(first, min(len(self.x), first + self.tile_rows))
            shape = rows.stop - rows.start, latents.stop - latents.start
            product, mask = (buffer[: shape[0] * shape[1]].view(shape) for buffer in (self.product, self.mask))
            if W_enc is not None:
                torch.mm(self.x[rows], W_enc, out=product)
            elif self.products is not None:
                product.copy_(self.products[rows, latents])
            # not "greater": what is not a number must pass
            torch.le(product, bound, out=mask).logical_not_()
            if self.sources is None and is_dense(_count(mask), mask.numel(), mask.device):
                f = rule.dense(product)
                self.tally.add_dense(rows, latents, f)
                add_product(self.total[rows], rule.dense_unscaled(f), W_dec)
            else:
                self._add_sparse(rows, latents, rule, (product, mask), W_dec)

    def _add_sparse(self, rows: slice, latents: slice, rule: Rule, tile: tuple[Tensor, Tensor], W_dec: Tensor) -> None:
        candidates = found(*tile)
        if self.sources is None:
            values = rule.values(candidates.values, candidates.latents)
            pairs = Pairs(candidates.offsets, candidates.latents, values).only(values != 0)
            self.tally.add(rows, latents, pairs)
            decoded = rule.unscaled(pairs.values, pairs.latents)
            add_decoded(self.total[rows], Pairs(pairs.offsets, pairs.latents, decoded), W_dec)
            return
        anywhere, positive = (torch.zeros_like(candidates.latents, dtype=torch.bool) for _ in range(2))
        d = W_dec.shape[1] // self.sources
        for source in range(self.sources):
            values = rule.of_source(source).values(candidates.values, candidates.latents)
            anywhere |= values != 0
            positive |= values > 0
            pairs = Pairs(candidates.offsets, candidates.latents, values).only(values != 0)
            self.tally.add_source(source, latents, pairs.latents, pairs.values)
            columns = slice(source * d, (source + 1) * d)
            add_decoded(self.total[rows, columns], pairs, W_dec[:, columns])
        self.tally.add(rows, latents, Pairs(candidates.offsets, candidates.latents, positive).only(anywhere))


def _count(mask: Tensor) -> int:
    if mask.device.type == "cpu":
        import numpy as np

        return int(np.count_nonzero(mask.numpy()))
    return int(mask.sum())


def found(product: Tensor, mask: Tensor) -> Pairs:
    """Return the products (n, s) that a mask (n, s) shows."""
    n, s = mask.shape
    if mask.device.type == "cpu":
        import numpy as np

        flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
    else:
        flat = mask.flatten().nonzero().squeeze(1)
    begins = torch.arange(0, (n + 1) * s, s, device=flat.device)
    offsets = torch.searchsorted(flat, begins)
    shift = begins[:-1].repeat_interleave(offsets.diff(), output_size=len(flat))
    return Pairs(offsets, flat - shift, product.flatten()[flat])
