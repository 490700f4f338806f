"""Fetch a part of a release into a folder: everything is received and compared first, then put in its place.

Until all of it is there the folder stays what it was, so that a pull that ends half way harms nothing; the next one
takes what was received. Files of the user's own are never overwritten unless that is asked for.
"""

import contextlib
import hashlib
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from saereg.errors import PublishError, UsageError
from saereg.registry.cards.card import CARD_FILE, MAX_CARD_BYTES
from saereg.registry.fetching.choosing import Choice, common_files, evaluations_of, files_of
from saereg.registry.fetching.download import Fetcher, Wanted
from saereg.registry.fetching.guarding import (
    require_apart,
    require_inside,
    require_space,
    stage_of,
    state_of,
    without_links,
)
from saereg.registry.fetching.locking import lock_command
from saereg.registry.fetching.opening import MAX_SIGNATURE_BYTES, RemoteRelease
from saereg.registry.files.atomic import exclusive, write_bytes_atomically
from saereg.registry.files.digest import sha256_text
from saereg.registry.files.digest_cache import Digests
from saereg.registry.files.names import SIGNATURE_FILE
from saereg.registry.files.pulled import read_pulled, write_pulled
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.schemas.lock import LOCK_FILE, LockedRelease
from saereg.schemas.pulled import Pulled

MOST_NAMED = 3
"""Files that a refusal names."""

Action = Literal["fetch", "replace", "same", "remove"]

Progress = Callable[[str, int, int], None]
"""(what, done, total) → None."""


@dataclass(frozen=True)
class Asked:
    """What a pull is asked for.

    Attributes:
        choice: which artifacts.
        whole: whether all of them, where the choice names none.
        evaluations: whether also the rows that they were measured on.
        force: whether files that are no earlier pull's may be overwritten.
        jobs: connections, and threads that hash.
        lock_file: the lock, for errors.
    """

    choice: Choice = field(default_factory=Choice)
    whole: bool = False
    evaluations: bool = False
    force: bool = False
    jobs: int = 4
    lock_file: Path = Path(LOCK_FILE)


@dataclass(frozen=True)
class PullFile:
    """One file of a pull.

    Attributes:
        action: what happens to it here.
        path: path in the release.
        size: bytes.
        sha256: digest that it has afterwards.
    """

    action: Action
    path: str
    size: int
    sha256: str


@dataclass(frozen=True, eq=False)
class Pull:
    """What a pull will do.

    Attributes:
        remote: the release.
        out: the folder.
        artifacts: ids of those that are here afterwards, in the manifest's order.
        kept: how many of them were pulled earlier, and are kept up to date.
        files: every file, sorted by path.
        texts: contents that were read already, by their digest.
        notes: what the user should know.
        asked: what was asked for.
        locked: what a lock file says of the release, or None.
        before: the note in the folder when this was planned, or None.
    """

    remote: RemoteRelease
    out: Path
    artifacts: tuple[str, ...]
    kept: int
    files: tuple[PullFile, ...]
    texts: dict[str, bytes]
    notes: tuple[str, ...]
    asked: Asked
    locked: LockedRelease | None
    before: Pulled | None

    @property
    def fetched(self) -> tuple[Wanted, ...]:
        """The contents that are fetched, each once: many artifacts have the same configuration."""
        moved = {file.sha256: file for file in self.files if file.action in ("fetch", "replace")}
        return tuple(Wanted(f.path, f.size, f.sha256) for f in moved.values() if f.sha256 not in self.texts)

    @property
    def bytes_fetched(self) -> int:
        """Bytes of these."""
        return sum(file.size for file in self.fetched)

    @property
    def is_as_indexed(self) -> bool:
        """Whether the card, too, is as the index says; of all other files that is required."""
        indexed = {file.path: file.sha256 for file in self.remote.index.files}
        return all(f.sha256 == indexed.get(f.path, f.sha256) for f in self.files if f.action != "remove")

    @property
    def absent(self) -> tuple[str, ...]:
        """Files of the index that are not pulled."""
        here = {file.path for file in self.files}
        return tuple(file.path for file in self.remote.index.all_files() if file.path not in here)


