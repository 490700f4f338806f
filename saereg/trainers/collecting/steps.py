"""Which steps of a model's pretraining are taken: all of a schedule, some that are named, or an even choice."""

import math
import re
from collections.abc import Callable, Iterable, Sequence

from saereg.errors import UsageError
from saereg.schemas.schedule import Schedule, parse_schedule

STEP = "{step}"


def read_schedule(text: str) -> str | tuple[int, ...]:
    """Return a schedule as a base model has it: a name, a rule, or the steps of `0,1,2,4`.

    Raises:
        UsageError: when it is none.
    """
    value = read_steps(text, "--schedule") if re.fullmatch(r"[\d,\s]+", text) else text
    try:
        parse_schedule(value)
    except ValueError as problem:
        raise UsageError(f"--schedule: {problem}") from None
    return value


def read_steps(text: str, option: str) -> tuple[int, ...]:
    """Return the steps of `0,1,2,4`.

    Raises:
        UsageError: when they are no numbers, or do not rise.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    steps = tuple(int(part) for part in parts if re.fullmatch(r"[0-9]{1,13}", part))
    if len(steps) != len(parts) or not steps or list(steps) != sorted(set(steps)):
        raise UsageError(f"{option} {text!r}: write rising steps with commas between, such as 0,1,2,4")
    return steps


def steps_of(schedule: str | tuple[int, ...], pattern: str, names: Callable[[], Iterable[str]]) -> tuple[int, ...]:
    """Return all steps of a schedule; of a rule without an end those that there are.

    Args:
        schedule: the schedule.
        pattern: how revisions or folders are called, with `{step}` in it.
        names: gives the names that there are; called for a rule without an end alone.

    Raises:
        UsageError: when no name is of a step of the schedule.
    """
    parsed = parse_schedule(schedule)
    if parsed.steps:
        return parsed.steps
    if parsed.last is not None:
        return tuple(range(0, parsed.last + 1, parsed.every))
    held = list(names())
    found = tuple(sorted({step for name in held if (step := _step_of(name, pattern)) is not None and step in parsed}))
    if not found:
        raise UsageError(f"no checkpoint is called {pattern!r} at a step of {schedule}; there are {_some(held)}")
    return found


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:5]) or "none at all"


def _step_of(name: str, pattern: str) -> int | None:
    parts = (".*".join(map(re.escape, part.split("*"))) for part in pattern.split(STEP))
    match = re.fullmatch("([0-9]{1,13})".join(parts), name)
    return int(match[1]) if match else None


def chosen(all_steps: Sequence[int], schedule: Schedule, steps: str | None, count: int | None) -> tuple[int, ...]:
    """Return the steps that are taken.

    Args:
        all_steps: all of the schedule.
        schedule: the schedule.
        steps: those that are wanted, as `0,1,2,4`; None: no choice.
        count: how many are wanted, evenly; None: no choice.

    Raises:
        UsageError: when one is not in the schedule, or fewer are there than wanted.
    """
    if steps is not None and count is not None:
        raise UsageError("--steps and --count both choose: give one of them")
    if count is not None:
        return evenly(all_steps, count)
    if steps is None:
        return tuple(all_steps)
    wanted = read_steps(steps, "--steps")
    for step in wanted:
        if step not in schedule:
            raise UsageError(f"--steps: there is no checkpoint of step {step}; the nearest is {schedule.nearest(step)}")
    return wanted


def evenly(steps: Sequence[int], count: int) -> tuple[int, ...]:
    """Return `count` of the steps, the first and the last among them, evenly spaced in log(1 + step) where they can be.

    A schedule is coarse where training begins: there every step is taken, and what is left is spread anew over the
    rest. So each next step is the one nearest to an even share of the way that is still to go, and at least the next.

    Raises:
        UsageError: when there are fewer steps, or fewer than 2 are wanted of several.
    """
    if not min(2, len(steps)) <= count <= len(steps):
        raise UsageError(f"--count {count}: the schedule has {len(steps)} steps; at least its first and last are taken")
    places, taken = [math.log1p(step) for step in steps], [0]
    while len(taken) < count:
        left, here = count - len(taken), taken[-1]
        goal = places[here] + (places[-1] - places[here]) / left
        reachable = range(here + 1, len(steps) - left + 1)
        taken.append(min(reachable, key=lambda at: (abs(places[at] - goal), at)))
    return tuple(steps[at] for at in taken)
