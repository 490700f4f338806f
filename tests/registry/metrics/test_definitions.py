"""Every definition against its formula over all rows, however the rows come in."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import explained_variance_score, r2_score

from saereg.registry.dictionary import Dictionary
from saereg.registry.metrics.definitions import BATCH_MEANS, DEFINITIONS, FOREIGN
from saereg.registry.metrics.values import Value, histogram_of
from saereg.schemas.metrics import BATCHED as IDS_OF_BATCHES
from tests.registry.factories import D_IN, checkpoint, config, rows
from tests.registry.metrics import oracles
from tests.registry.metrics.oracles import ALL, BATCHED, OVER_ROWS, D, Data, F, K, data

FORMS = {"plain": {}, "crosscoder": {"sources": K}, "gates per source": {"sources": K, "gates": True}}

UNDEFINED = {
    "plain": {"l0_per_source_mean", "l0_any_source", "l1_norm_per_source_mean"},
    "crosscoder": {"l0_per_source_mean", "l0_any_source", "l1_norm_per_source_mean"},
    "gates per source": {"l0", "l1_norm"},
}


def close(expected: float, tolerance: float = 1e-9):
    return pytest.approx(float(expected), rel=tolerance, abs=tolerance)


def test_every_definition_has_an_oracle():
    """Densities and the two of SAELens have tests of their own below; those of the loss are computed with a model."""
    own = {"density_below_1e_5", "density_below_1e_6", "ev_saelens_uncentred"}
    assert set(OVER_ROWS) == {*ALL, *own}
    assert set(BATCH_MEANS) == {*BATCHED, "ev_saelens_uncentred_batch_mean"}
    assert set(BATCH_MEANS) == {name for name in IDS_OF_BATCHES if not name.startswith("ce_")}


@pytest.mark.parametrize("form", FORMS)
def test_a_definition_is_its_formula(form):
    """In float64, to nine digits."""
    what = data(**FORMS[form])

    for metric in ALL.keys() - UNDEFINED[form]:
        expected = ALL[metric](what.x.double(), what.x_hat.double(), what.f)
        assert what.value(metric).value == close(expected), metric


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [2, 7, 20, 40, 64])
def test_a_definition_of_batches_is_its_formula(form, size):
    """With a short last batch, and with one batch of everything."""
    what = data(1, **FORMS[form])

    for metric, oracle in BATCHED.items():
        assert what.value(metric, size).value == close(oracle(what.batches(size))), metric
    small = Data(what.x / 50, what.x_hat / 50, what.f)
    expected = oracles.uncentred_by_saelens(small.batches(size))
    assert small.value("ev_saelens_uncentred_batch_mean", size).value == close(expected)


@pytest.mark.parametrize("form", ["crosscoder", "gates per source"])
def test_each_source_has_the_value_of_a_dictionary_of_its_own(form):
    """What a source has is what its rows give when they are measured alone."""
    what = data(2, **FORMS[form])
    alone = [Data(what.x[:, k], what.x_hat[:, k], what.f[:, k] if what.f.dim() == 3 else what.f) for k in range(K)]

    for metric in ("explained_variance", "fvu", "mse_per_row", "mse_per_element"):
        assert what.value(metric).per_source == pytest.approx([one.value(metric).value for one in alone]), metric
    for metric in BATCHED.keys() - {"l0_batch_mean"}:
        expected = [one.value(metric, 7).value for one in alone]
        assert what.value(metric, 7).per_source == pytest.approx(expected), metric
    if form == "gates per source":
        expected = [one.value("l0").value for one in alone]
        assert what.value("l0_per_source_mean").per_source == pytest.approx(expected)
        expected = [one.value("l1_norm").value for one in alone]
        assert what.value("l1_norm_per_source_mean").per_source == pytest.approx(expected, rel=1e-12)


def test_the_total_of_a_crosscoder_is_of_the_sums_and_not_the_mean_of_its_sources():
    """The sources differ in variance; S2's recompute script takes the total, mlsae the mean of its layers."""
    found = data(2, sources=K).value("explained_variance")

    assert found.value != pytest.approx(sum(found.per_source) / K, abs=1e-3)


def test_one_source_has_no_values_per_source():
    """They would repeat the total."""
    assert data().value("fvu").per_source == ()
    assert data(sources=1).value("fvu").per_source == ()
    assert data(sources=1).value("fvu").value == data().value("fvu").value


