"""Products with codes that are mostly zeros: forward and backward do no work for the zeros once they are enough.

Notation: n rows, F latents (of this process), W = K·D sources side by side.
    encode  pre = x·W_enc,  ∂L/∂W_enc = xᵀ·g
    decode  x̂ = f·W_dec,    ∂L/∂W_dec = fᵀ·g,  ∂L/∂f = g·W_decᵀ
Each is a product with a matrix (n, F), f or the gradient of `pre`. Where less of it than `kernels.pairs.DENSE_FROM` is
not zero, it becomes sums of weighted rows instead.
"""

from typing import Any

import torch
from torch import Tensor

from saereg.registry.kernels.pairs import Pairs, add_sums, is_dense

GATHERED = 1 << 22
"""Numbers gathered at once for dot products of rows."""


def product(a: Tensor, b: Tensor, half: bool = False) -> Tensor:
    """Return a·b, with both factors rounded to bfloat16 where `half` says so."""
    return (a.bfloat16() @ b.bfloat16()).to(a.dtype) if half else a @ b


def encoded(x: Tensor, W_enc: Tensor, half: bool = False) -> Tensor:
    """Return x·W_enc (n, F).

    Args:
        x: rows (n, W); it gets no gradient.
        W_enc: (W, F).
        half: whether dense products are of bfloat16.
    """
    pre: Tensor = _Encoded.apply(x, W_enc, half)  # type: ignore[no-untyped-call]
    return pre


def decoded(f: Tensor, W_dec: Tensor, everywhere: bool = False, half: bool = False) -> Tensor:
    """Return f·W_dec (n, W).

    Args:
        f: codes (n, F).
        W_dec: (F, W).
        everywhere: whether the gradient by f is wanted where f is zero too; else it may be zero there.
        half: whether dense products are of bfloat16.
    """
    x_hat: Tensor = _Decoded.apply(f, W_dec, everywhere, half)  # type: ignore[no-untyped-call]
    return x_hat


class _Encoded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, W_enc: Tensor, half: bool) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x)
        ctx.half = half
        return product(x, W_enc, half)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor, None]:  # noqa: ANN401
        (x,) = ctx.saved_tensors
        return None, transposed_product(g, x, ctx.half).t(), None


class _Decoded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, f: Tensor, W_dec: Tensor, everywhere: bool, half: bool) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(f, W_dec)
        ctx.everywhere, ctx.half, ctx.pairs = everywhere, half, sparse_pairs(f)
        if ctx.pairs is None:
            return product(f, W_dec, half)
        x_hat = W_dec.new_zeros(len(f), W_dec.shape[1])
        add_sums(x_hat, ctx.pairs, W_dec)
        return x_hat

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN401
        f, W_dec = ctx.saved_tensors
        dense = ctx.everywhere or ctx.pairs is None
        by_f = product(g, W_dec.t(), ctx.half) if dense else _dots_at(ctx.pairs, g, W_dec)
        by_W = product(f.t(), g, ctx.half) if ctx.pairs is None else _sums_by_latent(ctx.pairs, g, len(W_dec))
        return by_f, by_W, None, None


def sparse_pairs(f: Tensor) -> Pairs | None:
    """Return what is not zero in a matrix (n, F), sorted by row; None where it is so much that a product is faster."""
    return None if is_dense(int(f.count_nonzero()), f.numel(), f.device) else pairs_of(f)


def pairs_of(f: Tensor) -> Pairs:
    """Return what is not zero in a matrix (n, F), sorted by row."""
    rows, latents = f.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=len(f))
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    return Pairs(offsets, latents.contiguous(), f[rows, latents])


def transposed_product(f: Tensor, g: Tensor, half: bool = False) -> Tensor:
    """Return fᵀ·g (F, W).

    Args:
        f: (n, F), perhaps mostly zeros.
        g: (n, W).
        half: whether a dense product is of bfloat16.
    """
    pairs = sparse_pairs(f)
    return product(f.t(), g, half) if pairs is None else _sums_by_latent(pairs, g, f.shape[1])


def _sums_by_latent(pairs: Pairs, g: Tensor, latents: int) -> Tensor:
    """Return fᵀ·g (F, W): rows of g, weighted and added up for each latent, in the order of the rows."""
    order = pairs.latents.argsort(stable=True)
    counts = torch.bincount(pairs.latents, minlength=latents)
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    total = g.new_zeros(latents, g.shape[1])
    add_sums(total, Pairs(offsets, pairs.rows()[order], pairs.values[order]), g)
    return total


def _dots_at(pairs: Pairs, g: Tensor, W_dec: Tensor) -> Tensor:
    """Return g·W_decᵀ (n, F) where f is not zero, and zero elsewhere."""
    rows, latents = pairs.rows(), pairs.latents
    found, step = g.new_zeros(len(g), len(W_dec)), max(1, GATHERED // W_dec.shape[1])
    for first in range(0, len(rows), step):
        n, j = rows[first : first + step], latents[first : first + step]
        found[n, j] = torch.linalg.vecdot(g[n], W_dec[j])
    return found
