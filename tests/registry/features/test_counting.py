"""Latents counted: what the kernels stream is what encode gives, whatever the blocks are."""

from dataclasses import replace

import pytest
import torch

from saereg.errors import WeightsError
from saereg.registry.dictionary import Dictionary
from saereg.registry.features.choosing import Choice
from saereg.registry.features.counting import Encoded, Occasion, counted
from saereg.registry.features.looking import BINS, activations_at, look, rounded
from saereg.registry.kernels.encoding import sources_of
from saereg.registry.kernels.plan import Plan
from saereg.registry.kernels.running import has_fast_path, runner_of
from saereg.registry.semantics import row_shape, semantics_of
from tests.registry import factories

COUNT = 17
OCCASION = Occasion("held-out", "0" * 64, "1" * 64)

DICTIONARIES = {name: cfg for name, cfg in factories.EVERY_CONFIG.items() if cfg.architecture != "temporal"}


class Given:
    """Rows in memory."""

    def __init__(self, x):
        self.x, self.rows, self.name = x, len(x), "rows"

    def read(self, first, count):
        part = self.x[first : first + count]
        return part, part


def dictionary_of(name):
    return Dictionary(factories.checkpoint(DICTIONARIES[name])).to(dtype=torch.float64)


def encoded(dictionary, x, blocks=None, **settings):
    """Return the active latents of rows, in blocks of a size of their own where the runner has any."""
    runner = runner_of(dictionary)
    if blocks is not None and has_fast_path(dictionary.cfg):
        rules, latents = semantics_of(dictionary.cfg), dictionary.cfg.d_sae
        slab = latents // int(rules.k) * 2 if rules.activation == "groupmax" else 7
        runner = replace(runner, plan=Plan(blocks, min(5, blocks), slab, slab))
    elif blocks is not None:
        runner = replace(runner, block_rows=blocks)
    return Encoded(runner, Given(x), **settings)


def dense(dictionary, x):
    """Return f of all rows at each source, (S, n, F)."""
    f = dictionary.encode(x)
    return f.unsqueeze(0) if sources_of(dictionary.cfg) == 1 else f.transpose(0, 1)


def test_every_architecture_is_counted_as_its_own_encode_says_in_blocks_of_any_size():
    """Rows in which a latent is active are equal, sums and largest sizes to rounding; with and without a memo."""
    for name, cfg in DICTIONARIES.items():
        dictionary, x = dictionary_of(name), factories.rows(COUNT, *row_shape(cfg)).double()
        f = dense(dictionary, x)
        for blocks, memo in ((None, 0), (6, 20)):
            found = counted(encoded(dictionary, x, blocks, memo=memo), OCCASION)
            assert found.rows == COUNT, name
            assert torch.equal(found.fired, (f != 0).sum(1)), name
            assert torch.allclose(found.total, f.abs().sum(1), rtol=1e-12), name
            assert torch.equal(found.maximum, f.abs().amax(1).float()), name


def test_gates_of_their_own_are_counted_at_each_source():
    """A crosscoder with a gate per source has as many counts of a latent, and they differ."""
    dictionary = dictionary_of("crosscoder_jumprelu_per_source")
    x = factories.rows(COUNT, *row_shape(dictionary.cfg)).double()
    found = counted(encoded(dictionary, x), OCCASION)
    assert found.fired.shape == (factories.SOURCES, factories.D_SAE)
    assert len({tuple(at.tolist()) for at in found.fired}) > 1
    anywhere = (dictionary.encode(x) != 0).any(1).sum(0)
    close = look(encoded(dictionary, x), found, range(factories.D_SAE), 3)
    assert torch.equal(close.fired, anywhere)


@pytest.mark.parametrize(
    "name", ["topk", "jumprelu", "crosscoder_topk_per_source", "native_abstopk", "matching_pursuit"]
)
def test_top_rows_histograms_and_activations_are_those_of_encode(name):
    """The rows with the largest activations, their sizes in bins, and activations at any rows, from blocks of 6."""
    dictionary = dictionary_of(name)
    x = factories.rows(COUNT, *row_shape(dictionary.cfg)).double()
    subject = encoded(dictionary, x, 6)
    latents = counted(subject, OCCASION)
    chosen = latents.fired.amax(0).nonzero().squeeze(1).tolist()
    close = look(subject, latents, chosen, 4)
    at_sources = dense(dictionary, x).float()
    f = at_sources.gather(0, at_sources.abs().argmax(0, keepdim=True))[0]
    for place, latent in enumerate(chosen):
        sizes = rounded(f[:, latent]).abs()
        order = sorted(range(COUNT), key=lambda row: (-float(sizes[row]), row))[:4]
        expected = [row if sizes[row] else -1 for row in order]
        assert close.top[place].tolist() == expected
        assert close.values[place].abs().tolist() == [float(sizes[row]) for row in order]
        assert int(close.counts[place].sum()) == int(close.fired[place]) == int((f[:, latent] != 0).sum())
        bins = torch.bucketize(f[:, latent].abs().double(), close.edges[place], right=True) - 1
        active = bins[f[:, latent] != 0].clamp(0, BINS - 1)
        assert torch.equal(torch.bincount(active, minlength=BINS), close.counts[place])
    keys = torch.arange(len(chosen) * COUNT)
    found = activations_at(subject, close.chosen, keys, COUNT, tuple(latents.fired.shape))
    expected = at_sources[:, :, chosen].transpose(1, 2).reshape(len(at_sources), -1)
    assert torch.allclose(found, expected, rtol=1e-6)


