"""What a publisher is: it says what publishing would do, and does it."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from saereg.schemas.plan import Plan, Receipt
from saereg.schemas.report import Report

Progress = Callable[[str, int, int], None]
"""(path, bytes done, bytes total) → None."""


class Publisher(Protocol):
    """One target."""

    def plan(self, root: Path, report: Report) -> Plan:
        """Return what publishing a release folder would do, made by `make_plan`; nothing is written."""

    def apply(self, root: Path, plan: Plan, progress: Progress | None = None) -> Receipt:
        """Do what the plan says, verify what arrived, and return the receipt."""


class OpenTarget(Protocol):
    """Opens a target: what stands behind the scheme, as the user wrote it."""

    def __call__(self, place: str, /, *, delete_unknown: bool) -> Publisher:
        """Return the publisher of a place."""
