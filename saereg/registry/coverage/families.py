"""Which family a model is of, whatever its source calls it."""

import fnmatch
import re
from collections.abc import Sequence
from functools import lru_cache

from saereg.schemas.facts import Family

_BEFORE = re.compile(r"^(?:https?://(?:www\.)?huggingface\.co/(?:models/)?|hf://)", re.IGNORECASE)
"""What some sources write before the id of a repository."""


@lru_cache(maxsize=4096)
def plain(model: str) -> str:
    """Return a model as `owner/name` or `name`, lower case, without a URL before it or a revision behind it."""
    name = _BEFORE.sub("", model.strip()).strip("/").lower()
    parts = name.partition("@")[0].split("/")
    return "/".join(parts[:2])


def placed(model: str, families: Sequence[Family]) -> list[Family]:
    """Return the families that a model fits: one, or none; several where their patterns overlap."""
    owner, _, name = plain(model).rpartition("/")
    return [family for family in families if _fits(owner, name, family)]


def _fits(owner: str, name: str, family: Family) -> bool:
    if owner and family.owners and owner not in {known.lower() for known in family.owners}:
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in family.patterns)


def same_model(model: str, family: Family | None) -> str:
    """Return one name for all spellings of a model: inside a family its last part, of aliases the one on the Hub."""
    if family is None:
        return plain(model)
    name = plain(model).rpartition("/")[2]
    return family.aliases.get(name, name)
