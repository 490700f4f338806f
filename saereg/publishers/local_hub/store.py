"""What the hub holds, in one folder: blobs by digest, immutable commits, and per repository one file that changes."""

import copy
import hashlib
import json
import re
import struct
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from saereg.errors import UsageError
from saereg.registry.files.atomic import lock_at_once

LARGE = "7z arrow bin ckpt gz h5 joblib msgpack npy npz onnx parquet pb pickle pkl pt pth safetensors tar zip zst"
ATTRIBUTES = "".join(f"*.{end} filter=lfs diff=lfs merge=lfs -text\n" for end in LARGE.split())
BLOCK, RECORD = 1 << 20, 48

Json = dict[str, Any]
Tree = dict[str, Json]
"""Path → {size, sha256, git, lfs, pointer}, where `git` names what git keeps: the content, or the LFS pointer."""


class Refusal(Exception):  # noqa: N818 - an answer rather than an error
    """What is answered instead: a status, a sentence, and a code where clients act on one."""


def now() -> str:
    """Return the time as the Hub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def save(path: Path, value: Json) -> None:
    """Write a document so that a reader sees the old or the new one, also when the hub is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(value), "utf-8")
    temporary.replace(path)


def entry(sha256: str, size: int, content: bytes | None = None) -> Json:
    """Return the entry of a regular file or, without its content, of an LFS file."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    kept = pointer if content is None else content
    git = hashlib.sha1(b"blob %d\0" % len(kept) + kept, usedforsecurity=False).hexdigest()
    return {"size": size, "sha256": sha256, "git": git, "lfs": content is None, "pointer": len(pointer)}


def merged(base: Tree, ours: Tree, theirs: Tree) -> tuple[Tree, list[str]]:
    """Return `ours` with what `theirs` changed since `base`, and the paths that both changed differently."""
    changed = [path for path in base.keys() | theirs.keys() if theirs.get(path) not in (base.get(path), ours.get(path))]
    conflicts = sorted(path for path in changed if ours.get(path) != base.get(path))
    kept = {path: file for path, file in ours.items() if path not in changed}
    return kept | {path: theirs[path] for path in changed if path in theirs}, conflicts


def matches(path: str, patterns: list[str]) -> bool:
    """Whether the lines of a .gitignore or .gitattributes name a path or a folder above it; the last one counts."""
    hit, above = False, [path, *map(str, PurePosixPath(path).parents)][:-1]
    for word in patterns:
        names = above if "/" in word.rstrip("/") else [PurePosixPath(part).name for part in above]
        if any(fnmatchcase(name, word.strip("!/")) for name in (names[1:] if word.endswith("/") else names)):
            hit = not word.startswith("!")
    return hit


def applied(tree: Tree, todo: list[tuple[str, str, Json | None]]) -> Tree:
    """Return a tree after the operations of a commit: (what, path, the file that is added)."""
    after = dict(tree)
    for what, path, file in todo:
        gone = [] if file else [p for p in after if p == path or (what == "deletedFolder" and p.startswith(f"{path}/"))]
        if not file and not gone:
            raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
        after.update({path: file} if file else {})
        for name in gone:
            del after[name]
    if clash := {str(parent) for path in after for parent in PurePosixPath(path).parents} & after.keys():
        raise Refusal(400, f"{min(clash)} is a file and a folder")
    return after


def blocks_of(path: Path) -> Iterator[bytes]:
    """Yield the content of a file."""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


class Repo:
    """One repository; `state` (private, created, refs, discussions) is replaced inside `changing`."""

    def __init__(self, folder: Path, state: Json | None = None) -> None:
        self.folder, self._lock, self._commits = folder, threading.RLock(), dict[str, Json]()
        self.state: Json = state or json.loads((folder / "state.json").read_text("utf-8"))

    @contextmanager
    def changing(self) -> Iterator[Json]:
        """Give a copy of the state, and keep it as a whole unless something is refused meanwhile."""
        with self._lock:
            state = copy.deepcopy(self.state)
            yield state
            save(self.folder / "state.json", state)
            self.state = state

    def commit(self, oid: str) -> Json:
        """Return a commit: its oid, parents, title, message, author, date and tree."""
        commit = self._commits.get(oid) or json.loads((self.folder / "commits" / f"{oid}.json").read_text("utf-8"))
        self._commits = {**(self._commits if len(self._commits) < 64 else {}), oid: commit}
        return dict(commit)

    def history(self, oid: str) -> Iterator[Json]:
        """Yield a commit and those before it."""
        while oid:
            yield self.commit(oid)
            oid = next(iter(self.commit(oid)["parents"]), "")

    def resolve(self, revision: str) -> str:
        """Return the commit that a branch, tag, ref or (shortened) commit id names."""
        for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if name in self.state["refs"]:
                return str(self.state["refs"][name])
        found = list(self.folder.glob(f"commits/{revision}*.json")) if re.fullmatch("[0-9a-f]{5,40}", revision) else []
        if len(found) != 1:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found[0].stem

    def write(self, parents: list[str], tree: Tree, title: str, message: str, author: str) -> str:
        """Write a commit that no ref names yet, and return its name."""
        said = {"parents": parents, "title": title, "message": message, "author": author, "date": now(), "tree": tree}
        oid = hashlib.sha1(json.dumps([uuid.uuid4().hex, said]).encode(), usedforsecurity=False).hexdigest()
        save(self.folder / "commits" / f"{oid}.json", {"oid": oid} | said)
        return oid


class Store:
    """Everything in one folder, which one process at a time may serve."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.incoming = folder.resolve(), folder.resolve() / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)
        self.lock, self._changing, self._repos = (
            (self.folder / ".lock").open("wb"),
            threading.RLock(),
            dict[str, Repo](),
        )
        if not lock_at_once(self.lock):
            raise UsageError(f"{folder}: another hub serves this folder; stop it or name another")
        for left in self.incoming.iterdir():
            left.unlink()

    def repo(self, place: str) -> Repo | None:
        """Return a repository such as `models/org/name`, or None where there is none."""
        with self._changing:
            if place not in self._repos and (self.folder / "repos" / place / "state.json").is_file():
                self._repos[place] = Repo(self.folder / "repos" / place)
            return self._repos.get(place)

    def names(self, place: str) -> list[str]:
        """Return the names of the repositories of an author such as `models/org`, sorted."""
        folder = self.folder / "repos" / place
        inside = folder.resolve().parent.parent == self.folder / "repos"  # an author is one folder, and no way out
        return sorted(path.name for path in folder.iterdir()) if inside and folder.is_dir() else []

    def create(self, place: str, author: str, *, private: bool) -> bool:
        """Make a repository whose first commit holds its .gitattributes; False where it is there already."""
        with self._changing:
            if self.repo(place):
                return False
            new = Repo(self.folder / "repos" / place, {"private": private, "created": now(), "discussions": []})
            tree = {".gitattributes": self.keep(ATTRIBUTES.encode())}
            with new.changing() as state:
                state["refs"] = {"refs/heads/main": new.write([], tree, "initial commit", "", author)}
            return True

    def blob(self, sha256: str) -> Path:
        """Return where the content of a digest is, or would be."""
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise Refusal(400, f"not a sha256: {sha256!r}")
        return self.folder / "blobs" / sha256[:2] / sha256

    def receive(self, blocks: Iterable[bytes], sha256: str = "", to: Path | None = None) -> tuple[str, int]:
        """Write content block by block; return its sha256, which must be the one promised, and its size."""
        temporary, digest, size = self.incoming / uuid.uuid4().hex, hashlib.sha256(), 0
        try:
            with temporary.open("wb") as file:
                for block in blocks:
                    digest.update(block)
                    size += file.write(block)
            if sha256 not in ("", digest.hexdigest()):
                raise Refusal(400, f"the content has the sha256 {digest.hexdigest()}, not {sha256}")
            place = to or self.blob(digest.hexdigest())
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(place)
            return digest.hexdigest(), size
        finally:
            temporary.unlink(missing_ok=True)

    def keep(self, content: bytes) -> Json:
        """Keep a regular file and return its entry."""
        return entry(*self.receive([content]), content)


