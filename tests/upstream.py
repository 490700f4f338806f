"""What tests of formats share: weights that hide no mistake, and a comparison with the publisher's own forward."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saereg.errors import SaeregError
from saereg.registry.conversion import proof
from saereg.registry.conversion.convert import Order, convert
from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import layout_of, read
from saereg.registry.readings.source import open_source
from saereg.schemas.conversion import Conversion

D, F, O, K = 16, 48, 12, 5  # noqa: E741
"""Widths: input, latents, output of a transcoder; and k. No two are equal, so no transpose goes unnoticed."""

ROWS = 64

TOLERANCE = 1e-5
"""Largest relative error of x_hat against the publisher's own forward in float32."""


def random(*shape: int, seed: int = 0, scale: float = 0.5) -> Tensor:
    """Return float32 numbers: decoder rows of such are far from unit norm, biases far from zero."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def rows(*shape: int, seed: int = 99) -> Tensor:
    """Return inputs (ROWS, *shape)."""
    return torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(seed))


def relative(found: Tensor, expected: Tensor) -> float:
    """Return ‖found − expected‖ / ‖expected‖."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def assert_same(
    path: Path,
    x: Tensor,
    f: Tensor | None,
    x_hat: Tensor,
    *,
    given: Mapping[str, str | int | float | bool] | None = None,
    layout: str | None = None,
) -> Dictionary:
    """Assert that what lies at a path computes what the publisher's own code computed; return it.

    Args:
        path: file or folder.
        x: inputs.
        f: the publisher's latents, dense; None where its code gives none.
        x_hat: the publisher's reconstruction.
        given: what the files do not say.
        layout: where several fit.
    """
    reading = read(path, given, layout)
    dictionary = Dictionary(reading.checkpoint())
    if f is not None:
        found = dictionary.encode(x)
        assert torch.equal(found != 0, f != 0)
        assert relative(found, f) <= TOLERANCE
    assert relative(dictionary(x), x_hat) <= TOLERANCE
    return dictionary


def assert_converts(
    path: Path, target: Path, to: str, *, given: Mapping[str, str | int | float | bool] | None = None
) -> Conversion:
    """Convert with proof, and assert that the proof says everything it must."""
    record = convert(Order(path, target, to, given=given or {}))
    assert record.golden is not None
    assert record.golden.replayed[0].active_sets_equal
    assert record.golden.replayed[0].max_rel_error <= TOLERANCE
    assert all(tensor.bitwise for name, tensor in record.tensors.items() if record.plan[name].is_movement)
    assert (target / "conversion.json").is_file()
    return record


def assert_golden_catches(path: Path, wrong: Callable[[Dictionary], Tensor], **given: str | int | float) -> float:
    """Assert that a reading with a wrong switch fails the golden vectors of the right one; return its relative error.

    Args:
        path: file or folder.
        wrong: dictionary of the right reading → x_hat that a wrong reader would give on the golden inputs `x`.
        given: what the files do not say.
    """
    source = open_source(path)
    layout = layout_of(source)
    reading = read(path, given)
    golden = proof.golden_vectors(layout, reading, source=source)
    dictionary = Dictionary(reading.checkpoint())
    assert relative(dictionary(golden.x), golden.x_hat) <= TOLERANCE
    dictionary.golden_x = golden.x  # type: ignore[attr-defined]
    error = relative(wrong(dictionary), golden.x_hat)
    assert error > 1e-3
    return error


def refusal(path: Path, **given: str | int | float | bool) -> str:
    """Return the one line with which reading a path is refused."""
    with pytest.raises(SaeregError) as caught:
        read(path, given).checkpoint()
    assert "\n" not in str(caught.value)
    return str(caught.value)
