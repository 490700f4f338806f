"""Laws of the metrics, on every architecture: what must not change a number, and what must."""

import hashlib
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.errors import FormatError
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.conversion.convert import layout_for
from saereg.registry.conversion.write import write_layout
from saereg.registry.dictionary import Dictionary
from saereg.registry.files.tensors import MemoryFile
from saereg.registry.formats import FORMATS
from saereg.registry.kernels.plain import PlainRunner
from saereg.registry.kernels.running import runner_of
from saereg.registry.loading import load_path
from saereg.registry.metrics.definitions import BATCH_MEANS, DEFINITIONS, FOREIGN, FOREIGN_PER_SOURCE, PER_SOURCE
from saereg.registry.metrics.engine import Wanted, chunks, sums_of_chunk, total_sums
from saereg.registry.metrics.sums import Sums
from saereg.registry.readings.reading import Reading
from saereg.registry.work.running import run_all
from saereg.registry.work.workers import Workers
from saereg.schemas.cfg import INFERENCE
from saereg.schemas.recipe import SourceTensor
from tests.registry.factories import (
    CROSSCODERS,
    EVERY_CONFIG,
    NATIVE,
    PREPROCESS,
    checkpoint,
    config,
    crosscoder_config,
    native_config,
)

CANON = DEFINITIONS | PER_SOURCE

PER_ROW = ("layer_norm", "constant_norm_rescale")
"""Normalizations of each row by itself."""

CONFIGS = (
    EVERY_CONFIG
    | {f"{name}_{kind}": config(name, normalize_activations=kind) for name in INFERENCE for kind in PER_ROW}
    | {f"crosscoder_{name}_{kind}": crosscoder_config(name, kind) for name in CROSSCODERS for kind in PREPROCESS[:3]}
    | {
        f"native_{name}_{kind}": native_config(name, preprocess=kind)
        for name, kind in zip(NATIVE, itertools.cycle((*PREPROCESS[:3], *PER_ROW)))
    }
)
"""Every architecture, gate, code norm and activation, with every normalization that decides what it computes."""


