"""Orders and lives of latents over sources."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from saereg.registry.figures.profiles import STATES, averaged, by_peak, lives, relative, short


def table(text: str) -> torch.Tensor:
    """Return (K, F) of latents written one a line, `#` where they are alive."""
    return torch.tensor([[mark == "#" for mark in line] for line in text.split()]).T


def test_lives_are_counted_at_each_source():
    """Born, dormant, dead and never alive, by hand."""
    found = lives(table("##.. .##. #.#. .... ...#"))
    assert found.birth.tolist() == [0, 1, 0, 4, 3]
    assert found.end.tolist() == [2, 3, 3, 0, 4]
    counts = found.counts()
    assert counts["alive"] == [2, 2, 2, 1]
    assert counts["dormant"] == [0, 1, 0, 0]
    assert counts["dead"] == [0, 0, 1, 3]
    assert counts["not yet born"] == [2, 1, 1, 0]
    assert counts["never alive"] == [1, 1, 1, 1]
    assert found.births() == [2, 1, 0, 1]
    assert found.deaths() == [0, 0, 1, 2]


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 10**6))
def test_states_add_up_and_do_not_depend_on_the_order_of_latents(sources, latents, seed):
    """Every latent is in one state at each source; births minus deaths are what changes."""
    generator = torch.Generator().manual_seed(seed)
    alive = torch.rand(sources, latents, generator=generator) < 0.4
    found = lives(alive)
    counts = found.counts()
    assert [sum(counts[name][at] for name in STATES) for at in range(sources)] == [latents] * sources
    assert counts["alive"] == alive.sum(1).tolist()
    assert sum(found.births()) == latents - counts["never alive"][0]
    shuffled = lives(alive[:, torch.randperm(latents, generator=generator)])
    assert shuffled.counts() == counts
    assert (shuffled.births(), shuffled.deaths()) == (found.births(), found.deaths())


def test_relative_norms_add_up_to_one():
    """A latent that writes nothing has a share of nothing."""
    found = relative(torch.tensor([[1.0, 3.0], [0.0, 0.0], [2.0, 0.0]]))
    assert found.tolist() == [[0.25, 0.75], [0.0, 0.0], [1.0, 0.0]]


def test_latents_are_ordered_by_where_their_norm_peaks():
    """First those of the first source; a plateau counts from where it begins."""
    share = torch.tensor([[0.0, 0.1, 0.9], [0.5, 0.49, 0.01], [0.1, 0.8, 0.1], [0.9, 0.1, 0.0], [0.48, 0.5, 0.02]])
    assert by_peak(share).tolist() == [3, 1, 4, 2, 0]


@given(st.integers(0, 10**6))
def test_the_order_of_a_heat_map_does_not_depend_on_the_numbers_of_latents(seed):
    """The same rows in another order give the same picture."""
    generator = torch.Generator().manual_seed(seed)
    share = relative(torch.rand(12, 4, generator=generator, dtype=torch.float64))
    other = share[torch.randperm(12, generator=generator)]
    assert torch.equal(share[by_peak(share)], other[by_peak(other)])


def test_rows_are_averaged_evenly():
    """Seven rows on three: each row is in exactly one, and the mean of all stays."""
    rows = torch.arange(7.0).unsqueeze(1)
    found = averaged(rows, 3)
    assert found.flatten().tolist() == [0.5, 2.5, 5.0]
    assert torch.equal(averaged(rows, 10), rows)
    assert averaged(torch.zeros(0, 4)).shape == (0, 4)


def test_steps_are_shortened_where_that_says_the_same():
    """1000 is 1k, 1500 stays."""
    assert short(["0", "512", "1000", "1500", "143000", "layer"]) == ["0", "512", "1k", "1500", "143k", "layer"]
