"""A YAML file and flags as one configuration; the flags win."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from saereg.errors import DocumentError, UsageError


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 3e-4 as a number (YAML 1.1 takes it for text) and refuses a key that stands twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen:
            line = key.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: the key {key.value!r} stands twice")
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
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise DocumentError(path, "", f"{line}{error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DocumentError(path, "", " ".join(str(error).split())) from None
    if not isinstance(value, dict):
        raise DocumentError(path, "", "not a mapping of settings")
    return value


def overlaid(settings: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with each flag that was given put at its dotted place, e.g. `sae.k`."""
    result: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    for place, value in flags.items():
        if value is None:
            continue
        *parents, last = place.split(".")
        level = result
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise UsageError(f"{parent!r} in {place!r} is a value, not a group of settings")
        level[last] = value
    return result
