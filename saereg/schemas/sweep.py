"""The configuration of `saereg train sweep`: many runs in one file, which share what they can."""

import json
import re
from itertools import product
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from saereg.errors import UsageError
from saereg.schemas.document import Document
from saereg.schemas.names import Key
from saereg.schemas.overlay import overlaid
from saereg.schemas.training import TrainConfig
from saereg.schemas.training_crosscoder import CrosscoderTrainConfig

MOST_RUNS = 10_000
"""More runs than this are a slip of the pen."""

_FIELD = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}")

Run = TrainConfig | CrosscoderTrainConfig

TOLD = (
    "architecture", "gate", "d_sae", "k", "l1_coefficient", "l0_coefficient", "tied", "decoder_norm",
    "normalize_activations",
)  # fmt: skip
"""Settings of a dictionary that its entry in the manifest tells."""

ID = "id"
"""Place, in a case, of a template of its own for the id."""


class SweepConfig(Document):
    """Runs: every case with every combination of the grid, laid over the base."""

    kind: Literal["sae", "crosscoder"]
    """What is trained: the base is a configuration of `saereg train sae` or of `saereg train crosscoder`."""
    name: Key = "sweep"
    """Folder of its checkpoints to resume from."""
    base: dict[str, JsonValue]
    """What all runs have; `artifact.variant` may have settings in braces, as `id`."""
    cases: tuple[dict[str, JsonValue], ...] = ({},)
    """Settings that belong together, as dotted place → value; null takes a setting of the base away."""
    grid: dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict)
    """Dotted place → values, of which every combination is a run."""
    id: str | None = Field(default=None, min_length=1)
    """Id of each artifact, with settings in braces: `layer_2/l1_{sae.l1_coefficient:.2f}/seed{seed}`; null where every
    case has its own."""
    together: int = Field(default=8, gt=0)
    """Dictionaries that are trained at once, in one pass over the rows; each needs 16 bytes of memory per weight."""

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        count = len(self.cases)
        for place, values in self.grid.items():
            if not values:
                raise ValueError(f"`grid` has no values for {place}")
            count *= len(values)
        if self.id is None and any(ID not in case for case in self.cases):
            raise ValueError("`id` is missing: a template of the ids, here or in every case")
        if not self.cases or count > MOST_RUNS:
            raise ValueError(f"{count} runs; there must be 1 to {MOST_RUNS:,}")
        return self

    def runs(self) -> list[Run]:
        """Return the configuration of every run, in the order of the cases and of the grid.

        Raises:
            UsageError: when two have one id, or a template names what is not there.
            DocumentError: when one does not fit its schema.
        """
        parse = TrainConfig if self.kind == "sae" else CrosscoderTrainConfig
        shared = {"order_seed": self.base.get("order_seed", self.base.get("seed", 0))}
        found: dict[str, Run] = {}
        for case in self.cases:
            for values in product(*self.grid.values()):
                places = dict(zip(self.grid, values, strict=True)) | {k: v for k, v in case.items() if k != ID}
                settings = overlaid({**self.base, **shared}, places)
                name = _filled(str(case.get(ID, self.id)), settings)
                settings = overlaid(settings, {"artifact.id": name})
                if isinstance(variant := settings["artifact"].get("variant"), str):
                    settings["artifact"]["variant"] = _filled(variant, settings, "artifact.variant")
                run = parse.from_text(json.dumps(settings), f"run {name}")
                if found.setdefault(name, run) != run:  # a case that fixes a place of the grid gives equal ones
                    raise UsageError(f"two runs of the sweep are called {name!r}; put what differs into `id`")
        _check_told_apart(found)
        return list(found.values())


def _check_told_apart(runs: dict[str, Run]) -> None:
    """Refuse runs that no field of their entries would tell apart, before they are trained.

    Raises:
        UsageError: with the first two.
    """
    seen: dict[str, str] = {}
    for name, run in runs.items():
        sae = run.sae if isinstance(run, TrainConfig) else run.crosscoder
        if sae.target_l0 is not None:
            continue  # what it is steered to differs, and is told
        where = (run.site, run.site_out) if isinstance(run, TrainConfig) else run.sources
        settings = {key: value for key, value in sae.model_dump().items() if key in TOLD}
        if (other := seen.setdefault(repr((where, run.order, run.seed, run.artifact.variant, settings)), name)) != name:
            raise UsageError(
                f"runs {other!r} and {name!r} of the sweep: no field of the manifest says in what they differ; "
                "write it into `artifact.variant`, which may have settings in braces as `id` does"
            )


def _filled(template: str, settings: dict[str, Any], place: str = ID) -> str:
    def value(match: re.Match[str]) -> str:
        level: Any = settings
        for name in match[1].split("."):
            if not isinstance(level, dict) or name not in level:
                raise UsageError(f"`{place}` of the sweep: {match[0]} names no setting of a run")
            level = level[name]
        try:
            return format(level, match[2] or "")
        except (ValueError, TypeError) as problem:
            raise UsageError(f"`{place}` of the sweep: {match[0]}: {problem}") from None

    return _FIELD.sub(value, template)
