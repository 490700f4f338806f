"""Names and paths as they may appear in a document."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

MAX_NAME = 255
"""Longest name of a file or folder, in bytes."""

UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
"""Unicode categories of characters that cannot be seen, or that turn the direction of those that can."""

OUTSIDE = frozenset({".git", ".github", ".cache", "__pycache__"})
"""Folders of git, of continuous integration, and what the Hub client and Python leave behind; no part of a release."""

_DEVICE = r"(?i:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])"

_RESERVED = re.compile(rf"{_DEVICE}(?:\..*)?|(?i:conin\$|conout\$|git~[0-9]+)")
"""Names that are devices on Windows, whatever follows the first dot, and its short name of the folder `.git`."""

_SEGMENT = rf"(?!(?:{_DEVICE}|__pycache__)(?:[./]|$))[A-Za-z0-9_\-](?:[A-Za-z0-9_.\-]*[A-Za-z0-9_\-])?"

_PLAIN = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
"""Most paths: quickly seen to be right."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _release_path(value: str) -> str:
    """Refuse a path that could leave the release or means different things on different machines.

    Raises:
        PydanticCustomError: of type `unsafe_path`, for absolute paths, `..`, backslashes, drive letters, empty or dot
            segments, overlong names, control characters, characters that URLs and shells read differently, names that
            Windows keeps for itself or shortens, and folders that are no part of a release.
    """
    if problem := path_problem(value):
        raise PydanticCustomError("unsafe_path", "{problem}", {"problem": problem})
    return value


def path_problem(value: str) -> str | None:
    """Return why a path is not portable or could leave the release, or None."""
    if len(value) <= MAX_NAME and _PLAIN.fullmatch(value):
        return None
    if value.startswith("/") or re.match(r"^[A-Za-z]:", value):
        return "an absolute path; write it relative to the release folder"
    if "\\" in value:
        return "a backslash in a path; separate folders by '/'"
    if _CONTROL.search(value):
        return "a control character in a path"
    if not value.isascii() and (unseen := [c for c in value if c != " " and unicodedata.category(c) in UNSEEN]):
        return f"an invisible character (U+{ord(unseen[0]):04X}) in a path; rename the file"
    segments = value.split("/")
    if ".." in segments:
        return "'..' in a path; it would leave the release folder"
    if "" in segments or "." in segments:
        return "an empty or '.' segment in a path; write it in its shortest form"
    if any(len(segment.encode("utf-8", "surrogatepass")) > MAX_NAME for segment in segments):
        return f"a name of more than {MAX_NAME} bytes in a path; file systems hold no longer one"
    if odd := sorted(set(value) & set(' {}*?"<>|%#&:')):
        return f"{' '.join(map(repr, odd))} in a path; URLs and shells read it differently, rename the file"
    return next((problem for segment in segments if (problem := _segment_problem(segment))), None)


def _segment_problem(name: str) -> str | None:
    """Return why a name of visible characters stands for something else on some machine, or None."""
    if name.endswith("."):
        return "a name that ends in a dot; Windows leaves that out, rename the file"
    if _RESERVED.fullmatch(name):
        return f"the name {name!r}; Windows keeps it for itself, rename the file"
    if one_name(name) in OUTSIDE:
        return f"the folder {name!r} in a path; it is no part of a release, rename it"
    return None


def one_name(path: str) -> str:
    """Return the form in which two paths are equal that are one file on some machine: in small letters, composed."""
    return (
        path.lower() if path.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
    )


ReleasePath = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_release_path)]
"""A POSIX path relative to the release folder; it cannot leave it."""

ArtifactId = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_release_path)]
"""The id of an artifact: unique in its release, written like a path."""

Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=120)]
"""A short name that other parts of a document refer to."""

Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
"""A full git commit: 40 lower-case hexadecimal digits. Branches move; a release does not."""
