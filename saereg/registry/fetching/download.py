"""Files of one commit, received in blocks and compared with their digest before anybody can see them.

A file is received under its digest in a folder of its own. What a broken connection or a killed process leaves of it is
continued by a range request; the digest of the part that is there is computed again, since nothing else proves it.
"""

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BufferedRandom
from pathlib import Path
from typing import Any

from saereg import __version__
from saereg.errors import PublishError, UsageError
from saereg.registry import hub
from saereg.registry.files.digest import BUFFER, sha256_of
from saereg.registry.hub_files import LEAST_RATE, RETRIED, RETRIES

LARGEST_PLAIN = 50 * 10**9
"""Bytes of the largest file that the Hub sends over plain HTTP; larger ones need the client of its own storage."""

PROGRESS = 1024 * 1024
"""Bytes that an attempt must bring so that the next failure counts as the first."""

PART = ".part"
"""Suffix of what is not whole yet."""

Heard = Callable[[int], None]
"""Called with the bytes of each block; with a negative number where a part is thrown away."""


class WrongBytesError(PublishError):
    """What the Hub sends has another digest than the index says.

    Attributes:
        path: the file.
        expected: digest in the index.
        found: digest of what was sent.
    """

    def __init__(self, path: str, expected: str, found: str) -> None:
        self.path, self.expected, self.found = path, expected, found
        super().__init__(f"{path}: the Hub sent bytes of sha256 {found}, the index says {expected}; they are discarded")


class LostFileError(PublishError):
    """The Hub lists a file and does not have its bytes.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path}: the Hub lists it, but does not have it")


class StoppedError(Exception):
    """Another file failed: this one is given up, what there is of it stays."""


@dataclass(frozen=True)
class Wanted:
    """One content that is fetched, however many files have it.

    Attributes:
        path: a file that has it.
        size: bytes.
        sha256: digest.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Fetcher:
    """Fetches files of one commit into a folder, each under its digest.

    Attributes:
        repo: the repository.
        commit: the commit.
        stage: the folder.
        heard: told of every block.
    """

    repo: str
    commit: str
    stage: Path
    heard: Heard = field(default=lambda count: None)
    _stop: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    def staged(self, sha256: str) -> Path:
        """Return where a content stands once it is whole."""
        return self.stage / sha256

    def fetch_all(self, wanted: Iterable[Wanted], jobs: int) -> None:
        """Fetch files over several connections, the largest first; what is in the folder already is not asked for.

        Raises:
            WrongBytesError: when a file has another digest; it is discarded.
            LostFileError: when the Hub does not have a file that it lists.
            PublishError: when the Hub cannot be asked, or goes on breaking off.
            UsageError: when the folder cannot be written.
        """
        ordered = sorted(wanted, key=lambda file: (-file.size, file.path))
        with hub.asking(hub.name_of(self.repo, self.commit)), ThreadPoolExecutor(max(1, jobs)) as pool:
            tasks = [pool.submit(self._fetch, file) for file in ordered]
            try:
                for task in tasks:
                    with contextlib.suppress(StoppedError):
                        task.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _fetch(self, file: Wanted) -> None:
        if self._stop.is_set():
            raise StoppedError
        try:
            self._fetch_one(file)
        except BaseException:
            self._stop.set()
            raise

    def _fetch_one(self, file: Wanted) -> None:
        with _writing(self.stage):
            whole = self.staged(file.sha256)
            if whole.is_file() and sha256_of(whole) == file.sha256:
                self.heard(file.size)
                return
        if file.size > LARGEST_PLAIN:
            self._by_client(file)
            return
        with _writing(self.stage):
            part = _Part.opened(self.stage / (file.sha256 + PART), file.size, self.heard)
        try:
            self._receive_whole(file, part)
        finally:
            with _writing(self.stage):
                part.file.close()

    def _receive_whole(self, file: Wanted, part: "_Part") -> None:
        earlier = part.done
        self._receive(file, part)
        if part.digest.hexdigest() != file.sha256 and earlier:  # perhaps the part of an earlier run was damaged here
            part.restart()
            self._receive(file, part)
        found = part.digest.hexdigest()
        if found != file.sha256:
            part.path.unlink(missing_ok=True)
            raise WrongBytesError(file.path, file.sha256, found)
        part.finish(self.staged(file.sha256))

    def _receive(self, file: Wanted, part: "_Part") -> None:
        """Ask for what is missing until all is there; attempts that bring nothing are counted."""
        failed = silent = 0
        while part.done < file.size:
            before = part.done
            try:
                self._ask(file, part)
                response = None
            except hub.client_error() as error:
                response = getattr(error, "response", None)
                _give_up(file, error, response)
                silent += response is None and part.done == before
                if silent == hub.ATTEMPTS:
                    raise
            if part.done == file.size:
                return
            if part.done - before >= PROGRESS:
                failed = silent = 0
            failed += 1
            if failed > RETRIES:
                raise PublishError(f"{file.path}: the Hub broke off {failed} times; run the command again to go on")
            wait = hub.wait_asked(response) if response is not None else 0.0
            if self._stop.wait(wait or 2**failed / 8):
                raise StoppedError

    def _ask(self, file: Wanted, part: "_Part") -> None:
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        headers = build_hf_headers(library_name="saereg", library_version=__version__)
        headers["Accept-Encoding"] = "identity"
        if part.done:
            headers["Range"] = f"bytes={part.done}-{file.size - 1}"
        url = hf_hub_url(self.repo, file.path, revision=self.commit)
        with get_session().stream(
            "GET", url, headers=headers, timeout=hub.patience(), follow_redirects=True
        ) as response:
            hf_raise_for_status(response)
            if part.done and not _continues(response, part.done):
                part.restart()  # this server sends the whole file, whatever is asked
            self._take(response, file, part)

    def _take(self, response: Any, file: Wanted, part: "_Part") -> None:  # noqa: ANN401 - of httpx, or of httpx2 since version 2
        began, before = time.monotonic(), part.done
        for block in response.iter_bytes():
            if self._stop.is_set():
                raise StoppedError
            if part.done + len(block) > part.size:
                part.path.unlink(missing_ok=True)
                raise PublishError(f"{file.path}: the Hub sends more than its {part.size} bytes; they are discarded")
            part.take(block)
            if part.done == part.size:
                return
            if time.monotonic() - began > hub.patience() + (part.done - before) / LEAST_RATE:
                raise hub.SilentHubError

    def _by_client(self, file: Wanted) -> None:
        """Fetch a file that is too large for plain HTTP with the Hub's own client, which also resumes it."""
        from huggingface_hub import hf_hub_download

        got = Path(hf_hub_download(self.repo, file.path, revision=self.commit, local_dir=self.stage / "large"))
        found = sha256_of(got)
        if found != file.sha256:
            got.unlink()
            raise WrongBytesError(file.path, file.sha256, found)
        got.replace(self.staged(file.sha256))
        self.heard(file.size)


