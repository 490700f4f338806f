"""What a publisher is: it says what publishing would do, and does it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from saereg.schemas.plan import Plan, Receipt
from saereg.schemas.report import Level, Report

Progress = Callable[[str, int, int], None]
"""(path, bytes done, bytes total) → None."""

Tell = Callable[[str], None]
"""Takes a line for people while something is under way: a wait, a retry, what a target cannot do."""

Existing = Literal["refuse", "skip", "replace"]
"""What to do when this version of the release is published already, with other content."""


def _silent(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Wishes:
    """What the user wishes of a publish. A folder knows nothing of branches, tags and pull requests.

    Attributes:
        delete_unknown: whether files that the target has and the release has not may be removed.
        branch: branch, where the target does not name one.
        tag: tag of the new commit; None: `v` and the version of the release.
        no_tag: whether no tag is made.
        pull_request: whether it ends with a pull request, for somebody else to merge.
        private: whether a repository that is made is private.
        existing: what to do when this version is published already, with other content.
        jobs: files that are sent at a time.
        xet: whether the Xet protocol may be used.
        at_least: lowest level of validation that is enough for a repository.
        tell: takes lines for people.
    """

    delete_unknown: bool = False
    branch: str | None = None
    tag: str | None = None
    no_tag: bool = False
    pull_request: bool = False
    private: bool = False
    existing: Existing = "refuse"
    jobs: int = 5
    xet: bool = True
    at_least: Level = "weights"
    tell: Tell = _silent

    @property
    def of_a_repository(self) -> tuple[str, ...]:
        """The flags that were given and mean something for a repository alone."""
        given = (
            ("--branch", self.branch),
            ("--tag", self.tag),
            ("--no-tag", self.no_tag),
            ("--pr", self.pull_request),
            ("--private", self.private),
            ("--no-xet", not self.xet),
        )
        return tuple(flag for flag, value in given if value)


class Publisher(Protocol):
    """One target."""

    def plan(self, root: Path, report: Report) -> Plan:
        """Return what publishing a release folder would do, made by `make_plan`; nothing is written."""

    def renew(self, root: Path, report: Report, planned: Plan) -> Plan:
        """Return a plan that was made before, made anew and found to be the same; a ConflictError where it is not."""

    def apply(self, root: Path, plan: Plan, progress: Progress | None = None) -> Receipt:
        """Do what the plan says, verify what arrived, and return the receipt."""


class OpenTarget(Protocol):
    """Opens a target: what stands behind the scheme, as the user wrote it."""

    def __call__(self, place: str, wishes: Wishes, /) -> Publisher:
        """Return the publisher of a place."""
