"""Which latents of a slab are active, and what they are worth: the rule of an architecture, on candidates alone.

An activation that looks at each latent by itself (ReLU, JumpReLU, BatchTopK's threshold, gated) needs to be computed
only where it can give anything but zero. `bound` says where: below it no latent is active. The few that are left go
through the architecture's own `latents`, so that there is one definition of what is active, ties and signs included.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saereg.registry.architectures import architecture_of
from saereg.registry.architectures.architecture import Latents
from saereg.registry.architectures.linear import unscaled
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig

ELEMENTWISE = ("relu", "jumprelu", "batchtopk", "gated")
"""Activations that look at each latent by itself."""

ALONG_LATENTS = ("b_enc", "b_gate", "b_mag", "r_mag", "decoder_norm")
"""Vectors with one number per latent, on their last axis."""

SLACK = 8
"""Units in the last place by which the bound is lowered, more than the rounding of the few operations behind it."""


@dataclass(frozen=True)
class Rule:
    """How latents follow from products x_c·W_enc, for all of them or for some neighbours.

    Attributes:
        cfg: configuration.
        latents: the architecture's own function.
        vectors: what it reads; those along the latents cut to these.
        along: names of those.
    """

    cfg: ArtifactConfig
    latents: Latents
    vectors: Mapping[str, Tensor]
    along: frozenset[str]

    def part(self, first: int, stop: int) -> "Rule":
        """Return the rule of the latents from `first` to before `stop`."""
        return replace(self, vectors={name: self._cut(name, slice(first, stop)) for name in self.vectors})

    def of_source(self, source: int) -> "Rule":
        """Return the rule of one source, where each has a gate of its own."""
        vectors = dict(self.vectors)
        for name in ("decoder_norm", "threshold"):
            if name in vectors and (name not in self.along or vectors[name].dim() == 2):
                vectors[name] = vectors[name][source : source + 1]
        return replace(self, vectors=vectors)

    def values(self, product: Tensor, chosen: Tensor) -> Tensor:
        """Return f (m,) of some latents, at one source where each has a gate of its own.

        Args:
            product: x_c·W_enc at them, (m,).
            chosen: which they are, (m,).
        """
        vectors = {name: self._cut(name, chosen) for name in self.vectors}
        return self.latents(product, vectors, self.cfg).flatten()

    def unscaled(self, f: Tensor, chosen: Tensor) -> Tensor:
        """Return what is decoded of f (m,) of some latents."""
        if not semantics_of(self.cfg).latents_scaled_by_decoder_norm:
            return f
        return unscaled(f, {"decoder_norm": self._cut("decoder_norm", chosen)}, self.cfg)

    def dense(self, product: Tensor) -> Tensor:
        """Return f of all of them, (n, s)."""
        return self.latents(product, self.vectors, self.cfg)

    def dense_unscaled(self, f: Tensor) -> Tensor:
        """Return what is decoded of f (n, s)."""
        return unscaled(f, self.vectors, self.cfg)

    def bound(self) -> Tensor:
        """Return a number per latent, (s,): where the product is at most that, the latent is not active.

        A product that is not a number is above every bound, so whatever it spoils is found.
        """
        if "b_gate" in self.vectors:
            gate, r_mag, b_mag = (_wide(self.vectors[name]) for name in ("b_gate", "r_mag", "b_mag"))
            magnitude = (-b_mag * (-r_mag).exp()).nan_to_num(nan=-torch.inf)
            return torch.maximum(-gate, self._lowered(magnitude, magnitude.abs()))
        b_enc = _wide(self.vectors["b_enc"]).reshape(-1)
        least = self._least_pre().expand(b_enc.shape)
        lowered = self._lowered(least - b_enc, least.abs() + b_enc.abs())
        # the sign of product + b_enc is exact in floating point
        return torch.where(least == 0, -b_enc, torch.where(least.isinf(), least, lowered))

    def _least_pre(self) -> Tensor:
        """Return what pre-activations have to be above, (s,) or (1,)."""
        rules = semantics_of(self.cfg)
        norm = _wide(self.vectors["decoder_norm"]) if "decoder_norm" in self.vectors else None
        least = _wide(self.vectors["b_enc"]).new_zeros(1)
        if rules.activation != "relu":
            least = self._cut_in_pre(norm).clamp(min=0) if rules.rectified else self._cut_in_pre(norm)
        if norm is None:
            return least
        # code norms are sums with weights that a configuration may choose below zero
        least = torch.where(norm < 0, -torch.inf, least)
        return least.amin(0) if least.dim() == 2 else least

    def _cut_in_pre(self, norm: Tensor | None) -> Tensor:
        cut = _wide(self.vectors["topk_threshold" if "topk_threshold" in self.vectors else "threshold"])
        if semantics_of(self.cfg).threshold == "per_source":
            cut = cut.unsqueeze(-1)
        if norm is None:
            return cut.reshape(-1)
        ratio = cut / norm
        silent = torch.where(cut < 0, -torch.inf, torch.inf)  # with norm 0 the gate quantity is 0
        return torch.where(norm == 0, silent, self._lowered(ratio, ratio.abs()))

    def _lowered(self, value: Tensor, scale: Tensor) -> Tensor:
        limits = torch.finfo(next(iter(self.vectors.values())).dtype)
        return value - SLACK * (limits.eps * scale + limits.tiny)

    def _cut(self, name: str, where: "slice | Tensor") -> Tensor:
        return self.vectors[name][..., where] if name in self.along else self.vectors[name]


def rule_of(cfg: ArtifactConfig, vectors: Mapping[str, Tensor]) -> Rule:
    """Return the rule of a dictionary.

    Args:
        cfg: its configuration.
        vectors: every tensor but the matrices, and `decoder_norm` where needed.

    Raises:
        ValueError: when the architecture has no rule on products.
    """
    architecture, rules = architecture_of(cfg), semantics_of(cfg)
    if architecture.latents is None:
        raise ValueError(f"{cfg.architecture} is no function of products")
    along = {*ALONG_LATENTS, *(("threshold",) if rules.threshold == "per_latent" else ())}
    read = {name: vectors[name] for name in (*sorted(along), "threshold", "topk_threshold") if name in vectors}
    if rules.bias_reduction == "sum_over_sources":
        read["b_enc"] = read["b_enc"].sum(0, keepdim=True)  # which is summed again, over one
    return Rule(cfg, architecture.latents, read, frozenset(along & set(read)))


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 at least: bounds of half precision lose latents by their own rounding."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
