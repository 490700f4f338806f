"""Digests that are kept: quick, and never those of other bytes."""

import errno
import hashlib
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.registry.files import digest_cache
from saereg.registry.files.digest_cache import Digests
from saereg.registry.files.state import RACY_NS

OLD = 1_700_000_000_000_000_000
"""A moment long ago, in nanoseconds."""


def write(path: Path, content: bytes, mtime: int | None = OLD) -> None:
    """Write into a file, which stays the same inode, and set its mtime."""
    with path.open("r+b" if path.exists() else "xb") as file:
        file.write(content)
        file.truncate()
    if mtime is not None:
        os.utime(path, ns=(mtime, mtime))


def supplant(path: Path, content: bytes, mtime: int | None = OLD) -> None:
    """Put another file in the place of one."""
    beside = path.with_name("beside")
    write(beside, content, mtime)
    beside.replace(path)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "release").mkdir()
    return tmp_path / "release"


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1])
def test_both_digests_come_from_one_reading(root, cache, size):
    """The second is that of git: `git hash-object` gives the same for "hello\\n"."""
    raw = bytes(i % 251 for i in range(size))
    write(root / "x", raw)
    digests = Digests(root, cache)

    assert digests.both("x") == (sha256(raw), hashlib.sha1(b"blob %d\0" % size + raw).hexdigest())
    assert (digests.sha256("x"), digests.git_sha1("x"), digests.hashed_bytes) == (*digests.both("x"), size)

    write(root / "hello", b"hello\n")
    assert digests.git_sha1("hello") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_second_run_reads_nothing(root, cache):
    """Whatever was asked for."""
    write(root / "x", b"some bytes")
    with Digests(root, cache) as first:
        assert first.known_sha256("x") is None
        first.ahead(["x"], 2)
    assert first.hashed_bytes == 10

    second = Digests(root, cache)
    assert (second.known_sha256("x"), second.git_sha1("x")) == (sha256(b"some bytes"), first.git_sha1("x"))
    assert second.hashed_bytes == 0


def test_of_a_large_file_git_s_digest_is_computed_only_when_asked_for(root, cache, monkeypatch):
    """The Hub names it by its SHA-256 alone; a later wish reads it once more."""
    monkeypatch.setattr(digest_cache, "BOTH_BYTES", 3)
    write(root / "x", b"large")
    digests = Digests(root, cache)
    digests.ahead(["x"], 2)
    assert digests.sha256("x") == sha256(b"large")
    assert digests.hashed_bytes == 5
    assert digests.git_sha1("x") == hashlib.sha1(b"blob 5\0large").hexdigest()
    assert digests.hashed_bytes == 10


CHANGES = st.tuples(
    st.sampled_from([write, supplant]),
    st.binary(max_size=3),
    st.one_of(st.none(), st.integers(1, 3).map(lambda hours: OLD + hours * 3_600_000_000_000)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=6))
def test_a_kept_digest_is_that_of_the_bytes(changes):
    """For any sequence of writes that shows in size, mtime or inode, or that is too recent to be sure of."""
    with tempfile.TemporaryDirectory() as name:
        path, cache = Path(name) / "release" / "x", Path(name) / "cache"
        path.parent.mkdir()
        write(path, b"first")
        Digests(path.parent, cache).sha256("x")
        for change, content, mtime in changes:
            before = path.read_bytes(), os.stat(path)
            change(path, content, mtime)
            now = os.stat(path)
            shown = [getattr(s, f) for s in (before[1], now) for f in ("st_size", "st_mtime_ns", "st_ino")]
            if shown[:3] == shown[3:] and time.time_ns() - now.st_mtime_ns > RACY_NS:
                write(path, before[0], mtime)  # a change that cannot be seen is undone
            with Digests(path.parent, cache) as digests:
                assert digests.sha256("x") == sha256(path.read_bytes())
                assert digests.sha256("x") == sha256(path.read_bytes())


@pytest.mark.skipif(os.name == "nt", reason="there the ctime is the time of birth")
def test_a_write_that_sets_the_mtime_back_shows_in_the_ctime(root, cache):
    """Same size, mtime and inode."""
    write(root / "x", b"one")
    with Digests(root, cache) as digests:
        digests.sha256("x")
    ctime = os.stat(root / "x").st_ctime_ns
    while os.stat(root / "x").st_ctime_ns == ctime:
        write(root / "x", b"two")

    assert Digests(root, cache).sha256("x") == sha256(b"two")


