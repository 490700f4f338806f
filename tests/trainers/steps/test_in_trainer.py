"""The written-out steps on SAELens' SAETrainer: whole steps, its Adam, its files, and a dictionary that is known."""

import copy
import math

import pytest
import torch
from sae_lens import SAE, TopKTrainingSAE
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.sae import TrainingSAE
from sae_lens.synthetic import ActivationGenerator, FeatureDictionary
from sae_lens.synthetic.training import SyntheticActivationIterator
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file

from saereg.trainers.steps import choice
from saereg.trainers.steps.optimizer import use_fused

D_IN, D_SAE, BATCH = 16, 320, 64

SETTINGS = {"topk": {"k": 4}, "batchtopk": {"k": 3.5}, "standard": {"l1_coefficient": 0.05, "l1_warm_up_steps": 5}}


def trainer_of(classes, settings, *, lr=3e-3, steps=100, dead_after=1000, rows=()):
    sae_class, config_class = classes
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sae = sae_class(config_class(**({"d_in": D_IN, "d_sae": D_SAE, "dtype": "float64"} | settings)))
    config = SAETrainerConfig(
        total_training_samples=steps * BATCH, train_batch_size_samples=BATCH, lr=lr, lr_end=lr, device="cpu",
        lr_warm_up_steps=3, lr_decay_steps=steps // 3, dead_feature_window=dead_after,
        logger=LoggingConfig(log_to_wandb=False),
    )  # fmt: skip
    return SAETrainer(config, sae, iter(rows))


def batches(count=10):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(40, D_IN, generator=generator, dtype=torch.float64)
    for _ in range(count):
        active = torch.rand(BATCH, 40, generator=generator, dtype=torch.float64)
        yield (active * (active > 0.9)) @ features + 0.1


def taken(trainer, rows):
    """Take the steps; return what is logged of the last one."""
    for x in rows:
        output = trainer.step(x)
        trainer.n_training_steps += 1
    return trainer.build_train_step_log_dict(output, trainer.n_training_samples)


def relative(found, expected):
    return float(((found - expected).norm() / expected.norm()).detach())


@pytest.mark.parametrize("name", SETTINGS)
def test_ten_steps_of_the_trainer_end_where_those_of_saelens_end(name):
    ours = trainer_of(choice.FASTER[name], SETTINGS[name], dead_after=3)
    theirs = trainer_of(get_sae_training_class(name), SETTINGS[name], dead_after=3)

    found, expected = taken(ours, batches()), taken(theirs, batches())

    for mine, other in zip(ours.sae.state_dict().values(), theirs.sae.state_dict().values(), strict=True):
        assert relative(mine, other) <= 1e-9
    assert found.keys() == expected.keys()
    assert {key for key in found if not math.isclose(found[key], expected[key], rel_tol=1e-9, abs_tol=1e-12)} == set()
    assert (ours.dead_neurons == theirs.dead_neurons).all()
    assert (ours.act_freq_scores == theirs.act_freq_scores).all()
    if name != "standard":
        assert ours.dead_neurons.any()
        assert found["losses/auxiliary_reconstruction_loss"] > 0


@pytest.mark.parametrize("name", SETTINGS)
def test_a_saved_dictionary_is_one_of_saelens_own(name, tmp_path):
    ours = trainer_of(choice.FASTER[name], SETTINGS[name])
    taken(ours, batches(2))
    ours.sae.save_model(tmp_path / "training")
    ours.sae.save_inference_model(tmp_path / "inference")

    theirs = TrainingSAE.load_from_disk(tmp_path / "training")
    used = SAE.load_from_disk(tmp_path / "inference")

    assert type(theirs) is get_sae_training_class(name)[0]
    for mine, other in zip(ours.sae.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, other)
    x = next(batches())
    torch.testing.assert_close(theirs(x), ours.sae(x), rtol=1e-12, atol=1e-12)
    if name != "batchtopk":
        torch.testing.assert_close(used(x), ours.sae(x), rtol=1e-9, atol=1e-9)


def test_the_fused_adam_is_used_and_computes_the_same():
    plain, fused = (trainer_of(choice.FASTER["topk"], SETTINGS["topk"]) for _ in range(2))
    assert use_fused(fused)
    with torch.profiler.profile() as profile:
        taken(fused, batches())
    taken(plain, batches())

    assert "aten::_fused_adam_" in {event.key for event in profile.key_averages()}
    for mine, other in zip(fused.sae.parameters(), plain.sae.parameters(), strict=True):
        assert relative(mine, other) <= 1e-6


