"""One law over tokens, latents and L0 of all artifacts of a site, where a release varies them."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from saereg.registry.floors.bootstrap import bounds, scatter
from saereg.registry.floors.fitting import FEWEST, WIDEST, FitOptions, early_count
from saereg.registry.floors.joint_law import joint_design, joint_fit, joint_resampled, joint_values
from saereg.registry.floors.law import Array
from saereg.registry.floors.noise import SMALLEST, Noise
from saereg.registry.floors.rounding import estimate, rounded
from saereg.registry.floors.series import Key, Point, facts_of, in_order, named
from saereg.schemas.floors import Estimate, JointFloor
from saereg.schemas.metrics import MetricId

Term = Literal["tokens", "d_sae", "l0"]
Parameter = Literal["floor", "a", "b", "c", "d", "g", "h"]

LETTERS: dict[Term, tuple[Parameter, Parameter]] = {"tokens": ("a", "b"), "d_sae": ("c", "d"), "l0": ("g", "h")}
"""Variable → names of its scale and its exponent."""

VALUES, SPAN = 3, 1.5
"""A variable is a term where it has so many values, the largest so many times the smallest."""

RESAMPLES = 300
"""Most bootstrap resamples of a joint law."""

MOST_LAWS = 100
"""Most sites with a law."""

TOGETHER = 0.98
"""Variables whose logarithms are correlated like this cannot be told apart."""


def joint_laws(metric: MetricId, points: Sequence[Point], options: FitOptions) -> tuple[JointFloor, ...]:
    """Return the law of every site where latents or L0 vary, by layer and name.

    Args:
        metric: the loss.
        points: every artifact with one.
        options: how laws are fitted; the early snapshots of each training are.
    """
    groups: dict[Key, list[Point]] = defaultdict(list)
    for point in sorted(points, key=lambda p: (p.tokens, p.d_sae, p.artifact)):
        groups[point.group].append(point)
    split = {key: _comparable(*_split(found, options.early)) for key, found in groups.items()}
    terms = {key: _terms(early) for key, (early, _) in split.items()}
    chosen = [key for key, found in terms.items() if found and found != ("tokens",)]
    kept = ("place", "architecture", "variant", "steps", "site", "kind")
    facts = {key: facts_of(groups[key][0].member) for key in chosen}
    names = named({key: {word: facts[key][word] for word in kept} for key in sorted(chosen, key=repr)})
    chosen.sort(key=lambda key: in_order(groups[key][0].layer, names[key]))
    laws = (
        _law(_bare(names[key], metric, terms[key], split[key][0]), split[key], options) for key in chosen[:MOST_LAWS]
    )
    return tuple(laws)


def _split(points: list[Point], share: float) -> tuple[list[Point], list[Point]]:
    """Return the early points of every training, and those held out; of one without snapshots its end is early."""
    rows: dict[Key, list[Point]] = defaultdict(list)
    for point in points:
        rows[point.series].append(point)
    early, later = [], []
    for found in rows.values():
        count = early_count(len(found), share) if len(found) > 1 else 1
        early += found[:count]
        later += found[count:]
    return early, later


def _terms(points: list[Point]) -> tuple[Term, ...]:
    found: list[Term] = []
    if _varies([p.tokens for p in points]):
        found.append("tokens")
    if _varies([float(p.d_sae) for p in points]):
        found.append("d_sae")
    active = [p.l0 for p in points if p.l0 is not None]
    if len(active) == len(points) and len({p.sparsity for p in points}) >= VALUES and _varies(active):
        found.append("l0")
    return tuple(found)


def _comparable(early: list[Point], later: list[Point]) -> tuple[list[Point], list[Point]]:
    """Return the points that differ in nothing but the variables of their law: at two widths it has no term for widths.

    Of what varies too little to be a term the commonest value is kept.
    """
    same: dict[Term, Callable[[Point], object]] = {
        "tokens": lambda p: p.tokens,
        "d_sae": lambda p: p.d_sae,
        "l0": lambda p: p.sparsity,
    }
    for term, value in same.items():
        if term not in _terms(early):
            common = Counter(value(p) for p in early).most_common(1)[0][0]
            early, later = ([p for p in points if value(p) == common] for points in (early, later))
    return early, later


def _varies(values: list[float]) -> bool:
    return len({rounded(value, 3) for value in values}) >= VALUES and max(values) >= SPAN * min(values)


def _variables(points: list[Point], terms: Sequence[Term]) -> Array:
    rows = [{"tokens": p.tokens, "d_sae": float(p.d_sae), "l0": p.l0 or 1.0} for p in points]
    return np.array([[row[term] for term in terms] for row in rows])


def _bare(name: str, metric: MetricId, terms: tuple[Term, ...], early: list[Point]) -> JointFloor:
    return JointFloor(
        series=name,
        layer=early[0].layer,
        metric=metric,
        evaluation=early[0].evaluation,
        terms=terms,
        points=len(early),
        identified=False,
    )


def _law(bare: JointFloor, split: tuple[list[Point], list[Point]], options: FitOptions) -> JointFloor:
    (early, later), terms = split, bare.terms
    needed = 1 + 2 * len(terms) + 1
    if len(early) < max(needed, FEWEST):
        return bare.model_copy(update={"reason": f"{len(early)} artifacts; a law of these variables needs {needed}"})
    variables = _variables(early, terms)
    if (same := _together(variables, terms)) is not None:
        return bare.model_copy(update={"reason": same})
    losses = np.array([p.loss for p in early])
    design = joint_design(variables, losses)
    theta = joint_fit(design, losses)
    draws = _draws(theta, variables, losses, options)
    parameters = _parameters(theta, draws, design.centres, terms, options.level)
    errors = _errors(theta, later, terms, design.centres)
    return bare.model_copy(
        update={
            "parameters": parameters,
            "identified": (doubt := _doubt(parameters, terms, float(losses.min()))) is None,
            "reason": doubt,
            "predictions": len(errors),
            "relative_error": rounded(math.fsum(errors) / len(errors), 4) if errors else None,
        }
    )


def _together(variables: Array, terms: Sequence[Term]) -> str | None:
    """Return which variables rise and fall together; None where none do."""
    if len(terms) < 2:
        return None
    correlations = np.corrcoef(np.log(variables), rowvar=False)
    for i, first in enumerate(terms):
        for j, second in enumerate(terms[:i]):
            if abs(correlations[i, j]) > TOGETHER:
                return f"{second} and {first} vary together, so their terms cannot be told apart"
    return None


def _draws(theta: Array, variables: Array, losses: Array, options: FitOptions) -> Array:
    design = joint_design(variables, losses)
    expected = joint_values(theta[None], design.logs)
    freedom = len(losses) - len(theta)
    variance = float((((losses - expected[0]) / losses) ** 2).sum()) / freedom
    count = min(options.resamples, RESAMPLES)
    drawn = scatter(Noise(max(variance, SMALLEST**2), freedom), (count, len(losses)), options.seed)
    return joint_resampled(design, theta, expected * np.exp(drawn))


def _parameters(
    theta: Array, draws: Array, centres: Array, terms: Sequence[Term], level: float
) -> dict[Parameter, Estimate]:
    """Return the estimates, with scales in the variables' own units: a = scale · exp(b · centre)."""
    all_of_them = np.concatenate([theta[None], draws])
    exponents = np.exp(all_of_them[:, 2::2])
    columns: dict[Parameter, Array] = {"floor": all_of_them[:, 0]}
    for i, term in enumerate(terms):
        scale, exponent = LETTERS[term]
        columns[scale] = all_of_them[:, 1 + 2 * i] * np.exp(exponents[:, i] * centres[i])
        columns[exponent] = exponents[:, i]
    found = {}
    for name, column in columns.items():
        low, high = bounds(column[1:, None], column[:1], level)
        found[name] = estimate(float(column[0]), float(low[0]), float(high[0]))
    return found


def _errors(theta: Array, later: list[Point], terms: Sequence[Term], centres: Array) -> list[float]:
    if not later or ("l0" in terms and any(p.l0 is None for p in later)):
        return []
    predicted = joint_values(theta[None], np.log(_variables(later, terms)) - centres)[0]
    return [abs(float(value) - p.loss) / p.loss for value, p in zip(predicted, later, strict=True)]


def _doubt(parameters: dict[Parameter, Estimate], terms: Sequence[Term], least: float) -> str | None:
    idle = [term for term in terms if parameters[LETTERS[term][0]].value == 0]
    if idle:
        return f"the loss does not fall with {' and '.join(idle)}"
    found = parameters["floor"].interval
    if found is not None and found.high - found.low > WIDEST * least:
        return f"any floor between {found.low:g} and {found.high:g} fits the points about as well"
    return None
