"""The same code on an accelerator; skipped where there is none."""

import pytest
import torch

from saereg.registry.dictionary import Dictionary
from saereg.registry.kernels.plain import PlainRunner
from saereg.registry.kernels.running import has_fast_path, runner_of
from saereg.registry.kernels.streaming import streamed_runner
from saereg.registry.semantics import row_shape
from tests.registry import factories
from tests.registry.factories import relative
from tests.registry.kernels.test_streaming import reading_of

DEVICES = [name for name in ("cuda", "mps") if getattr(torch, name).is_available()]

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not DEVICES, reason="needs a CUDA or MPS device")]

FAST = {name: cfg for name, cfg in factories.EVERY_CONFIG.items() if has_fast_path(cfg)}

WITHIN = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 4e-3}
"""Relative error of outputs in each type: rounding of the product, and latents that it moves over their cuts."""


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", list(WITHIN))
def test_a_device_runs_dictionaries_as_their_own_encode_and_decode(device, dtype):
    """In the type of the weights; in float32 with the same counts."""
    for name, cfg in FAST.items():
        dictionary = Dictionary(factories.checkpoint(cfg)).to(device=device, dtype=getattr(torch, dtype))
        x = factories.rows(50, *row_shape(cfg))
        runner = runner_of(dictionary)
        found, expected = runner.run(x), PlainRunner(dictionary).run(x)
        assert (runner.dtype, found.x_hat.device.type) == (dtype, device)
        if dtype == "float32":
            assert relative(found.x_hat.cpu(), expected.x_hat.cpu()) < WITHIN[dtype], name
            assert torch.equal(found.active.counts, expected.active.counts), name
            assert torch.equal(found.active.fired, expected.active.fired), name
        else:
            worst = (found.x_hat.cpu().double() - expected.x_hat.cpu().double()).norm(dim=-1)
            assert float(worst.median() / expected.x_hat.cpu().double().norm(dim=-1).median()) < WITHIN[dtype], name


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_streams_weights_that_do_not_fit_it(device):
    """Slabs go from the file to the device."""
    for cfg in FAST.values():
        checkpoint = factories.checkpoint(cfg)
        x = factories.rows(50, *row_shape(cfg))
        found = streamed_runner(reading_of(checkpoint), device, 2000).run(x)
        expected = runner_of(Dictionary(checkpoint)).run(x)
        assert torch.equal(found.active.counts.cpu(), expected.active.counts)
        assert relative(found.x_hat.cpu(), expected.x_hat) < 1e-5
