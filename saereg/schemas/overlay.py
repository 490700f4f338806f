"""Settings laid over others at dotted places, such as `sae.k`."""

import json
from collections.abc import Mapping
from typing import Any

from saereg.errors import UsageError


def overlaid(settings: Mapping[str, Any], places: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with each value put at its place; the settings given stay as they are.

    Raises:
        UsageError: when a place leads through a value.
    """
    result: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    for place, value in places.items():
        *parents, last = place.split(".")
        level = result
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise UsageError(f"{parent!r} in {place!r} is a value, not a group of settings")
        level[last] = value
    return result
