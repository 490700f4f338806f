"""What several processes of one run decide together: when to stop, when to save, from where to go on."""

from typing import Protocol


class Together(Protocol):
    """The processes of one run. All call `largest` in the same order, or none of them gets an answer."""

    @property
    def size(self) -> int:
        """How many there are."""

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """Return, place by place, the largest number that any process gave: the same on each of them."""


class OneProcess:
    """A run of one process, which need not ask."""

    size = 1

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """Return the numbers."""
        return numbers


ONE_PROCESS = OneProcess()
