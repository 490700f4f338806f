"""Who ships a release. Adding a target is one file and one line in PUBLISHERS."""

import re

from saereg.errors import UnknownNameError, UsageError
from saereg.publishers import folder
from saereg.publishers.hub import publisher as hub_publisher
from saereg.publishers.publisher import OpenTarget, Publisher, Wishes

PUBLISHERS: dict[str, OpenTarget] = {"dir": folder.open_target, "hf": hub_publisher.open_target}
"""Scheme of a target → what opens the place behind it."""


def publisher_of(target: str, wishes: Wishes = Wishes()) -> Publisher:  # noqa: B008 - a frozen value
    """Return the publisher of a target such as `dir:/srv/releases/x` or `hf://org/repo@branch`.

    Args:
        target: scheme and place.
        wishes: what the user wishes.

    Raises:
        UnknownNameError: when the scheme is none of PUBLISHERS.
        UsageError: when the target names no place, or a wish makes no sense there.
    """
    scheme, _, place = target.partition(":")
    if meant := _meant(target):
        raise UsageError(f"{target!r} is no target; write {meant}")
    if scheme not in PUBLISHERS:
        raise UnknownNameError("target", f"{scheme}:", [f"{name}:" for name in PUBLISHERS])
    return PUBLISHERS[scheme](place, wishes)


def _meant(target: str) -> str | None:
    """Return what somebody meant who did not write a target; None when it is one, or nobody knows."""
    scheme, _, place = target.partition(":")
    if page := re.match(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)", target):
        return f"hf://{page[1]}"
    if scheme in ("http", "https"):
        return "hf://org/repo, and set HF_ENDPOINT to the address of the Hub"
    if place:
        return None
    if scheme in PUBLISHERS or not scheme:
        return {"dir": "dir:FOLDER", "hf": "hf://org/repo"}.get(scheme, "dir:FOLDER or hf://org/repo")
    is_name = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w.-]+)?", scheme)
    return f"hf://{scheme} or dir:{scheme}" if is_name else f"dir:{scheme} or hf://org/repo"
