"""saereg.toml, or `[tool.saereg]` of pyproject.toml: how the findings of one project are graded."""

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from saereg.schemas.document import Document, Record
from saereg.schemas.metrics import MetricId
from saereg.schemas.report import Severity

RulePrefix = Annotated[str, Field(pattern=r"^[A-Z]{2,10}[0-9]{0,3}$")]
"""A code, or the beginning of codes: `SR301`, `SR3`, `SR`."""


def _in_words(value: str) -> str:
    if len(value.split()) < 2 or len(value.strip()) < 8:
        raise ValueError(f"{value!r} is no reason; say in a few words why the finding is accepted")
    return value


Reason = Annotated[str, AfterValidator(_in_words)]
"""Words that tell a stranger why; one word is none."""


_UNBOUNDED = ("l0", "mse")
"""Beginnings of the metrics that may be far above 1."""


class Ignore(Record):
    """Findings that are known and accepted."""

    rules: tuple[RulePrefix, ...] = Field(min_length=1)
    """Codes or prefixes."""
    reason: Reason
    """Why; it stands in every report beside the finding."""
    paths: tuple[str, ...] = ()
    """Patterns of files, as in `layer_*/cfg.json`; `*` stays in its folder, `**` does not; none means every file."""
    artifacts: tuple[str, ...] = ()
    """Patterns of artifact ids; none means every artifact."""


class Settings(Document):
    """Configuration of `saereg validate` for one release or project."""

    profile: str | None = None
    """What kind of release it is: `base`, `saelens`, `sparsify`, `dictionary-learning`, `crosscoder-params`."""
    policy: str | None = None
    """What it is validated for: `ci-fast`, `hub-public`, `paper`."""
    select: tuple[RulePrefix, ...] = ()
    """Rules to look at; none means all."""
    ignore: tuple[Ignore, ...] = ()
    """Findings that are known and accepted, each with its reason."""
    severity: dict[RulePrefix, Severity] = Field(default_factory=dict)
    """Code or prefix → severity; the longest prefix that fits decides."""
    tolerances: dict[MetricId, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Metric → largest absolute difference between a claim and its measurement that still agrees."""
    plugins: tuple[str, ...] = ()
    """Names of installed third-party checks (entry points of the group `saereg.checks`) to run too."""

    @field_validator("tolerances")
    @classmethod
    def _not_boundless(cls, value: dict[str, float]) -> dict[str, float]:
        for metric, tolerance in value.items():
            if not metric.startswith(_UNBOUNDED) and tolerance > 1:
                raise ValueError(f"a tolerance of {tolerance:g} for {metric} lets every number pass")
        return value
