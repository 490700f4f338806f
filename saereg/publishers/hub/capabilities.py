"""What a Hub can do, and what is lost where it cannot.

huggingface.co can do everything. Of other servers that speak its protocol (KohakuHub, CSGHub, a mirror) only what they
show is believed, until they refuse it. Whether they enforce the lock of a commit cannot be found out without making
one: unless a server says so itself, as that of `saereg hub serve` does, the history is looked at after each commit.
"""

from dataclasses import dataclass, fields
from urllib.parse import quote

from saereg.publishers.hub.client import Client


@dataclass(frozen=True)
class Capabilities:
    """What a Hub can do.

    Attributes:
        xet: takes bytes by the Xet protocol.
        pull_requests: has pull requests that can be merged.
        lock: refuses a commit whose parent is no longer the head.
        tags: has tags.
    """

    xet: bool = True
    pull_requests: bool = True
    lock: bool = True
    tags: bool = True

    @property
    def lost(self) -> tuple[str, ...]:
        """What is lost by each that is missing, in words."""
        return tuple(LOST[field.name] for field in fields(self) if not getattr(self, field.name))


LOST = {
    "xet": "no Xet: bytes go by Git LFS, nothing is sent in parts that changed alone",
    "pull_requests": "no pull requests: many files are not staged, but go in one large commit, or in parts that "
    "readers can see",
    "lock": "the lock of commits is not known to be enforced: a commit of somebody else in the same moment is found "
    "only afterwards, in the history",
    "tags": "no tags: this version can be named by its commit alone",
}
"""Capability → what is lost without it."""

KNOWN = {"https://huggingface.co": Capabilities()}
"""Address → what that Hub can do."""

ROUTES = {"xet": "xet-write-token/{branch}", "pull_requests": "discussions", "tags": "refs", "lock": "commit-lock"}
"""Capability → a request that only a Hub answers that has it."""


def capabilities_of(client: Client) -> Capabilities:
    """Return what the Hub of a repository can do; the repository must be there.

    Raises:
        PublishError: when it cannot be asked.
    """
    known = KNOWN.get(client.endpoint.rstrip("/"))
    if known is not None:
        return known
    branch = client.target.branch
    shown = {name: client.offers(route.format(branch=quote(branch, safe=""))) for name, route in ROUTES.items()}
    return Capabilities(**shown)
