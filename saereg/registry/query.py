"""Which artifacts: flat fields of an artifact, conditions on them, selections."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, get_args

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.withdrawal import standing
from saereg.schemas.manifest import Artifact, CrosscoderArtifact, Manifest, Sparsity, TranscoderArtifact
from saereg.schemas.metrics import Measurement, MetricId


class HasFields(Protocol):
    """Whatever can be selected: it has the flat fields of `FIELDS`."""

    @property
    def fields(self) -> dict[str, Any]:
        """Field → value; absent ones are None."""


A = TypeVar("A", bound=HasFields)

ALIASES = {"ev": "explained_variance", "step": "model_step", "width": "d_sae"}
"""Short names of fields."""

SMALLER_IS_BETTER = frozenset(
    {
        "fvu",
        "mse_per_row",
        "mse_per_element",
        "mse_row_over_batch",
        "fvu_batch_mean",
        "nmse_uncentred_row",
        "dead_fraction",
        "l0",
        "l0_per_source_mean",
        "l0_any_source",
        "l0_positive",
        "l0_batch_mean",
        "dead_rate_1e_6",
        "l1_norm",
        "l1_norm_per_source_mean",
        "ce_spliced",
    }
)
"""Metrics of which the smallest value is the best."""

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, wanted: bool(value == wanted),
    "ne": lambda value, wanted: bool(value != wanted),
    "lt": lambda value, wanted: bool(value < wanted),
    "le": lambda value, wanted: bool(value <= wanted),
    "gt": lambda value, wanted: bool(value > wanted),
    "ge": lambda value, wanted: bool(value >= wanted),
    "in": lambda value, wanted: value in wanted,
    "contains": lambda value, wanted: wanted in value,
}
"""Condition suffix → meaning; the value stands left."""

FIELDS = (
    "release", "id", "kind", "architecture", "format", "model", "model_step", "revision", "layer", "stream", "module",
    "hook_name", "parameter", "site", "site_out", "axis", "steps", "n_sources", "d_in", "d_out", "d_sae",
    *Sparsity.model_fields,
    "seed", "snapshot", "variant", "canonical", "withdrawn", "tokens", *get_args(MetricId),
)  # fmt: skip
"""Every field that a condition, a sort or a column can name."""


def headline(measurements: Iterable[Measurement]) -> dict[str, Measurement]:
    """Return metric → the measurement that stands for it where only one can: in raw units, of the first evaluation.

    An index may hold more of one metric: on other evaluations, at other batch sizes and in other units.
    """
    found: dict[str, Measurement] = {}
    for measurement in sorted(measurements, key=lambda m: m.units != "raw"):
        found.setdefault(measurement.metric, measurement)
    return found


def fields_of(claim: Artifact, manifest: Manifest, metrics: dict[str, float | None]) -> dict[str, Any]:
    """Return the flat fields of an artifact.

    Args:
        claim: its entry in the manifest.
        manifest: the manifest.
        metrics: its measured metrics; absent ones become None.
    """
    crosscoder = claim.sources if isinstance(claim, CrosscoderArtifact) else None
    site_key = crosscoder.site_keys[0] if crosscoder else getattr(claim, "site", None)
    site = manifest.sites.get(site_key or "")
    model = manifest.base_models.get(site.model) if site else None
    values: dict[str, Any] = dict.fromkeys(FIELDS)
    values |= {name: getattr(claim, name) for name in ("id", "kind", "architecture", "format", "d_in", "d_sae")}
    values |= {name: getattr(claim, name) for name in ("seed", "snapshot", "variant", "canonical")}
    values |= claim.sparsity.model_dump()
    values["release"] = f"{manifest.release.name} {manifest.release.version}"
    mark = standing(manifest, manifest.release.version, claim.id)
    values["withdrawn"] = mark.kind if mark else None
    values |= {"site": site_key, "tokens": claim.training.tokens, "d_out": claim.d_in}
    if isinstance(claim, TranscoderArtifact):
        values |= {"site_out": claim.site_out, "d_out": claim.d_out}
    if crosscoder:
        values |= {"axis": crosscoder.axis, "steps": crosscoder.steps, "n_sources": crosscoder.count}
    if site:
        values |= {name: getattr(site, name) for name in ("layer", "stream", "module", "hook_name", "parameter")}
    if model:
        values |= {"model": model.id, "model_step": model.step, "revision": model.revision}
    return values | metrics


def resolve_field(name: str) -> str:
    """Return the full name of a field.

    Raises:
        UnknownNameError: when there is no such field.
    """
    full = ALIASES.get(name, name)
    if full not in FIELDS:
        raise UnknownNameError("field", name, [*FIELDS, *ALIASES])
    return full


@dataclass(frozen=True)
class Selection(Generic[A]):
    """Some artifacts, in order."""

    artifacts: tuple[A, ...]

    def __iter__(self) -> Iterator[A]:
        return iter(self.artifacts)

    def __len__(self) -> int:
        return len(self.artifacts)

    def __getitem__(self, position: int) -> A:
        return self.artifacts[position]

    def find(self, **conditions: Any) -> "Selection[A]":  # noqa: ANN401
        """Return those that also meet these conditions; see `Release.find`."""
        tests = [_test(name, wanted) for name, wanted in conditions.items()]
        return Selection(tuple(a for a in self.artifacts if all(test(a) for test in tests)))

    def sort(self, field: str) -> "Selection[A]":
        """Return them sorted by a field; `-field` reverses. Artifacts without a value come last."""
        name = resolve_field(field.removeprefix("-"))
        present = [a for a in self.artifacts if a.fields[name] is not None]
        absent = [a for a in self.artifacts if a.fields[name] is None]
        present.sort(key=lambda a: a.fields[name], reverse=field.startswith("-"))
        return Selection((*present, *absent))

    def best(self, metric: str) -> A:
        """Return the one with the best measured value of a metric.

        Raises:
            UsageError: when none has a value.
        """
        name = resolve_field(metric)
        ranked = self.sort(name if name in SMALLER_IS_BETTER else f"-{name}")
        if not ranked.artifacts or ranked[0].fields[name] is None:
            raise UsageError(f"no artifact of the {len(self)} selected has a measured {name}; run saereg build")
        return ranked[0]


def meeting(selection: Selection[A], conditions: Iterable[str]) -> Selection[A]:
    """Return the artifacts that meet every condition, each written as for `parse_condition`.

    Raises:
        UsageError: when one is no condition.
        UnknownNameError: when a field does not exist.
    """
    for condition in conditions:
        test = _test(*parse_condition(condition), said=condition)
        selection = Selection(tuple(artifact for artifact in selection if test(artifact)))
    return selection


def _test(condition: str, wanted: Any, said: str | None = None) -> Callable[[HasFields], bool]:  # noqa: ANN401
    name, _, operator = condition.partition("__")
    if operator and operator not in OPERATORS:
        raise UnknownNameError("operator", operator, OPERATORS)
    field, compare = resolve_field(name), OPERATORS[operator or "eq"]

    def test(artifact: HasFields) -> bool:
        value = artifact.fields[field]
        if value is None:
            return wanted is None and operator in ("", "eq")
        try:
            return compare(value, wanted)
        except TypeError:
            kind = type(value).__name__
            written = said or f"{condition}={wanted!r}"
            raise UsageError(f"{written}: {field} is a {kind}, it cannot be compared so") from None

    return test


_SYMBOLS = {"<=": "le", ">=": "ge", "!=": "ne", "<": "lt", ">": "gt", "=": "eq"}
"""Symbol in a condition → operator; longer ones are tried first."""


def parse_condition(text: str) -> tuple[str, Any]:
    """Return the (`field__operator`, value) of a condition such as `l0 < 64` or `architecture = topk`.

    Raises:
        UsageError: when it is no condition.
        UnknownNameError: when its field does not exist.
    """
    for symbol, operator in _SYMBOLS.items():
        name, found, value = text.partition(symbol)
        if found and value.strip("= "):
            field = resolve_field(name.strip())
            return (field if operator == "eq" else f"{field}__{operator}"), _value(value.strip().lstrip("="))
    raise UsageError(f"{text!r} is no condition; write field, one of {' '.join(_SYMBOLS)}, and a value")


def _value(text: str) -> Any:  # noqa: ANN401
    text = text.strip()
    words: dict[str, Any] = {"true": True, "yes": True, "false": False, "no": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("'\"")