@pytest.mark.parametrize("saved_fused", [True, False])
def test_a_run_goes_on_with_the_fused_adam_from_either_state(saved_fused, tmp_path):
    whole, first, second = (trainer_of(choice.FASTER["topk"], SETTINGS["topk"]) for _ in range(3))
    rows = list(batches())
    for trainer in (whole, first)[: 2 if saved_fused else 1]:
        use_fused(trainer)
    taken(whole, rows)
    taken(first, rows[:5])
    first.save_trainer_state(tmp_path)
    second.sae.load_state_dict(first.sae.state_dict())
    second.load_trainer_state(tmp_path)
    assert use_fused(second)
    taken(second, rows[5:])

    for mine, other in zip(second.sae.parameters(), whole.sae.parameters(), strict=True):
        assert torch.equal(mine, other) if saved_fused else relative(mine, other) <= 1e-6


def test_a_tied_checkpoint_holds_one_matrix_and_loads_again(tmp_path):
    trainer = trainer_of(choice.VARIANTS["topk, tied"], SETTINGS["topk"])
    start = copy.deepcopy(trainer.sae)
    use_fused(trainer)
    taken(trainer, batches())
    weights, _ = trainer.sae.save_model(tmp_path / "training")
    trainer.sae.save_inference_model(tmp_path / "inference")
    x = next(batches())

    assert relative(trainer.sae.W_dec, start.W_dec) > 0.01
    assert load_file(weights).keys() == {"W_dec", "b_enc", "b_dec"}
    assert trainer.sae.W_enc.data_ptr() == trainer.sae.W_dec.data_ptr()
    again = TrainingSAE.load_from_disk(tmp_path / "training")
    assert type(again) is type(trainer.sae)
    assert torch.equal(again(x), trainer.sae(x))
    used = SAE.load_from_disk(tmp_path / "inference")
    assert used.cfg.architecture() == "topk"
    assert used.cfg.metadata.training_architecture == "saereg_tied_topk"
    assert torch.equal(used.W_enc, used.W_dec.T)
    torch.testing.assert_close(used(x), trainer.sae(x), rtol=1e-12, atol=1e-12)


def test_tied_and_untied_dictionaries_begin_with_the_same_matrix():
    tied = trainer_of(choice.VARIANTS["topk, tied"], SETTINGS["topk"]).sae
    theirs = trainer_of((TopKTrainingSAE, get_sae_training_class("topk")[1]), SETTINGS["topk"]).sae

    torch.testing.assert_close(tied.W_dec, theirs.W_dec, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rescaled", [False, True])
def test_a_tied_dictionary_takes_up_the_input_scale_and_stays_tied(rescaled, tmp_path):
    settings = SETTINGS["topk"] | {"normalize_activations": "expected_average_only_in"}
    settings |= {"rescale_acts_by_decoder_norm": rescaled}
    sae = trainer_of(choice.VARIANTS["topk, tied"], settings).sae
    x, scale = next(batches()), 2.7
    with torch.no_grad():
        sae.b_enc += torch.linspace(-0.05, 0.05, D_SAE)
        sae.b_dec += 0.2
        expected = sae(x * scale) / scale
        active = sae.encode(x * scale) != 0
        sae.fold_activation_norm_scaling_factor(scale)
        sae.save_inference_model(tmp_path)
        used = SAE.load_from_disk(tmp_path)

        assert sae.cfg.normalize_activations == "none"
        assert torch.equal(sae.encode(x) != 0, active)
        torch.testing.assert_close(sae(x), expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(used(x), expected, rtol=1e-9, atol=1e-12)
        with pytest.raises(NotImplementedError, match="tied"):
            sae.fold_W_dec_norm()


def test_a_planted_dictionary_is_recovered():
    torch.manual_seed(0)
    planted = FeatureDictionary(64, 48)
    features = ActivationGenerator(64, torch.full((64,), 0.04))
    rows = SyntheticActivationIterator(planted, features, batch_size=512)
    settings = {"d_in": 48, "d_sae": 96, "k": 3, "dtype": "float32"}
    trainer = trainer_of(choice.FASTER["topk"], settings, steps=250)
    use_fused(trainer)
    taken(trainer, (next(rows) for _ in range(250)))

    learned = torch.nn.functional.normalize(trainer.sae.W_dec.detach(), dim=1)
    truth = torch.nn.functional.normalize(planted.feature_vectors.detach(), dim=1)
    assert (truth @ learned.T).max(dim=1).values.mean() >= 0.95
