"""How a request to the Hub is made: its timeout, its retries, and what comes of it when it fails.

Reading, and writing what may be written twice (bytes, a repository that may exist), is repeated until it is answered.
A commit, a merge and the like are sent once: where the reply leaves open whether it happened, `UnsureError` says so,
and the caller looks at what the repository holds.
"""

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from saereg.errors import PublishError, UsageError
from saereg.publishers.hub.target import HubTarget
from saereg.publishers.hub.words import BUSY, Failure, failure_of, setting_of
from saereg.publishers.publisher import Tell
from saereg.registry import hub

T = TypeVar("T")

READ, WRITE, COMMIT = 30.0, 60.0, 150.0
"""Seconds of silence after which a request is given up: reading, sending bytes, and a commit or merge, for which the
Hub itself takes up to a minute."""

TRIES = 5
"""Times that a request is made which may be repeated."""

LONGEST_WAIT = 330.0
"""Seconds that are waited where the Hub asks for it: its windows are five minutes long."""

MOST_WAITED = 1800.0
"""Seconds that one command waits in all because the Hub asks for it."""

PAUSE = 0.5
"""Seconds before the first repetition; each further one waits twice as long."""

LEAST_RATE = 50_000.0
"""Bytes per second below which sending counts as stuck: the Xet client by itself has no timeout."""

SILENT = (hub.SilentHubError, hub.BusyHubError)
"""Raised by the limits below."""


class UnsureError(Exception):
    """A request may or may not have been carried out.

    Attributes:
        failure: what came instead of a reply.
    """

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.said)


class NotOfferedError(PublishError):
    """A server does not know such requests: it is another than the Hub, or what is asked about is not there."""


class MissingBytesError(Exception):
    """A commit names bytes that the Hub does not have (any more): they must be sent again."""


@dataclass
class Counts:
    """What a client did; counted over all threads.

    Attributes:
        requests: requests that were sent.
        retries: those of them that had been sent before, and failed.
        reconciled: replies that were lost, and decided by content.
        waited: seconds waited because the Hub asked for it.
    """

    requests: int = 0
    retries: int = 0
    reconciled: int = 0
    waited: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **more: float) -> None:
        """Count."""
        with self._lock:
            for name, count in more.items():
                setattr(self, name, getattr(self, name) + count)


