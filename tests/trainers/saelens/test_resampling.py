"""Dead latents get new directions, as Bricken et al. 2023 describe it."""

import json

import pytest
import torch

from saereg.errors import UsageError
from saereg.trainers.rows.activations import read_collection
from saereg.trainers.saelens.build import build, trainer_of
from saereg.trainers.saelens.member import SaeMember
from saereg.trainers.saelens.resampling import WINDOW, Resampler
from saereg.trainers.saelens.train import train
from tests.trainers.conftest import INFO

STEP = 12


@pytest.fixture(scope="module")
def member(training, collection):
    """Return a function from (architecture, settings) to a dictionary of which latents 3 to 9 can never be active."""

    def make(architecture: str, **sae) -> SaeMember:
        settings = {"dead_after_steps": 2, "resample_steps": (STEP,)} | sae
        config = training(architecture, sae=settings, optimization={"step": "saelens"})
        sae = build(config, read_collection(collection))
        with torch.no_grad():
            (sae.b_gate if architecture == "gated" else sae.b_enc)[3:10] = -1e6
        return SaeMember(config, trainer_of(sae, config, 640, "cpu"))

    return make


def rows(step: int) -> torch.Tensor:
    return torch.randn(32, 16, generator=torch.Generator().manual_seed(step)) * 2


def run(member: SaeMember, steps: int) -> None:
    for step in range(1, steps + 1):
        member.step({"residual-1": rows(step)})


@pytest.mark.parametrize("architecture", ["standard", "gated"])
@pytest.mark.parametrize("norm", ["free", "unit"])
def test_dead_latents_become_directions_of_rows(architecture, norm, member):
    one = member(architecture, decoder_norm=norm)
    run(one, STEP - 1)
    sae = one.trainer.sae
    before = {name: value.detach().clone() for name, value in sae.state_dict().items()}
    dead = one.trainer.dead_neurons
    assert set(range(3, 10)) <= set(dead.nonzero().squeeze(1).tolist())
    one.step({"residual-1": rows(STEP)})
    dead &= one.trainer.n_forward_passes_since_fired == 0  # those that did not wake up in this very step
    latents = torch.arange(3, 10)
    # decoder: a row of the window, as the encoder reads it, with unit or initial norm
    read = torch.cat([rows(step) for step in range(STEP - WINDOW + 1, STEP + 1)]) - sae.b_dec.detach()
    cosines = torch.nn.functional.cosine_similarity(sae.W_dec.detach()[latents].unsqueeze(1), read, dim=2)
    best = cosines.max(dim=1)
    torch.testing.assert_close(best.values, torch.ones(7), atol=1e-5, rtol=0)
    assert len(set(best.indices.tolist())) == 7
    torch.testing.assert_close(
        sae.W_dec.detach()[latents].norm(dim=1), torch.full((7,), 1.0 if norm == "unit" else 0.1)
    )
    # encoder: the same direction, 0.2 times the norm of the living ones
    W_enc = sae.W_enc.detach()
    living = torch.ones(48, dtype=torch.bool).index_fill(0, dead.nonzero().squeeze(1), value=False)
    torch.testing.assert_close(W_enc[:, latents].norm(dim=0), 0.2 * W_enc[:, living].norm(dim=0).mean().expand(7))
    torch.testing.assert_close(W_enc[:, latents].T / W_enc[:, latents].norm(dim=0)[:, None],
                               read[best.indices] / read[best.indices].norm(dim=1, keepdim=True))  # fmt: skip
    for name in {"b_enc", "b_gate", "b_mag", "r_mag"} & before.keys():
        assert (sae.state_dict()[name][latents] == 0).all()


