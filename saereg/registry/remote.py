"""A release on the Hub as a place of its own: the tree once, documents whole, of weight files the headers alone."""

import contextlib
import errno
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from saereg import __version__
from saereg.errors import NothingToValidateError, PublishError, UsageError, WeightsError
from saereg.registry import hub
from saereg.registry.files.folder import Entry, is_ignored
from saereg.registry.files.header import Header, header_length, parse_header
from saereg.registry.files.place import FolderPlace, Place
from saereg.registry.hub_files import HubFiles, UnreadableError, again
from saereg.registry.refs import parse_reference
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.schemas import jsontext
from saereg.schemas.index import Index

FIRST = 64 * 1024
"""Bytes asked for at first of a weight file: most headers have less, and then one request is enough."""

KEPT = 256 * 1024
"""Other files up to this size are fetched whole and kept in memory, until together they have MOST_KEPT bytes."""

MOST_KEPT = 64 * 1024 * 1024

MOST_ENTRIES = 200_000
"""Files and folders of the largest repository that is read; the Hub itself advises against more than 100,000 files."""

MOST_REPOSITORIES = 10_000
"""Repositories of one organization that are listed."""

CONNECTIONS = 8
"""Requests at a time, where many files are wanted."""

WEIGHTS = ".safetensors"


def open_place(target: str) -> Place:
    """Open `hf://org/repo[@revision]`: resolve the revision once, and list its files once. No file is fetched yet.

    With HF_HUB_OFFLINE set, the snapshot in the local cache is opened, where it is whole.

    Raises:
        UsageError: when the target names no release on the Hub.
        PublishError: when the repository, revision or network is not there.
        NothingToValidateError: when the repository has no commit.
    """
    from huggingface_hub import constants

    reference = parse_reference(target)
    if reference.repo is None:
        raise UsageError(f"{target!r} is not on the Hub; write hf://org/repo[@revision]")
    if reference.artifact is not None:
        whole = hub.name_of(reference.repo, reference.revision)
        raise UsageError(f"{target}: a release is validated as a whole; write {whole}")
    opened = open_cached if constants.HF_HUB_OFFLINE else open_repository
    return opened(reference.repo, reference.revision)


def open_cached(repo: str, revision: str | None) -> "CachedPlace":
    """Open the snapshot of a release in the local cache, where it is whole; the Hub is not asked.

    Raises:
        UsageError: when the name cannot be that of a repository.
        PublishError: when it is not there, or only in part.
    """
    place = CachedPlace(hub.cached_everything(repo, revision), repo)
    there = {entry.path for entry in place.entries()}
    index = Index.read(place.folder / INDEX_FILE) if INDEX_FILE in there else None
    if MANIFEST_FILE not in there or (index and any(file.path not in there for file in index.all_files())):
        raise PublishError(f"{hub.name_of(repo, revision)}: {hub.REASONS['OfflineModeIsEnabled']}")
    return place


def open_repository(repo: str, revision: str | None) -> "HubPlace":
    """Open any repository of weights, a release or not: resolve the revision once, and list its files once.

    Raises:
        UsageError: when the name cannot be that of a repository.
        PublishError: when the repository, revision or network is not there.
        NothingToValidateError: when the repository has no commit.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError

    name, api = hub.name_of(repo, revision), HfApi(library_name="saereg", library_version=__version__)
    with hub.asking(name):
        pinned = hub.is_commit(revision)
        commit = (
            revision if pinned else again(lambda: api.repo_info(repo, revision=revision, timeout=hub.patience())).sha
        )
        try:
            listed = api.list_repo_tree(repo, recursive=True, revision=commit) if commit else ()
            tree = list(itertools.islice(listed, MOST_ENTRIES + 1))
        except EntryNotFoundError:  # a commit without a single file
            tree = []
    if commit is None or not hub.is_commit(commit):
        raise NothingToValidateError(f"{name} has no commit: nothing to validate")
    if len(tree) > MOST_ENTRIES:
        raise PublishError(f"{name} has more than {MOST_ENTRIES} files and folders; no more are read")
    return HubPlace(repo, commit, tree)


def commit_of(repo: str, revision: str | None, kind: str = "model") -> str | None:
    """Return the commit that a revision is now; None in a repository without one.

    Args:
        repo: repository on the Hub.
        revision: branch, tag or commit; None: the newest.
        kind: `model` or `dataset`.

    Raises:
        UsageError: when the name cannot be that of a repository.
        PublishError: when the repository, revision or network is not there.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="saereg", library_version=__version__)
    with hub.asking(hub.name_of(repo, revision)):
        found = again(lambda: api.repo_info(repo, revision=revision, repo_type=kind, timeout=hub.patience())).sha
    return str(found) if found else None


