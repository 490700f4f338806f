"""What a crosscoder computes in training: its loss, its first weights, which latents are kept, how it descends."""

import pytest
import torch

from saereg.schemas.training import Optimization
from saereg.schemas.training_crosscoder import CrosscoderSettings
from saereg.trainers.crosscoder.choosing import top_of_batch, top_of_rows
from saereg.trainers.crosscoder.group import ALONE
from saereg.trainers.crosscoder.losses import Moment, objective
from saereg.trainers.crosscoder.member import CrosscoderMember, learning_rate
from saereg.trainers.crosscoder.model import Crosscoder, initial
from tests.trainers.crosscoder.conftest import VARIANTS

WIDTH, LATENTS = 6, 20


def settings(variant: str, **changes) -> CrosscoderSettings:
    values = {"d_sae": LATENTS, "dtype": "float64", "clip_norm": None, "decoder_init_norm": 0.7, **VARIANTS[variant]}
    return CrosscoderSettings.model_validate(values | changes)


def rows(count: int, sources: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, sources, WIDTH, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_trained_on_is_what_is_released(variant):
    model, x = Crosscoder(settings(variant), (2, WIDTH), 0), rows(30, 2)
    found = objective(model, x, Moment())
    if found.cut is not None:  # the batch was cut there: as a threshold it keeps the same
        model.threshold = found.cut * (1 - 1e-12)
    f = model.codes(x)
    torch.testing.assert_close(found.x_hat, model.reconstructed(f), rtol=1e-12, atol=1e-12)
    active = (f > 0).flatten(1, -2).any(1) if f.dim() == 3 else f > 0
    assert torch.equal(found.fired, active.any(0))
    assert int(found.active) == int((f > 0).sum())


def adam(model: Crosscoder, factors: dict[str, float]) -> torch.optim.Adam:
    groups = [{"params": [tensor], "lr": 1e-2 * factors.get(name, 1.0)} for name, tensor in model.weights.items()]
    return torch.optim.Adam(groups, eps=1e-30)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "jumprelu"])
def test_k_identical_sources_are_one_source_with_k_times_the_loss(variant):
    """With W_enc[k] = W_enc/K the code is that of one source, and error and penalty are K-fold.

    Adam does not see the factor K of the loss; W_enc[k] must move by 1/K of what W_enc moves by, so its learning rate
    is 1/K of the rest. Then every step is the same, whatever K. A shared gate of jumprelu compares pre·Σ_k ‖W_dec[k]‖,
    K-fold too, with θ, and is left out: there thresholds, bandwidth and 1/c would have to be K-fold as well.
    """
    K, chosen = 3, settings(variant, aux_loss_coefficient=0.03125, pre_act_coefficient=1e-3)
    one, many = Crosscoder(chosen, (1, WIDTH), 0), Crosscoder(chosen, (K, WIDTH), 0)
    with torch.no_grad():
        for name, tensor in many.weights.items():
            source = one.weights[name].expand_as(tensor)
            tensor.copy_(source / K if name == "W_enc" else source)
    optimizers = [adam(one, {}), adam(many, {"W_enc": 1 / K})]
    moment = Moment(0.05, torch.arange(LATENTS) < 3)
    for step in range(20):
        x = rows(16, seed=step)
        found = [objective(one, x, moment), objective(many, x.expand(-1, K, -1), moment)]
        torch.testing.assert_close(found[1].loss, K * found[0].loss, rtol=1e-9, atol=1e-12)
        for optimizer, each in zip(optimizers, found, strict=True):
            optimizer.zero_grad()
            each.loss.backward()
            optimizer.step()
    torch.testing.assert_close(many.weights["W_enc"].sum(0), one.weights["W_enc"][0], rtol=1e-6, atol=1e-9)
    for k in range(K):
        torch.testing.assert_close(many.weights["W_dec"][:, k], one.weights["W_dec"][:, 0], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found[1].x_hat[:, k], found[0].x_hat[:, 0], rtol=1e-6, atol=1e-9)


def test_both_gates_of_one_source_are_one():
    shared, per_source = (Crosscoder(settings(name), (1, WIDTH), 0) for name in ("jumprelu", "jumprelu-per-source"))
    x = rows(30)
    found = [objective(model, x, Moment(0.1)) for model in (shared, per_source)]
    torch.testing.assert_close(found[0].x_hat, found[1].x_hat)
    for each in found:
        each.loss.backward()
    for name in shared.weights:
        torch.testing.assert_close(shared.weights[name].grad, per_source.weights[name].grad, msg=name)


def test_the_first_weights_do_not_depend_on_who_holds_them():
    chosen = settings("standard", d_sae=3000, dtype="float32", decoder_init_norm=0.1)
    whole = initial(chosen, (2, 3), 5, range(3000))
    parts = [initial(chosen, (2, 3), 5, latents) for latents in (range(1500), range(1500, 3000))]
    assert torch.equal(torch.cat([part["W_dec"] for part in parts]), whole["W_dec"])
    assert torch.equal(torch.cat([part["W_enc"] for part in parts], 2), whole["W_enc"])
    assert torch.allclose(whole["W_dec"].norm(dim=-1), torch.tensor(0.1))
    assert torch.equal(whole["W_enc"], whole["W_dec"].permute(1, 2, 0))
    assert not torch.equal(whole["W_dec"], initial(chosen, (2, 3), 6, range(3000))["W_dec"])