def plan_pull(remote: RemoteRelease, out: Path, asked: Asked, locked: LockedRelease | None = None) -> Pull:
    """Compare what is wanted with what is in the folder. Nothing is written.

    Artifacts that an earlier pull brought from the same repository stay, and are brought to this commit.

    Args:
        remote: the release.
        out: the folder; it need not be there.
        asked: what is wanted.
        locked: what a lock file says of this release, or None.

    Raises:
        UsageError: when nothing is chosen, a chosen artifact is not in the lock, or files of the user are in the way.
        UnknownNameError: when an id or a field does not exist.
        PublishError: when the commit holds half of a release, or not what was locked.
    """
    remote.require_whole()
    if locked is not None:
        _require_locked(remote, locked)
    note = read_pulled(out)
    earlier = note if note is not None and note.repo == remote.repo else None
    artifacts, kept = _chosen(remote, asked, earlier, locked)
    texts, notes = _documents(remote)
    wanted = {name: (len(raw), hashlib.sha256(raw).hexdigest()) for name, raw in texts.items()}
    named = [*common_files(remote), *files_of(remote, artifacts)]
    if asked.evaluations:
        named += evaluations_of(remote, artifacts)
    owned = earlier.digests if earlier else {}
    named += [file for file in remote.index.files if file.role == "evaluation" and file.path in owned]
    wanted = {file.path: (file.size, file.sha256) for file in named if file.path not in texts} | wanted
    require_apart(wanted, remote.reference)
    _require_there(remote, wanted)
    with Digests(out) as digests:
        files = _compared(out, wanted, owned, digests, asked)
    contents = {wanted[name][1]: raw for name, raw in texts.items()}
    return Pull(remote, out, artifacts, kept, files, contents, notes, asked, locked, note)


def carry_out(
    pull: Pull,
    jobs: int,
    progress: Progress = lambda what, done, total: None,
    told: Callable[[str], None] = lambda line: None,
) -> Pull:
    """Fetch, compare and put in place what a plan says.

    Args:
        pull: the plan.
        jobs: connections.
        progress: told of every block.
        told: told in one line when another pull into the same folder must be waited for.

    Returns:
        What was done: another plan where another pull has changed the folder since this one was made.

    Raises:
        UsageError: when the folder cannot be written, or is too small.
        PublishError: when the Hub cannot be asked, or sends other bytes than the index says; see `Fetcher.fetch_all`.
    """
    out, remote, waited = pull.out, pull.remote, False

    def waiting() -> None:
        nonlocal waited
        waited = True
        told(f"another pull into {out} is under way; this one goes on after it")

    with _local(out):
        require_inside(out, (file.path for file in pull.files))
        state_of(out).mkdir(parents=True, exist_ok=True)
        with exclusive(state_of(out), waiting):
            if waited or read_pulled(out) != pull.before:
                pull = plan_pull(remote, out, pull.asked, pull.locked)
                require_inside(out, (file.path for file in pull.files))
            require_space(out, pull.bytes_fetched)
            stage = without_links(stage_of(out))
            Fetcher(remote.repo, remote.commit, stage, _counted(pull, progress)).fetch_all(pull.fetched, jobs)
            require_inside(out, (file.path for file in pull.files))  # as it is now, minutes or hours later
            _put_in_place(pull, stage)
            shutil.rmtree(stage, ignore_errors=True)
    return pull


