"""Rows with an axis more are not always rows of several sources."""

import pytest
import torch
from safetensors.torch import save_file

from saereg.errors import WeightsError
from saereg.registry.dictionary import Dictionary
from saereg.registry.kernels.running import runner_of
from saereg.registry.metrics.definitions import DEFINITIONS
from saereg.registry.metrics.engine import Wanted, total_sums
from saereg.registry.metrics.sources.activations import StoredRows
from saereg.schemas.evaluation import ActivationRows
from tests.registry.factories import D_IN, checkpoint, config, rows


def stored(folder, tensors, **more) -> StoredRows:
    save_file(tensors, folder / "data.safetensors")
    values = {"source": "activations", "path": "data.safetensors", "rows": len(next(iter(tensors.values())))}
    return StoredRows(folder / "data.safetensors", ActivationRows.model_validate(values | more))


def test_each_position_of_a_text_is_a_row(tmp_path):
    """Every metric of a temporal dictionary is that of the positions, and there are no sources."""
    dictionary, x = Dictionary(checkpoint(config("temporal"))), rows(10, 8, D_IN)

    found = total_sums(runner_of(dictionary), stored(tmp_path, {"x": x}), Wanted((16,), ("raw",))).moments["raw"]

    f, x_hat = dictionary.encode(x), dictionary(x)
    error, spread = ((x_hat - x).double() ** 2).sum(), ((x - x.mean((0, 1))).double() ** 2).sum()
    assert (found.rows, found.width, found.sources) == (80, D_IN, 1)
    assert DEFINITIONS["l0"](found).value == float((f != 0).sum() / 80)
    assert DEFINITIONS["mse_per_row"](found).value == pytest.approx(float(error / 80), rel=1e-6)
    assert DEFINITIONS["explained_variance"](found).value == pytest.approx(float(1 - error / spread), rel=1e-6)
    assert DEFINITIONS["explained_variance"](found).per_source == ()


def test_heads_are_no_sources(tmp_path):
    """A dictionary of `hook_z` reads them side by side: the numbers are those of the flat rows."""
    metadata = {"hook_name": "blocks.1.attn.hook_z"}
    dictionary = Dictionary(checkpoint(config("standard", reshape_activations="hook_z", metadata=metadata)))
    x = rows(40, 2, D_IN // 2)

    found = total_sums(runner_of(dictionary), stored(tmp_path, {"x": x}), Wanted()).moments["raw"]

    assert (found.rows, found.width, found.sources) == (40, D_IN, 1)
    error = ((dictionary(x) - x).double() ** 2).sum()
    assert DEFINITIONS["mse_per_row"](found).value == pytest.approx(float(error / 40), rel=1e-6)


def test_an_input_that_is_not_finite_is_blamed_itself(tmp_path):
    """Also where something else is to be predicted of it."""
    x, y = rows(40, D_IN), rows(40, D_IN, seed=1)
    x[33, 2] = torch.nan
    data = stored(tmp_path, {"x": x, "y": y}, target="y")

    with pytest.raises(WeightsError, match="the input of row 33 is not finite"):
        total_sums(runner_of(Dictionary(checkpoint(config("transcoder")))), data, Wanted())
