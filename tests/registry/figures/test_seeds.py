"""Agreement of seeds: who is compared with whom, and what the figure says of it."""

import pytest
import torch

from saereg.registry.figures import seeds
from tests.registry.figures.planted import count, crosscoder, decoder, release, rows_of, sae


def random(*shape, seed=0):
    """Return random numbers of a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_only_what_differs_in_the_seed_alone_is_compared(tmp_path):
    """Another width, sparsity or site is another family; a seed that is not said is none."""
    entries = [sae(f"k8/seed{n}", seed=n, sparsity={"k": 8}) for n in (2, 0)]
    entries += [sae("k9", seed=1, sparsity={"k": 9}), sae("wide", d_sae=9, seed=3, sparsity={"k": 8})]
    entries += [sae("unsaid", sparsity={"k": 8}), sae("empty", seed=5, sparsity={"k": 8})]
    found = release(tmp_path, entries)
    (family,) = seeds.same_but_seed(found)
    assert [artifact.id for artifact in family] == ["k8/seed0", "k8/seed2", "empty"]
    assert seeds.draw(found) == ()
    for entry in entries[:-1]:
        decoder(tmp_path / entry["path"], random(entry["d_sae"], 6))
    assert seeds.compared(family).seeds == (0, 2)


def test_the_matrix_and_the_shares_are_those_of_the_directions(tmp_path):
    """Half of the latents are the same, half are at right angles."""
    entries = [sae(f"run/seed{n}", d_in=8, d_sae=4, seed=n) for n in range(3)]
    found = release(tmp_path, entries)
    axes = torch.eye(8)
    for n, rows in enumerate(([0, 1, 2, 3], [1, 0, 4, 5], [0, 1, 2, 3])):
        decoder(tmp_path / f"run/seed{n}", axes[rows] * (n + 1))
    (drawing,) = seeds.draw(found)
    cells = {(row["a"], row["b"]): row["mean"] for row in rows_of(drawing.spec) if "mean" in row}
    assert cells == {("0", "1"): 0.5, ("1", "0"): 0.5, ("0", "2"): 1, ("2", "0"): 1, ("1", "2"): 0.5, ("2", "1"): 0.5}
    (note,) = (row["words"] for row in rows_of(drawing.spec) if "words" in row)
    assert note.startswith("above 0.7: 67% · above 0.9: 67% · one to one above 0.7: 67% · chance: ")
    assert drawing.alt.startswith("run: mean largest cosine 0.667 (chance ")
    shares = [row["share"] for row in rows_of(drawing.spec) if "share" in row]
    assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_dead_latents_are_left_out_where_they_were_counted_for_all(tmp_path):
    """What only one dictionary counted cannot be used on both sides."""
    entries = [crosscoder(f"s{n}", sites=2, d_sae=4, seed=n) for n in range(2)]
    found = release(tmp_path, entries)
    W_dec = random(4, 2, 6)
    for n in range(2):
        decoder(tmp_path / f"s{n}", W_dec if n == 0 else torch.cat([W_dec[:2], random(2, 2, 6, seed=9)]))
    count(tmp_path / "s0", torch.tensor([[1, 1, 0, 0]]), rows=2)
    (family,) = seeds.same_but_seed(found)
    assert not seeds.compared(family).alive
    count(tmp_path / "s1", torch.tensor([[1, 1, 0, 0]]), rows=2)
    group = seeds.compared(family)
    assert group.alive
    assert group.mean(0, 1) == pytest.approx(1.0, abs=1e-6)
    assert group.drawn == 2


def test_permuted_latents_give_the_same_agreement(tmp_path):
    """Up to the choice of latents, which is all of them here."""
    means = []
    for name, order in (("x", torch.arange(20)), ("y", torch.randperm(20))):
        found = release(tmp_path / name, [sae(f"s{n}", d_sae=20, seed=n) for n in range(2)])
        decoder(tmp_path / name / "s0", random(20, 6, seed=1))
        decoder(tmp_path / name / "s1", random(20, 6, seed=2)[order])
        means.append(seeds.compared(*seeds.same_but_seed(found)).mean(0, 1))
    assert means[0] == pytest.approx(means[1], abs=1e-7)


def test_families_and_seeds_are_bounded_canonical_ones_first(tmp_path):
    """Of five families three, of eight seeds six; the caption says so."""
    entries = [
        sae(f"f{family}/s{n}", d_sae=3, seed=n, sparsity={"k": family + 1}, canonical=family == 4)
        for family in range(5)
        for n in range(8)
    ]
    found = release(tmp_path, entries)
    for n, entry in enumerate(entries):
        decoder(tmp_path / entry["path"], random(3, 6, seed=n))
    (drawing,) = seeds.draw(found)
    assert drawing.alt.startswith("f4/s: ")
    assert "Shown are 3 of 5 groups" in drawing.caption
    assert "Of each group the first 6 seeds" in drawing.caption
    assert len({(row["a"], row["b"]) for row in rows_of(drawing.spec) if "mean" in row}) == 30


def test_nothing_is_drawn_of_dictionaries_that_never_are_active(tmp_path):
    """And nothing where there is one seed."""
    found = release(tmp_path, [sae(f"s{n}", seed=n) for n in range(2)])
    for n in range(2):
        decoder(tmp_path / f"s{n}", random(8, 6))
        count(tmp_path / f"s{n}", torch.zeros(1, 8, dtype=torch.long), rows=2)
    assert seeds.draw(found) == ()
    assert seeds.draw(release(tmp_path, [sae("s0", seed=0)])) == ()