def _require_locked(remote: RemoteRelease, locked: LockedRelease) -> None:
    """Compare the documents and the digests of a release with those of the lock."""
    for name, text, expected in (
        (MANIFEST_FILE, remote.manifest_text, locked.manifest_sha256),
        (INDEX_FILE, remote.index_text, locked.index_sha256),
    ):
        if (found := sha256_text(text)) != expected:
            raise PublishError(f"{remote.reference}: {name} has sha256 {found}, the lock says {expected}")
    indexed = {file.path: (file.size, file.sha256) for file in remote.index.all_files()}
    for file in locked.files:
        if indexed.get(file.path) != (file.size, file.sha256):
            shown = indexed.get(file.path, (0, "nothing"))[1]
            raise PublishError(f"{remote.reference}: {file.path} is {shown} in the index, the lock says {file.sha256}")


def _chosen(
    remote: RemoteRelease, asked: Asked, earlier: Pulled | None, locked: LockedRelease | None
) -> tuple[tuple[str, ...], int]:
    """Return the artifacts that are wanted in the manifest's order, and how many of them only an earlier pull chose."""
    known = [artifact.id for artifact in remote.manifest.artifacts]
    before = set(earlier.artifacts) & set(known) if earlier else set()
    if asked.choice or asked.whole:
        chosen = set(asked.choice.of(remote.release))
    elif locked is not None:
        chosen = set(locked.artifacts)
    elif before:
        chosen = before
    else:
        example = f"{remote.repo}: {len(known)} artifacts; name some, or choose with --where, or take --all"
        raise UsageError(f"hf://{example} (saereg ls hf://{remote.repo} lists them)")
    if locked is not None and (unlocked := sorted(chosen - set(locked.artifacts))):
        problem = f"{asked.lock_file} does not lock {', '.join(unlocked[:MOST_NAMED])}"
        adds = f"{lock_command(asked.lock_file)} {remote.reference} {unlocked[0]} adds it"
        raise UsageError(f"{problem}; {adds}, --no-lock ignores the lock")
    kept = before - chosen if locked is None else before & set(locked.artifacts) - chosen
    return tuple(identifier for identifier in known if identifier in chosen | kept), len(kept)


