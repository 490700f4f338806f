"""Who ships a release. Adding a target is one file and one line in PUBLISHERS."""

from pathlib import Path

from saereg.errors import UnknownNameError, UsageError
from saereg.publishers.folder import FolderPublisher

PUBLISHERS = {"dir": FolderPublisher}
"""Scheme of a target → publisher."""


def publisher_of(target: str, *, delete_unknown: bool = False) -> FolderPublisher:
    """Return the publisher of a target such as `dir:/srv/releases/x`.

    Raises:
        UnknownNameError: when the scheme is none of PUBLISHERS.
        UsageError: when the target names no place.
    """
    scheme, _, place = target.partition(":")
    if not place:
        raise UsageError(f"{target!r} is no target; write dir:{scheme or 'FOLDER'}")
    if scheme not in PUBLISHERS:
        raise UnknownNameError("target", f"{scheme}:", [f"{name}:" for name in PUBLISHERS])
    return PUBLISHERS[scheme](Path(place), delete_unknown=delete_unknown)
