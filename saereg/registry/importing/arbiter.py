"""Which switches reconstruct a sample of activations best, where the tensors of a state dict do not say.

Every candidate is scored by its explained variance, and the table is shown. Nothing is chosen: a switch with a clear
winner is proposed, and the caller passes it with `--set`.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import FormatError, WeightsError
from saereg.registry.conversion.rows import read_rows
from saereg.registry.files.blocks import require_torch
from saereg.registry.formats.anatomy import dissect
from saereg.registry.formats.state_dict import NAME, SUBTRACTIONS
from saereg.registry.loading import read
from saereg.registry.readings.given import Given, Value
from saereg.registry.readings.source import open_source

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.dictionary import Dictionary

LEAST_ROWS, MOST_ROWS, BATCH_ROWS = 1_000, 4_096, 512
"""Rows that a sample has at least, that are used of it at most, and that are run at a time."""

CLEAR = 0.05
"""Explained variance by which the best candidate of a value must exceed the best of every other to be proposed."""

NORMALIZATIONS = ("none", "layer_norm")
"""Normalizations that are tried."""


@dataclass(frozen=True)
class Score:
    """One candidate.

    Attributes:
        switches: name → value.
        explained_variance: of the sample; None where it is not finite.
    """

    switches: Mapping[str, str]
    explained_variance: float | None


@dataclass(frozen=True)
class Verdict:
    """All candidates of one file.

    Attributes:
        path: the file.
        rows: rows of the sample that were used.
        scores: candidates, the best first.
        proposed: switches with a clear winner, to be passed with `--set`.
    """

    path: Path
    rows: int
    scores: tuple[Score, ...]
    proposed: Mapping[str, str]


def arbitrate(path: Path, given: Mapping[str, Value], sample: Path) -> Verdict:
    """Score every combination of the switches that are not given.

    Args:
        path: state dict.
        given: everything but the switches that are to be found: `activation` above all.
        sample: file with a tensor `x` of at least LEAST_ROWS rows that the dictionary was made to reconstruct.

    Raises:
        FormatError: when something else is missing, or input and output are two places.
        WeightsError: when the sample has too few rows, or of another width.
        UsageError: when a given value does not fit.
        OSError: when a file cannot be read.
    """
    require_torch("scoring candidates")
    x = read_rows(sample, most=MOST_ROWS)
    if len(x) < LEAST_ROWS:
        raise WeightsError(sample.name, f"has {len(x)} rows; at least {LEAST_ROWS} can tell candidates apart", "x")
    scores = [Score(switches, _score(path, {**given, **switches}, x, sample)) for switches in _candidates(path, given)]
    ranked = tuple(sorted(scores, key=_rank, reverse=True))
    return Verdict(path, len(x), ranked, proposed(ranked))


def proposed(scores: tuple[Score, ...]) -> dict[str, str]:
    """Return the switches whose best value beats every other by more than CLEAR and explains anything at all.

    >>> scores = (Score({"a": "1"}, 0.9), Score({"a": "2"}, 0.8))
    >>> proposed(scores)
    {'a': '1'}
    """
    best = scores[0]
    if best.explained_variance is None or best.explained_variance <= 0:
        return {}
    found = {}
    for name, value in best.switches.items():
        others = [_rank(score) for score in scores if score.switches[name] != value]
        if others and best.explained_variance - max(others) > CLEAR:
            found[name] = value
    return found


def _rank(score: Score) -> float:
    return score.explained_variance if score.explained_variance is not None else -float("inf")


def _candidates(path: Path, given: Mapping[str, Value]) -> list[dict[str, str]]:
    """Return every combination of values of the switches that are open."""
    anatomy = dissect(open_source(path).only(), Given(dict(given)))
    switches: dict[str, tuple[str, ...]] = {
        "pre_encoder_subtraction": SUBTRACTIONS,
        "normalization": NORMALIZATIONS,
    }
    switches |= {q.name: q.choices for q in anatomy.questions if q.name.endswith("_latents")}
    names = [name for name in switches if name not in given]
    values = itertools.product(*(switches[name] for name in names))
    return [dict(zip(names, combination, strict=True)) for combination in values]


def _score(path: Path, given: Mapping[str, Value], x: "Tensor", sample: Path) -> float | None:
    from saereg.registry.dictionary import Dictionary

    reading = read(path, given, NAME)
    if reading.cfg.d_in != x.shape[-1] or x.dim() != 2:
        problem = f"rows of shape {tuple(x.shape[1:])}, but {path.name} reads ({reading.cfg.d_in},)"
        raise WeightsError(sample.name, problem, "x")
    if getattr(reading.cfg, "kind", "sae") != "sae":
        raise FormatError(path, "a transcoder predicts another place than it reads: a sample of one cannot score it")
    return _explained_variance(Dictionary(reading.checkpoint()), x, sample)


def _explained_variance(dictionary: "Dictionary", x: "Tensor", sample: Path) -> float | None:
    import math

    import torch

    from saereg.registry.kernels.active import active_of
    from saereg.registry.metrics.definitions import explained_variance
    from saereg.registry.metrics.moments import Moments, moments_of

    total: Moments | None = None
    with torch.no_grad():
        for first in range(0, len(x), BATCH_ROWS):
            batch = x[first : first + BATCH_ROWS]
            f = dictionary.encode(batch)
            x_hat = dictionary.decode(f, batch)
            if not torch.isfinite(x_hat).all():
                return None
            sums = moments_of(batch, x_hat, active_of(f))
            total = sums if total is None else total.merge(sums)
    value = explained_variance(total) if total is not None else None
    if value is None or value.value is None:
        raise WeightsError(sample.name, "its rows are all the same, so there is nothing to explain", "x")
    return value.value if math.isfinite(value.value) else None
