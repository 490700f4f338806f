"""Publish to a folder: built beside the target, verified there, then exchanged with it in one step.

A reader sees the old release or the new one, never a mixture, and a kill at any moment leaves one of them whole. What a
killed run leaves beside the target, the next run removes.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Literal

from saereg.errors import ConflictError, PublishError, UsageError
from saereg.publishers.plan import State, Target, make_plan, state_digest
from saereg.publishers.publisher import Progress, Publisher, Wishes
from saereg.registry.files.atomic import exclusive
from saereg.registry.files.digest import BLOCK, sha256_of
from saereg.registry.files.folder import scan
from saereg.registry.release import MANIFEST_FILE
from saereg.schemas.manifest import Manifest
from saereg.schemas.plan import Operation, Plan, Receipt
from saereg.schemas.report import Report


def open_target(place: str, wishes: Wishes) -> Publisher:
    """Return the publisher of `dir:PLACE`.

    Raises:
        UsageError: when the place cannot be replaced, or a wish is one that only a repository can meet.
    """
    if flags := wishes.of_a_repository:
        raise UsageError(f"{', '.join(flags)}: a folder has none of that; leave it out, or publish to hf://org/repo")
    return FolderPublisher(place, delete_unknown=wishes.delete_unknown)


class FolderPublisher:
    """Publishes to one folder.

    Attributes:
        folder: the target.
        delete_unknown: whether files that the target has and the release has not may be removed.
    """

    def __init__(self, folder: str | Path, *, delete_unknown: bool = False) -> None:
        self.folder, self.delete_unknown = Path(folder), delete_unknown
        self._digests: dict[tuple[str, int, int, int], str] = {}
        whole = self.folder.absolute()
        if whole.name in ("", ".."):
            raise UsageError(f"{folder} cannot be replaced; name the folder of the release itself")
        self._staging, self._aside = (whole.with_name(f".{whole.name}.{word}") for word in ("staging", "old"))

    @property
    def target(self) -> str:
        """How the target is written."""
        return f"dir:{self.folder}"

    def plan(self, root: Path, report: Report) -> Plan:
        """Return what publishing would do; nothing is written.

        Raises:
            InvalidReleaseError: when the report does not allow it.
            UsageError: when the target is no place for this release.
        """
        self._require_place(root)
        parent = self.folder.absolute().parent
        with exclusive(parent) if parent.is_dir() else contextlib.nullcontext():
            plan = make_plan(root, report, Target(self.target, self.state()))
        self._require_known(plan)
        return plan

    def renew(self, root: Path, report: Report, planned: Plan) -> Plan:
        """Return a plan that was made before, made anew and found to be the same.

        Raises:
            ConflictError: when the target has changed since.
            PublishError: when the release is another by now, or the plan was altered.
            SaeregError: whatever `plan` raises.
        """
        if planned.target != self.target:
            raise UsageError(f"the plan is for {planned.target}, not for {self.target}")
        fresh = self.plan(root, report)
        if fresh.is_noop and fresh.digest == planned.digest:
            return fresh
        if fresh.base != planned.base:
            raise ConflictError(f"{self.target} has changed since the plan was made; plan again")
        if fresh != planned:
            raise PublishError(f"the plan does not fit {root} or {self.target}, or was altered; plan again")
        return fresh

    def apply(self, root: Path, plan: Plan, progress: Progress | None = None) -> Receipt:
        """Do what the plan says and return the receipt; doing it twice changes nothing the second time.

        Raises:
            PublishError: when the target is not as planned, or a file of the release changed meanwhile.
            UsageError: when the target holds what may not be removed.
        """
        if plan.hub is not None:
            raise UsageError(f"the plan is for {plan.target}, not for {self.target}")
        started = time.monotonic()
        self.folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder.absolute().parent) as locked:
            self._clean_up(locked=locked)
            state = self.state()
            if (state_digest(state) if state is not None else None) != plan.base:
                raise PublishError(f"{self.target} has changed since the plan was made; plan again")
            self._require_known(plan)
            if not plan.is_noop:
                self._replace(root, plan, progress)
            return self._receipt(plan, self.state() or {}, time.monotonic() - started)

    def state(self) -> State | None:
        """Return what the target holds, or None when it does not exist."""
        if not self.folder.is_dir():
            return None
        return {
            entry.path: (entry.size, self._digest(entry.path)) for entry in scan(self.folder) if entry.kind == "file"
        }

    def _digest(self, path: str) -> str:
        full = self.folder / path
        status = full.stat()
        key = (path, status.st_size, status.st_mtime_ns, status.st_ino)
        if key not in self._digests:
            self._digests[key] = sha256_of(full)
        return self._digests[key]

    def _require_place(self, root: Path) -> None:
        folder, real = self.folder, self.folder.resolve()
        if folder.is_symlink():
            raise UsageError(f"{folder} is a symbolic link; name the folder that it leads to, {real}")
        if real == root.resolve() or real.is_relative_to(root.resolve()) or root.resolve().is_relative_to(real):
            raise UsageError(f"{folder} and the release {root} lie inside each other; choose another target")
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is no folder; choose another target")
        if not folder.is_dir() or not any(folder.iterdir()):
            return
        if not (folder / MANIFEST_FILE).is_file():
            raise UsageError(f"{folder} holds files that are no release; choose an empty or new folder")
        ours, theirs = (Manifest.read(place / MANIFEST_FILE).release.name for place in (root, folder))
        if ours != theirs:
            raise UsageError(f"{folder} holds the release {theirs!r}, not {ours!r}; choose another folder")

    def _require_known(self, plan: Plan) -> None:
        """Refuse to remove anything that the release does not replace, links and hidden folders included."""
        if plan.is_noop:
            return
        kept = {operation.path for operation in plan.operations if operation.action != "remove"}
        removed = sorted(_everything(self.folder) - kept)
        if any(path.split("/")[0] == ".git" for path in removed):
            raise UsageError(f"{self.folder} is a git repository, which a publish would remove; choose another folder")
        if removed and not self.delete_unknown:
            shown = ", ".join(removed[:5]) + (" …" if len(removed) > 5 else "")
            counted = "a file" if len(removed) == 1 else f"{len(removed)} files"
            problem = f"{self.folder} holds {counted} that the release does not: {shown}"
            raise UsageError(f"{problem}; move that away, or allow its removal with --delete-remote-only")

    def _clean_up(self, *, locked: bool) -> None:
        """Remove what a killed run left, and put the target back if it was killed between two renames.

        Raises:
            PublishError: when there is something and, without a lock, it may belong to a run that is under way.
        """
        left = [path for path in (self._staging, self._aside) if path.exists()]
        if left and not locked:
            raise PublishError(f"{left[0]} is there: another publish is under way, or was killed; if so, remove it")
        if self._aside.exists() and not self.folder.exists():
            self._aside.rename(self.folder.absolute())
        for path in left:
            shutil.rmtree(path, ignore_errors=True)

    def _replace(self, root: Path, plan: Plan, progress: Progress | None) -> None:
        self._staging.mkdir()
        try:
            self._stage(root, plan, progress)
            _exchange(self._staging, self.folder.absolute(), self._aside)
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)

    def _stage(self, root: Path, plan: Plan, progress: Progress | None) -> None:
        total, done = sum(o.size for o in plan.operations if o.action != "remove"), 0
        for operation in plan.operations:
            if operation.action == "remove":
                continue
            place = self._staging / operation.path
            place.parent.mkdir(parents=True, exist_ok=True)
            if operation.action != "same" or not _link(self.folder / operation.path, place):
                _copy(root, place, operation)
            done += operation.size
            if progress:
                progress(operation.path, done, total)

    def _receipt(self, plan: Plan, state: State, seconds: float) -> Receipt:
        kept = [operation for operation in plan.operations if operation.action != "remove"]
        wrong = [o.path for o in kept if state.get(o.path) != (o.size, o.sha256)]
        if wrong or len(state) != len(kept):
            raise PublishError(f"{self.target} does not hold what was sent: {', '.join(wrong[:5]) or 'extra files'}")
        actions: list[Literal["add", "change", "remove"]] = ["add", "change", "remove"]
        counts = [sum(o.action == action for o in plan.operations) for action in actions]
        return Receipt(
            release=plan.release,
            target=plan.target,
            release_digest=plan.release_digest,
            base=plan.base,
            result=state_digest(state),
            changed=not plan.is_noop,
            added=counts[0],
            replaced=counts[1],
            removed=counts[2],
            bytes_written=sum(o.size for o in kept if o.action != "same"),
            seconds=round(seconds, 3),
            files=tuple(kept),
        )


def _link(old: Path, new: Path) -> bool:
    """Take an unchanged file over from the old release without copying it; False where the file system cannot."""
    try:
        os.link(old, new)
    except OSError:
        return False
    return True


def _everything(folder: Path) -> set[str]:
    """Return the path of every entry of a folder but folders, hidden ones and links included."""
    found: set[str] = set()
    for place, folders, files in os.walk(folder):
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found |= {Path(place, name).relative_to(folder).as_posix() for name in (*files, *linked)}
    return found


def _copy(root: Path, place: Path, operation: Operation) -> None:
    """Copy a file, hashing what is written: a file that changed after validation is refused."""
    digest = hashlib.sha256()
    try:
        with (root / operation.path).open("rb", buffering=0) as reader, place.open("wb") as writer:
            while block := reader.read(BLOCK):
                digest.update(block)
                writer.write(block)
            writer.flush()
            os.fsync(writer.fileno())
    except FileNotFoundError:
        raise PublishError(f"{operation.path} is gone since the plan was made; run saereg validate {root}") from None
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error  # a full disk does not say for which file
    if digest.hexdigest() != operation.sha256:
        raise PublishError(f"{operation.path} has changed since the plan was made; run saereg validate {root}")


def _exchange(new: Path, target: Path, aside: Path) -> None:
    """Put `new` where `target` is; what was there ends up at `new`'s old place.

    Linux and macOS exchange two folders in one system call. Elsewhere the old one is renamed first, so that for an
    instant there is none.
    """
    if not target.exists():
        new.rename(target)
        return
    if _exchange_in_one_call(new, target):
        return
    target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        aside.rename(target)
        raise
    aside.rename(new)


def _exchange_in_one_call(one: Path, other: Path) -> bool:
    """Exchange two folders in one system call; False where system or file system has none."""
    if sys.platform not in ("linux", "darwin"):
        return False
    libc, here, exchange = ctypes.CDLL(None, use_errno=True), -100, 2  # AT_FDCWD; RENAME_EXCHANGE and RENAME_SWAP are 2
    first, second = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            return int(libc.renamex_np(first, second, exchange)) == 0
        return int(libc.renameat2(here, first, here, second, exchange)) == 0
    except AttributeError:  # a C library without the call
        return False
