"""References: how a user names a release or one artifact of it.

path/to/release                      a release folder
path/to/release/layer_2/topk_32      the folder of one artifact
path/to/release:layer_2/topk_32      one artifact by its id
hf://org/repo@revision[:artifact]    on the Hub
org/repo@revision[:artifact]         the same, where there is no such folder
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import NothingToValidateError, UsageError, did_you_mean

_HUB = re.compile(
    r"^hf://(?P<repo>[^/@:\s]+/[^/@:\s]+)(@(?P<revision>refs/\w+/[^/:\s]+|[^/:\s]+))?"
    r"(/(?P<path>[^:\s]+))?(:(?P<id>\S(?:.*\S)?))?$"
)

_PINNED = re.compile(
    r"^(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@(?P<revision>refs/\w+/[^/:\s]+|[^/:\s]+)"
    r"(:(?P<id>\S(?:.*\S)?))?$"
)
"""The short form, which has to name a revision: `org/repo` alone is a folder."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Reference:
    """A parsed reference.

    Attributes:
        folder: local folder, or None for the Hub.
        repo: Hub repository id, or None for a folder.
        revision: branch, tag, commit or pull request (`refs/pr/1`) on the Hub; None for the default branch.
        artifact: id of one artifact, or None for the whole release.
    """

    folder: Path | None = None
    repo: str | None = None
    revision: str | None = None
    artifact: str | None = None


def parse_reference(text: str | Path) -> Reference:
    """Parse a reference; a folder that exists under the whole text wins over `folder:artifact`.

    Raises:
        UsageError: when it is in none of the forms.
    """
    if isinstance(text, Path):
        return Reference(folder=text)
    if text.startswith("hf://"):
        match = _HUB.match(text)
        if match is None or (match["path"] and match["id"]):
            raise UsageError(f"{text!r} is no reference; write hf://org/repo[@revision][:artifact]")
        return Reference(repo=match["repo"], revision=match["revision"], artifact=match["id"] or match["path"])
    if not text.strip() or text.startswith(":"):
        raise UsageError(f"{text!r} names no folder; the current one is '.'")
    if _SCHEME.match(text):
        raise UsageError(f"{text!r}: only folders and hf://org/repo can be opened")
    if is_there(text):
        return Reference(folder=Path(text))
    if (match := _PINNED.match(text)) and not is_there(text.partition(":")[0]):
        return Reference(repo=match["repo"], revision=match["revision"], artifact=match["id"])
    if ":" not in text:
        return Reference(folder=Path(text))
    cuts = [place for place, letter in enumerate(text) if letter == ":"]
    cut = next((cut for cut in reversed(cuts) if is_there(text[:cut])), cuts[0])  # a folder's name may hold colons
    return Reference(folder=Path(text[:cut]), artifact=text[cut + 1 :] or None)


def is_there(path: str | Path) -> bool:
    """Whether there is a file or folder of that name, however long the name is."""
    try:
        return Path(path).exists()
    except OSError:  # an id may be longer than any file name
        return False


def require_folder(folder: Path) -> None:
    """Refuse a folder that is not there or may not be read, and name the one beside it that may have been meant.

    Raises:
        NothingToValidateError: when it is no folder, or one that may not be listed: what is in it cannot be known.
    """
    try:
        if folder.is_dir():
            os.scandir(folder).close()  # may it be listed,
            os.stat(os.path.join(folder, "."))  # and entered? pathlib would drop the dot
            return
        beside = [path.name for path in folder.absolute().parent.iterdir() if path.is_dir()]
    except PermissionError:
        raise NothingToValidateError(f"{folder} may not be read: nothing to validate") from None
    except (OSError, ValueError):
        beside = []
    guess = did_you_mean(folder.name, beside)
    hint = f"; did you mean {str(folder.with_name(guess))!r}?" if guess else ""
    raise NothingToValidateError(f"{folder} is not a folder{hint}")