def test_adam_forgets_the_resampled_latents_and_no_others(member):
    one = member("gated")
    run(one, STEP)
    optimizer, sae = one.trainer.optimizer, one.trainer.sae
    for name, axis in {"W_enc": 1, "W_dec": 0, "b_gate": 0, "b_mag": 0, "r_mag": 0}.items():
        state = optimizer.state[getattr(sae, name)]
        for moment in ("exp_avg", "exp_avg_sq"):
            assert (state[moment].narrow(axis, 3, 7) == 0).all(), name
            assert (state[moment] != 0).any(), name
    assert float(optimizer.state[sae.b_dec]["exp_avg"].abs().min()) > 0
    assert (one.trainer.n_forward_passes_since_fired[3:10] == 0).all()


def test_new_latents_are_active_on_rows_like_their_own(member):
    one = member("standard")
    run(one, STEP)
    output = one.trainer.step(torch.cat([rows(step) for step in range(STEP - WINDOW + 1, STEP + 1)]))
    assert (output.feature_acts[:, 3:10] > 0).any(dim=0).all()


def test_rows_are_drawn_with_probability_proportional_to_their_squared_loss(member):
    one, counts = member("standard"), torch.zeros(4)
    for seed in range(3000):
        resampler = Resampler(one.trainer, (1,), seed, 0.1)
        resampler._kept = [{"rows": torch.zeros(2, 16), "loss": torch.tensor([1.0, 2.0])},
                           {"rows": torch.zeros(2, 16), "loss": torch.tensor([0.0, 3.0])}]  # fmt: skip
        counts[resampler._drawn(1)] += 1
    # 1 : 4 : 0 : 9 of 14; three standard deviations of 3000 draws are 80
    expected = torch.tensor([1, 4, 0, 9]) * 3000 / 14
    assert (counts - expected).abs().max() < 80
    assert counts[2] == 0


def test_no_row_is_drawn_twice_and_none_without_a_loss(member):
    resampler = Resampler(member("standard").trainer, (1,), 0, 0.1)
    resampler._kept = [{"rows": torch.zeros(4, 16), "loss": torch.tensor([1.0, 0.0, 5.0, 1e-3])}]
    assert sorted(resampler._drawn(10).tolist()) == [0, 2, 3]


def test_a_dictionary_without_dead_latents_is_left_alone(member):
    one, other = member("standard", dead_after_steps=100), member("standard", resample_steps=())
    run(one, STEP)
    run(other, STEP)
    assert all(
        torch.equal(a, b) for a, b in zip(one.trainer.sae.parameters(), other.trainer.sae.parameters(), strict=True)
    )


def test_a_state_in_the_middle_of_the_window_goes_on_to_the_same_bits(member):
    straight, first, second = member("standard"), member("standard"), member("standard")
    run(straight, 20)
    run(first, STEP - 3)
    second.load(first.state())
    for step in range(STEP - 2, 21):
        second.step({"residual-1": rows(step)})
    for name, tensor in straight.trainer.sae.state_dict().items():
        assert torch.equal(tensor, second.trainer.sae.state_dict()[name]), name
    assert second.state()["resampling"]["count"] == 7


def test_the_log_counts_what_was_resampled(training, tmp_path):
    sae = {"dead_after_steps": 1, "resample_steps": (10, 18), "l1_coefficient": 20.0}
    done = train(training("standard", sae=sae, optimization={"lr": 0.02}), tmp_path / "r", tmp_path / "c", info=INFO)
    counts = [json.loads(line)["resampled"] for line in (done.folder / "training.log").read_text().splitlines()]
    assert counts[0] == counts[1] == 0 < counts[2] == counts[3] < counts[4]


@pytest.mark.parametrize(("steps", "number"), [((5, 12), 5), ((12, 20), 20)])
def test_steps_at_which_nothing_can_be_dead_or_that_are_not_taken_are_refused(steps, number, training, tmp_path):
    config = training("standard", sae={"dead_after_steps": 5, "resample_steps": steps})
    with pytest.raises(UsageError) as caught:
        train(config, tmp_path / "r", tmp_path / "c", info=INFO)
    assert str(caught.value) == (
        f"sae.resample_steps: no latent can be resampled after step {number}: it is dead after "
        "dead_after_steps = 5 steps at the earliest, and the run has 20"
    )
