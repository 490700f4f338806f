"""A YAML file and flags as one configuration; the flags win."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from saereg.errors import DocumentError, UsageError
from saereg.registry.files import yaml_problem
from saereg.schemas import overlay

MOST_VALUES = 100_000
"""Values of a configuration, with what its aliases stand for written out."""


LARGEST = 2**64
"""Whole numbers are smaller: seeds, counts, steps."""

MERGE = "tag:yaml.org,2002:merge"

KEYS = ("tag:yaml.org,2002:str", MERGE)
"""What a key may be: a word, or `<<`."""

DATE = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 3e-4 as a number (YAML 1.1 takes it for text), 2026-01-31 as text, and each key once."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
_Loader.yaml_implicit_resolvers = {
    first: [known for known in resolvers if known[0] != DATE]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag not in KEYS:
            raise yaml.YAMLError(f"line {line}: a key is a word; put it in quotes")
        if key.value in seen:
            raise yaml.YAMLError(f"line {line}: the key {key.value!r} stands twice")
        if key.tag == MERGE and not isinstance(value, yaml.MappingNode):  # lists of merges of lists grow without bound
            raise yaml.YAMLError(f"line {line}: `<<` takes one alias of a mapping")
        seen.add(key.value)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        DocumentError: when it is no YAML mapping.
        OSError: when it cannot be read.
    """
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        _check_plain(value)
    except yaml_problem.RAISED as error:
        raise DocumentError(path, "", yaml_problem.sentence(error)) from None
    if not isinstance(value, dict):
        raise DocumentError(path, "", "not a mapping of settings")
    return value


def _check_plain(value: object) -> None:
    """Refuse what JSON has no word for, and aliases (`*name`) that stand for more than anyone has written out.

    Raises:
        yaml.YAMLError: with the place of the first.
    """
    waiting, count = [("", value)], 0
    while waiting:
        place, inner = waiting.pop()
        if isinstance(inner, dict | list):
            parts = inner.items() if isinstance(inner, dict) else enumerate(inner)
            waiting.extend((f"{place}/{name}", part) for name, part in parts)
            count += len(inner)
        elif not _is_plain(inner):
            raise yaml.YAMLError(f"{place} is neither a word nor a number; put it in quotes if it is meant as words")
        if count > MOST_VALUES:  # a few lines can stand for billions
            raise yaml.YAMLError(
                f"more than {MOST_VALUES:,} settings, aliases written out; no configuration has so many"
            )


def _is_plain(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < LARGEST
    return value is None or isinstance(value, str)


def overlaid(settings: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with each flag that was given put at its dotted place, e.g. `sae.k`.

    Raises:
        UsageError: when a flag is no finite number, or its place leads through a value.
    """
    given = {place: value for place, value in flags.items() if value is not None}
    for place, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{place} is {value}; give a finite number")
    return overlay.overlaid(settings, given)
