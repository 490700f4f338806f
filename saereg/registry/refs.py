"""References: how a user names a release or one artifact of it.

path/to/release                      a release folder
path/to/release/layer_2/topk_32      the folder of one artifact
path/to/release:layer_2/topk_32      one artifact by its id
hf://org/repo@revision[:artifact]    on the Hub
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import NothingToValidateError, UsageError, did_you_mean

_HUB = re.compile(
    r"^hf://(?P<repo>[^/@:\s]+/[^/@:\s]+)(@(?P<revision>refs/\w+/[^/:\s]+|[^/:\s]+))?"
    r"(/(?P<path>[^:\s]+))?(:(?P<id>\S+))?$"
)


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
        if match is None:
            raise UsageError(f"{text!r} is no reference; write hf://org/repo[@revision][:artifact]")
        return Reference(repo=match["repo"], revision=match["revision"], artifact=match["id"] or match["path"])
    if not text.strip() or text.startswith(":"):
        raise UsageError(f"{text!r} names no folder; the current one is '.'")
    if "://" in text:
        raise UsageError(f"{text!r}: only folders and hf://org/repo can be opened")
    if ":" not in text or _is_there(text):
        return Reference(folder=Path(text))
    folder, _, artifact = text.partition(":")
    return Reference(folder=Path(folder), artifact=artifact or None)


def _is_there(text: str) -> bool:
    try:
        return Path(text).exists()
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