def test_the_digest_of_a_file_that_was_just_written_is_not_trusted(root, cache):
    """A second write in the same tick of the clock would not show: here it is made not to."""
    write(root / "x", b"one", None)
    with Digests(root, cache) as digests:
        digests.sha256("x")
        assert digests.known_sha256("x") is None
    assert Digests(root, cache).known_sha256("x") is None
    assert not list(cache.glob("*"))

    write(root / "x", b"one", time.time_ns() - 2 * RACY_NS)
    with Digests(root, cache) as digests:
        digests.sha256("x")
    assert Digests(root, cache).known_sha256("x") == sha256(b"one")


def test_nothing_is_kept_where_files_have_no_inode(root, cache, monkeypatch):
    """One that took the place of another could not be told from it."""
    write(root / "x", b"one")
    real = digest_cache.Stamp.of
    monkeypatch.setattr(digest_cache.Stamp, "of", lambda status: digest_cache.replace(real(status), inode=0, ctime=0))
    with Digests(root, cache) as digests:
        assert digests.sha256("x") == sha256(b"one")
    supplant(root / "x", b"two")
    assert Digests(root, cache).sha256("x") == sha256(b"two")


def test_a_file_that_changes_while_it_is_read_is_read_again(root, cache, monkeypatch):
    """Until it rests."""
    write(root / "x", b"at first")
    stat, opened = os.fstat, []

    def late(descriptor):
        found = stat(descriptor)
        opened.append(found)
        if len(opened) <= 2:
            write(root / "x", b"x" * len(opened), OLD + len(opened))
        return found

    monkeypatch.setattr(digest_cache.os, "fstat", late)
    assert Digests(root, cache).sha256("x") == sha256(b"xx")
    assert len(opened) == 3


def test_a_file_that_never_rests_is_refused(root, cache, monkeypatch):
    """By name, and not for ever; one that grows is not read to an end that never comes."""
    write(root / "x", b"")
    stat = os.fstat

    def late(descriptor):
        found = stat(descriptor)
        write(root / "x", b"x" * (found.st_size + 1), OLD)
        return found

    monkeypatch.setattr(digest_cache.os, "fstat", late)
    with pytest.raises(OSError, match="it changes while it is read") as caught:
        Digests(root, cache).sha256("x")
    assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, str((root / "x").resolve()))


def test_a_file_that_cannot_be_read_is_told_when_it_is_asked_for(root, cache):
    """Not when files are hashed ahead."""
    digests = Digests(root, cache)
    digests.ahead(["absent"], 2)
    assert digests.known_sha256("absent") is None
    with pytest.raises(FileNotFoundError):
        digests.sha256("absent")


def test_a_file_that_vanished_is_not_known(root, cache):
    """Its digest is not given from memory."""
    write(root / "x", b"one")
    digests = Digests(root, cache)
    digests.sha256("x")
    (root / "x").unlink()
    assert digests.known_sha256("x") is None


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b'{"format":1}', b"\xff\xfe", b"[" * 100_000, b'{"format":1,"root":1,"files":[]}'],
)
def test_a_damaged_cache_is_as_good_as_none(root, cache, damage):
    """And is replaced by a sound one."""
    write(root / "x", b"one")
    with Digests(root, cache) as digests:
        digests.sha256("x")
    (kept,) = cache.iterdir()
    kept.write_bytes(damage)

    with Digests(root, cache) as digests:
        assert (digests.sha256("x"), digests.hashed_bytes) == (sha256(b"one"), 3)
    assert Digests(root, cache).known_sha256("x") == sha256(b"one")


@pytest.mark.parametrize(
    ("position", "value"), [(0, "3"), (0, None), (5, "z" * 63), (5, None), (6, "a"), (7, "now"), (7, True)]
)
def test_a_damaged_entry_spoils_the_file(root, cache, position, value):
    """No part of it is believed."""
    write(root / "x", b"one")
    with Digests(root, cache) as digests:
        digests.sha256("x")
    (kept,) = cache.iterdir()
    content = json.loads(kept.read_bytes())
    content["files"]["x"][position] = value
    kept.write_text(json.dumps(content))
    assert Digests(root, cache).known_sha256("x") is None


def test_a_cache_that_cannot_be_written_is_no_error(root, tmp_path):
    """Then nothing is kept."""
    write(root / "x", b"one")
    (tmp_path / "file").write_bytes(b"")
    with Digests(root, tmp_path / "file" / "cache") as digests:
        assert digests.sha256("x") == sha256(b"one")