@dataclass(frozen=True)
class MemoryRows:
    """Rows in memory, as a source of rows."""

    x: torch.Tensor
    y: torch.Tensor | None = None
    name: str = "memory"
    excluded: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.x)

    @property
    def has_target(self) -> bool:
        return self.y is not None

    def digest(self) -> str:
        return hashlib.sha256(self.x.numpy().tobytes()).hexdigest()

    def read(self, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        span = slice(first, first + count)
        return self.x[span], self.x[span] if self.y is None else self.y[span]


def rows_of(dictionary: Dictionary, n: int = 12, seed: int = 1) -> MemoryRows:
    """Return random rows that a dictionary reads, with targets where it predicts another width."""
    cfg, generator = dictionary.cfg, torch.Generator().manual_seed(seed)
    shape = (cfg.d_in,)
    if getattr(cfg, "kind", None) in ("crosscoder", "cross_layer"):
        shape = (cfg.n_sources if cfg.kind == "crosscoder" else cfg.n_layers, cfg.d_in)
    if cfg.architecture == "temporal":
        shape = (3, cfg.d_in)
    x = torch.randn(n, *shape, generator=generator) * 2 + 1
    y = torch.randn(n, *shape[:-1], cfg.d_out, generator=generator) if cfg.d_out != cfg.d_in else None
    return MemoryRows(x, y)


def values(sums: Sums, foreign: bool = True) -> dict[str, float | None]:
    """Return every number of the sums by its id; those of batches with their size."""
    names = CANON | (FOREIGN | FOREIGN_PER_SOURCE if foreign else {})
    found = {name: definition(sums.moments["raw"]).value for name, definition in names.items()}
    for (_, size), batches in sums.batches.items():
        found |= {f"{name} {size}": mean(batches).value for name, mean in BATCH_MEANS.items()}
    return found


def measured(dictionary: Dictionary, rows: MemoryRows, *sizes: int) -> dict[str, float | None]:
    return values(total_sums(runner_of(dictionary), rows, Wanted(sizes)))


def close(found: dict[str, float | None], expected: dict[str, float | None]) -> bool:
    assert found.keys() == expected.keys()
    return all(
        value == pytest.approx(found[name], abs=1e-6, rel=1e-6) if value is not None else found[name] is None
        for name, value in expected.items()
    )


WRITABLE = tuple(name for name, layout in FORMATS.items() if layout.layout is not None)


@pytest.fixture
def quick_disk(monkeypatch):
    """Leave files to the page cache: nothing here is about a power cut."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("layout", WRITABLE)
def test_a_conversion_changes_no_metric(tmp_path, layout):
    """Of any dictionary that a layout can say: written, loaded again, and measured on the same rows.

    A crosscoder becomes an SAE of all sources side by side where the layout has no words for sources.
    """
    written = []
    for name, cfg in CONFIGS.items():
        try:
            wanted = layout_for(layout, cfg)
        except FormatError:
            continue
        source = checkpoint(cfg)
        plan = {tensor: SourceTensor(key=tensor) for tensor in source.weights}
        write_layout(Reading(cfg, plan, {"": MemoryFile(source.weights, Path(name))}), wanted, tmp_path / name)
        here, there = Dictionary(source), load_path(tmp_path / name, layout=layout)
        rows = rows_of(here)
        flat = MemoryRows(rows.x.flatten(1)) if there.cfg.d_in != here.cfg.d_in else rows
        assert close(measured(there, flat), measured(here, rows)), (name, layout)
        written.append(name)
    assert len(written) >= FEWEST[layout]


FEWEST = {"saereg": 100, "saelens": 50, "dictionary_learning": 5, "gemma_scope_2": 3} | dict.fromkeys(
    ("sparsify", "gemma_scope", "parameter_trajectory", "circuit_tracer"), 0
)
"""Layout → configurations that it can say, at least: a refusal of all of them would prove nothing."""

SOME = {
    name: Dictionary(checkpoint(CONFIGS[name]))
    for name in ("standard", "topk", "jumprelu", "gated", "transcoder", "native_batchtopk", "native_topk_negative")
} | {
    f"crosscoder_{name}": Dictionary(checkpoint(crosscoder_config(name, "center_scale")))
    for name in ("topk", "jumprelu_per_source")
}
"""One of each way to choose the active latents, and of each shape of rows."""

some = st.sampled_from(sorted(SOME))


@settings(deadline=None, max_examples=30)
@given(some, st.integers(0, 1000), st.integers(2, 40), st.data())
def test_neither_the_order_nor_the_split_of_rows_changes_the_canon(name, seed, n, data):
    """Blocks as the runner takes them, spans as they are handed out, in any order of the rows."""
    dictionary = SOME[name]
    rows = rows_of(dictionary, n, seed)
    whole = values(total_sums(runner_of(dictionary), rows, Wanted()))

    order = torch.tensor(data.draw(st.permutations(range(n))))
    shuffled = MemoryRows(rows.x[order], None if rows.y is None else rows.y[order])
    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=4)))
    runner = PlainRunner(dictionary, data.draw(st.integers(1, n)))
    spans = itertools.pairwise([0, *cuts, n])
    split = [sums_of_chunk(runner, shuffled, begin, end - begin, Wanted()) for begin, end in spans]

    assert close(values(reduce(Sums.merge, split)), whole)


def on_one_thread(task: tuple) -> Sums:
    """Sum some rows; a product by several threads may be rounded otherwise, and a fresh thread would use all cores."""
    torch.set_num_threads(1)
    return sums_of_chunk(*task)


@settings(deadline=None, max_examples=6)
@given(some, st.integers(1, 9), st.integers(1, 5))
def test_neither_workers_nor_their_number_change_a_digit(name, step, count):
    """Whoever is first: parts are merged in the order of the rows."""
    dictionary = SOME[name]
    rows = rows_of(dictionary, 40)
    wanted = Wanted((step,))
    spans = [(first, min(3 * step, 40 - first)) for first in range(0, 40, 3 * step)]
    runner = PlainRunner(dictionary, step)
    here = reduce(Sums.merge, (on_one_thread((runner, rows, *span, wanted)) for span in spans))

    with ThreadPoolExecutor(count) as executor:
        tasks = ((runner, rows, *span, wanted) for span in spans)
        done = list(run_all(Workers("threads", executor, 2 * count), on_one_thread, tasks))
    parts = [one.outcome.value() for one in sorted(done, key=lambda one: one.index)]

    assert values(reduce(Sums.merge, parts)) == values(here)


@given(st.integers(1, 200_000), st.lists(st.integers(1, 300), max_size=3))
def test_chunks_are_all_rows_once_and_end_with_their_batches(rows, sizes):
    """Whoever works on them; only the last may end in the middle of a batch, as the data do."""
    spans = chunks(rows, Wanted(tuple(sizes)))
    assert [first for first, _ in spans] == [0, *itertools.accumulate(count for _, count in spans)][:-1]
    assert sum(count for _, count in spans) == rows
    assert all(count % size == 0 for _, count in spans[:-1] for size in sizes)


def shrinking(scale: torch.Tensor, b_dec: torch.Tensor) -> Dictionary:
    """Return the dictionary x̂ = scale · x + b_dec, per dimension: ReLU(x) and ReLU(−x)."""
    d = len(scale)
    weights = {
        "W_enc": torch.cat([torch.eye(d), -torch.eye(d)], 1),
        "W_dec": torch.cat([torch.diag(scale), -torch.diag(scale)]),
        "b_enc": torch.zeros(2 * d),
        "b_dec": b_dec,
    }
    cfg = config("standard", d_in=d, d_sae=2 * d, apply_b_dec_to_input=False)
    return Dictionary(Checkpoint(cfg, weights))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 50), st.sampled_from([0.0, 1.0, 100.0]))
def test_a_perfect_dictionary_explains_all_and_one_that_says_the_mean_nothing(seed, n, offset):
    """Both ends of the scale, also where the mean dominates."""
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed)) + offset
    perfect = measured(shrinking(torch.ones(5), torch.zeros(5)), MemoryRows(x))
    mean = measured(shrinking(torch.zeros(5), x.double().mean(0).float()), MemoryRows(x))

    assert (perfect["explained_variance"], perfect["fvu"], perfect["mse_per_row"]) == (1.0, 0.0, 0.0)
    assert mean["explained_variance"] == pytest.approx(0.0, abs=1e-6)
    assert mean["r2_uniform_average"] == pytest.approx(0.0, abs=1e-5)


def scaled(dictionary: Dictionary, c: float) -> Dictionary:
    """Return the dictionary that does to c·x what this one does to x, times c."""
    factor = {"b_enc": c, "b_dec": c, "threshold": c}
    weights = {name: tensor * factor.get(name, 1.0) for name, tensor in dictionary.weights.items()}
    return Dictionary(Checkpoint(dictionary.cfg, weights))


MOVE_WITH_THE_SCALE = ("ev_saelens_uncentred", "ev_saelens_uncentred_batch_mean 5")
SQUARED = ("mse_per_row", "mse_per_element", "mse_row_over_batch 5")


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(["standard", "topk", "jumprelu"]), st.integers(0, 100), st.sampled_from([0.01, 0.5, 4.0, 30.0]))
def test_the_units_of_the_rows_change_errors_and_one_foreign_definition_alone(name, seed, c):
    """The square that is averaged where the mean should be squared makes it depend on them; L1 follows them."""
    rows = rows_of(SOME[name], 20, seed)
    before = measured(SOME[name], rows, 5)
    after = measured(scaled(SOME[name], c), MemoryRows(rows.x * c), 5)

    for metric, value in before.items():
        if metric in MOVE_WITH_THE_SCALE:  # to no number at all, where S reaches d²
            assert None in (value, after[metric]) or after[metric] != pytest.approx(value, abs=1e-4), metric
        elif value is None:
            assert after[metric] is None, metric
        elif metric in SQUARED:
            assert after[metric] == pytest.approx(value * c**2, rel=1e-5), metric
        elif metric == "l1_norm":  # latents are in units of the rows
            assert after[metric] == pytest.approx(value * c, rel=1e-5), metric
        else:
            assert after[metric] == pytest.approx(value, abs=1e-5, rel=1e-5), metric


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.1, 5), st.sampled_from([4, 16]))
def test_a_constant_bias_costs_variance_and_one_foreign_definition_does_not_see_it(seed, bias, size):
    """A dictionary that is off by the same in every row: the residual's mean is taken off before it is squared."""
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(seed))
    rows = MemoryRows(x)
    straight = shrinking(torch.full((4,), 0.9), torch.zeros(4))
    crooked = shrinking(torch.full((4,), 0.9), torch.full((4,), bias))
    here, there = measured(straight, rows, size), measured(crooked, rows, size)

    x = x.double()
    error, variance = ((0.1 * x - bias) ** 2).sum(), ((x - x.mean(0)) ** 2).sum()
    assert there["explained_variance"] == pytest.approx(float(1 - error / variance), abs=1e-5)
    assert there["explained_variance"] < here["explained_variance"] - 1e-3 or bias < 0.2
    blind = f"fve_centred_residual {size}"
    assert there[blind] == pytest.approx(here[blind], abs=1e-6)