def test_a_source_whose_data_are_constant_has_no_value():
    """The others do, and so has the total."""
    what = data(3, sources=K)
    what.x[:, 1] = 0.1

    for found in (what.value("explained_variance"), what.value("fvu"), what.value("fve_centred_residual", 8)):
        assert found.value is not None
        assert [value is None for value in found.per_source] == [False, True, False]


def test_it_is_what_scikit_learn_computes():
    """Weighted by variance, uniform, and the score that forgives a bias; with a constant dimension both ways."""
    what = data(4, 30)
    what.x[:, 2], what.x[:, 3], what.x_hat[:, 3] = 2.0, 0.5, 0.5
    x, x_hat = what.x.double().numpy(), what.x_hat.double().numpy()

    weighted = r2_score(x, x_hat, multioutput="variance_weighted")
    uniform = r2_score(x, x_hat, multioutput="uniform_average")
    forgiving = explained_variance_score(what.x.double(), what.x_hat.double(), multioutput="raw_values")
    variances = what.x.double().var(0)

    # A constant dimension has no weight there, and its error none either: SSE is taken over the others.
    others = Data(what.x[:, [0, 1, 4, 5]], what.x_hat[:, [0, 1, 4, 5]], what.f)
    assert others.value("explained_variance").value == close(weighted)
    assert what.value("r2_uniform_average").value == close(uniform)
    expected = float((torch.from_numpy(forgiving) * variances).sum() / variances.sum())
    assert others.value("fve_centred_residual", 30).value == close(expected)
    assert what.value("explained_variance").value < weighted


@pytest.mark.parametrize("metric", [m for m in [*DEFINITIONS, *FOREIGN] if m.startswith(("ev_", "expl", "r2"))])
def test_what_explains_everything_is_one_and_the_mean_is_zero(metric):
    """The two ends of each scale of explained variance."""
    what = data(5)
    what = Data(what.x / 50, what.x_hat / 50, what.f)
    perfect = Data(what.x, what.x, what.f)
    mean = Data(what.x.double(), what.x.double().mean(0).expand_as(what.x), what.f)

    assert perfect.value(metric).value == 1.0
    if metric in ("explained_variance", "r2_uniform_average"):
        assert mean.value(metric).value == close(0.0)
    else:
        assert mean.value(metric).value > 0.1


def test_the_mean_of_each_batch_explains_nothing_of_it():
    """Those with a mean per batch are zero there and one for x itself; to one of them a bias costs nothing."""
    what = data(6, 24)
    means = torch.cat([part.mean(0).expand_as(part) for part in what.x.double().split(8)])
    mean = Data(what.x.double(), means, what.f)
    shifted = Data(what.x.double(), what.x.double() + 3.0, what.f)

    for metric in ("explained_variance_legacy_rowmean", "explained_variance_batch_mean", "fve_centred_residual"):
        assert Data(what.x, what.x, what.f).value(metric, 8).value == 1.0
        assert mean.value(metric, 8).value == close(0.0)
    assert shifted.value("fve_centred_residual", 8).value == close(1.0)
    assert shifted.value("explained_variance_batch_mean", 8).value < 0.9


