"""What a user says of an inventory that does not say it itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, get_args

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.foreign.placing import PlacedRow
from saereg.registry.foreign.values import MisfitError, converted
from saereg.schemas.metrics import MetricId

SETTABLE = (
    "kind", "architecture", "layer", "hook", "hook_out", "parameter", "axis", "steps", "d_in", "d_out", "d_sae", "k",
    "l1_coefficient", "l0_coefficient", "target_l0", "seed", "snapshot", "variant", "model_step", "canonical",
    "expected_failure", "tied",
)  # fmt: skip
"""Fields that `--set` may name."""

CHOICES: Mapping[str, tuple[str, ...]] = {"kind": ("sae", "transcoder", "crosscoder"), "axis": ("snapshot",)}


@dataclass(frozen=True)
class Setting:
    """One value for all rows, or for those whose id matches a pattern.

    Attributes:
        field: one of `SETTABLE`.
        value: in the type of the field.
        pattern: pattern of ids, in which `*` stands for anything.
        word: as it was typed.
    """

    field: str
    value: Any
    pattern: str = "*"
    word: str = ""


@dataclass(frozen=True)
class Given:
    """Everything that was said.

    Attributes:
        release: `name`, `title`, `license`, `version`, those that were given.
        models: what the rows call a base model → its id on the Hub.
        model: base model of rows that name none.
        site: TransformerLens name, with `{layer}`.
        module: path in transformers, with `{layer}`.
        stream: what kind of tensor the site is.
        settings: values of fields; the last one that fits a row holds.
        metrics: what the rows call a number → its definition.
        tokens: the token policy, as plain values.
    """

    release: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    site: str | None = None
    module: str | None = None
    stream: str | None = None
    settings: tuple[Setting, ...] = ()
    metrics: Mapping[str, MetricId] = field(default_factory=dict)
    tokens: Mapping[str, Any] = field(default_factory=dict)

    def setting(self, row: PlacedRow, name: str) -> Setting | None:
        """Return the setting of a field that holds for a row, or None."""
        fitting = [s for s in self.settings if s.field == name and fnmatchcase(row.id, s.pattern)]
        return fitting[-1] if fitting else None


def parse_settings(words: Sequence[str]) -> tuple[Setting, ...]:
    """Return the settings of `FIELD=VALUE` and `PATTERN:FIELD=VALUE`.

    Raises:
        UsageError: when one is of another form, or its value is none of the field.
        UnknownNameError: when a field cannot be set.
    """
    found = []
    for word in words:
        name, mark, text = word.partition("=")
        pattern, _, name = name.rpartition(":")
        if not mark or not name.strip() or not text.strip():
            raise UsageError(f"--set {word}: expected FIELD=VALUE, or PATTERN:FIELD=VALUE for some dictionaries")
        if name not in SETTABLE:
            raise UnknownNameError("field of --set", name, SETTABLE)
        if name in CHOICES and text not in CHOICES[name]:
            raise UsageError(f"--set {word}: {name} is one of {', '.join(CHOICES[name])}")
        try:
            found.append(Setting(name, converted(name, text), pattern or "*", word))
        except MisfitError as problem:
            raise UsageError(f"--set {word}: {text!r} is {problem}") from None
    return tuple(found)


def parse_models(words: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """Return the base model of all rows that name none, and word of the rows → id, of `ORG/NAME` and `WORD=ORG/NAME`.

    Raises:
        UsageError: when one is said twice.
    """
    whole = [word for word in words if "=" not in word]
    pairs = [(word.partition("=")[0].strip(), word.partition("=")[2].strip()) for word in words if "=" in word]
    if len(whole) > 1 or len({name for name, _ in pairs}) < len(pairs) or not all(name and to for name, to in pairs):
        raise UsageError("--model: write ORG/NAME once, for dictionaries that name no model, or WORD=ORG/NAME for each")
    return (whole[0] if whole else None), dict(pairs)


def parse_metrics(words: Sequence[str]) -> dict[str, MetricId]:
    """Return name of a number in the rows → definition, of `NAME=DEFINITION`.

    Raises:
        UsageError: when one is of another form.
        UnknownNameError: when there is no such definition.
    """
    found: dict[str, MetricId] = {}
    known: tuple[MetricId, ...] = get_args(MetricId)
    for word in words:
        name, mark, to = word.partition("=")
        if not mark or not name.strip() or name in found:
            raise UsageError(f"--metric {word}: expected NAME=DEFINITION, each name once")
        chosen = next((metric for metric in known if metric == to.strip()), None)
        if chosen is None:
            raise UnknownNameError("definition", to.strip(), known)
        found[name.strip()] = chosen
    return found


def parse_tokens(words: Sequence[str]) -> dict[str, Any]:
    """Return the token policy of `NAME=VALUE`: true, false, a whole number, a list at `excluded`, else a word.

    Raises:
        UsageError: when one is of another form, or a name is given twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, mark, text = (part.strip() for part in word.partition("="))
        if not mark or not name or not text or name in found:
            raise UsageError(f"--tokens {word}: expected NAME=VALUE, each name once, e.g. bos=true")
        if name == "excluded":
            found[name] = [part.strip() for part in text.split(",")]
        else:
            found[name] = text == "true" if text in ("true", "false") else int(text) if text.isdecimal() else text
    return found
