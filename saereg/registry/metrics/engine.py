"""Recompute metrics from released weights on stored activations, batch by batch."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from saereg import __version__
from saereg.errors import UsageError, WeightsError
from saereg.registry.files.blocks import read_span
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.header import read_header
from saereg.registry.metrics.definitions import DEFINITIONS, PER_SOURCE, Value
from saereg.registry.metrics.moments import Moments, moments_of
from saereg.schemas.manifest import Evaluation, Manifest
from saereg.schemas.metrics import DType, Measurement, MetricId

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.dictionary import Dictionary

BATCH_ROWS = 2048
"""Rows per batch; the canonical metrics do not depend on it beyond 1e-6."""


def evaluation_rows(
    path: Path, evaluation: Evaluation, batch_rows: int = BATCH_ROWS
) -> "Iterator[tuple[Tensor, Tensor]]":
    """Yield (input, target) batches of an evaluation file; the target is the input unless the file holds its own.

    Raises:
        WeightsError: when the file does not hold what the manifest says.
    """
    header = read_header(path)
    names = (evaluation.tensor, evaluation.target or evaluation.tensor)
    for name in names:
        if name not in header.tensors:
            raise WeightsError(path.name, f"missing; the file holds {', '.join(header.tensors)}", name)
        rows = header.tensors[name].shape[0] if header.tensors[name].shape else 0
        if rows != evaluation.rows:
            raise WeightsError(path.name, f"has {rows} rows, the manifest says {evaluation.rows}", name)
    x, target = (header.tensors[name] for name in names)
    for first in range(0, evaluation.rows, batch_rows):
        count = min(batch_rows, evaluation.rows - first)
        batch = read_span(path, x, first, count)
        yield batch, batch if evaluation.target is None else read_span(path, target, first, count)


def moments(dictionary: "Dictionary", path: Path, evaluation: Evaluation, batch_rows: int = BATCH_ROWS) -> Moments:
    """Run a dictionary over an evaluation and return the sums.

    Raises:
        WeightsError: when the data does not fit the dictionary or is not finite.
    """
    total: Moments | None = None
    first = 0
    with torch.no_grad():
        for x, target in evaluation_rows(path, evaluation, batch_rows):
            x_run = x.to(dictionary.device)  # the dictionary casts: statistics are applied before rounding
            try:
                f = dictionary.encode(x_run)
                x_hat = dictionary.decode(f, x_run)
            except UsageError as error:
                raise WeightsError(path.name, str(error), evaluation.tensor) from None
            batch = moments_of(target.to(dictionary.device), x_hat, f, first)
            total, first = batch if total is None else total.merge(batch), first + len(x)
    if total is None:
        raise WeightsError(path.name, "holds no rows", evaluation.tensor)
    return total


def _finite(value: Value) -> Value:
    if value.value is None or (math.isfinite(value.value) and math.isfinite(value.tolerance)):
        return value
    return Value(None, "the sums are larger than float64 can hold")


def measure(
    dictionary: "Dictionary", root: Path, manifest: Manifest, name: str, *, data_sha256: str | None = None
) -> tuple[Measurement, ...]:
    """Return every metric of a dictionary on one evaluation, with all that is needed to repeat it.

    Args:
        dictionary: the dictionary.
        root: release folder.
        manifest: its manifest.
        name: key of the evaluation in the manifest.
        data_sha256: digest of its file where it is known: many dictionaries are measured on one file.

    Raises:
        WeightsError: when the data does not fit the dictionary or is not finite.
    """
    evaluation = manifest.evaluations[name]
    path, site = root / evaluation.path, manifest.sites.get(evaluation.site or "")
    are_tokens = site is not None and site.stream != "parameter"
    sums = moments(dictionary, path, evaluation)
    definitions = DEFINITIONS | (PER_SOURCE if sums.per_source else {})
    digest = data_sha256 or sha256_of(path)
    tool = {"saereg": __version__, "torch": str(torch.__version__)}
    found = []
    for metric, definition in definitions.items():
        value = _finite(definition(sums))
        found.append(
            Measurement(
                metric=cast(MetricId, metric),
                value=value.value,
                reason=value.reason,
                tolerance=value.tolerance,
                minimum=value.minimum,
                maximum=value.maximum,
                evaluation=name,
                data_sha256=digest,
                rows=sums.rows,
                tokens=sums.rows if are_tokens else None,
                dtype=cast(DType, str(dictionary.dtype).removeprefix("torch.")),
                tool=tool,
            )
        )
    return tuple(found)