def test_one_dictionary_has_many_explained_variances():
    """Why a number needs its definition: the centred ones are near 0.77, the uncentred ones near 0.96."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 64, generator=generator)
    x[:, :2] += 16.0
    x_hat = x + 0.47 * torch.randn(4000, 64, generator=generator) + 0.05
    what = Data(x, x_hat, torch.ones(4000, 2))

    centred = [what.value("explained_variance"), what.value("explained_variance_batch_mean", 128)]
    uncentred = [what.value(m) for m in ("ev_uncentred", "ev_scalar_mean", "nmse_uncentred_row")]
    assert all(0.75 < found.value < 0.79 for found in centred)
    assert 0.96 < uncentred[0].value < 0.98
    assert 0.96 < uncentred[1].value < 0.98
    assert 0.96 < 1 - uncentred[2].value < 0.98
    # Here S = ‖x‖² is about 9 d, so the square that is taken off it, (S/d)² = 81, is a seventh of it.
    assert 0.96 < what.value("ev_saelens_uncentred").value < uncentred[0].value - 0.003


CUTS = st.lists(st.integers(1, 59), max_size=6).map(lambda cuts: sorted(set(cuts)))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), CUTS, st.sampled_from(list(FORMS)), st.sampled_from([0.0, 1000.0]))
def test_the_split_into_blocks_does_not_matter(seed, cuts, form, offset):
    """To one part in a million; with the same split, to the last digit."""
    what = data(seed, 60, offset=offset, **FORMS[form])
    whole, joined, again = what.moments(), what.moments(*cuts), what.moments(*cuts)

    for metric, definition in OVER_ROWS.items():
        one, other = definition(whole), definition(joined)
        assert other.value == (None if one.value is None else close(one.value, 1e-6)), metric
        assert other.per_source == pytest.approx(one.per_source, rel=1e-6, abs=1e-6), metric
        assert (other.histogram, other.minimum, other.maximum) == (one.histogram, one.minimum, one.maximum)
        assert definition(again) == other, metric


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), CUTS, st.sampled_from(list(FORMS)), st.integers(2, 70), st.sampled_from([0.0, 1000.0]))
def test_the_split_into_blocks_does_not_matter_to_batches(seed, cuts, form, size, offset):
    """Batches are cut from the rows and not from the blocks, whose memory may be used again."""
    what = data(seed, 60, offset=offset, **FORMS[form])
    whole, joined, again = what.batched(size), what.batched(size, *cuts), what.batched(size, *cuts)

    assert (joined.batches, joined.rows) == (-(-60 // size), 60)
    for metric, definition in BATCH_MEANS.items():
        one, other = definition(whole), definition(joined)
        assert other.value == (None if one.value is None else close(one.value, 1e-6)), metric
        assert other.per_source == pytest.approx(one.per_source, rel=1e-6, abs=1e-6), metric
        assert definition(again) == other, metric


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.permutations(range(24)), st.sampled_from(list(FORMS)))
def test_the_order_of_rows_does_not_matter(seed, order, form):
    """Except to those that average over batches."""
    what = data(seed, 24, **FORMS[form])
    other = Data(what.x[order], what.x_hat[order], what.f[order])

    for metric, definition in OVER_ROWS.items():
        one, moved = definition(what.moments()), definition(other.moments(5, 17))
        assert moved.value == (None if one.value is None else close(one.value, 1e-6)), metric


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 5), st.integers(2, 9))
def test_sums_of_whole_batches_merge(seed, first, second, size):
    """In any grouping, as those of neighbouring chunks do."""
    what = data(seed, (first + second + 2) * size + 1, sources=K)
    edges = [0, first * size, (first + second) * size, len(what.x)]
    a, b, c = (Data(what.x[i:j], what.x_hat[i:j], what.f[i:j]).batched(size) for i, j in itertools.pairwise(edges))
    whole = what.batched(size)

    for joined in (a.merge(b).merge(c), a.merge(b.merge(c))):
        assert (joined.batches, joined.rows, joined.width) == (whole.batches, whole.rows, whole.width)
        for definition in BATCH_MEANS.values():
            assert definition(joined).value == pytest.approx(definition(whole).value)


def test_a_large_mean_costs_no_digits():
    """Mean 3000: a difference of squares in float32 is wrong in the third digit; this one in no batch size."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2048, 32, generator=generator) + 3000.0
    x_hat = x + 0.4664 * torch.randn(2048, 32, generator=generator)
    what = Data(x, x_hat, torch.ones(2048, 2))
    expected = float(ALL["explained_variance"](x.double(), x_hat.double(), None))

    naive = float(1 - (x - x_hat).square().sum() / (x.square().sum() - 2048 * x.mean(0).square().sum()))
    assert abs(naive - expected) > 1e-3
    for step in (512, 777, 2048):
        found = DEFINITIONS["explained_variance"](what.moments(*range(step, 2048, step)))
        assert found.value == pytest.approx(expected, abs=1e-9)
    assert what.value("explained_variance_batch_mean", 512).value == close(
        BATCHED["explained_variance_batch_mean"](what.batches(512))
    )


@pytest.mark.parametrize("n", [2, 40])
def test_a_wide_row_is_summed_in_pieces(n, monkeypatch):
    """Pieces are an affair of the cache: one value of a row in each, or all in one, the numbers are the same."""
    what = data(7, n, sources=K)
    plain = [what.moments(), what.batched(3)]
    monkeypatch.setattr("saereg.registry.metrics.spread.PIECE", 5)
    monkeypatch.setattr("saereg.registry.metrics.spread.LEAST_ROWS", 1)
    small = [what.moments(), what.batched(3)]

    for metric, definition in (DEFINITIONS | FOREIGN).items():
        assert definition(small[0]).value == pytest.approx(definition(plain[0]).value), metric
    for metric, definition in BATCH_MEANS.items():
        assert definition(small[1]).value == pytest.approx(definition(plain[1]).value), metric


