"""Checks of third parties: entry points of the group `saereg.checks`, loaded only when a configuration names them.

An entry point leads to a module (or any object) with two tuples: `RULES`, classes that derive from
`saereg.registry.validators.rules.text.RuleText`, and `CHECKS`, made of `ReleaseCheck` and `ArtifactCheck`. The letters
of its codes are its own: never `SR`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.validators.check import ArtifactCheck, Check, ReleaseCheck
from saereg.registry.validators.rules import RULES
from saereg.registry.validators.rules.text import RuleText
from saereg.schemas.report import LEVELS

GROUP = "saereg.checks"
"""The entry-point group."""

_CODE = re.compile(r"^(?!SR\d)[A-Z]{2,10}[0-9]{3}$")


@dataclass(frozen=True)
class Book:
    """The rules and checks of a run.

    Attributes:
        rules: code → rule.
        checks: every check, in the order in which they run.
    """

    rules: Mapping[str, type[RuleText]]
    checks: tuple[Check, ...]


def book_of(names: Iterable[str]) -> Book:
    """Return saereg's own rules and checks together with those of the named plugins.

    Raises:
        UsageError: when a plugin is not installed, offered twice, cannot be loaded, or repeats a code or a name.
    """
    from saereg.registry.validators import CHECKS

    rules, checks = dict(RULES), list(CHECKS)
    for name in dict.fromkeys(names):
        found = _load(name)
        for rule in _of(found, "RULES", name):
            _add_rule(rules, rule, name)
        for check in _of(found, "CHECKS", name):
            _add_check(checks, check, name)
    return Book(rules, tuple(checks))


def _load(name: str) -> object:
    known = entry_points(group=GROUP)
    offered: list[EntryPoint] = [point for point in known if point.name == name]
    if not known:
        raise UsageError(f"unknown plugin {name!r}; no installed package has an entry point of the group {GROUP!r}")
    if not offered:
        raise UnknownNameError("plugin", name, {point.name for point in known})
    if len({point.value for point in offered}) > 1:
        owners = ", ".join(sorted(f"{p.dist.name if p.dist else '?'} ({p.value})" for p in offered))
        raise UsageError(f"plugin {name!r} is offered by several packages: {owners}; uninstall all but one")
    try:
        return offered[0].load()
    except Exception as error:  # somebody else's module may raise anything; its name is what the user needs
        raise UsageError(f"plugin {name!r} cannot be loaded: {type(error).__name__}: {error}") from error


def _of(found: object, attribute: str, name: str) -> tuple[object, ...]:
    value = getattr(found, attribute, None)
    if not isinstance(value, tuple | list):
        raise UsageError(f"plugin {name!r} has no tuple {attribute}; docs/validate.md shows one that has")
    return tuple(value)


def _add_rule(rules: dict[str, type[RuleText]], rule: object, name: str) -> None:
    if not isinstance(rule, type) or not issubclass(rule, RuleText):
        raise UsageError(f"plugin {name!r}: {rule!r} in RULES is no class derived from RuleText")
    code = rule.__name__
    if not _CODE.match(code):
        raise UsageError(f"plugin {name!r}: {code!r} is no code; write 2 to 10 capital letters, not SR, and 3 digits")
    if code in rules:
        raise UsageError(f"plugin {name!r}: the code {code} exists already")
    if getattr(rule, "severity", None) is None or getattr(rule, "level", None) not in LEVELS:
        raise UsageError(f"plugin {name!r}: {code} needs `severity` and `level`")
    rules[code] = rule


def _add_check(checks: list[Check], check: object, name: str) -> None:
    if not isinstance(check, ReleaseCheck | ArtifactCheck):
        raise UsageError(f"plugin {name!r}: {check!r} in CHECKS is neither ReleaseCheck nor ArtifactCheck")
    if check.level not in LEVELS or not callable(check.run):
        raise UsageError(f"plugin {name!r}: the check {check.name!r} needs a known level and a function")
    if any(known.name == check.name for known in checks):
        raise UsageError(f"plugin {name!r}: the check {check.name!r} exists already")
    checks.append(check)