def repositories_of(author: str) -> dict[str, tuple[str, ...]]:
    """Return the repositories of models of an organization or user, by name, each with the paths of its files.

    Args:
        author: the organization.

    Raises:
        UsageError: when there are more than MOST_REPOSITORIES.
        PublishError: when the network is not there.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="saereg", library_version=__version__)
    with hub.asking(f"hf://{author}/*"):
        listed = again(
            lambda: list(itertools.islice(api.list_models(author=author, expand=["siblings"]), MOST_REPOSITORIES + 1))
        )
    if len(listed) > MOST_REPOSITORIES:
        raise UsageError(f"hf://{author}/* are more than {MOST_REPOSITORIES} repositories; name those that are meant")
    return {one.id: tuple(file.rfilename for file in one.siblings or ()) for one in sorted(listed, key=lambda m: m.id)}


class CachedPlace(FolderPlace):
    """A snapshot in the local cache of the Hub's client."""

    def __init__(self, folder: Path, repo: str) -> None:
        super().__init__(folder)
        self._repo = repo

    @property
    def name(self) -> str:
        """The repository."""
        return self._repo

    @property
    def revision(self) -> str | None:  # type: ignore[override]
        """The commit, after which the cache names its folders."""
        return self._folder.name if hub.is_commit(self._folder.name) else None