def test_topk_keeps_k_of_each_row_and_batchtopk_as_many_of_all():
    gates = torch.tensor([[3.0, 1.0, 2.0, -1.0], [0.5, 0.5, 0.5, 0.4]])
    assert top_of_rows(gates, 2, ALONE).sum(1).tolist() == [2, 2]
    for floor in (0.0, 0.9, 2.9):  # a guess of the cut changes nothing, right or wrong
        kept, cut = top_of_batch(gates, 3, floor, ALONE)
        assert kept.tolist() == [[True, True, True, False], [False] * 4]
        assert float(cut) == 1.0
    kept, cut = top_of_batch(-gates.abs(), 3, 0.0, ALONE)
    assert (bool(kept.any()), float(cut)) == (False, 0.0)


def test_latents_that_are_long_silent_are_brought_back_by_the_auxiliary_loss(on_layers):
    config = on_layers("topk", crosscoder={"dead_after_steps": 2, "clip_norm": None, "preprocess": "none"})
    for weight, moved in ((0.03125, True), (0.0, False)):
        here = config.model_copy(
            update={"crosscoder": config.crosscoder.model_copy(update={"aux_loss_coefficient": weight})}
        )
        model = Crosscoder(here.crosscoder, (1, WIDTH), 0)
        with torch.no_grad():
            model.weights["b_enc"][7] = -30.0  # below 0 on every row
        member, before = CrosscoderMember(here, model, ["x"]), model.weights["W_dec"][7].clone()
        for step in range(6):
            member.step({"x": rows(64, seed=step)[:, 0].float()})
        assert bool((model.weights["W_dec"][7] != before).any()) == moved


def test_a_gradient_is_cut_to_the_norm_of_all_weights_together(on_layers):
    config = on_layers("standard", crosscoder={"clip_norm": 1e-3, "preprocess": "none"})
    member = CrosscoderMember(config, Crosscoder(config.crosscoder, (1, WIDTH), 0), ["x"])
    member.step({"x": rows(8)[:, 0].float()})
    norm = sum(tensor.grad.square().sum() for tensor in member.model.weights.values()).sqrt()
    assert float(norm) == pytest.approx(1e-3, rel=1e-4)


def test_the_learning_rate_rises_stays_and_falls_to_zero():
    run = Optimization(tokens=100, batch_size=10, lr=1.0, lr_warm_up_steps=2, lr_decay_steps=4)
    found = [learning_rate(run, step) for step in range(10)]
    assert found == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]


def test_the_coefficient_of_a_target_is_steered_and_goes_on_from_a_state(on_layers):
    config = on_layers("jumprelu", crosscoder={"target_l0": 5.0, "preprocess": "none"})
    members = [CrosscoderMember(config, Crosscoder(config.crosscoder, (1, WIDTH), 0), ["x"]) for _ in range(2)]
    members[0].step({"x": rows(8)[:, 0].float()})
    members[1].load(members[0].state())
    assert members[1].coefficient == members[0].coefficient
    losses = [member.step({"x": rows(8, seed=1)[:, 0].float()}).loss for member in members]
    assert losses[0] == losses[1]
    assert members[0].coefficient != config.crosscoder.l1_coefficient


@pytest.mark.parametrize(("variant", "coefficient"), [("jumprelu", 2.0), ("jumprelu-per-source", 1.0), ("gated", 3.0)])
def test_a_planted_dictionary_is_found(variant, coefficient, on_layers):
    """Rows are sums of 2 of 16 directions, on average; each direction is found, by its largest cosine."""
    generator = torch.Generator().manual_seed(0)
    planted = torch.nn.functional.normalize(torch.randn(16, 2, 12, generator=generator).flatten(1), dim=1)
    changes = {"d_sae": 32, "preprocess": "none", "l1_coefficient": coefficient}
    run = {"tokens": 300 * 128, "batch_size": 128, "lr": 1e-2, "lr_decay_steps": 60}
    config = on_layers(variant, crosscoder=changes, optimization=run)
    model = Crosscoder(config.crosscoder, (2, 12), 0)
    member = CrosscoderMember(config, model, ["a", "b"])
    for _ in range(300):
        active = torch.rand(128, 16, generator=generator) < 2 / 16
        size = 4 * (0.5 + torch.rand(128, 16, generator=generator))
        x = ((active * size) @ planted).view(128, 2, 12)
        member.step({"a": x[:, 0], "b": x[:, 1]})
    found = torch.nn.functional.normalize(model.weights["W_dec"].detach().flatten(1), dim=1)
    assert float((planted @ found.T).amax(1).mean()) > 0.9
