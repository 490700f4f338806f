"""Rows from a seed: the same whoever reads them, in whatever pieces."""

import math
import pickle
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.errors import WeightsError
from saereg.registry.metrics.sources.spec import rows_of_spec
from saereg.registry.metrics.sources.synthetic import GeneratedRows, generated
from saereg.schemas.evaluation import SyntheticRows

KINDS = ("normal", "sparse_directions")


def source(rows: int, shape: tuple[int, ...], kind: str = "normal", seed: int = 0) -> GeneratedRows:
    what = {"source": "synthetic", "rows": rows, "seed": seed, "distribution": kind}
    return GeneratedRows(SyntheticRows.model_validate(what), shape)


@lru_cache
def whole_of(kind: str) -> torch.Tensor:
    return source(700, (512, 2), kind).read(0, 700)[0]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 700), st.integers(0, 700))
def test_rows_are_the_same_however_they_are_read(kind, first, last):
    """Rows as wide as these stand in blocks of 256: a read may begin and end inside of any."""
    first, last = sorted((first, last))
    rows, whole = source(700, (512, 2), kind), whole_of(kind)

    assert whole.dtype == torch.float32
    assert torch.equal(rows.read(first, last - first)[0], whole[first:last])


@pytest.mark.parametrize("shape", [(4096,), (3, 1500)])
def test_reads_across_blocks_agree_with_reads_inside(shape):
    """Rows as wide as these stand in blocks of 64, or 32."""
    rows = source(600, shape)
    whole = rows.read(0, 600)[0]

    assert torch.equal(torch.cat([rows.read(i, 37)[0] for i in range(0, 600, 37)]), whole)
    assert torch.equal(source(300, shape).read(0, 300)[0], whole[:300])


def test_the_digits_are_those_of_the_first_release():
    """Another numpy, or another machine, has the same: a change of them needs another name of the generator."""
    normal, sparse = (source(5, (3,), kind, seed=7).read(0, 5)[0].numpy() for kind in KINDS)

    assert normal[:2].tolist() == np.float32(NORMAL).tolist()
    assert sparse[:2].tolist() == np.float32(SPARSE).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_square_is_the_width(kind):
    """As after `scale`: dictionaries of any width see rows of like size."""
    x = source(4096, (64,), kind).read(0, 4096)[0].double()

    assert float(x.square().sum(1).mean()) == pytest.approx(64, rel=0.1)
    assert float(x.mean()) == pytest.approx(0, abs=0.1)


def test_sparse_rows_have_tails_that_normal_ones_have_not():
    """They are sums of few directions: in these, coordinates are far from normal."""
    kurtosis = {}
    for kind in KINDS:
        x = source(4096, (64,), kind).read(0, 4096)[0].double()
        length = x.square().sum(1)
        kurtosis[kind] = float(length.var() / length.mean() ** 2)

    assert kurtosis["normal"] == pytest.approx(2 / 64, rel=0.2)
    assert kurtosis["sparse_directions"] > 3 * kurtosis["normal"]


def test_the_digest_says_what_the_rows_follow_from():
    """Seed, distribution, number and shape; it is that of another process."""
    digests = {
        source(*what).digest()
        for what in ((9, (4,)), (8, (4,)), (9, (5,)), (9, (1, 4)), (9, (4,), KINDS[1]), (9, (4,), KINDS[0], 1))
    }

    assert len(digests) == 6
    rows = source(9, (4,))
    assert pickle.loads(pickle.dumps(rows)).digest() == rows.digest() == DIGEST


def test_the_shape_is_what_the_dictionary_reads_unless_it_is_said():
    """A temporal dictionary reads sequences of no certain length."""
    assert rows_of_spec("synthetic:rows=9,seed=3", (2, 4)).read(0, 9)[0].shape == (9, 2, 4)
    assert rows_of_spec("synthetic:rows=9,shape=5x4", (4,)).read(8, 1)[0].shape == (1, 5, 4)
    assert math.prod(rows_of_spec("synthetic:rows=9", (4,)).read(5, 0)[0].shape) == 0


NORMAL = [[-0.45230654, 0.51417184, 1.4934813], [-1.3714719, 0.5567963, -0.6151075]]
SPARSE = [[-1.2311225, 0.67876965, -0.2925827], [-0.30250892, 0.19490412, -1.3823595]]
DIGEST = "cc17f04efd83d14fdc6ddd642b77f350c43ba70b48d999d3ae08416c5da0064e"
"""As they were when the generator was written."""


NEVER = {
    "no width": ({"shape": (0, 4)}, "shape.0"),
    "less than none": ({"shape": (-4, 4)}, "shape.0"),
    "no axis": ({"shape": ()}, "shape"),
    "a row of a stranger": ({"shape": (4096, 2048)}, "at most 2^22 numbers are in a row"),
    "rows of a stranger": ({"rows": 10**9}, "rows"),
    "numbers of a stranger": ({"rows": 1 << 24, "shape": (8192,)}, "2^36 in all"),
}


@pytest.mark.parametrize("name", NEVER)
def test_what_no_machine_can_generate_is_refused_in_the_record(name):
    """A record may be a stranger's."""
    change, said = NEVER[name]
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is looked at
        SyntheticRows.model_validate({"source": "synthetic", "seed": 0, "rows": 8, **change})
    assert said in str(caught.value)


def test_rows_that_the_dictionary_does_not_read_or_that_do_not_fit_are_refused_before_they_are_made():
    """Their shape is that of the dictionary where the record gives none."""
    sparse = {"distribution": "sparse_directions"}
    cases = (
        ({"shape": (3,)}, (4,), "has width 3, the dictionary reads d_in = 4"),
        ({"shape": (3, 4)}, (2, 4), r"the dictionary reads \(2, 4\)"),
        ({"rows": 1 << 24}, (8192,), r"2\^36 in all"),
        ({"shape": (512, 8192), **sparse}, (8192,), "use `normal`"),
    )
    for change, wanted, said in cases:
        record = SyntheticRows.model_validate({"source": "synthetic", "seed": 0, "rows": 8, **change})
        with pytest.raises(WeightsError, match=said):
            generated(record, wanted)
    wide = SyntheticRows(source="synthetic", seed=0, rows=4096, shape=(65_536, 64))
    with pytest.raises(WeightsError, match="too many to read at once"):
        generated(wide, (64,)).read(0, 4096)


def test_generated_rows_are_not_preprocessed():
    """It would be declared, and not done."""
    with pytest.raises(ValueError, match="preprocess"):
        SyntheticRows(source="synthetic", rows=4, seed=0, preprocess="center")