def test_of_equal_activations_the_smaller_row_stands_first():
    """Rows that are the same, in other blocks: order is by their number, and does not hang on how they were cut."""
    dictionary = dictionary_of("standard")
    x = factories.rows(3, factories.D_IN).double()[[0, 1, 0, 2, 0, 1, 0, 2, 0, 0, 1]]
    found = []
    for blocks in (11, 4, 2, 1):
        subject = encoded(dictionary, x, blocks)
        latents = counted(subject, OCCASION)
        found.append(look(subject, latents, range(factories.D_SAE), 5).top.tolist())
    assert found[1:] == found[:1] * 3
    ranked = [[row for row in top if row >= 0] for top in found[0]]
    assert any(top[:5] == [0, 2, 4, 6, 8] for top in ranked)


def test_a_dead_latent_is_nowhere_and_gives_no_number():
    """Never active: no row, no bin, a mean of 0; and nothing is NaN."""
    dictionary = dictionary_of("standard")
    x = torch.zeros(4, factories.D_IN, dtype=torch.float64)
    subject = encoded(dictionary, x)
    latents = counted(subject, OCCASION)
    dead = (latents.fired[0] == 0).nonzero().squeeze(1).tolist()
    assert dead
    close = look(subject, latents, dead, 3)
    assert (close.top == -1).all()
    assert not close.counts.any()
    assert not close.edges.any()
    for numbers in (latents.frequency, latents.mean_active, latents.maximum, close.total, close.values):
        assert numbers.isfinite().all()


def test_texts_of_a_temporal_dictionary_count_position_by_position():
    """Its rows are texts (positions, d_in); each position is a row of the statistics."""
    dictionary = Dictionary(factories.checkpoint(factories.config("temporal"))).to(dtype=torch.float64)
    x = factories.rows(5, 7, factories.D_IN).double()
    found = counted(encoded(dictionary, x), OCCASION)
    assert found.rows == 35
    assert torch.equal(found.fired[0], (dictionary.encode(x) != 0).sum((0, 1)))


def test_rows_beyond_the_limit_are_left_out():
    """The first rows are encoded, and as many are named."""
    dictionary, x = dictionary_of("standard"), factories.rows(COUNT, factories.D_IN).double()
    found = counted(encoded(dictionary, x, 4, limit=10), OCCASION)
    assert found.rows == 10
    assert torch.equal(found.fired[0], (dictionary.encode(x[:10]) != 0).sum(0))


def test_what_is_not_finite_or_does_not_fit_is_one_line():
    """NaN among the rows, and rows of another width."""
    dictionary, x = dictionary_of("standard"), factories.rows(COUNT, factories.D_IN).double()
    x[11, 2] = torch.nan
    with pytest.raises(WeightsError, match="hold a value that is not finite"):
        counted(encoded(dictionary, x), OCCASION)
    with pytest.raises(WeightsError, match="x has"):
        counted(encoded(dictionary, factories.rows(COUNT, factories.D_IN + 1).double()), OCCASION)


def test_strata_hold_rare_and_frequent_latents_and_a_seed_draws_the_same():
    """One of each stratum of living latents, in the order of their numbers; another seed draws others."""
    dictionary = dictionary_of("standard")
    x = factories.rows(200, factories.D_IN).double()
    latents = counted(encoded(dictionary, x), OCCASION)
    latents.fired[0, :5] = 0
    latents.fired[0, 5:] = torch.tensor([10**k for k in range(5) for _ in range(3)])
    chosen = Choice(5).of(latents)
    assert sorted(latents.fired[0, chosen].tolist()) == [1, 10, 100, 1000, 10000]
    assert chosen == Choice(5).of(latents) == sorted(chosen)
    assert len({tuple(Choice(5, seed).of(latents)) for seed in range(8)}) > 1
    assert Choice(99).of(latents) == list(range(5, 20))
    assert Choice(99, how="random").of(latents) == list(range(20))
    assert len(set(Choice(6, 3, "random").of(latents))) == 6
    assert Choice(how="given", given=(7, 3, 7)).of(latents) == [3, 7]