class HubPlace:
    """A commit on the Hub.

    Small files are fetched whole; of a safetensors file at most two ranges are, and never its tensors. The first
    of many files of one sort that is asked for has all of that sort fetched, over several connections.
    """

    def __init__(self, repo: str, revision: str, tree: Iterable[Any]) -> None:
        """Take the tree as the client lists it: `RepoFile` and `RepoFolder`."""
        self._repo, self._revision = repo, revision
        self._bytes_of = HubFiles(repo, revision)
        self._files = {}
        folders, parents = set(), set()
        for item in tree:
            parents |= {str(parent) for parent in PurePosixPath(item.path).parents}
            if hasattr(item, "size"):
                self._files[item.path] = item
            else:
                folders.add(item.path)
        entries = [Entry(path, file.size, "file") for path, file in self._files.items()]
        # git keeps no empty folders: what is listed as one is a repository inside this one
        entries += [Entry(path, 0, "special") for path in folders - parents]
        self._entries = tuple(sorted((e for e in entries if not is_ignored(e.path)), key=lambda entry: entry.path))
        self._digests: dict[str, str] = {path: file.lfs.sha256 for path, file in self._files.items() if file.lfs}
        self._kept: dict[str, bytes] = {}
        self._held = 0
        self._lost: dict[str, UnreadableError] = {}
        self._headers: dict[str, bytes | WeightsError | UnreadableError] = {}
        self._fetching = threading.Lock()
        self._fetched: set[Callable[[str], None]] = set()

    @property
    def name(self) -> str:
        """The repository."""
        return self._repo

    @property
    def folder(self) -> None:
        """None: it is not on this machine."""

    @property
    def revision(self) -> str:
        """The commit."""
        return self._revision

    def entries(self) -> tuple[Entry, ...]:
        """Return every entry, sorted by path."""
        return self._entries

    def listed_sha256(self, path: str) -> str | None:
        """Return the digest that the Hub lists for a large file; None for one that it keeps in git."""
        large = self._files[path].lfs
        return str(large.sha256) if large else None

    def git_sha1(self, path: str) -> str:
        """Return git's id of what the repository holds under a path: of a large file, that of its pointer."""
        return str(self._files[path].blob_id)

    def assume(self, path: str, sha256: str) -> None:
        """Take the digest of a small file from elsewhere, by git's id of it: it need not be fetched for it."""
        self._digests.setdefault(path, sha256)

    def read(self, path: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            OSError: when the Hub does not have it, or it is too large to be held.
            PublishError: when the Hub cannot be asked.
        """
        if self._is_small(path) and path not in self._kept:
            if "/" in path:  # as a cfg.json is: one of many
                self._fetch_all(self._keep, self._is_small)
            else:
                with hub.asking(self._reference):
                    self._keep(path)
        if path in self._kept:
            return self._kept[path]
        if path in self._lost:
            raise OSError(errno.EIO, str(self._lost[path]), path)
        if (size := self._files[path].size) > jsontext.MAX_BYTES:
            raise OSError(errno.EFBIG, f"it has {size} bytes; at most {jsontext.MAX_BYTES} are read into memory", path)
        return self._fetch(path, 0, size)

    def start(self, path: str, count: int) -> bytes:
        """Return the first bytes of a file, at most `count`.

        Raises:
            OSError: when the Hub does not have it.
            PublishError: when the Hub cannot be asked.
        """
        if self._is_small(path):
            return self.read(path)[:count]
        return self._fetch(path, 0, count)

    def span(self, path: str, begin: int, count: int) -> bytes:
        """Return some bytes of a file, of one request; nothing is kept.

        Raises:
            OSError: when the Hub does not have it.
            PublishError: when the Hub cannot be asked.
        """
        return self._fetch(path, begin, count)

    def header(self, path: str) -> Header:
        """Return the checked header of a safetensors file, of at most two requests.

        Raises:
            WeightsError: when the header is not sound.
            OSError: when the Hub does not have the file.
            PublishError: when the Hub cannot be asked.
        """
        self._fetch_all(self._keep_header, lambda other: other.endswith(WEIGHTS))
        if path not in self._headers:
            with hub.asking(self._reference):
                self._keep_header(path)
        raw = self._headers[path]
        if isinstance(raw, WeightsError):
            raise raw
        if isinstance(raw, UnreadableError):
            raise OSError(errno.EIO, str(raw), path)
        return parse_header(raw, self._files[path].size, PurePosixPath(path).name)

    def sha256(self, path: str) -> str:
        """Return the digest of a file: the Hub's own of a large one, that of its bytes otherwise.

        Raises:
            OSError: when the Hub does not have it.
            PublishError: when the Hub cannot be asked.
        """
        if path not in self._digests:
            small = self._is_small(path)
            self._digests[path] = hashlib.sha256(self.read(path)).hexdigest() if small else self._streamed(path)
        return self._digests[path]

    def _streamed(self, path: str) -> str:
        with self._asking(path):
            return self._bytes_of.sha256(path, self._files[path].size)

    def _is_small(self, path: str) -> bool:
        file = self._files[path]
        return file.lfs is None and file.size <= KEPT and not path.endswith(WEIGHTS)

    @property
    def _reference(self) -> str:
        return hub.name_of(self._repo, self._revision)

    def _fetch(self, path: str, begin: int, count: int) -> bytes:
        with self._asking(path):
            return self._bytes(path, begin, count)

    @contextlib.contextmanager
    def _asking(self, path: str) -> Iterator[None]:
        """Ask the Hub for a file in the block; one that it does not have is an `OSError`, as in a folder."""
        problem = None
        with hub.asking(self._reference):
            try:
                yield
            except UnreadableError as error:
                problem = error
        if problem is not None:
            raise OSError(errno.EIO, str(problem), path)

    def _fetch_all(self, keep: Callable[[str], None], wanted: Callable[[str], bool]) -> None:
        """Fetch all files of one sort, once."""
        with self._fetching:  # other threads wait for what this one fetches
            if keep not in self._fetched:
                self._fetched.add(keep)
                self._fetch_many(keep, [e.path for e in self._entries if e.kind == "file" and wanted(e.path)])

    def _fetch_many(self, keep: Callable[[str], None], paths: list[str]) -> None:
        with hub.asking(self._reference), ThreadPoolExecutor(CONNECTIONS) as pool:
            tasks = [pool.submit(keep, path) for path in paths]
            try:
                for task in tasks:
                    task.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _keep(self, path: str) -> None:
        if path in self._kept or path in self._lost or self._held > MOST_KEPT:
            return
        try:
            found = self._kept[path] = self._bytes(path, 0, self._files[path].size)
            self._held += len(found)
        except UnreadableError as error:
            self._lost[path] = error  # told when it is asked for

    def _keep_header(self, path: str) -> None:
        size = self._files[path].size
        try:
            raw = self._bytes(path, 0, FIRST)
            length = header_length(raw, size, PurePosixPath(path).name)
            if len(raw) == size:
                self._digests.setdefault(path, hashlib.sha256(raw).hexdigest())
            elif 8 + length > len(raw):
                raw += self._bytes(path, len(raw), 8 + length - len(raw))
            self._headers[path] = raw[8 : 8 + length]
        except (WeightsError, UnreadableError) as error:
            self._headers[path] = error

    def _bytes(self, path: str, begin: int, count: int) -> bytes:
        return self._bytes_of.span(path, self._files[path].size, begin, count)
