"""What a crosscoder is trained on: one function of a batch per architecture, written for the latents of one process.

In all of them the error is summed over sources and width and averaged over rows,
    L_mse = 1/n·Σ_n Σ_k ‖x'_nk − x̂'_nk‖²
and what is below is added, with λ the coefficient of the step and n_j, n_jk the norms of `model`:
    standard   λ/n·Σ_n Σ_j f_nj·Σ_k ‖W_dec[j, k]‖                         (Anthropic, "Sparse Crosscoders", 2024)
    jumprelu   λ/n·Σ_n Σ_j tanh(c·f_nj·n_j)                               (Anthropic, Circuits Updates, January 2025;
                                                                          its estimator for θ is that of `jump`)
               or λ·K·Σ_j ω_j·(1 + ω_j/ω_0), ω_j the mean of that tanh    (arXiv:2509.17196, eq. 9, which averages the
                                                                          error over sources where it is summed here)
               λ_P/n·Σ_n Σ_j relu(θ_j − pre_nj·n_j)                       (January 2025; λ_P = `pre_act_coefficient`)
               with a gate per source, n_jk for n_j and f_njk for f_nj, and sums over k too
    gated      λ/n·Σ_n Σ_j relu(π_nj)·Σ_k ‖W_dec[j, k]‖° + 1/n·Σ_n ‖x' − relu(π_n)·W_dec° − b_dec°‖²
               π the gate's pre-activation, ° without gradient            (arXiv:2404.16014, eq. 8)
    topk, batchtopk   α·min(1, dead/k_aux)·1/n·Σ_n ‖e_n − ê_n‖²           (Gao et al. 2024, Appendix A.2)
               e = x' − x̂' without gradient, ê its reconstruction by the k_aux = D/2 dead latents with the largest pre
Everything that is a sum over latents is of this process alone, and added up by whoever reports it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from saereg.trainers.crosscoder.choosing import top_of_batch, top_of_rows
from saereg.trainers.crosscoder.group import summed
from saereg.trainers.crosscoder.jump import GateSettings, jump, source_gates, squashed
from saereg.trainers.crosscoder.model import Crosscoder
from saereg.trainers.crosscoder.products import decoded

FLOOR = 0.5
"""Part of the running threshold of batchtopk above which the kept latents are looked for first."""


@dataclass(frozen=True)
class Objective:
    """A batch, as it is before the step.

    Attributes:
        x_hat: x̂' (n, K, D), of all processes.
        common: name → part of the loss that is the same in every process, weighted.
        own: name → part of the loss of the latents of this process, weighted.
        fired: which of its latents were active in any row, at any source, (F,).
        active: its active latents, summed over rows, and over sources where each has a gate of its own, ().
        cut: smallest gate quantity that batchtopk kept, ().
    """

    x_hat: Tensor
    common: dict[str, Tensor]
    own: dict[str, Tensor]
    fired: Tensor
    active: Tensor
    cut: Tensor | None = None

    @property
    def loss(self) -> Tensor:
        """What is differentiated in this process."""
        return torch.stack([*self.common.values(), *self.own.values()]).sum()


@dataclass(frozen=True)
class Moment:
    """What the loss of a batch depends on besides weights and rows.

    Attributes:
        coefficient: λ.
        dead: which latents of this process have not been active for long, (F,).
    """

    coefficient: float = 0.0
    dead: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))


def objective(model: Crosscoder, x: Tensor, moment: Moment) -> Objective:
    """Return the loss of centred and scaled rows (n, K, D)."""
    if model.per_source:
        return _jumprelu_per_source(model, x, moment)
    return OBJECTIVES[model.settings.architecture](model, x, moment)


def _error(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().sum() / len(x)


def _counted(f: Tensor) -> tuple[Tensor, Tensor]:
    active = f.detach() > 0
    return active.any(0), active.sum()


def _standard(model: Crosscoder, x: Tensor, moment: Moment) -> Objective:
    f = model.pre_activations(x).relu()
    x_hat = model.decode(f)
    penalty = moment.coefficient * (f.sum(0) @ model.norms()) / len(x)
    return Objective(x_hat, {"mse_loss": _error(x, x_hat)}, {"sparsity_loss": penalty}, *_counted(f))


def _topk(model: Crosscoder, x: Tensor, moment: Moment) -> Objective:
    pre = model.pre_activations(x)
    kept = top_of_rows(model.gates(pre).detach(), int(model.settings.k or 0), model.group)
    return _chosen(model, x, pre, kept, moment)


def _batchtopk(model: Crosscoder, x: Tensor, moment: Moment) -> Objective:
    pre = model.pre_activations(x)
    count = max(1, round((model.settings.k or 0) * len(x)))
    kept, cut = top_of_batch(model.gates(pre).detach(), count, FLOOR * float(model.threshold), model.group)
    return _chosen(model, x, pre, kept, moment, cut)


def _chosen(
    model: Crosscoder, x: Tensor, pre: Tensor, kept: Tensor, moment: Moment, cut: Tensor | None = None
) -> Objective:
    f = pre.relu() * kept
    x_hat = model.decode(f)
    terms = {"mse_loss": _error(x, x_hat)}
    if model.settings.aux_loss_coefficient:
        terms["aux_loss"] = _revived(model, (x - x_hat).detach(), pre, moment.dead)
    return Objective(x_hat, terms, {}, *_counted(f), cut)


def _revived(model: Crosscoder, error: Tensor, pre: Tensor, dead: Tensor) -> Tensor:
    """Return the auxiliary loss of dead latents, zero where there are none."""
    number = int(model.group.sum_(dead.sum()))
    wanted = max(1, error.shape[-1] // 2)
    if not number:
        return error.new_zeros(())
    gates = model.gates(pre).detach().masked_fill(~dead, -torch.inf)
    # not rectified, as in SAELens 6.54: a latent whose pre is below 0 everywhere would have no gradient
    f = pre * (top_of_rows(gates, min(wanted, number), model.group) & dead)
    found = summed(decoded(f, model.weights["W_dec"].flatten(1), half=model.half), model.group)
    scale = model.settings.aux_loss_coefficient * min(1.0, number / wanted)
    return scale * _error(error, found.view_as(error))


def _jumprelu(model: Crosscoder, x: Tensor, moment: Moment) -> Objective:
    settings, norms = model.settings, model.norms()
    pre, log_threshold = model.pre_activations(x), model.weights["log_threshold"]
    f = jump(pre, log_threshold, norms.detach(), settings.bandwidth)
    x_hat = model.decode(f, everywhere=True)
    how = GateSettings(settings.bandwidth, settings.tanh_scale)
    frequent = squashed(pre, log_threshold, norms, how).sum(0)
    own = {"sparsity_loss": _penalty(model, frequent, len(x), 1, moment.coefficient)}
    if settings.pre_act_coefficient:
        below = (log_threshold.exp() - pre * norms).relu().sum()
        own["pre_act_loss"] = settings.pre_act_coefficient * below / len(x)
    return Objective(x_hat, {"mse_loss": _error(x, x_hat)}, own, *_counted(f))


def _jumprelu_per_source(model: Crosscoder, x: Tensor, moment: Moment) -> Objective:
    settings, weights = model.settings, model.weights
    how = GateSettings(settings.bandwidth, settings.tanh_scale, model.half)
    found = source_gates(model.pre_activations(x), weights["log_threshold"], weights["W_dec"], how)
    x_hat = summed(found.x_hat, model.group) + weights["b_dec"]
    own = {"sparsity_loss": _penalty(model, found.squashed, len(x), model.shape[0], moment.coefficient)}
    if settings.pre_act_coefficient:
        own["pre_act_loss"] = settings.pre_act_coefficient * found.below.sum() / len(x)
    return Objective(x_hat, {"mse_loss": _error(x, x_hat)}, own, found.fired, found.active)


def _penalty(model: Crosscoder, total: Tensor, rows: int, gates: int, coefficient: float) -> Tensor:
    """Return the penalty of jumprelu, of Σ tanh over rows and gates of each latent (F,)."""
    if model.settings.penalty == "tanh":
        return coefficient * total.sum() / rows
    frequency = total / (rows * gates)
    weighed = frequency * (1 + frequency / model.settings.frequency_scale)
    return coefficient * model.shape[0] * weighed.sum()


def _gated(model: Crosscoder, x: Tensor, moment: Moment) -> Objective:
    weights = model.weights
    product = model.encoder_product(x)
    gate = product + weights["b_gate"]
    f = (product * weights["r_mag"].exp() + weights["b_mag"]).relu() * (gate > 0)
    x_hat = model.decode(f)
    open_ = gate.relu()
    frozen = decoded(open_, weights["W_dec"].detach().flatten(1), half=model.half)
    aux = _error(x, summed(frozen, model.group).view_as(x) + weights["b_dec"].detach())
    # no gradient by the norms: r_mag would make up for decoders that shrink, and the penalty would be for nothing
    penalty = moment.coefficient * (open_.sum(0) @ model.norms().detach()) / len(x)
    common = {"mse_loss": _error(x, x_hat), "aux_loss": aux}
    return Objective(x_hat, common, {"sparsity_loss": penalty}, *_counted(f))


OBJECTIVES: dict[str, Callable[[Crosscoder, Tensor, Moment], Objective]] = {
    "standard": _standard,
    "topk": _topk,
    "batchtopk": _batchtopk,
    "jumprelu": _jumprelu,
    "gated": _gated,
}
"""Architecture → its loss, for one active set of all sources."""
