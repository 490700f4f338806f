"""Golden vectors of a crosscoder, made with the forward of the training model.

Of pools of real and random rows those are taken whose active latents are decided most clearly, so that the rounding of
another library cannot change them; where latents have thresholds, one row more lies just above one.
"""

import torch
from torch import Tensor

from saereg import __version__
from saereg.registry.evidence.golden_file import GoldenVectors, sparse_golden
from saereg.trainers.crosscoder.model import Crosscoder
from saereg.trainers.crosscoder.sources import Stack

REAL_ROWS, RANDOM_ROWS, POOL = 4, 2, 128
"""Rows of each kind, and of the pools that they are chosen from."""

NEAR = 1e-4
"""Distance of the constructed row from its threshold, relative to the threshold."""

ROUNDING = 64 * 2.0**-23
"""The constructed row keeps at least this many roundings of float32 away, relative to ‖x‖·‖w‖·n."""


@torch.no_grad()
def make_golden(model: Crosscoder, stack: Stack, seed: int) -> GoldenVectors:
    """Return rows (n, K, D) and what the training model makes of them.

    Args:
        model: the trained weights, calibrated.
        stack: the sources, of which held-out rows are taken.
        seed: seed of the random rows.
    """
    first = stack.held_out.start
    real = stack.read(first, min(stack.total, first + POOL))
    drawn = torch.randn(POOL, *model.shape, generator=torch.Generator().manual_seed(seed))
    drawn *= real.norm(dim=(1, 2)).mean() / drawn.norm(dim=(1, 2), keepdim=True)
    rows = [real[_clearest(model, real, REAL_ROWS)], drawn[_clearest(model, drawn, RANDOM_ROWS)]]
    if model.settings.architecture in ("jumprelu", "batchtopk") and model.group.size == 1:
        rows += near_threshold(model, real)
    x = torch.cat(rows)
    f, x_hat = model.forward(x)
    source = f"saereg {__version__} trainers.crosscoder, torch {torch.__version__}"
    return sparse_golden(x, f.cpu(), x_hat.cpu(), source)


def margins(model: Crosscoder, x: Tensor) -> Tensor:
    """Return how clearly the active latents of each row are decided (n,).

    That is how far what decides is from a change, relative to the largest of its row.
    """
    pre = model.pre_activations(model.normalized(x))
    gates, cuts = model.group.joined(model.gates(pre), -1).flatten(1), _flat_cuts(model)
    largest = gates.abs().amax(1).clamp_min(1e-30)
    if model.settings.architecture == "gated":  # an open gate with a magnitude about 0 is active or not by rounding
        product = pre - model.weights["b_gate"]
        magnitude = product * model.weights["r_mag"].exp() + model.weights["b_mag"]
        magnitude = model.group.joined(magnitude.abs().masked_fill(pre <= 0, torch.inf), -1)
        found = gates.abs().minimum(magnitude)
    elif model.settings.architecture == "topk":
        k = int(model.settings.k or 0)
        top = gates.topk(min(k + 1, gates.shape[1]), dim=1).values
        found = (
            torch.cat([top[:, :k].abs(), top[:, k - 1 : k] - top[:, k : k + 1]], 1) if top.shape[1] > k else top.abs()
        )
    else:
        found = (gates - cuts).abs()
    # the process of rank 0 alone has the latents of all of them
    return model.group.sum_(found.amin(1) / largest if model.group.rank == 0 else torch.zeros_like(largest))


def _flat_cuts(model: Crosscoder) -> Tensor:
    cuts = model.cuts()
    if not cuts.dim():
        return cuts
    whole = model.group.joined(cuts, 0)
    return whole.repeat(model.shape[0]) if model.per_source else whole


def _clearest(model: Crosscoder, rows: Tensor, count: int) -> Tensor:
    """Return the positions of the rows that are decided most clearly, rising."""
    return margins(model, rows).argsort(descending=True, stable=True)[:count].sort().values.cpu()


def near_threshold(model: Crosscoder, rows: Tensor) -> list[Tensor]:
    """Return one row (1, K, D) with one gate quantity just above its threshold and all others decided; or none.

    A row x' is moved along w = W_enc[:, :, j] by t = ((θ + δ)/n − pre)/‖w‖², with n the norm of the gate. What came of
    it is looked at in the row as it is stored, in float32.
    """
    cuts, pre = _flat_cuts(model).double(), model.pre_activations(model.normalized(rows)).double()
    gates = model.gates(pre.to(model.dtype)).flatten(1).double()
    cuts = cuts.expand(gates.shape[1])
    closest = (gates - cuts).abs().masked_fill(cuts <= 0, torch.inf).argmin(1)
    latent = closest % len(model.latents)
    norms = (model.source_norms().t() if model.per_source else model.norms()).flatten().double()[closest]
    w = model.weights["W_enc"].double()[:, :, latent].permute(2, 0, 1)
    x = model.normalized(rows).double()
    noise = ROUNDING * x.norm(dim=(1, 2)) * w.norm(dim=(1, 2)) * norms
    delta = torch.maximum(NEAR * cuts[closest], noise)
    wanted = (cuts[closest] + delta) / norms.clamp_min(1e-30) - pre.gather(1, latent.unsqueeze(1)).squeeze(1)
    along = wanted / w.square().sum((1, 2)).clamp_min(1e-30)
    moved = model.numbers.undone((x + along.view(-1, 1, 1) * w).to(torch.float32)).cpu()
    return _best(model, moved, closest, cuts, delta)


def _best(model: Crosscoder, moved: Tensor, closest: Tensor, cuts: Tensor, delta: Tensor) -> list[Tensor]:
    """Return the moved row whose own gate is above by about δ and whose others are farthest from a change."""
    signed = model.gates(model.pre_activations(model.normalized(moved))).flatten(1).double() - cuts
    own = signed.gather(1, closest.unsqueeze(1)).squeeze(1)
    others = signed.abs().scatter(1, closest.unsqueeze(1), torch.inf).amin(1)
    others = others.masked_fill((own < delta / 2) | (own > 2 * delta), -1.0)
    best = int(others.argmax())
    return [moved[best : best + 1]] if float(others[best]) > float(delta[best]) / 2 else []
