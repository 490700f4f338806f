"""Bytes of one commit on the Hub: ranges of its files in memory, digests of whole files in blocks."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from saereg import __version__
from saereg.registry import hub

T = TypeVar("T")

RETRIES = 4
"""Times that a request is made again which the Hub answered with an error of its own."""

RETRIED = (408, 429, 500, 502, 503, 504)

LEAST_RATE = 4096
"""Bytes per second below which an answer counts as none."""


class UnreadableError(Exception):
    """The Hub lists a file and sends another, or none."""


@dataclass(frozen=True)
class HubFiles:
    """The files of one commit; whoever asks does so inside `hub.asking`.

    Attributes:
        repo: the repository.
        commit: the commit.
    """

    repo: str
    commit: str

    def span(self, path: str, size: int, begin: int, count: int) -> bytes:
        """Return a range of a file, or the whole of it; never more is read than asked for, whatever is sent.

        Args:
            path: the file.
            size: bytes that the Hub lists for it.
            begin: first byte.
            count: bytes that are wanted at most.

        Raises:
            UnreadableError: when the Hub sends another number of bytes, or does not have the file.
        """
        wanted = min(count, size - begin)
        if wanted <= 0:
            return b""
        return self._tried(lambda: b"".join(self._blocks(path, size, begin, wanted)), wanted, len)

    def sha256(self, path: str, size: int) -> str:
        """Return the digest of a file, of which one block at a time is held.

        Raises:
            UnreadableError: when the Hub sends another number of bytes, or does not have the file.
        """

        def hashed() -> tuple[str, int]:
            digest, count = hashlib.sha256(), 0
            for block in self._blocks(path, size, 0, size):
                digest.update(block)
                count += len(block)
            return digest.hexdigest(), count

        return self._tried(hashed, size, lambda found: found[1])[0]

    def _tried(self, call: Callable[[], T], wanted: int, count: Callable[[T], int]) -> T:
        from huggingface_hub.errors import EntryNotFoundError

        try:
            found = again(call)
        except EntryNotFoundError:
            raise UnreadableError("the Hub lists it, but does not have it") from None
        if count(found) != wanted:
            raise UnreadableError(f"the Hub sent {count(found)} of {wanted} bytes")
        return found

    def _blocks(self, path: str, size: int, begin: int, wanted: int) -> Iterator[bytes]:
        """Yield the bytes of one request, and leave the rest with the server."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        headers = build_hf_headers(library_name="saereg", library_version=__version__)
        headers["Accept-Encoding"] = "identity"
        if wanted < size:
            headers["Range"] = f"bytes={begin}-{begin + wanted - 1}"
        url = hf_hub_url(self.repo, path, revision=self.commit)
        with get_session().stream(
            "GET", url, headers=headers, timeout=hub.patience(), follow_redirects=True
        ) as response:
            hf_raise_for_status(response)
            # 200 is the whole file: this server knows no ranges
            skipped = begin if response.status_code != 206 else 0
            yield from _taken(response, skipped, wanted)


def _taken(response: Any, skipped: int, wanted: int) -> Iterator[bytes]:  # noqa: ANN401 - of httpx, or of httpx2 since version 2
    """Yield some bytes of an answer, from behind those that are skipped."""
    end, done, began = skipped + wanted, 0, time.monotonic()
    for block in response.iter_bytes():
        if found := block[max(0, skipped - done) : end - done]:
            yield found
        done += len(block)
        if done >= end:
            return
        if time.monotonic() - began > hub.patience() + done / LEAST_RATE:
            raise hub.SilentHubError


def again(call: Callable[[], T]) -> T:
    """Make a request, again where the Hub is busy or breaks off; what it asks to wait is waited."""
    silent = 0
    for attempt in range(RETRIES):
        try:
            return call()
        except hub.client_error() as error:
            response = getattr(error, "response", None)
            if response is None:
                silent += 1
                if silent == hub.ATTEMPTS:
                    raise
            elif response.status_code not in RETRIED:
                raise
            wait = hub.wait_asked(response) if response is not None else 0
        time.sleep(wait or 2**attempt / 4)
    return call()