class Asker:
    """Makes requests about one repository.

    Attributes:
        target: the repository.
        endpoint: address of the Hub.
        counts: what was done.
        tell: takes lines for people.
        instead: what one can do without the right to write, for the line that says that it is missing.
    """

    instead = ""

    def __init__(self, target: HubTarget, endpoint: str, tell: Tell) -> None:
        self.target, self.endpoint, self.counts, self.tell = target, endpoint, Counts(), tell
        hub.require_address(endpoint)

    def ask(self, what: str, call: Callable[[], T], *, safe: bool = True, patience: float = READ) -> T:
        """Make a request.

        Args:
            what: what it is for, for the line that says that it failed.
            call: makes it.
            safe: whether it may be repeated when it is not known whether it was carried out.
            patience: seconds of silence after which it is given up.

        Raises:
            UnsureError: when it is not safe, and the reply leaves open whether it was carried out.
            MissingBytesError: when a commit names bytes that the Hub does not have.
            NotOfferedError: when the server does not know such requests, or what they are about.
            PublishError: when the Hub refuses, or does not answer.
            UsageError: when the name of the repository cannot be one.
        """
        from huggingface_hub import errors

        no_login = getattr(errors, "OIDCError", errors.HFValidationError)
        for attempt in range(TRIES):
            try:
                with self._limits(patience):
                    return call()
            except (errors.HFValidationError, no_login) as error:
                raise UsageError(f"{self.target.name}: {hub.first_line(error)}") from error
            except (hub.client_error(), OSError, RuntimeError, ValueError, KeyError, *SILENT) as error:
                if isinstance(error, OSError) and error.filename is not None:
                    raise  # a file of this machine
                self._judge(what, error, attempt, safe=safe)
        raise AssertionError  # the last attempt was judged

    def _judge(self, what: str, error: Exception, attempt: int, *, safe: bool) -> None:
        """Return when the request is to be made again, after the wait that it takes; raise what else is to be done."""
        if setting := setting_of(error):
            raise UsageError(setting) from error
        failure = _failure(error)
        if failure.lost_bytes:
            raise MissingBytesError from error
        if not safe and failure.leaves_open:
            raise UnsureError(failure) from error
        # Where the client has itself tried so often, with pauses between, one more round is enough.
        last = attempt > 0 if _is_silent(error) else attempt == TRIES - 1
        if last or not failure.may_be_repeated or isinstance(error, hub.BusyHubError):
            said = failure.sentence(self.target.repo, self.endpoint, self.instead)
            kind = NotOfferedError if failure.is_not_offered else PublishError
            raise kind(f"{self.target.name}: cannot {what}: {said}") from error
        self.counts.add(retries=1)
        time.sleep(failure.wait or PAUSE * 2**attempt)

    @contextlib.contextmanager
    def _limits(self, patience: float) -> Iterator[None]:
        """Limit the silence of every request in the block, count them, and end waits that nobody would sit through."""
        failed: Counter[tuple[int, str, str]] = Counter()

        def asked(request: Any) -> None:  # noqa: ANN401 - httpx.Request, or httpx2.Request since version 2
            key = (threading.get_ident(), request.method, str(request.url))
            self.counts.add(requests=1, retries=1 if failed[key] else 0)
            failed[key] += 1
            if failed[key] > TRIES:
                raise hub.SilentHubError
            steps = {"connect": min(10.0, patience), "read": patience, "write": patience, "pool": patience}
            request.extensions["timeout"] = steps

        def answered(response: Any) -> None:  # noqa: ANN401
            if response.status_code < 400:
                del failed[(threading.get_ident(), response.request.method, str(response.request.url))]
            elif wait := hub.wait_asked(response):
                if wait > LONGEST_WAIT or self.counts.waited + wait > MOST_WAITED:
                    raise hub.BusyHubError("too many requests", wait)
                self.counts.add(waited=wait)
                self.tell(f"the Hub is busy and asks to wait {wait:.0f} s")

        with hub.listening(asked, answered), _quiet():
            yield


def within(seconds: float, call: Callable[[], T]) -> T:
    """Call something that may never return, and give it up after some time.

    Raises:
        SilentHubError: when it has not returned by then.
        BaseException: whatever it raises.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            failed.append(error)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    try:
        worker.join(seconds)
    except BaseException:
        _stop_xet()
        raise
    if worker.is_alive():
        _stop_xet()
        raise hub.SilentHubError
    if failed:
        raise failed[0]
    return done[0]


def _stop_xet() -> None:
    """End what the Xet client does in other threads; what it has sent stays sent."""
    with contextlib.suppress(ImportError):
        from huggingface_hub.utils._xet import abort_xet_session

        abort_xet_session()


def _is_silent(error: BaseException | None) -> bool:
    """Whether a request had no answer TRIES times, or one that never ends."""
    return error is not None and (isinstance(error, hub.SilentHubError) or _is_silent(error.__cause__))


def _failure(error: Exception) -> Failure:
    if isinstance(error, hub.BusyHubError):
        return Failure(BUSY, str(error), error.wait)
    if isinstance(error, ValueError | KeyError) and not isinstance(error, OSError) and error.__cause__ is None:
        if "LFS batch" in str(error):
            return Failure(400, hub.first_line(error))
        return Failure(None, "the answer is not that of a Hub; check the network, and HF_ENDPOINT", reached=True)
    return failure_of(error)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Show no bars of the client but on a terminal, where they say how many bytes are sent."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