def _give_up(file: Wanted, error: Exception, response: Any) -> None:  # noqa: ANN401
    """Raise what no second attempt would change."""
    from huggingface_hub.errors import EntryNotFoundError

    if isinstance(error, EntryNotFoundError):
        raise LostFileError(file.path) from None
    if response is not None and response.status_code not in RETRIED:
        raise error


def _continues(response: Any, begin: int) -> bool:  # noqa: ANN401
    """Whether an answer begins where it was asked to begin."""
    return response.status_code == 206 and str(response.headers.get("Content-Range")).startswith(f"bytes {begin}-")


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say in one line what is wrong with a folder of this machine: else it would count as trouble with the Hub."""
    try:
        yield
    except OSError as error:
        where, why = error.filename or folder, error.strerror or error
        raise UsageError(f"{where}: {why}; what is here already stays, run the command again to go on") from error


@dataclass(eq=False)
class _Part:
    """A file that is being received; its digest is that of the bytes that are in it."""

    path: Path
    size: int
    file: BufferedRandom
    heard: Heard
    digest: Any
    done: int = 0

    @classmethod
    def opened(cls, path: Path, size: int, heard: Heard) -> "_Part":
        """Open what there is of a file, and compute its digest anew; one that is too long is begun again."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b")  # noqa: SIM115 - closed by the one who asks for it
        part = cls(path, size, file, heard, hashlib.sha256())
        part.file.seek(0)
        if os.fstat(part.file.fileno()).st_size > size:
            part.restart()
        block = memoryview(bytearray(BUFFER))
        while count := part.file.readinto(block):
            part.digest.update(block[:count])
            part.done += count
        heard(part.done)
        return part

    def take(self, block: bytes) -> None:
        """Append a block."""
        with _writing(self.path):
            self.file.write(block)
        self.digest.update(block)
        self.done += len(block)
        self.heard(len(block))

    def restart(self) -> None:
        """Throw away what there is."""
        with _writing(self.path):
            self.file.seek(0)
            self.file.truncate()
        self.heard(-self.done)
        self.digest, self.done = hashlib.sha256(), 0

    def finish(self, whole: Path) -> None:
        """Make sure that it is on the disk, and give it its name."""
        with _writing(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())
            self.path.replace(whole)
