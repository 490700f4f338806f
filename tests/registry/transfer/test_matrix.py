"""The transfer matrix: what is compared with what, and what is not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.kernels.active import active_of
from saereg.registry.metrics.engine import Occasion, measurements
from saereg.registry.metrics.moments import moments_of
from saereg.registry.metrics.sums import Sums
from saereg.registry.transfer.matrix import COMPARED, at_home, require_homes, transfer_matrix
from saereg.schemas.document import check_text
from saereg.schemas.transfer import TransferCorpus, TransferDictionary, TransferMatrix

DIGEST = "0" * 64


def dictionary(name, home=None, **more) -> TransferDictionary:
    because = "said" if home else "nobody knows"
    values = {
        "name": name,
        "reference": name,
        "architecture": "standard",
        "d_in": 2,
        "d_sae": 4,
        "weights_sha256": DIGEST,
    }
    return TransferDictionary(**values, home=home, home_because=because, **more)


def corpus(name, rows=8, **more) -> TransferCorpus:
    return TransferCorpus(name=name, reference=name, rows=rows, data_sha256=DIGEST, **more)


def cell(name, x, x_hat, f):
    sums = Sums({"raw": moments_of(x, x_hat, active_of(f))}, {})
    return measurements(sums, Occasion(name, DIGEST, True, (), "float32"), foreign=True)


def random_cell(name, seed, rows=8, error=0.5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 2, generator=generator)
    f = (torch.randn(rows, 4, generator=generator)).relu()
    return cell(name, x, x + error * torch.randn(rows, 2, generator=generator), f)


def square(rows=(8, 8)):
    """Return the cells of two dictionaries on two corpora."""
    names = [(d, c) for d in "AB" for c in "AB"]
    return {key: random_cell(key[1], at, rows["AB".index(key[1])]) for at, key in enumerate(names)}


def lost(matrix, there, metric):
    return next(d for d in matrix.cell(*there).degradation if d.metric == metric)


def test_errors_are_divided_and_all_else_is_subtracted():
    """By the cell of the same dictionary at home, not of the same corpus."""
    found = square()
    matrix = transfer_matrix([dictionary("A", "A"), dictionary("B", "B")], [corpus("A"), corpus("B")], found)
    for away, home in ((("A", "B"), ("A", "A")), (("B", "A"), ("B", "B"))):
        there, here = ({m.metric: m.value for m in found[key]} for key in (away, home))
        for metric in ("mse_per_row", "mse_per_element", "fvu", "l1_norm"):
            assert lost(matrix, away, metric).kind == "ratio"
            assert lost(matrix, away, metric).value == there[metric] / here[metric]
        for metric in ("explained_variance", "l0", "dead_fraction"):
            assert lost(matrix, away, metric).kind == "difference"
            assert lost(matrix, away, metric).value == there[metric] - here[metric]
        assert matrix.cell(*home).degradation == ()
        assert matrix.cell(*home).at_home
        assert not matrix.cell(*away).at_home


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.1, 50), st.floats(0.1, 50))
def test_a_ratio_of_mean_squared_errors_is_that_of_the_shares_times_that_of_the_variances(seed, wide, away):
    """The reason why both are given: the first moves with the corpus alone."""
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(seed)).double()
    noise = torch.randn(9, 2, generator=torch.Generator().manual_seed(seed + 1)).double()
    f = torch.ones(9, 3)
    found = {
        ("D", "home"): cell("home", x, x + noise, f),
        ("D", "away"): cell("away", wide * x, wide * x + away * noise, f),
    }
    matrix = transfer_matrix([dictionary("D", "home")], [corpus("home"), corpus("away")], found)

    ratios = {name: lost(matrix, ("D", "away"), name).value for name in ("mse_per_row", "mse_per_element", "fvu")}

    assert ratios["mse_per_row"] == pytest.approx(ratios["fvu"] * wide**2, rel=1e-9)
    assert ratios["mse_per_row"] == pytest.approx(ratios["mse_per_element"], rel=1e-12)


def test_the_order_is_the_one_given_whatever_the_order_of_the_cells():
    """Rows, then columns."""
    found = square()
    backwards = dict(reversed(found.items()))
    rows, columns = [dictionary("B", "B"), dictionary("A", "A")], [corpus("A"), corpus("B")]

    matrix = transfer_matrix(rows, columns, backwards)

    assert [(c.dictionary, c.corpus) for c in matrix.cells] == [("B", "A"), ("B", "B"), ("A", "A"), ("A", "B")]
    assert matrix == transfer_matrix(rows, columns, found)
    assert check_text(TransferMatrix, matrix.text()) == (matrix, [])


def test_without_a_home_nothing_is_compared():
    """A dash, and a reason, never a guess."""
    matrix = transfer_matrix([dictionary("A"), dictionary("B", "B")], [corpus("A"), corpus("B")], square())
    assert all(matrix.cell("A", c).degradation == () and not matrix.cell("A", c).at_home for c in "AB")
    assert lost(matrix, ("B", "A"), "fvu").value is not None


def test_an_error_of_zero_at_home_divides_nothing():
    """A perfect dictionary, or one measured on one row that it holds."""
    found = square() | {("A", "A"): random_cell("A", 0, error=0.0)}
    matrix = transfer_matrix([dictionary("A", "A"), dictionary("B", "B")], [corpus("A"), corpus("B")], found)
    for metric in ("mse_per_row", "fvu"):
        assert (lost(matrix, ("A", "B"), metric).value, lost(matrix, ("A", "B"), metric).reason) == (
            None,
            "the error at home, on A, is 0",
        )
    assert lost(matrix, ("A", "B"), "explained_variance").value is not None


def test_a_dictionary_that_is_silent_at_home_has_no_ratio_of_l1():
    """Which of the two it is, is said."""
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(9))
    found = square() | {("A", "A"): cell("A", x, x + 1, torch.zeros(8, 4))}
    matrix = transfer_matrix([dictionary("A", "A"), dictionary("B", "B")], [corpus("A"), corpus("B")], found)

    assert lost(matrix, ("A", "B"), "l1_norm").reason == "the L1 at home, on A, is 0"


def test_constant_rows_have_no_share_and_still_an_error():
    """On either side; which one is said."""
    x, f = torch.ones(8, 2), torch.ones(8, 4)
    found = square() | {("A", "B"): cell("B", x, x + 1, f)}
    matrix = transfer_matrix([dictionary("A", "A"), dictionary("B", "B")], [corpus("A"), corpus("B")], found)
    said = "on B: the data are constant, so there is no variance to explain"
    assert lost(matrix, ("A", "B"), "fvu").reason == said
    assert lost(matrix, ("A", "B"), "mse_per_row").value is not None
    found = square() | {("A", "A"): cell("A", x, x + 1, f)}
    matrix = transfer_matrix([dictionary("A", "A"), dictionary("B", "B")], [corpus("A"), corpus("B")], found)
    assert lost(matrix, ("A", "B"), "explained_variance").reason == said.replace("B", "A")


def test_dead_latents_are_compared_on_equal_numbers_of_rows_only():
    """More rows wake more latents."""
    matrix = transfer_matrix(
        [dictionary("A", "A"), dictionary("B", "B")], [corpus("A"), corpus("B", 9)], square(rows=(8, 9))
    )
    assert lost(matrix, ("A", "B"), "dead_fraction").reason == (
        "it falls with the number of rows, and there are 9 against 8"
    )
    assert lost(matrix, ("A", "B"), "l0").value is not None


def test_one_dictionary_on_one_corpus_is_a_matrix():
    """With nothing to compare."""
    matrix = transfer_matrix([dictionary("A", "A")], [corpus("A")], square())
    assert len(matrix.cells) == 1


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (["A", "A"], ["A"], "dictionary 'A' is there twice"),
        (["A"], ["B", "B"], "corpus 'B' is there twice"),
        (["A"], ["C"], "dictionary 'A' was not measured on corpus 'C'"),
    ],
)
def test_a_matrix_is_whole_and_its_names_are_names(rows, columns, message):
    """Otherwise a cell would be another than it says."""
    with pytest.raises(UsageError, match=message):
        transfer_matrix([dictionary(name) for name in rows], [corpus(name) for name in columns], square())


HOMES = {
    "said": (dictionary("A"), {"A": "B"}, "B", "said on the command line"),
    "said against its name": (dictionary("wiki"), {"wiki": "B"}, "B", "said on the command line"),
    "of its name": (dictionary("B"), {}, "B", "it has the name of the corpus"),
    "its data set": (
        dictionary("C", dataset="text", dataset_id="org/wiki"),
        {},
        "wiki",
        "its release says that it was trained on org/wiki, which these rows are from",
    ),
    "two of its data set": (
        dictionary("C", dataset="code", dataset_id="org/code"),
        {},
        None,
        "trained on org/code, which the rows of B, D are from; say --home C=CORPUS",
    ),
    "the key of its data set": (
        dictionary("C", dataset="plain", dataset_id="org/plain"),
        {},
        "plain",
        "its release says that it was trained on 'plain'",
    ),
    "another data set": (
        dictionary("C", dataset="poems", dataset_id="org/poems"),
        {},
        None,
        "trained on 'poems', which no corpus is said to be; say --home C=CORPUS",
    ),
    "nothing known": (dictionary("C"), {}, None, "nothing says which corpus it was trained on; say --home C=CORPUS"),
}


@pytest.mark.parametrize("name", HOMES)
def test_a_home_is_said_or_known_and_never_guessed(name):
    """In this order, with what tells so."""
    one, said, home, because = HOMES[name]
    columns = [
        corpus("wiki", dataset="w", dataset_id="org/wiki"),
        corpus("B", dataset="b", dataset_id="org/code"),
        corpus("D", dataset="d", dataset_id="org/code"),
        corpus("plain"),
    ]
    found = at_home(one, columns, said)
    assert (found.home, found.home_because) == (home, because)


def test_a_home_of_what_is_not_there_is_refused():
    """With what was meant."""
    with pytest.raises(UnknownNameError, match="unknown dictionary 'prosa'; did you mean 'prose'"):
        require_homes([dictionary("prose")], [corpus("B")], {"prosa": "B"})
    with pytest.raises(UnknownNameError, match="unknown corpus 'cod'; did you mean 'code'"):
        require_homes([dictionary("prose")], [corpus("code")], {"prose": "cod"})


def test_every_metric_of_the_canon_is_compared_or_depends_on_more_than_the_corpus():
    """A new one must be decided on."""
    from saereg.registry.metrics.definitions import DEFINITIONS, PER_SOURCE

    assert {*DEFINITIONS, *PER_SOURCE} - set(COMPARED) <= {"density_below_1e_5", "density_below_1e_6"}
