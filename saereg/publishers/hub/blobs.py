"""The bytes of files on their way: sent in batches before any commit names them, and only those that were validated."""

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from saereg.errors import PublishError
from saereg.publishers.hub.client import Client
from saereg.publishers.hub.state import Ids
from saereg.publishers.publisher import Progress
from saereg.registry.files.digest_cache import Digests
from saereg.schemas.plan import Operation

BATCH = 200
"""Files in one batch; what was sent in earlier batches is not sent again after an error."""

HASHING = 2
"""Threads that hash files while earlier ones are on their way: as fast as any network."""

SAVED = 2.0
"""Seconds of hashing after which digests are kept, for a run that is killed meanwhile must not hash again."""

SMALL = 10 * 1024 * 1024
"""Files up to this size may be kept by git itself, and then travel in the commit; larger ones never are."""

NEVER_SMALL = (".safetensors",)
"""Files that every repository keeps as large ones, by the `.gitattributes` that it begins with."""


def light(one: Operation) -> int:
    """Return how many bytes of a file are taken to travel in the commit itself."""
    return one.size if one.action != "remove" and one.size <= SMALL and not one.path.endswith(NEVER_SMALL) else 0


class Bytes:
    """Files of one release on their way to one repository.

    Attributes:
        root: release folder.
        digests: digests of its files.
        ids: ids that git gives to them.
    """

    def __init__(self, client: Client, root: Path, digests: Digests, jobs: int) -> None:
        self._client, self.root, self.digests, self._jobs = client, root, digests, jobs
        self.ids = Ids(digests)
        self._hashing: dict[str, Future[str]] = {}

    @contextlib.contextmanager
    def hashing(self, planned: Sequence[Operation]) -> Iterator[None]:
        """Hash large files while the block runs, in the order in which they are sent."""
        paths, saved = _large(planned), [time.monotonic()]

        def digest(path: str) -> str:
            found = self.digests.sha256(path)
            if time.monotonic() - saved[0] > SAVED or path == paths[-1]:
                saved[0] = time.monotonic()
                self.digests.save()
            return found

        pool = ThreadPoolExecutor(HASHING)
        self._hashing = {path: pool.submit(digest, path) for path in paths}
        try:
            yield
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._hashing = {}

    def operations(self, planned: Sequence[Operation]) -> list[Any]:
        """Return what the Hub client commits, of files and of removals; nothing is sent.

        Raises:
            PublishError: when a file is not the one that was planned.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        made: list[Any] = []
        wait([self._hashing[path] for path in _large(planned) if path in self._hashing])
        self.digests.ahead([path for path in _large(planned) if path not in self._hashing], self._jobs)
        self.digests.save()
        for one in planned:
            if one.action == "remove":
                made.append(CommitOperationDelete(one.path, is_folder=False))
            elif light(one):  # may travel in the commit itself, long after this: so it is read once and for all
                made.append(CommitOperationAdd(one.path, self._content(one)))
            else:
                self._require(one, self._digest(one.path))
                addition = CommitOperationAdd(one.path, str(self.root / one.path))
                addition.upload_info.sha256 = bytes.fromhex(str(one.sha256))  # else it would be computed once more
                made.append(addition)
        return made

    def send(self, planned: Sequence[Operation], revision: str, progress: Progress | None = None) -> list[Any]:
        """Send the bytes of files and return what the Hub client commits.

        Args:
            planned: files, and removals, of which nothing is sent.
            revision: branch that they will be committed to.
            progress: called after each batch.

        Raises:
            PublishError: when a file changed, or the Hub does not take it.
        """
        made: list[Any] = []
        total, done = sum(one.size for one in planned if one.action != "remove"), 0
        for batch in _batches(planned):
            stamps = self.digests.stamps(_large(batch))
            operations = self.operations(batch)
            additions = [made for made in operations if hasattr(made, "upload_info")]
            if additions:
                self._client.send(additions, revision, self._jobs)
                self._require_taken(additions)
                self._hold(batch, operations)
            now = self.digests.stamps(stamps)
            for path, stamp in stamps.items():  # what Xet sends is not hashed once more
                if now.get(path) != stamp:
                    raise PublishError(f"{path} changed while it was sent; nothing was published. {self._again()}")
            made += operations
            done += sum(one.size for one in batch if one.action != "remove")
            if progress:
                progress(batch[-1].path, done, total)
        return made

    def _require_taken(self, additions: Sequence[Any]) -> None:
        """Refuse to go on where the Hub says that it ignores files: the client would leave them out of the commit."""
        if ignored := [made.path_in_repo for made in additions if made._should_ignore]:
            shown = ", ".join(ignored[:5]) + (" …" if len(ignored) > 5 else "")
            raise PublishError(
                f"{self._client.target.name}: the Hub says that it ignores {shown}; nothing was published: "
                "see to the .gitignore of the repository, then run the same command again"
            )

    def _hold(self, batch: Sequence[Operation], operations: Sequence[Any]) -> None:
        """Read what is to travel in the commit though it was taken for large: the repository's rules are unusual."""
        for one, made in zip(batch, operations, strict=True):
            if isinstance(getattr(made, "path_or_fileobj", None), str) and made._upload_mode == "regular":
                made.path_or_fileobj = self._content(one)

    def _content(self, one: Operation) -> bytes:
        try:
            content = (self.root / one.path).read_bytes()
        except FileNotFoundError:
            raise self._gone(one.path) from None
        self._require(one, hashlib.sha256(content).hexdigest())
        self.ids.sent(one.path, str(one.sha256), content)
        return content

    def _digest(self, path: str) -> str:
        try:
            return self.digests.sha256(path)
        except FileNotFoundError:
            raise self._gone(path) from None

    def _require(self, one: Operation, found: str) -> None:
        if found != one.sha256:
            raise PublishError(f"{one.path} has changed since the plan was made. {self._again()}")

    def _gone(self, path: str) -> PublishError:
        return PublishError(f"{path} is gone since the plan was made. {self._again()}")

    def _again(self) -> str:
        return f"Run saereg build {self.root}, then saereg validate {self.root}"


def _large(planned: Sequence[Operation]) -> list[str]:
    return [one.path for one in planned if one.action != "remove" and not light(one)]


def _batches(planned: Sequence[Operation]) -> Iterator[Sequence[Operation]]:
    for start in range(0, len(planned), BATCH):
        yield planned[start : start + BATCH]