def _documents(remote: RemoteRelease) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return what stands at the top of a release: the documents, the card and the signature, as they are now.

    A card may be edited on the site of the Hub; it is taken as it is, and the user is told.
    """
    texts = {MANIFEST_FILE: remote.manifest_text.encode(), INDEX_FILE: remote.index_text.encode()}
    notes = []
    digests = {file.path: file.sha256 for file in remote.index.files}
    for name, limit in ((CARD_FILE, MAX_CARD_BYTES), (SIGNATURE_FILE, MAX_SIGNATURE_BYTES)):
        if name not in remote.files or (name in digests and remote.files[name].size > limit):
            continue  # a card that is too large to be held is received as any other file of the index
        texts[name] = remote.small(name, limit)
        if name in digests and hashlib.sha256(texts[name]).hexdigest() != digests[name]:
            notes.append(f"{name} differs from the index: it was edited on the Hub; it is taken as it is")
    return texts, tuple(notes)


def _require_there(remote: RemoteRelease, wanted: dict[str, tuple[int, str]]) -> None:
    """Refuse before anything is fetched what the tree shows to be missing or other."""
    for path, (size, sha256) in wanted.items():
        entry = remote.files.get(path)
        problem = None
        if entry is None:
            problem = "is in the index and not in the repository"
        elif entry.size != size:
            problem = f"has {entry.size} bytes in the repository, {size} in the index"
        elif (listed := remote.place.listed_sha256(path)) not in (None, sha256):
            problem = f"has sha256 {listed} in the repository, {sha256} in the index"
        if problem:
            raise PublishError(f"{remote.reference}: {path} {problem}; saereg verify {remote.reference} says more")


def _compared(
    out: Path,
    wanted: dict[str, tuple[int, str]],
    owned: dict[str, tuple[str, ...]],
    digests: Digests,
    asked: Asked,
) -> tuple[PullFile, ...]:
    """Return what happens to each file; what an earlier pull brought and nobody names any more is removed."""
    gone = [path for path in owned if path not in wanted and (out / path).is_file()]
    there = [path for path in (*wanted, *gone) if (out / path).is_file()]
    digests.ahead(there, asked.jobs)
    found = {path: _digest(digests, out, path) for path in there}
    files, taken = [], []
    for path, (size, sha256) in wanted.items():
        action: Action = "fetch"
        if os.path.lexists(out / path):
            action = "same" if found.get(path) == sha256 else "replace"
            if action == "replace" and found.get(path) not in owned.get(path, ()) and not asked.force:
                taken.append(path)
        files.append(PullFile(action, path, size, sha256))
    if taken:
        more = f" and {len(taken) - MOST_NAMED} more" if len(taken) > MOST_NAMED else ""
        problem = f"{out} has files of its own in the way: {', '.join(taken[:MOST_NAMED])}{more}"
        raise UsageError(f"{problem}; choose another folder with --out, or overwrite them with --force")
    mine = [path for path in gone if found[path] in owned[path]]
    files += [PullFile("remove", path, (out / path).stat().st_size, found[path]) for path in mine]
    return tuple(sorted(files, key=lambda file: file.path))


def _digest(digests: Digests, out: Path, path: str) -> str:
    try:
        return digests.sha256(path)
    except OSError as error:
        raise UsageError(f"{out / path}: {error.strerror or error}") from error


def _counted(pull: Pull, progress: Progress) -> Callable[[int], None]:
    """Return what adds the blocks of several threads up."""
    total, lock, done = pull.bytes_fetched, threading.Lock(), 0

    def heard(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            progress(f"{done / 1e6:.1f} of {total / 1e6:.1f} MB", done, total)

    return heard


def _put_in_place(pull: Pull, stage: Path) -> None:
    """Give every file its name, manifest and index last; what may stand under each name is noted before."""
    out, moved = pull.out, [file for file in pull.files if file.action in ("fetch", "replace")]
    earlier = read_pulled(out)
    owned = earlier.digests if earlier and earlier.repo == pull.remote.repo else {}
    mine = {file.path: file.sha256 for file in pull.files if file.action != "remove"}
    either = {path: (digest, *(d for d in owned.get(path, ()) if d != digest)) for path, digest in mine.items()}
    write_pulled(out, _note(pull, owned | either))
    left: dict[str, int] = Counter(file.sha256 for file in moved)
    for file in sorted(moved, key=lambda file: (file.path in (MANIFEST_FILE, INDEX_FILE), file.path)):
        left[file.sha256] -= 1
        _place(pull, stage, file, last=not left[file.sha256])
    for file in pull.files:
        if file.action == "remove":
            (out / file.path).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # folders that are empty now
                os.removedirs((out / file.path).parent)
    write_pulled(out, _note(pull, {path: (digest,) for path, digest in mine.items()}))


def _place(pull: Pull, stage: Path, file: PullFile, *, last: bool) -> None:
    """Put one file in its place; other files may have the same content."""
    target = pull.out / file.path
    if file.sha256 in pull.texts:
        write_bytes_atomically(target, pull.texts[file.sha256])
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    content = stage / file.sha256
    if not last:
        copy = stage / f"{file.sha256}.copy"
        shutil.copyfile(content, copy)
        content = copy
    content.replace(target)


def _note(pull: Pull, digests: dict[str, tuple[str, ...]]) -> Pulled:
    return Pulled(
        repo=pull.remote.repo,
        commit=pull.remote.commit,
        artifacts=pull.artifacts,
        absent=pull.absent,
        digests=dict(sorted(digests.items())),
    )


@contextlib.contextmanager
def _local(out: Path) -> Iterator[None]:
    """Say in one line what is wrong with the folder."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{error.filename or out}: {error.strerror or error}") from error


def described(files: Iterable[PullFile]) -> list[dict[str, object]]:
    """Return files as plain values."""
    return [{"action": f.action, "path": f.path, "size": f.size, "sha256": f.sha256} for f in files]
