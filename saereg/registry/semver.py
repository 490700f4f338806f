"""Semantic versions (semver.org, 2.0.0): which comes first, and which comes next."""

import re
from typing import Literal

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII)

Step = Literal["patch", "minor", "major"]
"""What is raised."""

Order = tuple[tuple[int, ...], bool, list[tuple[int, int, str]]]
"""What versions are ordered by."""


def order(version: str) -> Order:
    """Return what versions are ordered by (section 11): one with a suffix `-…` comes before the one without.

    What stands behind a `+` does not count.

    Args:
        version: as manifests have it, without a `v`.
    """
    numbers, _, suffix = version.partition("+")[0].partition("-")
    words = [(0, int(word), "") if word.isdecimal() else (1, 0, word) for word in suffix.split(".")] if suffix else []
    return tuple(int(number) for number in numbers.split(".")), not suffix, words


def text_order(version: str | None) -> str | None:
    """Return a text that sorts as `order` does, for databases; None for what is no such version.

    A number stands behind the count of its digits, so that 10 comes after 9; in a suffix, numbers come before words; a
    version without suffix comes after all that have one.

    Args:
        version: a version, without a `v`.
    """
    match = _VERSION.fullmatch(version or "")
    if match is None:
        return None
    number = ".".join(_number(part) for part in match.groups()[:3])
    if match[4] is None:
        return f"{number} ~"
    return f"{number} " + " ".join(f"0{_number(p)}" if p.isdigit() else f"1{p}" for p in match[4].split("."))


def _number(digits: str) -> str:
    plain = digits.lstrip("0") or "0"
    return f"{len(plain):04d}{plain}"


def is_prerelease(version: str) -> bool:
    """Whether a version has a suffix `-…`: it promises nothing (section 9)."""
    return not order(version)[1]


def raised(version: str, step: Step) -> str:
    """Return the version after a finished one; below 1.0.0 each step is one lower, as section 4 leaves free.

    A change that breaks raises 0.y.z to 0.(y+1).0, one that adds or mends to 0.y.(z+1): so do Cargo and npm read it.
    """
    major, minor, patch = order(version)[0]
    if major == 0:
        return f"0.{minor + 1}.0" if step == "major" else f"0.{minor}.{patch + 1}"
    if step == "major":
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if step == "minor" else f"{major}.{minor}.{patch + 1}"


def reaches(version: str, least: str) -> bool:
    """Whether a version is at least another finished one, or a pre-release of such a one."""
    return order(version)[0] >= order(least)[0]
