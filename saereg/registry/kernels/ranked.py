"""TopK, AbsTopK and groupmax: products of whole rows, ranked, and the kept latents decoded.

Where the products of all latents do not fit at once, the best so far are ranked again with those of the next slab.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from saereg.errors import UsageError
from saereg.registry.architectures.linear import needs_decoder_norm, rectified, unscaled, value_and_gate
from saereg.registry.kernels.coded import Coded
from saereg.registry.kernels.matrices import Matrices
from saereg.registry.kernels.pairs import Pairs, add_decoded
from saereg.registry.kernels.passage import Passage, passage
from saereg.registry.kernels.plan import Plan, ranked_plan, width
from saereg.registry.kernels.scratch import Scratch
from saereg.registry.kernels.tally import Tally
from saereg.registry.semantics import semantics_of
from saereg.schemas.cfg_crosscoder import CrosscoderConfig

RANKED = ("topk", "abstopk", "groupmax")
"""Activations that rank the latents of a row."""


@dataclass(frozen=True)
class RankedRunner:
    """A dictionary whose latents are decided by their rank.

    Attributes:
        matrices: its tensors.
        plan: how much at once.
        scratch: memory for products.
    """

    matrices: Matrices
    plan: Plan
    scratch: Scratch = field(default_factory=Scratch, compare=False, repr=False)

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
            UsageError: when they have another shape than the dictionary reads, or k exceeds the number of latents.
        """
        with torch.no_grad():
            way = passage(self.matrices, x)
            block = self._encoded(way)
            return way.coded(block.decoded(), block.tally().active())

    def kept(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode some rows; nothing is decoded.

        Returns:
            (latents, activations) that each row keeps, each (gates, n, k); of those some may be 0.

        Raises:
            UsageError: when they have another shape than the dictionary reads, or k exceeds the number of latents.
        """
        with torch.no_grad():
            block = self._encoded(passage(self.matrices, x))
            return block.latents, block.values

    def _encoded(self, way: Passage) -> "_Decoding":
        ranking = Ranking.of(self.matrices)
        tile = self.plan.tile_rows * self.plan.encoder_slab
        with self.scratch.lent(tile, self.matrices.dtype, self.matrices.device) as buffer:
            chosen, pre = _ranked(self.matrices, self.plan, ranking, way.encoded_rows(), buffer)
        return _Decoding(self.matrices, self.plan, ranking, chosen, pre)


@dataclass(frozen=True)
class Ranking:
    """How latents are ranked.

    Attributes:
        k: latents kept of each row, by groupmax one of each of k groups.
        b_enc: bias, (F,).
        norms: factors of each gate, (gates, F); None where nothing is multiplied.
        activation: `topk`, `abstopk` or `groupmax`.
        sources: K where each source has a gate of its own, else None.
    """

    k: int
    b_enc: Tensor
    norms: Tensor | None
    activation: str
    sources: int | None

    @classmethod
    def of(cls, matrices: Matrices) -> "Ranking":
        """Return the ranking of a dictionary.

        Raises:
            UsageError: when k exceeds the number of latents.
        """
        cfg, vectors, rules = matrices.cfg, matrices.vectors, semantics_of(matrices.cfg)
        k = int(rules.k or 1)
        if k > cfg.d_sae:
            only = f"there are only d_sae = {cfg.d_sae} latents"
            raise UsageError(f"k = {k}, but {only}; correct `k` in cfg.json")
        sources = cfg.n_sources if isinstance(cfg, CrosscoderConfig) and rules.gate == "per_source" else None
        norms = vectors["decoder_norm"].reshape(-1, cfg.d_sae) if needs_decoder_norm(cfg) else None
        b_enc = vectors["b_enc"].sum(0) if rules.bias_reduction == "sum_over_sources" else vectors["b_enc"]
        return cls(k, b_enc, norms, rules.activation, sources)

    @property
    def gates(self) -> int:
        """How many rankings a row has."""
        return self.sources or 1

    def best(self, pre: Tensor, gate: int, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return (rank quantity, latent, pre-activation) of the best of some neighbouring latents, each (n, ≤ k).

        Args:
            pre: their pre-activations, (n, s).
            gate: which ranking.
            first: the first of them.
        """
        quantity = pre if self.norms is None else pre * self.norms[gate, first : first + pre.shape[1]]
        if self.activation == "groupmax":
            group = len(self.b_enc) // self.k
            grouped = quantity.view(len(pre), -1, group)
            begins = torch.arange(0, pre.shape[1], group, device=pre.device)
            indices = grouped.argmax(dim=-1) + begins
            return quantity.gather(-1, indices), indices + first, pre.gather(-1, indices)
        if self.activation == "abstopk":
            quantity = quantity.abs()
        ranked, indices = quantity.topk(min(self.k, pre.shape[1]), dim=-1, sorted=False)
        return ranked, indices + first, pre.gather(-1, indices)

    def better(self, left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the best of two sets of latents."""
        both = tuple(torch.cat(pair, dim=-1) for pair in zip(left, right, strict=True))
        if self.activation == "groupmax" or both[0].shape[-1] <= self.k:
            return both
        ranked, indices = both[0].topk(self.k, dim=-1, sorted=False)
        return ranked, both[1].gather(-1, indices), both[2].gather(-1, indices)


def _ranked(matrices: Matrices, plan: Plan, ranking: Ranking, x: Tensor, buffer: Tensor) -> tuple[Tensor, Tensor]:
    """Return (latents, pre-activations) that are kept, each (gates, n, k); the buffer holds the products of a tile."""
    latents, tile = matrices.cfg.d_sae, max(1, min(len(x), plan.tile_rows))
    products = matrices.products(x)
    best: dict[tuple[int, int], tuple[Tensor, ...]] = {}
    for first in range(0, latents, plan.encoder_slab):
        columns = slice(first, min(latents, first + plan.encoder_slab))
        W_enc = None if products is not None else matrices.encoder(columns.start, columns.stop)
        for row in range(0, len(x), tile):
            rows = x[row : row + tile]
            pre = buffer[: len(rows) * (columns.stop - first)].view(len(rows), -1)
            if W_enc is not None:
                torch.mm(rows, W_enc, out=pre)
            elif products is not None:
                pre.copy_(products[row : row + tile, columns])
            pre += ranking.b_enc[columns]
            for gate in range(ranking.gates):
                found: tuple[Tensor, ...] = ranking.best(pre, gate, first)
                key = gate, row
                best[key] = ranking.better(best[key], found) if key in best else found
        del W_enc  # before the next one is read
    joined = [
        [torch.cat([best[gate, row][i] for row in range(0, len(x), tile)]) for gate in range(ranking.gates)]
        for i in (1, 2)
    ]
    return torch.stack(joined[0]), torch.stack(joined[1])


class _Decoding:
    """The kept latents of a block of rows, on their way back."""

    def __init__(self, matrices: Matrices, plan: Plan, ranking: Ranking, latents: Tensor, pre: Tensor) -> None:
        self.matrices, self.plan, self.ranking, self.latents = matrices, plan, ranking, latents
        self.values = torch.stack([self._values(*pair) for pair in zip(latents, pre, strict=True)])

    def _values(self, latents: Tensor, pre: Tensor) -> Tensor:
        """Return f of latents that are kept, (n, k)."""
        cfg, vectors = self.matrices.cfg, dict(self.matrices.vectors)
        norms = self.ranking.norms
        if self.ranking.sources is not None:
            return rectified(pre, cfg)
        vectors["b_enc"] = pre.new_zeros(())  # it is in `pre` already
        if norms is not None:
            vectors["decoder_norm"] = norms[0][latents]
        value, _ = value_and_gate(pre, vectors, cfg)
        return value if self.ranking.activation == "abstopk" else rectified(value, cfg)

    def decoded(self) -> Tensor:
        """Return f·W_dec, (n, O)."""
        matrices, slab = self.matrices, self.plan.decoder_slab
        latents, outputs = matrices.cfg.d_sae, width(matrices)[1]
        wide = torch.promote_types(matrices.dtype, torch.float32)
        total = torch.zeros(self.latents.shape[1], outputs, dtype=wide, device=self.latents.device)
        d = outputs // self.ranking.gates
        for first in range(0, latents, slab):
            stop = min(latents, first + slab)
            W_dec = matrices.decoder(first, stop)
            for gate in range(self.ranking.gates):
                columns = slice(gate * d, (gate + 1) * d)
                add_decoded(total[:, columns], self._pairs(gate, first, stop), W_dec[:, columns])
            del W_dec  # before the next one is read
        return total

    def _pairs(self, gate: int, first: int, stop: int) -> Pairs:
        """Return the kept latents from `first` to before `stop`, as they are decoded."""
        latents, values = self.latents[gate].flatten(), self.values[gate].flatten()
        n, k = self.latents.shape[1:]
        pairs = Pairs(torch.arange(0, (n + 1) * k, k, device=latents.device), latents - first, values)
        if first > 0 or stop < self.matrices.cfg.d_sae:
            pairs = pairs.only((latents >= first) & (latents < stop) & (values != 0))
        if not semantics_of(self.matrices.cfg).latents_scaled_by_decoder_norm or self.ranking.norms is None:
            return pairs
        norm = {"decoder_norm": self.ranking.norms[0][first:stop][pairs.latents]}
        return Pairs(pairs.offsets, pairs.latents, unscaled(pairs.values, norm, self.matrices.cfg))

    def tally(self) -> Tally:
        """Count what is active."""
        n, k = self.latents.shape[1:]
        all_latents = self.matrices.cfg.d_sae
        tally = Tally(n, all_latents, self.ranking.sources, self.latents.device)
        every = slice(0, all_latents)
        if self.ranking.sources is None:
            offsets = torch.arange(0, (n + 1) * k, k, device=self.latents.device)
            pairs = Pairs(offsets, self.latents.flatten(), self.values.flatten())
            tally.add(slice(0, n), every, pairs.only(pairs.values != 0))
            return tally
        for source in range(self.ranking.sources):
            active = self.values[source] != 0
            tally.add_source(source, every, self.latents[source][active], self.values[source][active])
        tally.add(slice(0, n), every, self._anywhere(all_latents))
        return tally

    def _anywhere(self, latents: int) -> Pairs:
        """Return the latents that are active at any source, each once, with whether any is positive."""
        n = self.latents.shape[1]
        keys = torch.arange(n, device=self.latents.device).unsqueeze(-1) * latents + self.latents
        once = torch.unique(keys[self.values != 0])
        begins = torch.arange(0, (n + 1) * latents, latents, device=keys.device)
        positive = torch.isin(once, torch.unique(keys[self.values > 0]), assume_unique=True)
        return Pairs(torch.searchsorted(once, begins), once % latents, positive)


def ranked_runner(matrices: Matrices) -> RankedRunner:
    """Return the runner of a dictionary that ranks latents."""
    rules, latents = semantics_of(matrices.cfg), matrices.cfg.d_sae
    group = latents // int(rules.k or 1) if rules.activation == "groupmax" else 1
    buffers = 1 + (needs_decoder_norm(matrices.cfg) or rules.activation == "abstopk")
    return RankedRunner(matrices, ranked_plan(matrices, group, buffers))
