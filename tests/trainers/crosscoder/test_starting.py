"""JumpReLU begins with every latent active on the same share of rows, whatever the rows, and learns from there."""

import copy
import json

import pytest
import torch

from saereg.schemas.training_crosscoder import CrosscoderTrainConfig
from saereg.trainers.crosscoder.group import ALONE
from saereg.trainers.crosscoder.member import CrosscoderMember
from saereg.trainers.crosscoder.model import Crosscoder
from saereg.trainers.crosscoder.starting import begin
from saereg.trainers.runs.together import OneProcess

D = 16


def config(**crosscoder) -> CrosscoderTrainConfig:
    """Return a run whose settings are the defaults, but for what is given."""
    settings = {"architecture": "jumprelu", "d_sae": 64, "l1_coefficient": 0.3} | crosscoder
    run = {"tokens": 6400, "batch_size": 256, "lr": 1e-2}
    sources = {"axis": "snapshot", "parameters": "unread"}
    text = {"sources": sources, "crosscoder": settings, "optimization": run, "artifact": {"id": "a"}}
    return CrosscoderTrainConfig.from_text(json.dumps(text), "test")


def rows(sources: int, number: int = 256, seed: int = 0) -> torch.Tensor:
    """Return rows of a few of 32 directions that sources share in part, (n, K, D), the mean of ‖x‖² being D."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(32, 1, D, generator=generator) + 0.5 * torch.randn(32, sources, D, generator=generator)
    codes = torch.rand(number, 32, generator=generator) * (torch.rand(number, 32, generator=generator) < 0.1)
    x = torch.einsum("nj,jkd->nkd", codes, directions) + 0.01 * torch.randn(number, sources, D, generator=generator)
    return x * (D / x.square().sum(-1).mean()).sqrt()


def member(run: CrosscoderTrainConfig, sources: int, group: OneProcess = ALONE) -> CrosscoderMember:
    keys = tuple(str(k) for k in range(sources))
    return CrosscoderMember(run, Crosscoder(run.crosscoder, (sources, D), 0, group=group), keys)


def batch(x: torch.Tensor) -> dict[str, torch.Tensor]:
    return {str(k): x[:, k] for k in range(x.shape[1])}


@pytest.mark.parametrize("gate", ["shared", "per_source"])
@pytest.mark.parametrize("sources", [1, 8])
def test_the_defaults_reconstruct_after_few_steps(sources, gate):
    """With θ = 0.1 and no bias one source of width 16 has no active latent in these 25 steps."""
    trained, found = member(config(gate=gate), sources), []
    for step in range(25):
        found.append(trained.step(batch(rows(sources, seed=step % 5))).facts())
    assert found[0]["l0"] == pytest.approx(32, rel=0.01)
    assert found[-1]["explained_variance"] > 0.25
    assert found[-1]["l0"] > 1


@pytest.mark.parametrize(("scale", "mean"), [(1.0, 0.0), (0.02, 0.0), (50.0, 0.0), (1.0, 3.0), (0.02, 0.06)])
@pytest.mark.parametrize(("sources", "gate"), [(1, "shared"), (8, "shared"), (8, "per_source")])
def test_every_latent_is_active_on_the_share_whatever_the_rows(sources, gate, scale, mean, monkeypatch):
    monkeypatch.setattr("saereg.trainers.crosscoder.starting.ACTIVE", 400)
    model = member(config(gate=gate, d_sae=2000), sources).model
    x = rows(sources) * scale + mean
    begin(model, x)
    f = model.codes(x)
    active = (f > 0).sum(0) if gate == "shared" else (f > 0).sum(0).double().mean(0)
    wanted = round(400 / 2000 * len(x))
    assert float((active - wanted).abs().max()) <= 1  # two rows that are nearly equal are both active
    assert float((active == wanted).double().mean()) > 0.99


def test_rows_that_are_all_the_same_close_no_latent():
    model = member(config(), 1).model
    begin(model, rows(1)[:1].expand(8, 1, D))
    assert bool((model.codes(rows(1)[:1]) > 0).all())


def test_a_threshold_that_is_given_is_taken_and_the_bias_is_zero():
    given, without = (Crosscoder(config(**one).crosscoder, (8, D), 0) for one in ({"threshold": 0.3}, {}))
    assert torch.equal(given.weights["log_threshold"], torch.full((64,), 0.3).log())
    first = member(config(threshold=0.3), 8).step(batch(rows(8))).facts()
    assert first["l0"] == float((given.codes(rows(8)) > 0).sum(1).double().mean())
    assert first["l0"] != member(config(), 8).step(batch(rows(8))).facts()["l0"]
    assert torch.equal(without.weights["b_enc"], torch.zeros(64))


def test_it_begins_once_and_a_run_that_goes_on_does_not_begin_again():
    whole, later = member(config(), 8), member(config(), 8)
    whole.step(batch(rows(8)))
    later.load(copy.deepcopy(whole.state()))
    for one in (whole, later):
        one.step(batch(rows(8, seed=1)))
    assert all(torch.equal(tensor, later.model.weights[name]) for name, tensor in whole.model.weights.items())


class Fixed(OneProcess):
    """One of several processes, which no latent has to ask here."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@pytest.mark.parametrize("gate", ["shared", "per_source"])
def test_each_process_begins_with_its_part_of_the_whole(gate):
    whole = member(config(gate=gate, d_sae=61), 8).model
    begin(whole, rows(8))
    for rank in range(3):
        part = member(config(gate=gate, d_sae=61), 8, Fixed(rank, 3)).model
        begin(part, rows(8))
        own = slice(part.latents.start, part.latents.stop)
        for name in ("b_enc", "log_threshold"):
            torch.testing.assert_close(part.weights[name], whole.weights[name][own], rtol=1e-5, atol=1e-6)
