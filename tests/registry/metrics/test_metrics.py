"""Each metric is its definition, however the rows are split."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens.evals import ExplainedVarianceCalculator
from safetensors.torch import save_file

from saereg.errors import WeightsError
from saereg.registry.dictionary import Dictionary
from saereg.registry.kernels.active import active_of
from saereg.registry.kernels.plain import PlainRunner
from saereg.registry.metrics.definitions import DEFINITIONS, PER_SOURCE
from saereg.registry.metrics.engine import Wanted, total_sums
from saereg.registry.metrics.evaluate import Subject, measure
from saereg.registry.metrics.moments import moments_of
from saereg.registry.metrics.sources.activations import StoredRows
from saereg.schemas.document import canonical
from saereg.schemas.evaluation import ActivationRows
from saereg.schemas.manifest import Manifest
from tests.registry.factories import D_IN, D_SAE, SOURCES, checkpoint, config, crosscoder_config, rows
from tests.releases import _manifest


def oracle(x: torch.Tensor, x_hat: torch.Tensor) -> float:
    """Return the explained variance in two lines of float64."""
    x, x_hat = x.flatten(1).double(), x_hat.flatten(1).double()
    return float(1 - ((x - x_hat) ** 2).sum() / ((x - x.mean(0)) ** 2).sum())


def data(seed: int, n: int, offset: float = 0.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, D_IN, generator=generator) + offset
    x_hat = x + 0.3 * torch.randn(n, D_IN, generator=generator)
    f = (torch.randn(n, D_SAE, generator=generator) - 1).relu()
    return x, x_hat, f


def value(metric: str, *sums):
    return (DEFINITIONS | PER_SOURCE)[metric](moments_of(*sums[:2], active_of(sums[2]))).value


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e4])
@pytest.mark.parametrize("n", [2, 7, 200])
def test_explained_variance_is_the_two_line_definition(n, offset):
    """Also where the mean dominates, and a difference of squares would have lost every digit."""
    x, x_hat, f = data(n, n, offset)

    assert value("explained_variance", x, x_hat, f) == pytest.approx(oracle(x, x_hat), rel=1e-9)
    assert value("fvu", x, x_hat, f) == pytest.approx(1 - oracle(x, x_hat), rel=1e-9)


def test_explained_variance_is_one_for_x_and_zero_for_its_mean():
    """The two ends of the scale; beyond them it goes on, below zero."""
    x, _, f = data(0, 50, 3.0)
    mean = x.double().mean(0).expand_as(x)

    assert value("explained_variance", x, x, f) == 1.0
    assert value("explained_variance", x.double(), mean, f) == pytest.approx(0.0, abs=1e-12)
    assert value("explained_variance", x, -x, f) < 0


def test_explained_variance_is_what_saelens_computes():
    """Its streaming calculator, on the same batches."""
    x, x_hat, f = data(1, 96, 0.5)
    calculator = ExplainedVarianceCalculator()
    for batch in range(0, 96, 32):
        calculator.add_batch(x_hat[batch : batch + 32], x[batch : batch + 32])

    assert value("explained_variance", x, x_hat, f) == pytest.approx(calculator.compute(), abs=1e-5)


def test_errors_and_activity_are_their_definitions():
    """Sums over the width, means over the rows, exact counts."""
    x, x_hat, f = data(2, 40)
    error = (x.double() - x_hat.double()).square()

    assert value("mse_per_row", x, x_hat, f) == pytest.approx(float(error.sum(1).mean()), rel=1e-12)
    assert value("mse_per_element", x, x_hat, f) == pytest.approx(float(error.mean()), rel=1e-12)
    counts = (f != 0).sum(1)
    found = DEFINITIONS["l0"](moments_of(x, x_hat, active_of(f)))
    assert found.value == float(counts.double().mean())
    assert (found.minimum, found.maximum) == (int(counts.min()), int(counts.max()))
    assert value("dead_fraction", x, x_hat, f) == float(((f != 0).sum(0) == 0).double().mean())


def test_a_negative_activation_is_active():
    """AbsTopK keeps signs; `> 0` would lose half of them."""
    x = torch.zeros(2, 3)
    f = torch.tensor([[-1.0, 0.0, 2.0], [0.0, 0.0, -3.0]])

    assert value("l0", x, x, f) == 1.5


def test_gates_per_source_are_counted_per_source_and_together():
    """One number for both would hide that they differ."""
    x = torch.randn(2, 3, 4)
    f = torch.zeros(2, 3, 5)
    f[0, 0, 1] = f[0, 1, 1] = f[0, 1, 2] = f[1, 2, 4] = 1.0

    assert value("l0_per_source_mean", x, x, f) == 4 / 6
    assert value("l0_any_source", x, x, f) == 3 / 2
    undefined = DEFINITIONS["l0"](moments_of(x, x, active_of(f)))
    assert undefined.value is None
    assert undefined.reason == "each source has its own active set; see l0_per_source_mean and l0_any_source"
    assert value("dead_fraction", x, x, f) == 2 / 5


@settings(deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 59), max_size=5), st.sampled_from([0.0, 5.0, 1000.0]))
def test_the_split_into_batches_does_not_matter(seed, cuts, offset):
    """To one part in a million, in any number of batches of any size."""
    x, x_hat, f = data(seed, 60, offset)
    edges = [0, *sorted(set(cuts)), 60]
    parts = [moments_of(x[a:b], x_hat[a:b], active_of(f[a:b]), a) for a, b in itertools.pairwise(edges)]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.merge(part)

    whole = moments_of(x, x_hat, active_of(f))

    for name, definition in DEFINITIONS.items():
        if not name.startswith("density"):  # defined from 100,000 rows on
            assert definition(joined).value == pytest.approx(definition(whole).value, abs=1e-6, rel=1e-6), name
    assert torch.equal(joined.fired, whole.fired)
    assert torch.equal(joined.histogram, whole.histogram)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 19), st.integers(20, 39))
def test_merging_is_associative_and_commutative(seed, first, second):
    """Up to the rounding of float64."""
    x, x_hat, f = data(seed, 40, 2.0)
    a, b, c = (
        moments_of(x[i:j], x_hat[i:j], active_of(f[i:j])) for i, j in ((0, first), (first, second), (second, 40))
    )

    for left, right in ((a.merge(b).merge(c), a.merge(b.merge(c))), (a.merge(b), b.merge(a))):
        assert left.total_variance == pytest.approx(right.total_variance, rel=1e-12)
        assert left.squared_error == pytest.approx(right.squared_error, rel=1e-12)
        assert torch.allclose(left.mean, right.mean, rtol=1e-12, atol=0)
        assert (left.rows, left.active_total) == (right.rows, right.active_total)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e4, 1e-30])
@pytest.mark.parametrize("batch", [1, 5, 12])
def test_constant_data_have_no_variance_to_explain(constant, batch):
    """A reason instead of a number; rounding of the mean is not variance."""
    x = torch.full((12, D_IN), constant)
    parts = [
        moments_of(x[i : i + batch], x[i : i + batch] + 1, active_of(torch.ones(len(x[i : i + batch]), 2)))
        for i in range(0, 12, batch)
    ]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.merge(part)

    for metric in ("explained_variance", "fvu"):
        found = DEFINITIONS[metric](joined)
        assert found.value is None
        assert found.reason == "the data are constant, so there is no variance to explain"
    assert DEFINITIONS["mse_per_row"](joined).value == pytest.approx(D_IN)


def test_the_smallest_variance_of_float32_is_variance():
    """One unit in the last place of one value."""
    x = torch.full((1000, D_IN), 0.1)
    x[7, 3] = torch.nextafter(x[7, 3], torch.tensor(1.0))

    assert not moments_of(x, x, active_of(torch.ones(1000, 2))).is_constant


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_named(bad):
    """By its place in the data, not in the batch."""
    x, x_hat, f = data(0, 5)
    broken = x.clone()
    broken[3, 1] = bad

    with pytest.raises(WeightsError) as caught:
        moments_of(broken, x_hat, active_of(f), first_row=100)
    assert str(caught.value) == "evaluation: the input of row 103 is not finite"

    with pytest.raises(WeightsError) as caught:
        moments_of(x, broken, active_of(f), first_row=100)
    assert str(caught.value) == "evaluation: the reconstruction of row 103 is not finite"


def test_targets_of_another_width_are_refused():
    """A transcoder is not compared with its input."""
    with pytest.raises(WeightsError) as caught:
        moments_of(torch.zeros(2, 3), torch.zeros(2, 4), active_of(torch.zeros(2, 5)))

    assert str(caught.value) == ("evaluation: targets of shape (3,), but reconstructions are (4,)")


def evaluation(folder, tensors, **more) -> tuple:
    save_file(tensors, folder / "data.safetensors")
    values = {"source": "activations", "path": "data.safetensors", "rows": len(next(iter(tensors.values())))}
    return folder / "data.safetensors", ActivationRows.model_validate(values | more)


def measured(dictionary, path, what: ActivationRows):
    manifest = Manifest.from_text(canonical(_manifest([])))
    manifest = manifest.model_copy(update={"evaluations": {"held-out": what}})
    return measure(Subject(PlainRunner(dictionary), StoredRows(path, what), "held-out", what, manifest))


@pytest.mark.parametrize("batch_rows", [1, 7, 64, 1000])
def test_a_dictionary_is_measured_whatever_the_batch(tmp_path, batch_rows):
    """The engine gives what the definition gives on all rows at once."""
    dictionary, x = Dictionary(checkpoint(config("jumprelu"))), rows(64, D_IN)
    path, what = evaluation(tmp_path, {"x": x})

    sums = total_sums(PlainRunner(dictionary, batch_rows), StoredRows(path, what), Wanted()).moments["raw"]

    assert DEFINITIONS["explained_variance"](sums).value == pytest.approx(oracle(x, dictionary(x)), abs=1e-6)
    assert DEFINITIONS["l0"](sums).value == float((dictionary.encode(x) != 0).sum(1).double().mean())


def test_a_measurement_holds_all_that_is_needed_to_repeat_it(tmp_path):
    """Data, rows, type, software."""
    path, what = evaluation(tmp_path, {"x": rows(9, D_IN)})

    found = measured(Dictionary(checkpoint(config("topk"))), path, what)

    assert [m.metric for m in found] == list(DEFINITIONS)
    assert {(m.evaluation, m.rows, m.dtype, m.accumulation) for m in found} == {("held-out", 9, "float32", "float64")}
    assert all(set(m.tool) == {"saereg", "torch"} and len(m.data_sha256) == 64 for m in found)


@pytest.mark.parametrize(("site", "tokens"), [("block-1", 9), ("W_U", None), (None, None)])
def test_rows_are_tokens_where_they_are_activations(tmp_path, site, tokens):
    """Rows of a parameter are no tokens, and of no known site nothing is known."""
    path, what = evaluation(tmp_path, {"x": rows(9, D_IN)}, site=site)

    assert {m.tokens for m in measured(Dictionary(checkpoint(config("topk"))), path, what)} == {tokens}


def test_a_crosscoder_with_gates_per_source_is_measured_per_source(tmp_path):
    """Two metrics more."""
    path, what = evaluation(tmp_path, {"x": rows(9, SOURCES, D_IN)})

    found = measured(Dictionary(checkpoint(crosscoder_config("jumprelu_per_source", "center_scale"))), path, what)

    assert [m.metric for m in found] == [*DEFINITIONS, *PER_SOURCE]


def test_sums_beyond_float64_are_no_number(tmp_path):
    """JSON has no infinity, and an overflow is no measurement."""
    path, what = evaluation(tmp_path, {"x": rows(9, D_IN).double() * 1e200})

    found = measured(Dictionary(checkpoint(config("standard", dtype="float64"))), path, what)

    assert {m.metric: m.reason for m in found if m.value is None and "density" not in m.metric} == dict.fromkeys(
        ("explained_variance", "fvu", "mse_per_row", "mse_per_element"), "the sums are larger than float64 can hold"
    )


UNFIT = {
    "no such tensor": ({"tensor": "y"}, "data.safetensors: y: missing; the file holds x"),
    "no such target": ({"target": "y"}, "data.safetensors: y: missing; the file holds x"),
    "other rows": ({"rows": 8}, "data.safetensors: x: has 9 rows, the manifest says 8"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_data_that_are_not_as_declared_are_refused(tmp_path, name):
    """Before anything is computed."""
    more, message = UNFIT[name]
    path, what = evaluation(tmp_path, {"x": rows(9, D_IN)}, **more)

    with pytest.raises(WeightsError) as caught:
        StoredRows(path, what).read(0, 1)

    assert str(caught.value) == message


def test_data_of_another_width_are_refused(tmp_path):
    """In the words of the dictionary."""
    path, what = evaluation(tmp_path, {"x": rows(9, D_IN + 1)})

    with pytest.raises(WeightsError) as caught:
        total_sums(PlainRunner(Dictionary(checkpoint(config("topk")))), StoredRows(path, what), Wanted())

    assert str(caught.value) == "data.safetensors: x has width 7, the dictionary reads d_in = 6"


def test_a_tolerance_allows_another_order_of_addition_and_no_more():
    """The same dictionary in float64 stands for another machine; a twentieth of a percent more error is found."""
    x = rows(500, D_IN)
    plain = Dictionary(checkpoint(config("standard")))
    exact = plain.to(dtype=torch.float64)
    here, there = (moments_of(x, d(x), active_of(d.encode(x))) for d in (plain, exact))
    other = moments_of(x, x + 1.0005 * (plain(x) - x), active_of(plain.encode(x)))

    for name, definition in DEFINITIONS.items():
        found = definition(here)
        if found.value is None:
            assert name.startswith("density")
            continue
        assert abs(found.value - definition(there).value) <= found.tolerance, name
        if "0" not in name and "dead" not in name:
            assert abs(found.value - definition(other).value) > found.tolerance, name


@pytest.mark.parametrize(("n", "l0", "allowed"), [(4, 3, 0.003), (4096, 3, 8 / 4096), (4096, 0, 0.001)])
def test_a_count_may_differ_by_a_few_of_what_was_counted(n, l0, allowed):
    """Eight rows of an evaluation, and never more than one in a thousand."""
    f = torch.zeros(n, D_SAE)
    f[:, :l0] = 1.0

    assert DEFINITIONS["l0"](moments_of(torch.randn(n, D_IN), torch.randn(n, D_IN), active_of(f))).tolerance == allowed
