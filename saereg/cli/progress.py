"""Progress on stderr: a bar on a terminal; anywhere else nothing, or of a training run a line a minute."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from saereg.trainers.runs.loop import Seen

Report = Callable[[str, int, int], None]
"""(what, done, total) → None."""

REFRESH = 0.2
"""Seconds between two pictures of a training run; a step may take far less."""

LINE_EVERY = 60.0
"""Seconds between two lines of a training run where there is no terminal to draw on: what a batch job leaves behind."""


@contextlib.contextmanager
def bar(label: str) -> Iterator[Report]:
    """Show one bar while the block runs; the function given may be called with any total."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    with click.progressbar(length=1000, label=label, file=sys.stderr, item_show_func=lambda item: item) as shown:

        def report(what: str, done: int, total: int) -> None:
            shown.update(int(1000 * done / max(1, total)) - shown.pos, what)

        yield report


class Watched:
    """A training run as its user sees it: what it says, its pace, and on a terminal a bar with its facts.

    Args:
        label: what is trained.
        shown: the bar of click; None where there is no terminal.
    """

    def __init__(self, label: str, shown: Any = None) -> None:  # noqa: ANN401
        self._label, self._shown = label, shown
        self._drawn = 0.0 if shown is not None else time.monotonic()
        self._began: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def __call__(self, seen: "Seen") -> None:
        """Take note of a step."""
        if seen.said is not None:
            click.echo(seen.said, err=True)
            return
        now = time.monotonic()
        self._last = (now, seen.tokens)
        if self._began is None:  # the first step holds what is done once; the pace is that of the others
            self._began = self._last
        if self._shown is not None and (now - self._drawn >= REFRESH or seen.tokens == seen.total):
            self._drawn = now
            self._shown.length = seen.total
            self._shown.update(seen.tokens - self._shown.pos, self._line(seen))

        elif self._shown is None and now - self._drawn >= LINE_EVERY:
            self._drawn = now
            click.echo(f"{self._label}: {seen.tokens:,} of {seen.total:,} rows  {self._line(seen)}", err=True)

    def pace(self) -> float | None:
        """Return rows per second of this process, or None before two steps."""
        if self._began is None or self._last is None or self._last[0] <= self._began[0]:
            return None
        return (self._last[1] - self._began[1]) / (self._last[0] - self._began[0])

    def facts(self) -> list[str]:
        """Return what is worth a word at the end."""
        pace = self.pace()
        return [] if pace is None else [f"{pace:,.0f} tokens/s"]

    def _line(self, seen: "Seen") -> str:
        wanted = (("EV", "explained_variance", ".3f"), ("L0", "l0", ".1f"), ("dead", "dead_fraction", ".1%"))
        parts = [f"{label} {seen.facts[key]:{style}}" for label, key, style in wanted if key in seen.facts]
        return "  ".join([*parts, *self.facts()])


@contextlib.contextmanager
def training_bar(label: str) -> Iterator[Watched]:
    """Watch a training run while the block runs: a bar on a terminal, a line a minute anywhere else."""
    if not sys.stderr.isatty():
        yield Watched(label)
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, item_show_func=lambda item: item) as shown:
        yield Watched(label, shown)
