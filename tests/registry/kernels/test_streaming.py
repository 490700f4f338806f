"""Dictionaries larger than memory give what they give in memory, and no more than a few slabs are held."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from saereg.registry.dictionary import Dictionary
from saereg.registry.files.tensors import MemoryFile
from saereg.registry.kernels.active import active_of
from saereg.registry.kernels.matrices import Stored
from saereg.registry.kernels.running import has_fast_path, runner_of
from saereg.registry.kernels.streaming import available_bytes, streamed_runner, weights_bytes
from saereg.registry.loading import read, read_checkpoint
from saereg.registry.readings.reading import Reading
from saereg.registry.semantics import row_shape
from saereg.schemas.recipe import SourceTensor, Step
from tests.registry import factories
from tests.registry.factories import relative

FAST = {name: cfg for name, cfg in factories.EVERY_CONFIG.items() if has_fast_path(cfg)}


@dataclass(frozen=True)
class Recording(MemoryFile):
    """Tensors in memory that note the bytes of every box that is read, by name."""

    boxes: dict[str, list[int]] = field(default_factory=dict)

    def box(self, name, box):
        size = math.prod(stop - start for start, stop in box) * self.tensors[name].itemsize
        self.boxes.setdefault(name, []).append(size)
        return super().box(name, box)


def reading_of(checkpoint, transposed=()):
    """Return a checkpoint as a layout gives it, with some tensors stored the other way round."""
    weights = {n: t.transpose(0, 1).contiguous() if n in transposed else t for n, t in checkpoint.weights.items()}
    plan = {
        n: SourceTensor(key=n, steps=(Step(do="transpose" if weights[n].dim() == 2 else "swap_axes"),))
        if n in transposed
        else SourceTensor(key=n)
        for n in weights
    }
    return Reading(checkpoint.cfg, plan, {"": Recording(weights)})


def same(found, expected):
    """Check counts and outputs."""
    for name in ("counts", "fired", "at_sources"):
        left, right = getattr(found.active, name), getattr(expected.active, name)
        assert (left is None and right is None) or torch.equal(left, right)
    assert found.active.positive == expected.active.positive
    assert relative(found.x_hat, expected.x_hat) < 1e-5
    assert relative(found.x_hat_in, expected.x_hat_in) < 1e-5


@pytest.mark.parametrize("transposed", [(), ("W_enc",)], ids=["rows", "columns"])
def test_every_dictionary_streams_as_it_runs_in_memory(transposed):
    """In the order of the file, whichever it is; a few latents at a time."""
    for name, cfg in FAST.items():
        checkpoint = factories.checkpoint(cfg)
        x = factories.rows(13, *row_shape(cfg))
        runner = streamed_runner(reading_of(checkpoint, transposed), memory_bytes=2000)
        assert isinstance(runner.matrices, Stored)
        assert runner.plan.encoder_slab < cfg.d_sae, name
        same(runner.run(x), runner_of(Dictionary(checkpoint)).run(x))


def test_narrow_weights_stream_as_the_dictionary_runs_in_float32():
    """A slab is made float32 when it is used."""
    for name in ("bfloat16", "float16"):
        cfg = factories.native_config("jumprelu_times_norm", dtype=name)
        checkpoint = factories.checkpoint(cfg)
        runner, x = streamed_runner(reading_of(checkpoint), memory_bytes=2000), factories.rows(13, 6)
        assert runner.dtype == "float32"
        same(runner.run(x), runner_of(Dictionary(checkpoint).to(dtype=torch.float32)).run(x))


@pytest.mark.parametrize("name", ["jumprelu_per_source", "topk"])
def test_no_more_than_a_few_slabs_are_ever_read_at_once(name):
    """Weights of 1.5 MB within 400 kB: every box is a small part of a matrix, and each is read once for a block."""
    cfg = factories.crosscoder_config(name, d_in=32, d_sae=2048)
    checkpoint = factories.checkpoint(cfg)
    reading, memory = reading_of(checkpoint), 400_000
    boxes = reading.files[""].boxes
    runner = streamed_runner(reading, memory_bytes=memory)
    x = factories.rows(150, *row_shape(cfg)) / 4
    expected = runner_of(Dictionary(checkpoint)).run(x)
    boxes.clear()
    assert runner.block_rows == 64
    found = [runner.run(part) for part in x.split(runner.block_rows)]
    matrix = checkpoint.weights["W_enc"].nbytes
    for tensor in ("W_enc", "W_dec"):
        assert sum(boxes[tensor]) == 3 * matrix
        assert max(boxes[tensor]) <= memory // 4
    assert torch.equal(torch.cat([part.active.counts for part in found]), expected.active.counts)
    assert relative(torch.cat([part.x_hat for part in found]), expected.x_hat) < 1e-5


def test_a_folder_is_streamed_as_it_is_loaded(tmp_path):
    """In either layout of releases."""
    for name in ("jumprelu", "crosscoder_batchtopk_per_source", "native_groupmax"):
        cfg = FAST[name]
        folder = tmp_path / name
        folder.mkdir()
        factories.write(factories.checkpoint(cfg), folder)
        dictionary, x = Dictionary(read_checkpoint(folder)), factories.rows(13, *row_shape(cfg))
        found = streamed_runner(read(folder), memory_bytes=2 * weights_bytes(cfg) - 2).run(x)
        same(found, runner_of(dictionary).run(x))
        assert torch.equal(active_of(dictionary.encode(x)).counts, found.active.counts)


def test_the_memory_at_hand_is_what_the_machine_or_its_container_leaves():
    """Never more than there is."""
    import os

    assert 0 < available_bytes() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