@pytest.mark.parametrize("shape", [(100, 768), (20, 3, 9000)])
def test_the_number_of_threads_changes_no_digit(shape):
    """Also where a piece is so wide that torch divides it among them."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=generator) + 5.0
    what = Data(x, x + 0.3 * torch.randn(shape, generator=generator), torch.ones(shape[0], 2))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            moments, batches = what.moments(7), what.batched(10, 7)
            values = [definition(moments) for definition in (DEFINITIONS | FOREIGN).values()]
            found.append(values + [definition(batches) for definition in BATCH_MEANS.values()])
    finally:
        torch.set_num_threads(before)

    assert found[0] == found[1]


def test_rows_that_are_zero_have_no_error_relative_to_them():
    """A number with a hole is no number; how many there are is said."""
    what = data(8, 10)
    what.x[[2, 5]] = 0.0

    found = what.value("nmse_uncentred_row")
    assert (found.value, found.reason) == (None, "2 of 10 rows are zero, so there is no error relative to them")
    assert what.value("ev_uncentred").value is not None


REASONS = {
    "explained_variance": "the data are constant, so there is no variance to explain",
    "fvu": "the data are constant, so there is no variance to explain",
    "r2_uniform_average": "the data are constant, so there is no variance to explain",
    "ev_scalar_mean": "the data are constant, so there is no variance to explain",
    "explained_variance_legacy_rowmean": "9 of 9 rows are the mean of their batch, so nothing varies in them",
    "explained_variance_batch_mean": "the rows are all the same in 3 of 3 batches, so there is no variance there",
    "fvu_batch_mean": "the rows are all the same in 3 of 3 batches, so there is no variance there",
    "fve_centred_residual": "the rows are all the same in 3 of 3 batches, so there is no variance there",
    "fve_scalar_var": "the values of the batches do not vary",
}


@pytest.mark.parametrize("metric", REASONS)
@pytest.mark.parametrize("constant", [0.1, -1e4, 3000.7])
def test_constant_data_have_no_variance(metric, constant):
    """Neither 0 nor 1 nor a division by rounding."""
    x = torch.full((9, D), constant)

    found = Data(x, x + 1, torch.ones(9, F)).value(metric, 3)

    assert (found.value, found.reason) == (None, REASONS[metric])


def test_a_last_batch_of_one_row_has_no_variance():
    """sparsify gives infinity for it, dictionary_learning no number."""
    what = data(9, 9)

    found = what.value("fvu_batch_mean", 8)
    assert found.reason == "the rows are all the same in 1 of 2 batches, so there is no variance there"
    found = what.value("explained_variance_legacy_rowmean", 8)
    assert found.reason == "1 of 9 rows are the mean of their batch, so nothing varies in them"
    assert what.value("fve_scalar_var", 8).value is not None


def test_the_mistake_of_saelens_depends_on_the_scale_and_can_have_no_value():
    """S − (S/d)² is negative once ‖x‖² is above d²."""
    what = data(10, 32)
    small = Data(what.x / 50, what.x_hat / 50, what.f)

    assert small.value("ev_saelens_uncentred").value == close(oracles.uncentred_by_saelens(small.batches(8)))
    assert small.value("ev_saelens_uncentred").value == pytest.approx(what.value("ev_uncentred").value, abs=0.01)
    found = what.value("ev_saelens_uncentred")
    assert found.value is None
    assert found.reason.startswith("its denominator S − (S/d)² is not positive: S = ")
    zero = Data(torch.zeros(4, D), torch.ones(4, D), torch.ones(4, F))
    assert zero.value("ev_uncentred").reason == "all rows are zero"


def test_a_tolerance_allows_the_rounding_of_a_dictionary_and_no_more():
    """The same dictionary in float64 stands for another machine; a twentieth of a percent more error is found."""
    plain = Dictionary(checkpoint(config("standard")))
    x = 0.2 * rows(500, D_IN) + 0.3
    f = plain.encode(x)
    exact = plain.to(dtype=torch.float64)
    here, there = Data(x, plain(x), f), Data(x, exact(x), exact.encode(x))
    other = Data(x, x + 1.0005 * (plain(x) - x), f)

    for metric in [*FOREIGN, *BATCH_MEANS]:
        found = here.value(metric, 64)
        assert abs(found.value - there.value(metric, 64).value) <= found.tolerance, metric
        if not metric.startswith(("l0", "l1", "dead")):
            assert abs(found.value - other.value(metric, 64).value) > found.tolerance, metric


def test_densities_need_as_many_rows_as_they_are_rare():
    """Counted in rows: 1 of 100,000 is not below 1e-5, none is."""
    f = torch.zeros(100_000, 4)
    f[:, 0], f[7, 1] = 1.0, 1.0
    x = torch.randn(100_000, 1)
    enough = Data(x, x, f)

    assert enough.value("density_below_1e_5").value == 2 / 4
    found = enough.value("density_below_1e_6")
    assert (found.value, found.reason) == (
        None,
        "100000 rows cannot show a density below 1 in 1000000: see dead_fraction",
    )
    assert Data(x[1:], x[1:], f[1:]).value("density_below_1e_5").value is None


def test_what_one_part_does_not_know_is_not_known_of_the_whole():
    """Sums of an older version lack the sizes of latents: no number, and not that of the other part."""
    for form, metric in (("plain", "l1_norm"), ("gates per source", "l1_norm_per_source_mean")):
        moments = data(**FORMS[form]).moments()
        older = replace(moments, sizes=None)

        assert OVER_ROWS[metric](moments).value > 0
        for joined in (older, moments.merge(older), older.merge(moments)):
            found = OVER_ROWS[metric](joined)
            assert (found.value, found.reason) == (None, "the sums hold no sizes of latents")


def test_gates_per_source_have_no_one_l1_and_a_shared_code_counts_once():
    """As for L0."""
    what, gated = data(sources=K), data(sources=K, gates=True).moments()
    shared = what.moments()

    assert OVER_ROWS["l1_norm"](shared).value == Data(what.x[:, 0], what.x_hat[:, 0], what.f).value("l1_norm").value
    assert OVER_ROWS["l1_norm"](gated).reason == "each source has its own code; see l1_norm_per_source_mean"
    assert OVER_ROWS["l1_norm_per_source_mean"](shared).reason == "all sources share one code; see l1_norm"


@pytest.mark.parametrize(("n", "share"), [(4, 1e-3), (4096, 8 / 4096 / 3)])
def test_an_l1_may_differ_by_a_few_latents_as_large_as_others(n, share):
    """Eight of all rows lose or win one, of three that they have, and never more than one in a thousand."""
    f = torch.zeros(n, F)
    f[:, :3] = torch.tensor([1.0, -2.0, 3.0])
    found = Data(torch.randn(n, D), torch.randn(n, D), f).value("l1_norm")

    assert (found.value, found.tolerance) == (6.0, pytest.approx(6.0 * (share + 1e-5)))
    assert Data(torch.randn(n, D), torch.randn(n, D), 0 * f).value("l1_norm") == Value(0.0, tolerance=0.0)


def test_the_dead_rate_counts_rows_and_sources():
    """With gates per source a latent that fires once in a million rows and sources is dead, twice is not."""
    moments = data(sources=K, gates=True).moments()
    counts = torch.ones(F, dtype=torch.int64)
    counts[0] = 2
    many = type(moments)(**{**vars(moments), "rows": 333_334, "fired_at_sources": counts})

    assert FOREIGN["dead_rate_1e_6"](many).value == (F - 1) / F
    assert FOREIGN["dead_rate_1e_6"](type(moments)(**{**vars(many), "rows": 333_333})).value == 0.0


@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=60))
def test_a_histogram_holds_every_row_in_few_whole_bins(counts):
    """At most 32 bins; each row in the one between whose edges its count lies."""
    found = histogram_of(torch.bincount(torch.tensor(counts)))

    assert len(found.counts) == len(found.edges) - 1 <= 32
    widths = {b - a for a, b in itertools.pairwise(found.edges)}
    assert len(widths) == 1
    assert str(widths.pop()).rstrip("0") in ("1", "2", "5")
    assert found.edges[0] <= min(counts)
    assert max(counts) < found.edges[-1]
    inside = [sum(a <= count < b for count in counts) for a, b in itertools.pairwise(found.edges)]
    assert list(found.counts) == inside
    assert found.counts[0] > 0 < found.counts[-1]


def test_l0_has_its_histogram():
    """As many rows as there are, between the smallest and the largest."""
    found = data().value("l0")

    assert sum(found.histogram.counts) == 40
    assert found.histogram.edges[0] <= found.minimum <= found.maximum < found.histogram.edges[-1]
