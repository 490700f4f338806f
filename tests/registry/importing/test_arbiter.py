"""Candidates are scored on a sample; a clear winner is proposed, and nothing is chosen."""

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from saereg.errors import FormatError, WeightsError
from saereg.registry.importing.arbiter import Score, arbitrate, proposed
from tests.upstream import D, F, O, random

RELU = {"activation": "relu"}


def exact(path, *, latents: int = 2 * D, offset: float = 3.0, scale: float = 1.0) -> Tensor:
    """Save a dictionary that reconstructs every row exactly if b_dec is subtracted; return b_dec."""
    eye, b_dec = torch.eye(D), torch.full((D,), offset)
    encoder = torch.cat([eye, -eye]) * scale
    decoder = torch.cat([eye, -eye]).T / scale
    state = {"encoder.weight": encoder[:latents], "decoder.weight": decoder[:, :latents].contiguous(), "b_dec": b_dec}
    torch.save(state | {"encoder.bias": torch.zeros(latents)}, path)
    return b_dec


def sample(path, rows: int = 1200, width: int = D):
    """Save rows around 3, of other scales, so that no normalization is harmless."""
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(5)) * torch.linspace(0.1, 9, rows)[:, None] + 3
    save_file({"x": x}, path)
    return path


def test_the_true_switches_win_and_are_proposed(tmp_path):
    """All four candidates, the best first."""
    exact(tmp_path / "sae.pt")
    verdict = arbitrate(tmp_path / "sae.pt", RELU, sample(tmp_path / "x.safetensors"))
    assert len(verdict.scores) == 4
    assert verdict.rows == 1200
    assert verdict.scores[0].explained_variance == pytest.approx(1.0, abs=1e-6)
    assert verdict.scores[0].switches == {"pre_encoder_subtraction": "b_dec", "normalization": "none"}
    assert verdict.proposed["pre_encoder_subtraction"] == "b_dec"
    values = [score.explained_variance for score in verdict.scores]
    assert values == sorted(values, reverse=True)


def test_what_is_given_is_not_tried(tmp_path):
    """Only what is open."""
    exact(tmp_path / "sae.pt")
    given = RELU | {"normalization": "none"}
    verdict = arbitrate(tmp_path / "sae.pt", given, sample(tmp_path / "x.safetensors"))
    assert [set(score.switches) for score in verdict.scores] == [{"pre_encoder_subtraction"}] * 2


def test_square_matrices_are_tried_in_every_orientation(tmp_path):
    """Sixteen candidates; a rotation reconstructs only the right way round."""
    rotation, _ = torch.linalg.qr(random(D, D, seed=3))
    shift = torch.full((D,), 60.0)
    state = {"encoder.weight": rotation, "decoder.weight": rotation.T.contiguous()}
    torch.save(state | {"encoder.bias": shift, "decoder.bias": -(rotation.T @ shift)}, tmp_path / "sae.pt")
    save_file({"x": torch.randn(1000, D, generator=torch.Generator().manual_seed(1))}, tmp_path / "x.safetensors")
    verdict = arbitrate(tmp_path / "sae.pt", RELU, tmp_path / "x.safetensors")
    assert len(verdict.scores) == 16
    best = verdict.scores[0]
    assert (best.switches["encoder_latents"], best.switches["decoder_latents"]) == ("rows", "columns")
    assert best.explained_variance == pytest.approx(1.0, abs=1e-4)
    assert verdict.proposed["encoder_latents"] == "rows"


def test_a_switch_without_a_clear_winner_is_not_proposed():
    """Neither by little, nor where nothing is explained, nor where numbers are not finite."""
    assert proposed((Score({"a": "1"}, 0.90), Score({"a": "2"}, 0.86))) == {}
    assert proposed((Score({"a": "1"}, 0.90), Score({"a": "2"}, 0.84))) == {"a": "1"}
    assert proposed((Score({"a": "1"}, -0.1), Score({"a": "2"}, -9.0))) == {}
    assert proposed((Score({"a": "1"}, None), Score({"a": "2"}, None))) == {}
    assert proposed((Score({"a": "1"}, 0.9), Score({"a": "2"}, None))) == {"a": "1"}
    several = (Score({"a": "1", "b": "1"}, 0.9), Score({"a": "1", "b": "2"}, 0.88), Score({"a": "2", "b": "1"}, 0.1))
    assert proposed(several) == {"a": "1"}


def test_a_sample_that_cannot_tell_is_refused(tmp_path):
    """Too few rows, another width, no variance."""
    exact(tmp_path / "sae.pt")
    with pytest.raises(WeightsError) as caught:
        arbitrate(tmp_path / "sae.pt", RELU, sample(tmp_path / "few.safetensors", rows=999))
    assert str(caught.value) == "few.safetensors: x: has 999 rows; at least 1000 can tell candidates apart"
    with pytest.raises(WeightsError) as caught:
        arbitrate(tmp_path / "sae.pt", RELU, sample(tmp_path / "wide.safetensors", width=D + 1))
    assert str(caught.value) == "wide.safetensors: x: rows of shape (17,), but sae.pt reads (16,)"
    save_file({"x": torch.ones(1000, D)}, tmp_path / "same.safetensors")
    with pytest.raises(WeightsError, match="its rows are all the same"):
        arbitrate(tmp_path / "sae.pt", RELU, tmp_path / "same.safetensors")


def test_the_activation_must_be_given_first(tmp_path):
    """It is not among what a sample decides."""
    exact(tmp_path / "sae.pt")
    with pytest.raises(FormatError, match="the tensors do not say activation"):
        arbitrate(tmp_path / "sae.pt", {}, sample(tmp_path / "x.safetensors"))


def test_a_transcoder_is_not_scored(tmp_path):
    """It predicts another place."""
    torch.save({"encoder.weight": random(F, D), "decoder.weight": random(O, F)}, tmp_path / "t.pt")
    with pytest.raises(FormatError, match="a transcoder predicts another place"):
        arbitrate(tmp_path / "t.pt", RELU, sample(tmp_path / "x.safetensors"))
