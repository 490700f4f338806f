"""Names and paths as they may appear in a document."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field


def _release_path(value: str) -> str:
    """Refuse a path that could leave the release or means different things on different machines.

    Raises:
        ValueError: for absolute paths, `..`, backslashes, drive letters, empty or dot segments, control characters.
    """
    if value.startswith("/") or re.match(r"^[A-Za-z]:", value):
        raise ValueError("an absolute path; write it relative to the release folder")
    if "\\" in value:
        raise ValueError("a backslash in a path; separate folders by '/'")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("a control character in a path")
    segments = value.split("/")
    if ".." in segments:
        raise ValueError("'..' in a path; it would leave the release folder")
    if "" in segments or "." in segments:
        raise ValueError("an empty or '.' segment in a path; write it in its shortest form")
    return value


ReleasePath = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_release_path)]
"""A POSIX path relative to the release folder; it cannot leave it."""

ArtifactId = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_release_path)]
"""The id of an artifact: unique in its release, written like a path."""

Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=120)]
"""A short name that other parts of a document refer to."""

Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
"""A full git commit: 40 lower-case hexadecimal digits. Branches move; a release does not."""
