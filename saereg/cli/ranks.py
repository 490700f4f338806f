"""One run in several processes, as torchrun starts them: to its user it is one command."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saereg.trainers.crosscoder.group import Group


def is_silent() -> bool:
    """Whether this is one of several processes, and not the one that speaks for them."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"


def hush() -> None:
    """Let one process alone say what all would say: that the command or the configuration cannot be acted on."""
    if is_silent():
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends


@contextlib.contextmanager
def one_voice() -> Iterator["Group"]:
    """Give the processes of this run; outside of torchrun that is this one alone.

    Of several, the one of rank 0 alone prints. When they end for an error, the first one that meets it says so, be it
    rank 0 or not; the others, which end because it does, are silent.
    """
    from saereg.trainers.crosscoder.group import ALONE
    from saereg.trainers.crosscoder.sharding import is_one_of_several, ranks

    if not is_one_of_several():
        yield ALONE
        return
    hush()
    with ranks() as group:
        try:
            yield group
        except BaseException:
            first = group.speaks()
            sys.stderr = sys.__stderr__ if first else open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            raise
        finally:
            _end_in_peace()


def _end_in_peace() -> None:
    """Ignore signals from here on: torchrun passes on what each process may have had from the terminal already."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