def test_processes_that_keep_at_once_lose_nothing(root, cache):
    """Each adds its own to what the others kept."""
    for i in range(12):
        write(root / str(i), b"%d" % i)
    everyone = [Digests(root, cache) for _ in range(12)]
    for i, digests in enumerate(everyone):
        digests.sha256(str(i))
    threads = [threading.Thread(target=digests.save) for digests in everyone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    digests = Digests(root, cache)
    assert [digests.known_sha256(str(i)) for i in range(12)] == [sha256(b"%d" % i) for i in range(12)]


def test_two_folders_share_nothing_and_two_names_of_one_share_all(root, cache, tmp_path):
    """A link to a folder is that folder."""
    write(root / "x", b"one")
    with Digests(root, cache) as digests:
        digests.sha256("x")
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "x", b"two")
    assert Digests(tmp_path / "link", cache).known_sha256("x") == sha256(b"one")
    assert Digests(tmp_path / "other", cache).known_sha256("x") is None


def test_a_link_is_as_old_as_its_file(root, cache, tmp_path):
    """The snapshots of the Hub's client are made of links: one that is turned to another file is another file."""
    write(tmp_path / "blob1", b"one")
    write(tmp_path / "blob2", b"two")
    (root / "x").symlink_to(tmp_path / "blob1")
    with Digests(root, cache) as digests:
        assert digests.sha256("x") == sha256(b"one")
    (root / "x").unlink()
    (root / "x").symlink_to(tmp_path / "blob2")
    assert Digests(root, cache).sha256("x") == sha256(b"two")


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_that_are_not_utf_8_come_back(root, cache):
    """No rule lets them pass, but they may be asked for."""
    name = os.fsdecode(b"\xff")
    try:
        write(root / name, b"one")
    except OSError:
        pytest.skip("this file system has no such names")
    with Digests(root, cache) as digests:
        digests.sha256(name)
    assert Digests(root, cache).known_sha256(name) == sha256(b"one")


def test_what_nobody_uses_is_forgotten(root, cache, monkeypatch):
    """An entry after 90 days without use; the oldest of too many; the file of a folder that nobody asks for."""
    for name in "abc":
        write(root / name, name.encode())
    now = time.time()
    for day, name in [(-100, "a"), (-40, "b"), (0, "c")]:
        monkeypatch.setattr(digest_cache.time, "time", lambda day=day: now + day * 86_400)
        with Digests(root, cache) as digests:
            digests.sha256(name)
    digests = Digests(root, cache)
    assert [digests.known_sha256(name) is not None for name in "abc"] == [False, True, True]

    monkeypatch.setattr(digest_cache, "MOST_FILES", 1)
    digests.save()
    assert len(json.loads(next(cache.iterdir()).read_bytes())["files"]) == 1


def test_the_files_of_other_folders_are_pruned(tmp_path, cache, monkeypatch):
    """The oldest beyond a number, and all that are too old."""
    monkeypatch.setattr(digest_cache, "MOST_FOLDERS", 3)
    for i in range(5):
        (tmp_path / str(i)).mkdir()
        write(tmp_path / str(i) / "x", b"one")
        with Digests(tmp_path / str(i), cache) as digests:
            digests.sha256("x")
        for age, kept in enumerate(sorted(cache.iterdir(), key=os.path.getmtime, reverse=True)):
            os.utime(kept, (time.time() - age * 3600,) * 2)
    assert len(list(cache.iterdir())) == 3
    assert [Digests(tmp_path / str(i), cache).known_sha256("x") is not None for i in range(5)] == [0, 0, 1, 1, 1]


def test_a_long_run_keeps_digests_on_the_way(root, cache, monkeypatch):
    """One that is killed does not hash all again."""
    monkeypatch.setattr(digest_cache, "SAVE_SECONDS", 0.0)
    for name in "ab":
        write(root / name, name.encode())
    Digests(root, cache).ahead(["a", "b"], 2)
    assert Digests(root, cache).known_sha256("a") == sha256(b"a")


def test_what_somebody_else_computed_is_taken_over_of_files_that_are_what_they_were(root, cache):
    """Not of one that was written meanwhile, or just before, or of which nobody said anything."""
    for name in ("same", "written", "untold"):
        write(root / name, name.encode())
    write(root / "fresh", b"fresh", None)
    known = {name: sha256(name.encode()) for name in ("same", "written", "fresh", "absent")}
    with Digests(root, cache) as digests:
        began, stamps = time.time_ns(), digests.stamps([*known, "untold"])
        assert "absent" not in stamps
        write(root / "written", b"another")
        digests.trust(known, stamps, began)

    again = Digests(root, cache)
    told = {name: again.known_sha256(name) for name in (*known, "untold")}
    assert told == {"same": known["same"], "written": None, "fresh": None, "absent": None, "untold": None}
    assert (again.both("same"), again.hashed_bytes) == ((known["same"], hashlib.sha1(b"blob 4\0same").hexdigest()), 4)
