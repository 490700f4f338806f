"""Where JumpReLU begins: every latent active on the same share of the first batch, whatever K, D and the rows are.

How large pre·n is at the start depends on all of them (‖W_dec[j, k]‖ is 0.1, W_enc its transpose): with a threshold of
0.1, one source of width 16 begins with no active latent, and eight with a third of them. So both are taken from the
first batch, for each latent j, with σ_j the standard deviation of its pre-activations there:
    θ_j = σ_j·n_j            b_enc_j = σ_j − q_j            so that pre_j + b_enc_j > θ_j / n_j  ⟺  pre_j > q_j
q_j is exceeded by min(1/2, 10,000/d_sae) of the rows. The share and the bias are those of Anthropic, Circuits Updates,
January 2025, where rows are scaled and θ is 0.1; 0.1 would close every latent for good where rows are small, as those
of an embedding, so θ has the units of the rows too. 10,000 active latents are more than a narrow dictionary has: at
most half of the rows are taken, as many as a ReLU with no bias begins with (Circuits Updates, April 2024).
"""

import torch

from saereg.trainers.crosscoder.model import BLOCK, FIRST_THRESHOLD, Crosscoder

ACTIVE = 10_000
"""Active latents per row at the start, where there are twice as many."""

LARGEST_SHARE = 0.5
"""Largest share of rows that a latent is active on at the start."""

MARGIN = 1e-5
"""Part of σ by which q is below what must exceed it, at least: equal rows are all active, and not none of them."""


@torch.no_grad()
def begin(model: Crosscoder, x: torch.Tensor) -> None:
    """Set thresholds and encoder biases of the latents of this process, each by its own pre-activations alone.

    Args:
        model: a dictionary before its first step.
        x: centred and scaled rows (n, K, D).
    """
    count = max(1, round(min(LARGEST_SHARE, ACTIVE / model.settings.d_sae) * len(x)))
    norms = model.norms() / (model.shape[0] if model.per_source else 1)  # at the start that of each source is the same
    for first in range(0, len(model.latents), BLOCK):  # not all at once: a copy of (n, F) is sorted
        part = slice(first, first + BLOCK)
        pre = x.flatten(1) @ model.weights["W_enc"][..., part].flatten(0, 1)
        unit = pre.std(0, correction=0)
        unit = torch.where(unit > 0, unit, FIRST_THRESHOLD / norms[part])
        falling = pre.sort(0, descending=True).values
        last, next_ = falling[count - 1], falling[min(count, len(x) - 1)]
        q = torch.minimum((last + next_) / 2, last - MARGIN * unit)
        model.weights["b_enc"][part] = unit - q
        model.weights["log_threshold"][part] = (unit * norms[part]).log()
