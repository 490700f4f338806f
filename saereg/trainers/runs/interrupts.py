"""Ctrl-C and SIGTERM during a run: the step is finished, a checkpoint is saved, and only then does it end."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from saereg.errors import InterruptedRunError

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What ends a run in order: Ctrl-C, a scheduler, a terminal that is closed; Windows has no SIGHUP."""


class Interrupts:
    """Catches the first signal while it is entered; a second one ends the program as it would without.

    A signal that is ignored already stays so: SIGHUP under `nohup`, SIGINT of what a shell runs in the background.

    Args:
        several: whether this is one of several processes. Each of them gets a Ctrl-C twice, from the terminal and from
            what started them, so that the second one must not cut off the checkpoint of the first: it is ignored.
    """

    def __init__(self, *, several: bool = False) -> None:
        self._several = several
        self.caught: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Catch signals, where this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give signals back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        if not self._several:
            self._restore()
            return
        for other in self._before:
            signal.signal(other, signal.SIG_IGN)
        self._before = {}  # the process ends now, and what comes on the way is the same signal again

    @staticmethod
    def stop(number: int, step: int, steps: int) -> None:
        """End the run for a signal, when it is saved.

        Raises:
            InterruptedRunError: always.
        """
        raise InterruptedRunError(
            f"stopped after step {step} of {steps} and saved; the same command goes on from there", number
        )
