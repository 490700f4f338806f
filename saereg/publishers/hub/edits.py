"""Files that somebody edited at the target since they were published, as one does with a card on the Hub's site.

A publish would undo such an edit without a word. What was published is known from the index that lies beside it.
"""

import hashlib
from collections.abc import Iterator

from saereg.errors import InvalidReleaseError, SaeregError
from saereg.publishers.hub.client import Client
from saereg.publishers.hub.state import RemoteFile, Tree, is_content
from saereg.registry.release import INDEX_FILE
from saereg.schemas import jsontext
from saereg.schemas.index import Index
from saereg.schemas.plan import Operation, Plan

CARD = ".md"
"""End of the names of files that people edit on the site; only these are fetched to compare them."""

MOST = 10 * 1024 * 1024
"""Bytes of a card that are fetched to compare it."""


def require_unedited(client: Client, plan: Plan, tree: Tree, base: str) -> None:
    """Refuse to overwrite or remove what was edited at the target.

    Args:
        client: asks the Hub.
        plan: what is to be published.
        tree: what the target holds.
        base: its commit.

    Raises:
        InvalidReleaseError: naming the files.
        PublishError: when the Hub cannot be asked.
    """
    touched = [one for one in plan.changes if one.action == "change"]
    looked_at = [one for one in touched if tree[one.path].sha256 or one.path.endswith(CARD)]
    if not looked_at or (published := _index(client, tree, base)) is None:
        return
    if edited := list(_edited(client, looked_at, published, tree, base)):
        them, was = ("it", "was") if len(edited) == 1 else ("them", "were")
        problem = f"{', '.join(edited[:5])} {was} edited at {client.target.name} since the last publish"
        advice = f"take {them} over into yours (download, saereg build), or undo the edit with --existing replace"
        raise InvalidReleaseError(f"{problem}: {advice}")


def _edited(
    client: Client, operations: list[Operation], published: dict[str, str], tree: Tree, base: str
) -> Iterator[str]:
    for one in operations:
        remote, known = tree[one.path], published.get(one.path)
        if known is None or (remote.size > MOST and remote.sha256 is None):
            continue
        found = remote.sha256 or _fetched(client, one.path, remote, base)
        if found is not None and found != known:
            yield one.path


def _fetched(client: Client, path: str, remote: RemoteFile, base: str) -> str | None:
    raw = client.read(path, base, remote.size)
    return hashlib.sha256(raw).hexdigest() if is_content(raw, remote) else None


def _index(client: Client, tree: Tree, base: str) -> dict[str, str] | None:
    """Return path → sha256 of what was published; None where there is no index that can be read."""
    file = tree.get(INDEX_FILE)
    if file is None or file.size > jsontext.MAX_BYTES:
        return None
    raw = client.read(INDEX_FILE, base, file.size)
    try:
        index = Index.from_text(jsontext.decode(raw), INDEX_FILE)
    except (SaeregError, jsontext.JsonError):
        return None
    return {one.path: one.sha256 for one in index.all_files()}
