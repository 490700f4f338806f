"""Gradients that are written by hand are those of autograd, in float64."""

import pytest
import torch

from saereg.trainers.crosscoder.jump import GateSettings, jump, source_gates, squashed
from saereg.trainers.crosscoder.products import decoded, encoded

ROWS, SOURCES, WIDTH, LATENTS = 6, 3, 4, 40
BANDWIDTH, SCALE = 0.7, 4.0


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64)


def gradients(loss: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, leaves))


@pytest.mark.parametrize("cut", [-9.0, 0.0, 1.5, 9.0], ids=["all active", "half active", "few active", "none active"])
def test_products_with_codes_have_the_gradients_of_products(cut):
    W_enc, W_dec = drawn(WIDTH, LATENTS).requires_grad_(), drawn(LATENTS, WIDTH, seed=1).requires_grad_()
    x, target = drawn(ROWS, WIDTH), drawn(ROWS, WIDTH, seed=2)
    found = []
    for encode, decode in ((encoded, decoded), (torch.matmul, torch.matmul)):
        pre = encode(x, W_enc)
        loss = (decode(pre * (pre > cut), W_dec) - target).square().sum()
        found.append([loss, *gradients(loss, W_enc, W_dec)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_the_gradient_by_silent_latents_is_there_where_it_is_asked_for():
    f, W_dec, g = drawn(ROWS, LATENTS) * (drawn(ROWS, LATENTS, seed=3) > 1.5), drawn(LATENTS, WIDTH), drawn(ROWS, WIDTH)
    whole = g @ W_dec.T
    for everywhere, expected in ((True, whole), (False, whole * (f != 0))):
        leaf = f.clone().requires_grad_()
        (found,) = torch.autograd.grad(decoded(leaf, W_dec, everywhere), leaf, g)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def surrogate(pre, theta, norm):
    """Return JumpReLU as a function that autograd differentiates as the estimators say: eq. 11 of arXiv:2407.14435."""
    gate = (pre * norm).detach()
    near = ((gate - theta.detach()).abs() < BANDWIDTH / 2).double()
    slope = theta.detach() / (norm.detach() * BANDWIDTH)
    return pre * (gate > theta.detach()) - near * slope * (theta - theta.detach())


def squashed_surrogate(pre, theta, norm):
    """Return tanh(c·g)·1[g > θ], with the height of the jump at θ in place of its derivative by θ: eq. 12."""
    gate = pre * norm
    near = ((gate - theta).detach().abs() < BANDWIDTH / 2).double()
    height = torch.tanh(SCALE * theta.detach()) / BANDWIDTH
    return torch.tanh(SCALE * gate) * (gate > theta).detach() - near * height * (theta - theta.detach())


def test_jumprelu_has_the_gradient_of_its_straight_through_estimator():
    pre, log_threshold = drawn(ROWS, LATENTS).requires_grad_(), (0.3 * drawn(LATENTS)).requires_grad_()
    norm, g = drawn(LATENTS, seed=4).abs() + 0.2, drawn(ROWS, LATENTS, seed=5)
    found = gradients((jump(pre, log_threshold, norm, BANDWIDTH) * g).sum(), pre, log_threshold)
    expected = gradients((surrogate(pre, log_threshold.exp(), norm) * g).sum(), pre, log_threshold)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    assert (found[1] != 0).any()


def test_the_penalty_of_jumprelu_has_the_gradient_of_its_straight_through_estimator():
    leaves = [drawn(ROWS, LATENTS), 0.3 * drawn(LATENTS), drawn(LATENTS, seed=4).abs() + 0.2]
    pre, log_threshold, norm = (leaf.requires_grad_() for leaf in leaves)
    g = drawn(ROWS, LATENTS, seed=5)
    found = gradients((squashed(pre, log_threshold, norm, GateSettings(BANDWIDTH, SCALE)) * g).sum(), *leaves)
    expected = gradients((squashed_surrogate(pre, log_threshold.exp(), norm) * g).sum(), *leaves)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_a_gate_per_source_has_the_gradients_of_its_dense_equations():
    leaves = [drawn(ROWS, LATENTS), 0.3 * drawn(LATENTS) - 0.5, drawn(LATENTS, SOURCES, WIDTH, seed=6)]
    pre, log_threshold, W_dec = (leaf.requires_grad_() for leaf in leaves)
    target, weights = drawn(ROWS, SOURCES, WIDTH, seed=7), drawn(2, LATENTS, seed=8)

    def loss(x_hat, squashed, below):
        return (x_hat - target).square().sum() + (squashed.square() * weights[0]).sum() + (below * weights[1]).sum()

    norm, theta = W_dec.norm(dim=-1).T, log_threshold.exp()  # (K, F)
    f = surrogate(pre.unsqueeze(1), theta, norm)
    x_hat = torch.einsum("nkf,fkd->nkd", f, W_dec)
    frequent = squashed_surrogate(pre.unsqueeze(1), theta, norm).sum((0, 1))
    below = (theta - pre.unsqueeze(1) * norm).relu().sum((0, 1))
    expected = gradients(loss(x_hat, frequent, below), *leaves)
    found = source_gates(pre, log_threshold, W_dec, GateSettings(BANDWIDTH, SCALE))
    torch.testing.assert_close(found.x_hat, x_hat)
    torch.testing.assert_close(found.squashed, frequent)
    assert int(found.active) == int((f > 0).sum())
    assert torch.equal(found.fired, (f > 0).any(1).any(0))
    mine = gradients(loss(found.x_hat, found.squashed, found.below), *leaves)
    for name, one, other in zip(("pre", "log_threshold", "W_dec"), mine, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10, msg=name)
