"""The largest cosines between two dictionaries, on dictionaries whose agreement is known."""

import pytest
import torch

from saereg.errors import WeightsError
from saereg.registry.figures import matching
from saereg.registry.figures.matching import Directions, agreement, best, chance, directions, drawn, matched
from tests.registry.figures.planted import decoder


@pytest.fixture
def dictionary(tmp_path):
    """Return what writes a decoder and gives its directions."""

    def write(name: str, W_dec: torch.Tensor, alive: torch.Tensor | None = None) -> Directions:
        (tmp_path / name).mkdir()
        decoder(tmp_path / name, W_dec)
        (path,) = (tmp_path / name).iterdir()
        return directions(path, alive)

    return write


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return random numbers of a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_permuted_and_rescaled_dictionary_agrees_wholly(dictionary):
    """Neither the order of latents nor the length of their directions is agreement."""
    W_dec = random(50, 3, 4)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    a, b = dictionary("a", W_dec), dictionary("b", W_dec[order] * torch.rand(50, 1, 1).add(0.1))
    found = agreement([a, b])
    assert set(found) == {(0, 1), (1, 0)}
    assert all(torch.allclose(cosines, torch.ones(50, dtype=torch.float64), atol=1e-5) for cosines in found.values())
    assert torch.allclose(matched(a, b), torch.ones(50, dtype=torch.float64), atol=1e-5)


def test_the_opposite_direction_is_no_match(dictionary):
    """A latent that writes the opposite is another latent."""
    a, b = dictionary("a", torch.eye(4)), dictionary("b", -torch.eye(4))
    assert agreement([a, b])[0, 1].tolist() == [0.0] * 4
    c, d = dictionary("c", torch.ones(1, 4)), dictionary("d", -torch.ones(1, 4))
    assert matched(c, d).tolist() == pytest.approx([-1])


def test_cosines_are_those_of_the_whole_matrix_whatever_the_blocks(dictionary, monkeypatch):
    """Blocks of one row, of some, and of all give the same, with every source of a crosscoder joined."""
    W_a, W_b = random(9, 2, 5, seed=1), random(13, 2, 5, seed=2)
    a, b = dictionary("a", W_a), dictionary("b", W_b)
    flat_a, flat_b = (torch.nn.functional.normalize(W.flatten(1).double(), dim=1) for W in (W_a, W_b))
    expected = flat_a @ flat_b.T
    for size in (1, 3 * 40, 10**6):
        monkeypatch.setattr(matching, "BLOCK_BYTES", size)
        found = agreement([a, b])
        assert torch.allclose(found[0, 1], expected.amax(1), atol=1e-6)
        assert torch.allclose(found[1, 0], expected.amax(0), atol=1e-6)


def test_latents_that_are_never_active_count_on_neither_side(dictionary):
    """A dead latent of the other dictionary is no match, one of its own is not asked."""
    alive = torch.tensor([True, True, False, False])
    a, b = dictionary("a", torch.eye(4), alive), dictionary("b", torch.eye(4).roll(1, 0), alive)
    found = agreement([a, b])
    assert found[0, 1].tolist() == [1.0, 0.0]
    assert sorted(matched(a, b).tolist()) == [0.0, 1.0]


def test_independent_dictionaries_agree_as_chance_has_it(dictionary):
    """Random directions have the largest cosines that the law gives, and far from all of them."""
    a, b = dictionary("a", random(400, 24, seed=3)), dictionary("b", random(300, 24, seed=4))
    expected = chance(24, 300)
    found = agreement([a, b])[0, 1]
    spread = float(expected.std()) * (1 / 400 + 1 / len(expected)) ** 0.5
    assert abs(float(found.mean() - expected.mean())) < 4 * spread
    assert float(expected.mean()) < 0.8
    assert torch.equal(chance(24, 300), expected)
    assert set(chance(1, 5).tolist()) <= {-1.0, 1.0}


def test_chance_is_that_of_directions_drawn_one_by_one():
    """The law of the cosine stands for drawing the directions: both means agree."""
    cosines = torch.nn.functional.normalize(random(4000, 6, seed=5), dim=1)[:, 0].reshape(400, 10)
    brute, law = cosines.amax(1), chance(6, 10)
    assert abs(float(brute.mean() - law.mean())) < 4 * float(brute.std()) * (1 / 400 + 1 / len(law)) ** 0.5


def test_of_large_dictionaries_few_latents_are_drawn(dictionary, monkeypatch):
    """A sample is bounded by its number, its bytes and its products, chosen by the seed, and rising."""
    a, b = dictionary("a", random(200, 8)), dictionary("b", random(100, 8, seed=1))
    assert drawn(a, [b], 0).tolist() == list(range(200))
    monkeypatch.setattr(matching, "FEWEST_DRAWN", 5)
    for name, bound, count in (("MOST_DRAWN", 40, 40), ("DRAWN_BYTES", 20 * 32, 20), ("MOST_PRODUCTS", 800 * 10, 10)):
        monkeypatch.setattr(matching, name, bound)
        found = drawn(a, [b], 0)
        assert len(found) == count
        assert found.tolist() == sorted(set(found.tolist()))
    assert drawn(a, [b], 1).tolist() != drawn(a, [b], 0).tolist()
    assert len(best(a.rows(drawn(a, [b], 0)), b)) == 10


def test_what_is_too_large_is_not_matched_one_to_one(dictionary, monkeypatch):
    """The time of that matching grows with the cube of latents."""
    monkeypatch.setattr(matching, "MOST_MATCHED", 4)
    assert matched(dictionary("a", random(5, 3)), dictionary("b", random(4, 3))) is None


def test_a_file_without_a_decoder_is_refused(dictionary, tmp_path):
    """One line says what is missing, or that the counts are of another dictionary."""
    decoder(tmp_path, torch.ones(3, 2))
    with pytest.raises(WeightsError, match="3 latents, and 4 were counted"):
        directions(tmp_path / "sae_weights.safetensors", torch.ones(4, dtype=torch.bool))
    from saereg.registry.files.blocks import write_tensors

    write_tensors(tmp_path / "other.safetensors", {"b_dec": torch.ones(2)})
    with pytest.raises(WeightsError, match="holds no W_dec"):
        directions(tmp_path / "other.safetensors")
