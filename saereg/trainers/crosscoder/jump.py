"""JumpReLU with straight-through estimators: f = pre·1[pre·n > θ], θ = exp(log θ), n a decoder norm.

The derivative by θ is that of Rajamanoharan et al. 2024 (arXiv:2407.14435, eq. 11), K a rectangle of width 1 and height
1, in the units of the gate quantity g = pre·n, in which θ is learned too:
    ∂f/∂pre = 1[g > θ]    ∂f/∂θ = −θ/(n·ε)·K((g − θ)/ε)    ∂f/∂ log θ = θ·∂f/∂θ
The indicator has no derivative by pre and n, as there. The penalty is of s = tanh(c·g)·1[g > θ], and its estimator
takes the height of the jump at the threshold, as there for the L0 penalty (eq. 12),
    ∂s/∂g = c·(1 − tanh²(c·g))·1[g > θ]    ∂s/∂θ = −tanh(c·θ)/ε·K((g − θ)/ε)
and not, as through f, the slope of tanh at 0, where the many silent gates are: that raises every threshold by up to
c·θ/tanh(c·θ) times what it is worth, until nothing is active. Where each source has a gate of its own, g_k = pre·n_k
with n_k = ‖W_dec[j, k]‖, f has a source axis, and x̂_k = f_k·W_dec[:, k]: computed source by source, so that nothing
of (n, K, F) is ever in memory.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saereg.trainers.crosscoder.products import product, transposed_product

SMALLEST = 1e-12
"""Least decoder norm that is divided by."""


def jump(pre: Tensor, log_threshold: Tensor, norm: Tensor, bandwidth: float) -> Tensor:
    """Return f (n, F) with one gate for all sources.

    Args:
        pre: (n, F).
        log_threshold: log θ (F,).
        norm: n (F,), which gets no gradient.
        bandwidth: ε.
    """
    f: Tensor = _Jump.apply(pre, log_threshold, norm, bandwidth)  # type: ignore[no-untyped-call]
    return f


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, log_threshold: Tensor, norm: Tensor, bandwidth: float) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(pre, log_threshold, norm)
        ctx.bandwidth = bandwidth
        return pre * (pre * norm > log_threshold.exp())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN401
        pre, log_threshold, norm = ctx.saved_tensors
        theta, gate = log_threshold.exp(), pre * norm
        return g * (gate > theta), by_log_threshold(g, gate, theta, norm, ctx.bandwidth), None, None


def squashed(pre: Tensor, log_threshold: Tensor, norm: Tensor, settings: "GateSettings") -> Tensor:
    """Return s = tanh(c·g)·1[g > θ] (n, F), with one gate for all sources.

    Args:
        pre: (n, F).
        log_threshold: log θ (F,).
        norm: n (F,).
        settings: bandwidth and scale.
    """
    s: Tensor = _Squashed.apply(pre, log_threshold, norm, settings)  # type: ignore[no-untyped-call]
    return s


class _Squashed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, log_threshold: Tensor, norm: Tensor, settings: "GateSettings") -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(pre, log_threshold, norm)
        ctx.settings = settings
        gate = pre * norm
        return torch.tanh(settings.scale * gate) * (gate > log_threshold.exp())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # noqa: ANN401
        pre, log_threshold, norm = ctx.saved_tensors
        theta, gate, c = log_threshold.exp(), pre * norm, ctx.settings.scale
        by_gate = g * c * (1 - torch.tanh(c * gate).square()) * (gate > theta)
        by_log = _jump_by_log_threshold((g * _near(gate, theta, ctx.settings)).sum(0), theta, ctx.settings)
        return by_gate * norm, by_log, (by_gate * pre).sum(0), None


def _near(gate: Tensor, theta: Tensor, settings: "GateSettings") -> Tensor:
    return (gate - theta).abs() < settings.bandwidth / 2


def _jump_by_log_threshold(g: Tensor, theta: Tensor, settings: "GateSettings") -> Tensor:
    """Return ∂L/∂ log θ (F,) of the sum of ∂L/∂s over rows that are near θ."""
    return -g * torch.tanh(settings.scale * theta) * theta / settings.bandwidth


def by_log_threshold(g: Tensor, gate: Tensor, theta: Tensor, norm: Tensor, bandwidth: float) -> Tensor:
    """Return ∂L/∂ log θ (F,) of ∂L/∂f = g (n, F)."""
    near = (gate - theta).abs() < bandwidth / 2
    return -(g * near).sum(0) * theta.square() / (norm.clamp_min(SMALLEST) * bandwidth)


@dataclass(frozen=True)
class SourceGates:
    """What a code with a gate per source gives.

    Attributes:
        x_hat: f_k·W_dec[:, k], (n, K, D).
        squashed: Σ over rows and sources of tanh(c·f_k·n_k), (F,).
        below: Σ over rows and sources of relu(θ − pre·n_k), (F,).
        fired: whether a latent was active at any source in any row, (F,).
        active: active latents, summed over rows and sources, ().
    """

    x_hat: Tensor
    squashed: Tensor
    below: Tensor
    fired: Tensor
    active: Tensor


@dataclass(frozen=True)
class GateSettings:
    """How gates are smoothed.

    Attributes:
        bandwidth: ε.
        scale: c.
        half: whether products are of bfloat16.
    """

    bandwidth: float
    scale: float
    half: bool = False


def source_gates(pre: Tensor, log_threshold: Tensor, W_dec: Tensor, settings: GateSettings) -> SourceGates:
    """Return reconstruction and sums of a code with a gate per source.

    Args:
        pre: (n, F).
        log_threshold: log θ (F,).
        W_dec: (F, K, D).
        settings: bandwidth and scale.
    """
    return SourceGates(*_SourceGates.apply(pre, log_threshold, W_dec, settings))  # type: ignore[no-untyped-call]


class _SourceGates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, log_threshold: Tensor, W_dec: Tensor, settings: GateSettings) -> Any:  # noqa: ANN401
        theta, norms = log_threshold.exp(), torch.linalg.vector_norm(W_dec, dim=-1)
        x_hat = pre.new_empty(len(pre), *W_dec.shape[1:])
        squashed, below = torch.zeros_like(theta), torch.zeros_like(theta)
        fired = torch.zeros(len(theta), dtype=torch.bool, device=pre.device)
        active = torch.zeros((), dtype=torch.int64, device=pre.device)
        for k in range(W_dec.shape[1]):
            gate = pre * norms[:, k]
            mask = gate > theta
            f = pre * mask
            x_hat[:, k] = product(f, W_dec[:, k], settings.half)
            squashed += torch.tanh(settings.scale * f * norms[:, k]).sum(0)
            below += (theta - gate).relu().sum(0)
            fired |= mask.any(0)
            active += mask.sum()
        ctx.save_for_backward(pre, log_threshold, W_dec, norms)
        ctx.settings = settings
        ctx.mark_non_differentiable(fired, active)
        return x_hat, squashed, below, fired, active

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # noqa: ANN401
        by_x_hat, by_squashed, by_below = gradients[:3]
        pre, log_threshold, W_dec, norms = ctx.saved_tensors
        c, theta = ctx.settings.scale, log_threshold.exp()
        by_pre, by_log = torch.zeros_like(pre), torch.zeros_like(theta)
        by_W = torch.empty_like(W_dec)
        for k in range(W_dec.shape[1]):
            norm, g = norms[:, k], by_x_hat[:, k]
            gate = pre * norm
            mask = gate > theta
            f = pre * mask
            slope = by_squashed * c * (1 - torch.tanh(c * gate).square()) * mask  # by gate
            by_f = product(g, W_dec[:, k].t(), ctx.settings.half)
            low = by_below * (gate < theta)  # by θ − gate
            by_pre += by_f * mask + (slope - low) * norm
            by_log += by_log_threshold(by_f, gate, theta, norm, ctx.settings.bandwidth) + low.sum(0) * theta
            near = _near(gate, theta, ctx.settings).sum(0)
            by_log += _jump_by_log_threshold(by_squashed * near, theta, ctx.settings)
            by_norm = ((slope - low) * pre).sum(0) / norm.clamp_min(SMALLEST)
            by_W[:, k] = transposed_product(f, g, ctx.settings.half) + by_norm.unsqueeze(1) * W_dec[:, k]
        return by_pre, by_log, by_W, None