class Cas:
    """The Xet storage: a folder that clients write and read themselves; here, under which name it keeps a sha256."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._seen, self._known = folder, set[Path](), dict[str, tuple[str, int]]()
        self.where, self.until = f"local://{folder}", int(time.time()) + 10**8

    def find(self, sha256: str) -> tuple[str, int] | None:
        """Return (name, size) of a file, looking into the shards that came since."""
        for shard in set(self.folder.rglob("*.mdb")) - self._seen if sha256 not in self._known else ():
            with suppress(struct.error):  # being written: it is looked into again
                self._read(shard.read_bytes())
                self._seen.add(shard)
        return self._known.get(sha256)

    def _read(self, shard: bytes, at: int = RECORD) -> None:
        def name(place: int) -> str:
            return "".join(f"{word:016x}" for word in struct.unpack_from("<4Q", shard, place))

        while name(at) != "f" * 64:  # records of one file after the other
            flags, count = struct.unpack_from("<II", shard, at + 32)
            size = sum(struct.unpack_from("<I", shard, at + RECORD * (i + 1) + 36)[0] for i in range(count))
            end = at + RECORD * (1 + count * (1 + (flags >> 31 & 1)))
            if flags >> 30 & 1:
                self._known[name(end)] = name(at), size
            at = end + RECORD * (flags >> 30 & 1)

    def fetch(self, name: str, size: int, to: Path) -> bool:
        """Write a file as plain bytes; False without hf-xet, which alone can read the storage."""
        try:
            from hf_xet import XetFileInfo, XetSession
        except ImportError:
            return False
        way = {"endpoint": self.where, "token": "local", "token_expiry_unix_secs": self.until}
        with XetSession().new_file_download_group(**way) as group:
            group.start_download_file(XetFileInfo(name, size), str(to))
        return True
