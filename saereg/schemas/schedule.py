"""At which pretraining steps a base model was saved: schedules by name, by rule, or as a list of steps."""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

PYTHIA = (0, *(2**power for power in range(10)), *range(1000, 143_001, 1000))
"""The 154 revisions of every Pythia model: 0, 1, 2, 4 … 512, then every 1,000 steps to 143,000."""

SCHEDULES: Mapping[str, tuple[int, ...]] = {"pythia-154": PYTHIA}
"""Name → steps, rising."""

MAX_STEP = 10**12
"""Largest step that a rule may name."""

_EVERY = re.compile(r"every:([1-9][0-9]{0,12})(?::([0-9]{1,13}))?")


@dataclass(frozen=True)
class Schedule:
    """The steps of which there are checkpoints.

    Attributes:
        steps: all of them, rising; empty for a rule.
        every: distance between two of them, for a rule.
        last: the last of a rule, or None where it has no end.
    """

    steps: tuple[int, ...] = ()
    every: int = 0
    last: int | None = None

    def __contains__(self, step: int) -> bool:
        """Whether there is a checkpoint of this step."""
        if self.every:
            return step >= 0 and step % self.every == 0 and (self.last is None or step <= self.last)
        at = bisect_left(self.steps, step)
        return at < len(self.steps) and self.steps[at] == step

    @property
    def size(self) -> int | None:
        """How many steps there are, or None for a rule without end."""
        if not self.every:
            return len(self.steps)
        return None if self.last is None else self.last // self.every + 1

    def nearest(self, step: int) -> int:
        """Return the step of the schedule that is nearest; of two that are as near, the smaller."""
        if self.every:
            below = max(step, 0) // self.every * self.every
            above = below + self.every
            if self.last is not None:
                final = self.last // self.every * self.every
                below, above = min(below, final), min(above, final)
        else:
            at = bisect_left(self.steps, step)
            below, above = self.steps[max(at - 1, 0)], self.steps[min(at, len(self.steps) - 1)]
        return below if abs(step - below) <= abs(above - step) else above


def parse_schedule(value: str | Sequence[int]) -> Schedule:
    """Return a schedule.

    Args:
        value: a name of `SCHEDULES`, `every:N` or `every:N:LAST` (0, N, 2N … up to LAST), or the steps themselves.

    Raises:
        ValueError: when it is none of these; the message says what it may be.
    """
    if not isinstance(value, str):
        steps = tuple(value)
        if not steps or steps[0] < 0 or any(a >= b for a, b in pairwise(steps)):
            raise ValueError("the steps of a schedule must rise from 0 or more, and there must be at least one")
        return Schedule(steps)
    if value in SCHEDULES:
        return Schedule(SCHEDULES[value])
    match = _EVERY.fullmatch(value)
    if match is None or int(match[1]) > MAX_STEP or int(match[2] or 0) > MAX_STEP:
        known = ", ".join(map(repr, SCHEDULES))
        raise ValueError(f"{value!r} is no schedule; write {known}, 'every:1000', 'every:1000:143000', or the steps")
    return Schedule(every=int(match[1]), last=None if match[2] is None else int(match[2]))
