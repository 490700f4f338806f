"""What the files of a crosscoder of a parameter say beside its weights: snapshots, parameter, input statistics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saereg.errors import FormatError
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.tensors import TensorFile
from saereg.registry.readings.given import Given, missing
from saereg.registry.readings.source import Source
from saereg.schemas.recipe import SourceTensor, Step, moved
from saereg.schemas.semantics import Assumption

WRAPPED, STATISTICS = "state_dict/", "statistics"
"""Where the originals have their tensors, and the name of the file of input statistics among those of a reading."""

PREPROCESS = ("none", "center", "center_scale")


@dataclass(frozen=True)
class Facts:
    """What the document beside the weights says, or an original itself.

    Attributes:
        outer: metadata.
        inner: configuration of the crosscoder's class.
        prefix: before the names of the weights.
    """

    outer: Mapping[str, Any]
    inner: Mapping[str, Any]
    prefix: str


def facts_of(source: Source) -> Facts:
    """Return what `<name>.config.json` or an original says; newer ones say it one level deeper, under `config`."""
    prefix = WRAPPED if f"{WRAPPED}W_E" in source.keys else ""
    outer = source.document(f"{source.stem}.config.json") or {}
    if prefix and source.weights is not None:
        outer = _tree(source.weights.facts)
    inner = outer.get("config")
    inner = inner if isinstance(inner, dict) else {}
    if {"steps", "model_name"} <= inner.keys() and not {"steps", "model_name"} & outer.keys():
        deeper = inner.get("config")
        outer, inner = {**outer, **inner}, (deeper if isinstance(deeper, dict) else inner)
    return Facts(outer, inner, prefix)


def _tree(facts: Mapping[str, object]) -> dict[str, Any]:
    """Return the plain values of a pickle as they were nested: keys joined by `/`, and lists under numbers."""
    tree: dict[str, Any] = {}
    for name, value in facts.items():
        *way, last = name.split("/")
        branch: Any = tree
        for key in way:
            branch = branch.setdefault(key, {}) if isinstance(branch, dict) else {}
        if isinstance(branch, dict):
            branch[last] = value
    return {key: _listed(value) for key, value in tree.items()}


def _listed(value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, dict):
        return value
    if set(value) == {str(index) for index in range(len(value))}:
        return [_listed(value[str(index)]) for index in range(len(value))]
    return {key: _listed(item) for key, item in value.items()}


def statistics_of(
    source: Source, facts: Facts, given: Given, files: dict[str, TensorFile]
) -> tuple[str, dict[str, SourceTensor]]:
    """Return how rows are centred and scaled, and the recipes of its numbers.

    Raises:
        FormatError: when the files do not say it, or say it and do not hold the numbers.
    """
    training = facts.outer.get("training")
    places = (training if isinstance(training, dict) else {}, facts.outer, facts.inner)
    keys = ("input_preprocess", "preprocess_mode")
    said = next((place[key] for place in places for key in keys if place.get(key) is not None), None)
    if said is not None and said not in PREPROCESS:
        raise FormatError(source.path, f"input_preprocess is {said!r}; expected one of {', '.join(PREPROCESS)}")
    mode, path = given.text("preprocess", PREPROCESS) or said, given.text("input_statistics")
    if mode is None:
        raise missing(source.path, "preprocess", "the configuration does not say how rows were prepared", "none")
    if mode == "none" and path is not None:
        raise FormatError(source.path, "input statistics are given, but rows are taken as they are; drop one of them")
    if mode == "none":
        return mode, {}
    if path is not None:
        files[STATISTICS] = _opened(path)
        return mode, _recipes_of(mode, files[STATISTICS], "", STATISTICS)
    if "preprocess_stats/mean" in source.keys:
        return mode, _recipes_of(mode, source.only(), "preprocess_stats/", None)
    why = (
        f"rows were prepared by {mode!r} and the files do not hold the statistics; take mean (K, D) and root mean "
        "square deviation (K,) of the parameter at each snapshot, as `mean` and `scale` of a safetensors file, or "
        "prepare rows yourself (--set preprocess=none)"
    )
    raise missing(source.path, "input_statistics", why, "statistics.safetensors")


def _opened(path: str) -> TensorFile:
    try:
        return open_tensors(Path(path))
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror}") from None


def _recipes_of(mode: str, file: TensorFile, prefix: str, name: str | None) -> dict[str, SourceTensor]:
    """Return the recipes of mean and factor; the publisher's `scale` is a divisor, our own `input_scale` a factor."""
    ours = f"{prefix}input_mean" in file.entries
    mean, scale = (f"{prefix}input_mean", f"{prefix}input_scale") if ours else (f"{prefix}mean", f"{prefix}scale")
    wanted = (mean, scale) if mode == "center_scale" else (mean,)
    for key in wanted:
        if key not in file.entries:
            listed = ", ".join(sorted(file.entries)[:12])
            raise FormatError(file.path, f"has no {key!r}; it holds {listed}; expected mean and scale")
    inverse = () if ours else (Step(do="reciprocal", by=0.0),)
    plan = {"input_mean": moved(mean, *_squeezed(file, mean, 2), file=name)}
    if mode == "center_scale":
        plan["input_scale"] = moved(scale, *_squeezed(file, scale, 1), *inverse, file=name)
    return plan


def _squeezed(file: TensorFile, key: str, rank: int) -> tuple[Step, ...]:
    """Return the steps that drop axes of length 1 behind the first, down to a rank."""
    shape, steps = list(file.entries[key].shape), []
    while len(shape) > rank and 1 in shape[1:]:
        axis = shape.index(1, 1)
        del shape[axis]
        steps.append(Step(do="squeeze", axis=axis))
    return tuple(steps)


def parameter_of(source: Source, facts: Facts, given: Given) -> tuple[str, list[Assumption]]:
    """Return the name of the parameter, which changes no number."""
    said = given.text("parameter") or facts.outer.get("parameter") or facts.outer.get("matrix")
    if isinstance(said, str):
        return said, []
    found = "W_E" if "W_E" in source.path.resolve().parts else "W_U"
    because = "the publisher's own rule: W_E in a folder of that name, else W_U; this changes no number"
    return found, [Assumption(field="parameter", value=found, because=because)]


def steps_of(facts: Facts, given: Given, count: int, source: Source) -> tuple[int, ...]:
    """Return the pretraining step of each snapshot.

    Raises:
        FormatError: when they are not there, or are not `count` rising whole numbers.
    """
    said, steps = given.text("steps"), facts.outer.get("steps")
    if said is not None:
        steps = [int(step) if step.strip().isdigit() else step for step in said.split(",")]
    if not isinstance(steps, list):
        raise missing(source.path, "steps", "the files do not say which snapshots were read", "0,1000,143000")
    good = all(type(step) is int and step >= 0 for step in steps) and steps == sorted(set(steps))
    if not good or len(steps) != count:
        problem = f"`steps` are {str(steps)[:80]}; expected {count} whole numbers that rise, one for each snapshot"
        raise FormatError(source.path, problem)
    return tuple(steps)


def metadata_of(facts: Facts) -> dict[str, object]:
    """Return what the files say of model and training."""
    said = {"trajectory_" + key: facts.outer.get(key) for key in ("kind", "seed", "git_commit")}
    return {"model_name": facts.outer.get("model_name")} | said
