"""Losses and gradients of the written-out steps are those of autograd through SAELens' own classes, in float64."""

import copy

import pytest
import torch
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.sae import TrainStepInput
from sae_lens.saes.topk_sae import act_times_W_dec, calculate_topk_aux_acts

from saereg.schemas.training import TrainConfig
from saereg.trainers.steps import choice, topk

D_IN, D_SAE, ROWS = 16, 160, 40

SETTINGS = {
    "topk": {"k": 4},
    "topk, dense": {"k": 20},
    "topk, all latents": {"k": D_SAE},
    "batchtopk": {"k": 4.5},
    "batchtopk, dense": {"k": 30.5},
    "batchtopk, all that are positive": {"k": 120.0},
    "standard, dense": {"l1_coefficient": 0.3},
    "standard, sparse": {"l1_coefficient": 0.3},
}
LIVING, ONE, SOME, MANY = 0, 1, 5, 150
"""Numbers of dead latents: none, fewer than k_aux = 8, more, and so many that their code is sparse."""


def made(name, classes, *, seed=0, **changes):
    """Return a dictionary with random weights, none of them zero; the sparse standard one has few active latents."""
    sae_class, config_class = classes
    sae = sae_class(config_class(**({"d_in": D_IN, "d_sae": D_SAE, "dtype": "float64"} | SETTINGS[name] | changes)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
        if name == "standard, sparse":
            sae.b_enc -= 4.5
    return sae


def pair(name, **changes):
    """Return our dictionary and SAELens' own, with the same weights."""
    kind = name.partition(",")[0]
    return made(name, choice.FASTER[kind], **changes), made(name, get_sae_training_class(kind), **changes)


def given(x, dead=0, l1=0.7):
    mask = torch.zeros(D_SAE, dtype=torch.bool)
    mask[torch.randperm(D_SAE, generator=torch.Generator().manual_seed(3))[:dead]] = True
    return TrainStepInput(x, {"l1": l1}, mask, n_training_steps=0, is_logging_step=False)


def rows(n=ROWS, seed=1):
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 + 0.3


def dense(f):
    return f.to_dense() if f.is_sparse else f


def check_equal(ours, theirs, step_input, *, loss=None):
    """Compare two dictionaries on a batch: all that a step returns, and gradients of 1.7 times the loss."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sae_lens.saes.sae.TrainingSAE.training_forward_pass", _not_called)
        found = ours.training_forward_pass(step_input)
    expected = theirs.training_forward_pass(step_input) if loss is None else loss(theirs, step_input)
    (1.7 * found.loss).backward()
    (1.7 * expected.loss).backward()
    torch.testing.assert_close(dense(found.feature_acts), expected.feature_acts, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.sae_out, expected.sae_out, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-9, atol=0)
    assert found.losses.keys() == expected.losses.keys()
    for name in expected.losses:
        torch.testing.assert_close(found.losses[name], expected.losses[name].detach(), rtol=1e-9, atol=0)
    for (name, mine), theirs_ in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (mine.grad - theirs_.grad).norm() <= 1e-9 * theirs_.grad.norm(), name
        assert mine.grad.is_contiguous()  # a fused Adam reads memory in order
    return found


def _not_called(*_):
    raise AssertionError("SAELens' own step ran, not ours")


@pytest.mark.parametrize("dead", [LIVING, ONE, SOME, MANY])
@pytest.mark.parametrize("subtracted", [True, False])
@pytest.mark.parametrize("rescaled", [True, False])
@pytest.mark.parametrize("name", [name for name in SETTINGS if "topk" in name])
def test_topk_steps_are_those_of_saelens(name, rescaled, subtracted, dead):
    settings = {"rescale_acts_by_decoder_norm": rescaled, "apply_b_dec_to_input": subtracted}
    ours, theirs = pair(name, aux_loss_coefficient=0.6, **settings)

    found = check_equal(ours, theirs, given(rows(), dead))

    assert found.feature_acts.is_sparse == (name in ("topk", "batchtopk"))
    assert (found.losses["auxiliary_reconstruction_loss"] > 0) == (dead > 0)
    if name.startswith("batchtopk"):
        torch.testing.assert_close(ours.topk_threshold, theirs.topk_threshold, rtol=1e-9, atol=0)
        assert found.metrics["topk_threshold"] == ours.topk_threshold


@pytest.mark.parametrize("normalization", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("subtracted", [True, False])
@pytest.mark.parametrize("name", [name for name in SETTINGS if "standard" in name])
def test_standard_steps_are_those_of_saelens(name, subtracted, normalization):
    ours, theirs = pair(name, apply_b_dec_to_input=subtracted, normalize_activations=normalization)

    found = check_equal(ours, theirs, given(rows()))

    assert found.feature_acts.is_sparse == (name == "standard, sparse")
    assert dense(found.feature_acts).any()


@pytest.mark.parametrize("normalization", ["layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("name", [name for name in SETTINGS if "topk" in name])
def test_topk_steps_on_normalized_rows_are_those_of_saelens_while_all_latents_live(name, normalization):
    check_equal(*pair(name, normalize_activations=normalization), given(rows()))


@pytest.mark.parametrize("name", ["topk", "topk, dense", "batchtopk"])
def test_rows_encoded_in_blocks_are_the_same(name, monkeypatch):
    monkeypatch.setattr(topk, "LEAST_ROWS", 7)
    monkeypatch.setitem(topk.NUMBERS, "cpu", 1)

    check_equal(*pair(name), given(rows(), SOME))


def auxiliary_in_normalized_space(sae, step_input):
    """Return SAELens' step with the auxiliary loss that it refuses: residual and reconstruction both normalized."""
    x = step_input.sae_in
    f, ranks = sae.encode_with_hidden_pre(x)
    decoded = act_times_W_dec(f, sae.W_dec, sae.cfg.rescale_acts_by_decoder_norm) + sae.b_dec
    centred = x - x.mean(dim=1, keepdim=True)
    residual = (centred / (centred.std(dim=1, keepdim=True) + 1e-5) - decoded).detach()
    dead = step_input.dead_neuron_mask
    k_aux = min(D_IN // 2, int(dead.sum()))
    z = calculate_topk_aux_acts(k_aux, ranks, dead)
    recovered = act_times_W_dec(z, sae.W_dec, sae.cfg.rescale_acts_by_decoder_norm)
    weight = sae.cfg.aux_loss_coefficient * min(int(dead.sum()) / (D_IN // 2), 1)
    aux = weight * (recovered - residual).square().sum(dim=1).mean()
    plain = copy.copy(step_input)
    plain.dead_neuron_mask = None
    found = sae.training_forward_pass(plain)
    found.loss = found.loss + aux
    found.losses["auxiliary_reconstruction_loss"] = aux
    return found


@pytest.mark.parametrize("dead", [ONE, SOME, MANY])
@pytest.mark.parametrize("rescaled", [True, False])
def test_dead_latents_of_layer_normed_rows_explain_the_residual_where_the_decoder_lives(rescaled, dead):
    settings = {"normalize_activations": "layer_norm", "rescale_acts_by_decoder_norm": rescaled}
    ours, theirs = pair("topk", aux_loss_coefficient=0.6, **settings)

    check_equal(ours, theirs, given(rows(), dead), loss=auxiliary_in_normalized_space)


@pytest.mark.parametrize("name", ["topk", "batchtopk", "standard, sparse"])
def test_rows_with_fewer_active_latents_than_k_and_rows_of_nothing(name):
    ours, theirs = pair(name)
    with torch.no_grad():
        for sae in (ours, theirs):
            sae.b_enc.copy_(torch.full_like(sae.b_enc, -4.5))
    x = rows()
    x[:3] = 0

    found = check_equal(ours, theirs, given(x))

    counts = (dense(found.feature_acts) > 0).sum(dim=1)
    assert counts.min() == 0
    assert counts.max() > 0


@pytest.mark.parametrize("name", ["topk", "batchtopk"])
def test_ties_are_broken_as_saelens_breaks_them(name):
    ours, theirs = pair(name, rescale_acts_by_decoder_norm=False)
    with torch.no_grad():
        for sae in (ours, theirs):
            sae.W_enc[:, 1::2] = sae.W_enc[:, ::2]
            sae.b_enc[1::2] = sae.b_enc[::2]
    x = rows(39)  # k of a batch is odd then, so a pair of twins is parted
    step_input = given(x)
    found, expected = (sae.training_forward_pass(step_input) for sae in (ours, theirs))

    values = dense(found.feature_acts).sort(dim=1).values
    if name == "topk":
        torch.testing.assert_close(dense(found.feature_acts), expected.feature_acts, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(values, expected.feature_acts.sort(dim=1).values, rtol=1e-9, atol=1e-12)


def test_a_decoder_row_of_zeros_has_the_gradient_that_autograd_gives_it():
    for name in ("standard, dense", "standard, sparse"):
        ours, theirs = pair(name)
        with torch.no_grad():
            for sae in (ours, theirs):
                sae.W_dec[7] = 0
                sae.b_enc[7] = 9

        check_equal(ours, theirs, given(rows()))


@pytest.mark.parametrize("rescaled", [True, False])
@pytest.mark.parametrize("dead", [LIVING, SOME, MANY])
def test_one_tied_matrix_gets_both_parts_of_the_gradient(dead, rescaled):
    tied = made("topk", choice.VARIANTS["topk, tied"], rescale_acts_by_decoder_norm=rescaled)
    _, theirs = pair("topk", rescale_acts_by_decoder_norm=rescaled)
    with torch.no_grad():
        for name, value in (("W_enc", tied.W_enc), *tied.named_parameters()):
            getattr(theirs, name).copy_(value)

    tied.training_forward_pass(given(rows(), dead)).loss.backward()
    theirs.training_forward_pass(given(rows(), dead)).loss.backward()

    expected = {
        "W_dec": theirs.W_dec.grad + theirs.W_enc.grad.T,
        "b_enc": theirs.b_enc.grad,
        "b_dec": theirs.b_dec.grad,
    }
    assert expected.keys() == dict(tied.named_parameters()).keys()
    for name, gradient in expected.items():
        assert (getattr(tied, name).grad - gradient).norm() <= 1e-9 * gradient.norm(), name


@pytest.mark.parametrize("name", ["topk", "standard, dense", "standard, sparse"])
def test_gradients_of_two_batches_add_up(name):
    ours, theirs = pair(name)
    for sae in (ours, theirs):
        for seed in (1, 2):
            sae.training_forward_pass(given(rows(seed=seed))).loss.backward()

    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (mine.grad - other.grad).norm() <= 1e-9 * other.grad.norm()


def test_gradients_lie_in_the_same_memory_step_after_step():
    ours, _ = pair("topk")
    places = []
    for _ in range(2):
        ours.training_forward_pass(given(rows())).loss.backward()
        places.append([p.grad.data_ptr() for p in ours.parameters()])
        ours.zero_grad(set_to_none=True)

    assert places[0] == places[1]
    assert copy.deepcopy(ours)._workspace._held == {}


def test_gradients_that_a_later_step_replaced_are_refused():
    ours, _ = pair("topk")
    first = ours.training_forward_pass(given(rows())).loss
    second = ours.training_forward_pass(given(rows())).loss

    with pytest.raises(RuntimeError, match="later step took their place"):
        first.backward()
    second.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="handed out already"):
        second.backward()


@pytest.mark.parametrize("name", ["topk", "standard, dense"])
def test_hooks_see_what_saelens_shows_them(name):
    ours, theirs = pair(name)
    seen = []
    ours.hook_sae_acts_pre.add_hook(lambda value, hook: seen.append(value.detach()))
    for sae in (ours, theirs):
        sae.training_forward_pass(given(rows())).loss.backward()

    assert seen[0].shape == (ROWS, D_SAE)
    torch.testing.assert_close(ours.W_enc.grad, theirs.W_enc.grad)


@pytest.mark.parametrize("name", ["topk", "batchtopk", "standard, dense", "standard, sparse"])
def test_autocast_lowers_the_product_with_the_encoder_and_nothing_else(name):
    ours, exact = (pair(name, dtype="float32")[0] for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ours.training_forward_pass(given(rows().float()))
    found.loss.backward()
    exact.training_forward_pass(given(rows().float())).loss.backward()

    assert found.loss.dtype == torch.float32
    for mine, other in zip(ours.parameters(), exact.parameters(), strict=True):
        assert mine.grad.dtype == torch.float32
        assert 0 < (mine.grad - other.grad).norm() < 0.2 * other.grad.norm()


@pytest.mark.parametrize(
    ("sae", "step", "name"),
    [
        ({"architecture": "topk", "k": 4}, "auto", "SparseTopKTrainingSAE"),
        ({"architecture": "batchtopk", "k": 4}, "auto", "SparseBatchTopKTrainingSAE"),
        ({"architecture": "standard", "l1_coefficient": 1.0}, "auto", "SparseStandardTrainingSAE"),
        ({"architecture": "gated", "l1_coefficient": 1.0}, "auto", "GatedTrainingSAE"),
        ({"architecture": "topk", "k": 4}, "saelens", "TopKTrainingSAE"),
        ({"architecture": "standard", "l1_coefficient": 1.0}, "saelens", "StandardTrainingSAE"),
        ({"architecture": "topk", "k": 4, "tied": True}, "auto", "TiedTopKTrainingSAE"),
        ({"architecture": "topk", "k": 4, "tied": True}, "saelens", "TiedTopKTrainingSAE"),
    ],
)
def test_the_class_that_a_configuration_is_trained_with(sae, step, name):
    config = TrainConfig.model_validate(
        {"collection": "c", "site": "s", "sae": {"d_sae": 8, **sae}, "artifact": {"id": "a"}}
        | {"optimization": {"tokens": 8, "step": step}}
    )

    sae_class, config_class = choice.training_classes(config)

    assert sae_class.__name__ == name
    assert config_class.__name__ == f"{name}Config"


def test_a_decoder_row_of_zeros_that_is_kept_harms_no_other_latent():
    ours, _ = pair("topk")
    with torch.no_grad():
        ours.W_dec[7] = 0
        ours.b_enc.fill_(-9).index_fill_(0, torch.tensor([7]), 9)
    found = ours.training_forward_pass(given(rows()))
    found.loss.backward()

    assert found.loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in ours.parameters())


def test_what_is_no_number_is_found_out():
    for name in SETTINGS:
        ours, _ = pair(name)
        with torch.no_grad():
            ours.W_enc[:, 3] = float("nan")

        assert ours.training_forward_pass(given(rows())).loss.isnan(), name
