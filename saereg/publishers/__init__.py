"""Who ships a release. Adding a target is one file and one line in PUBLISHERS."""

from saereg.errors import UnknownNameError, UsageError
from saereg.publishers.folder import FolderPublisher
from saereg.publishers.publisher import OpenTarget, Publisher

PUBLISHERS: dict[str, OpenTarget] = {"dir": FolderPublisher}
"""Scheme of a target → what opens the place behind it."""


def publisher_of(target: str, *, delete_unknown: bool = False) -> Publisher:
    """Return the publisher of a target such as `dir:/srv/releases/x`.

    Args:
        target: scheme and place.
        delete_unknown: whether files that the target has and the release has not may be removed.

    Raises:
        UnknownNameError: when the scheme is none of PUBLISHERS.
        UsageError: when the target names no place.
    """
    scheme, _, place = target.partition(":")
    if not place:
        raise UsageError(f"{target!r} is no target; write dir:{scheme or 'FOLDER'}")
    if scheme not in PUBLISHERS:
        raise UnknownNameError("target", f"{scheme}:", [f"{name}:" for name in PUBLISHERS])
    return PUBLISHERS[scheme](place, delete_unknown=delete_unknown)
