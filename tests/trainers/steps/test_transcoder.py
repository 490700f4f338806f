"""The training classes of transcoders: SAELens' own steps on pairs, and the function of its inference classes."""

import pytest
import torch
from sae_lens.registry import get_sae_class, get_sae_training_class
from sae_lens.saes.sae import TrainStepInput

from saereg.trainers.steps.transcoder import CLASSES, PairScaler

D_IN, D_OUT, D_SAE, ROWS = 8, 5, 24, 40

SETTINGS = {
    "transcoder": {"l1_coefficient": 0.3},
    "skip_transcoder": {"l1_coefficient": 0.3},
    "jumprelu_transcoder": {"l0_coefficient": 0.2, "jumprelu_init_threshold": 0.1, "jumprelu_bandwidth": 0.4},
    "jumprelu_skip_transcoder": {"l0_coefficient": 0.2, "jumprelu_init_threshold": 0.1, "jumprelu_bandwidth": 0.4},
    "topk_transcoder": {"k": 4},
    "topk_skip_transcoder": {"k": 4},
}
PLAIN = {"transcoder": "standard", "jumprelu_transcoder": "jumprelu", "topk_transcoder": "topk"}
"""Transcoder → autoencoder of SAELens with the same activation."""


def made(architecture, *, d_out=D_OUT, dtype="float64", seed=0, **changes):
    """Return a dictionary with random weights, none of them zero."""
    sae_class, config_class = get_sae_training_class(architecture)
    out = {"d_out": d_out} if architecture in SETTINGS else {}
    settings = SETTINGS[architecture] if architecture in SETTINGS else changes.pop("settings")
    config = config_class(
        d_in=D_IN, d_sae=D_SAE, dtype=dtype, device="cpu", apply_b_dec_to_input=False, **out, **(settings | changes)
    )
    sae = sae_class(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(noise.abs() * 0.1 if name == "threshold" else noise * 0.4)
    return sae


def stepped(sae, batch, *, dead=(), step=1):
    """Return what the training forward pass gives, with gradients."""
    mask = torch.zeros(D_SAE, dtype=torch.bool)
    mask[list(dead)] = True
    coefficients = {"l1": 0.3, "l0": 0.2}
    output = sae.training_forward_pass(
        TrainStepInput(
            sae_in=batch, coefficients=coefficients, dead_neuron_mask=mask, n_training_steps=step, is_logging_step=False
        )
    )
    output.loss.backward()
    return output


def rows(width, seed=1, dtype=torch.float64):
    return torch.randn(ROWS, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(("transcoder", "plain"), PLAIN.items())
def test_predicting_its_own_input_it_is_the_autoencoder_of_saelens(transcoder, plain):
    x = rows(D_IN)
    ours, theirs = made(transcoder, d_out=D_IN), made(plain, settings=SETTINGS[transcoder])
    theirs.load_state_dict(ours.state_dict())
    found = stepped(ours, torch.cat([x, x], dim=1), dead=(0, 5, 7))
    expected = stepped(theirs, x, dead=(0, 5, 7))
    assert found.losses.keys() == expected.losses.keys()
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)
    for name, parameter in theirs.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=1e-12, atol=1e-14)


