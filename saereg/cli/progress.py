"""Progress on stderr: a bar on a terminal, nothing anywhere else."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import click

Report = Callable[[str, int, int], None]
"""(what, done, total) → None."""


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