def formula(weights, x, y, architecture, dead):
    """Return the loss as the docstrings write it; TopK ranks pre-activations times the norm of the decoder row."""
    norms = weights["W_dec"].norm(dim=1)
    pre = x @ weights["W_enc"] + weights["b_enc"]
    skip = x @ weights["W_skip"].T if "W_skip" in weights else 0
    if "topk" not in architecture:
        f = pre.relu()
        y_hat = f @ weights["W_dec"] + weights["b_dec"] + skip
        return (y - y_hat).square().sum(1).mean() + 0.3 * (f * norms).sum(1).mean()
    ranked = pre * norms
    kept = torch.zeros_like(ranked).scatter(1, ranked.topk(4).indices, 1.0)
    y_hat = (ranked.relu() * kept / norms) @ weights["W_dec"] + weights["b_dec"] + skip
    k_aux = min(D_OUT // 2, len(dead))
    hopes = ranked[:, dead]
    best = torch.zeros_like(hopes).scatter(1, hopes.topk(k_aux).indices, 1.0)
    e_hat = (hopes * best / norms[dead]) @ weights["W_dec"][dead]
    scale = min(len(dead) / (D_OUT // 2), 1.0)
    residual = (y - y_hat).detach()
    return (y - y_hat).square().sum(1).mean() + scale * (residual - e_hat).square().sum(1).mean()


@pytest.mark.parametrize("architecture", [name for name in SETTINGS if "jumprelu" not in name])
def test_loss_and_gradients_are_those_of_the_formula(architecture):
    x, y, dead = rows(D_IN), rows(D_OUT, seed=2), [1, 4, 9]
    sae = made(architecture)
    weights = {name: parameter.detach().clone().requires_grad_() for name, parameter in sae.named_parameters()}
    loss = formula(weights, x, y, architecture, dead)
    loss.backward()
    found = stepped(sae, torch.cat([x, y], dim=1), dead=dead)
    torch.testing.assert_close(found.loss, loss, rtol=1e-12, atol=0)
    assert "W_skip" in weights or "skip" not in architecture
    for name, parameter in sae.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[name].grad, rtol=1e-10, atol=1e-13)
    assert torch.equal(found.sae_in, y)


@pytest.mark.parametrize("architecture", [name for name in SETTINGS if "topk" not in name])
def test_the_inference_class_of_saelens_computes_the_same(architecture):
    sae, (sae_class, config_class) = made(architecture, dtype="float32"), get_sae_class(architecture)
    theirs = sae_class(config_class.from_dict(sae.cfg.get_inference_sae_cfg_dict()))
    theirs.load_state_dict(sae.state_dict())
    x = rows(D_IN, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(sae.encode(x), theirs.encode(x))
        assert torch.equal(sae(x), theirs(x))
        assert sae(x).shape == (ROWS, D_OUT)


def test_layer_norm_is_of_inputs_alone_as_in_saelens():
    sae, (sae_class, config_class) = (
        made("skip_transcoder", normalize_activations="layer_norm"),
        get_sae_class("skip_transcoder"),
    )
    theirs = sae_class(config_class.from_dict(sae.cfg.get_inference_sae_cfg_dict()))
    theirs.load_state_dict(sae.state_dict())
    x = rows(D_IN) * 3 + 1
    with torch.no_grad():
        assert torch.equal(sae(x), theirs(x))
        assert torch.allclose(sae.encode(x), sae.encode(2 * x + 5), atol=1e-3)  # up to the epsilon


@pytest.mark.parametrize("architecture", SETTINGS)
def test_the_first_batch_sets_the_biases_and_later_ones_do_not(architecture):
    sae = made(architecture)
    x, y = rows(D_IN) + 2, rows(D_OUT, seed=2) - 3
    found = stepped(sae, torch.cat([x, y], dim=1), step=0)
    torch.testing.assert_close(sae.b_dec.data, y.mean(dim=0))
    pre = x @ sae.W_enc.data + sae.b_enc.data
    assert pre.mean(dim=0).abs().max() < 1e-12
    assert found.loss.isfinite()
    before = sae.b_dec.detach().clone()
    stepped(sae, torch.cat([x, y + 1], dim=1), step=1)
    assert torch.equal(sae.b_dec, before)


def test_at_the_start_directions_have_one_norm_and_nothing_skips():
    sae_class, config_class = get_sae_training_class("topk_skip_transcoder")
    sae = sae_class(config_class(d_in=D_IN, d_out=D_OUT, d_sae=D_SAE, k=2, apply_b_dec_to_input=False, device="cpu"))
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.full((D_SAE,), 0.1))
    torch.testing.assert_close(sae.W_enc.norm(dim=0), torch.full((D_SAE,), 0.1))
    assert (sae.W_enc.shape, sae.W_dec.shape) == ((D_IN, D_SAE), (D_SAE, D_OUT))
    assert sae.W_skip.shape == (D_OUT, D_IN)
    assert not sae.W_skip.any()


@pytest.mark.parametrize("architecture", SETTINGS)
def test_scales_of_both_sites_are_folded_without_changing_the_function(architecture):
    x, y = rows(D_IN) * 7, rows(D_OUT, seed=2) * 0.2
    scaler = PairScaler(D_IN)
    scaler.estimate_scaling_factor(D_IN, iter([torch.cat([x, y], dim=1)]), 1)
    s_in, s_out = scaler.scaling_factor
    scaled = scaler(torch.cat([x, y], dim=1))
    torch.testing.assert_close(scaled[:, :D_IN].norm(dim=1).mean(), torch.tensor(D_IN**0.5, dtype=torch.float64))
    torch.testing.assert_close(scaled[:, D_IN:].norm(dim=1).mean(), torch.tensor(D_OUT**0.5, dtype=torch.float64))
    torch.testing.assert_close(scaler.unscale(scaled), torch.cat([x, y], dim=1))
    sae = made(architecture, normalize_activations="expected_average_only_in")
    with torch.no_grad():
        before, active = sae(scaled[:, :D_IN]) / s_out, sae.encode(scaled[:, :D_IN]) > 0
        sae.fold_activation_norm_scaling_factor((s_in, s_out))
        torch.testing.assert_close(sae(x), before, rtol=1e-10, atol=1e-12)
        assert torch.equal(sae.encode(x) > 0, active)
    assert sae.cfg.normalize_activations == "none"


@pytest.mark.parametrize("architecture", SETTINGS)
def test_a_checkpoint_is_read_back(architecture, tmp_path):
    sae = made(architecture)
    sae.save_model(tmp_path)
    sae_class, config_class = get_sae_training_class(architecture)
    again = sae_class(config_class.from_dict(sae.cfg.to_dict()))
    again.load_weights_from_checkpoint(tmp_path)
    assert {name: tensor.tolist() for name, tensor in again.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in sae.state_dict().items()
    }
    assert again.cfg.to_dict() == sae.cfg.to_dict()


def test_settings_that_make_no_transcoder_are_refused():
    for configs in CLASSES.values():
        for config in configs:
            with pytest.raises(ValueError, match="needs `d_out`"):
                config(d_in=D_IN, d_sae=D_SAE, apply_b_dec_to_input=False)
            with pytest.raises(ValueError, match="no `apply_b_dec_to_input`"):
                config(d_in=D_IN, d_sae=D_SAE, d_out=D_OUT, apply_b_dec_to_input=True)


def test_planted_directions_of_the_output_are_recovered():
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    generator = torch.Generator().manual_seed(0)
    read, written = (torch.randn(32, width, generator=generator) for width in (24, 20))
    read, written = (each / each.norm(dim=1, keepdim=True) for each in (read, written))

    def batch():
        kept = torch.rand(512, 32, generator=generator).topk(3).indices
        codes = torch.zeros(512, 32).scatter(1, kept, 1 + torch.rand(512, 3, generator=generator))
        return torch.cat([codes @ read, codes @ written], dim=1)

    sae_class, config_class = get_sae_training_class("topk_transcoder")
    torch.manual_seed(0)
    sae = sae_class(config_class(d_in=24, d_out=20, d_sae=48, k=3, apply_b_dec_to_input=False, device="cpu"))
    settings = SAETrainerConfig(
        400 * 512, 512, lr=1e-2, lr_end=1e-2, lr_decay_steps=100, dead_feature_window=50,
        logger=LoggingConfig(log_to_wandb=False),
    )  # fmt: skip
    trainer = SAETrainer(settings, sae, iter(()))
    for _ in range(400):
        trainer.step(batch())
        trainer.n_training_steps += 1
    found = sae.W_dec.detach() / sae.W_dec.detach().norm(dim=1, keepdim=True)
    assert (written @ found.T).max(dim=1).values.mean() >= 0.95
