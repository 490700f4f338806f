"""A release folder is listed without following anything out of it."""

import os
import socket

import pytest

from saereg.registry.files.folder import Entry, scan


def kinds(root) -> dict[str, str]:
    return {entry.path: entry.kind for entry in scan(root)}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "release"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_bytes(b"123")
    return root


def test_files_are_listed_with_their_sizes_in_order(root):
    """POSIX paths, sorted; folders themselves are no entries."""
    (root / "z").write_bytes(b"")
    (root / "a.md").write_bytes(b"1")

    assert scan(root) == (Entry("a.md", 1, "file"), Entry("a/b/file", 3, "file"), Entry("z", 0, "file"))


def test_what_git_the_hub_and_desktops_leave_behind_is_no_part_of_a_release(root):
    """Whatever is in those folders."""
    for name in (".git/config", ".cache/x", "a/__pycache__/x.pyc", ".gitattributes", "a/.DS_Store"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"1")

    assert kinds(root) == {"a/b/file": "file"}


def test_a_link_inside_the_release_is_a_file(root):
    """With the size of what it points to."""
    (root / "link").symlink_to("a/b/file")

    assert scan(root)[1] == Entry("link", 3, "file")


@pytest.mark.parametrize("target", ["../outside", "/etc/hostname", "a", ".", "nothing", "link", "a/../../outside"])
def test_any_other_link_is_an_escape(root, target):
    """Out of the release, to a folder, to nothing, to itself."""
    (root.parent / "outside").write_bytes(b"1")
    (root / "link").symlink_to(target)

    assert kinds(root) == {"a/b/file": "file", "link": "escape"}


def test_links_that_lead_in_a_circle_are_escapes(root):
    """And end the listing nowhere."""
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")

    assert kinds(root) == {"a/b/file": "file", "one": "escape", "two": "escape"}


def test_a_link_through_a_link_out_of_the_release_is_an_escape(root):
    """What counts is where it ends."""
    (root.parent / "outside").write_bytes(b"1")
    (root / "first").symlink_to(root.parent / "outside")
    (root / "second").symlink_to("first")

    assert kinds(root)["second"] == "escape"


def test_pipes_and_sockets_are_special(root, tmp_path, monkeypatch):
    """They are not opened; neither is a link to one."""
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to("pipe")
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")

        assert kinds(root) == {"a/b/file": "file", "link": "special", "pipe": "special", "socket": "special"}


def test_a_snapshot_of_the_hub_cache_may_link_into_its_blobs(tmp_path):
    """That is how the Hub's client lays out a download; the same links elsewhere are escapes."""
    (tmp_path / "models--a--b/blobs").mkdir(parents=True)
    (tmp_path / "models--a--b/blobs/abc").write_bytes(b"1234")
    for place in ("models--a--b/snapshots/0123", "models--a--b/elsewhere/0123"):
        snapshot = tmp_path / place
        (snapshot / "layer").mkdir(parents=True)
        (snapshot / "manifest.json").symlink_to("../../blobs/abc")
        (snapshot / "layer/cfg.json").symlink_to("../../../blobs/abc")

    assert scan(tmp_path / "models--a--b/snapshots/0123") == (
        Entry("layer/cfg.json", 4, "file"),
        Entry("manifest.json", 4, "file"),
    )
    assert set(kinds(tmp_path / "models--a--b/elsewhere/0123").values()) == {"escape"}


def test_a_release_may_itself_be_reached_by_a_link(root, tmp_path):
    """Its own links are judged by where the release really is."""
    (root / "link").symlink_to("a/b/file")
    (tmp_path / "latest").symlink_to(root)

    assert kinds(tmp_path / "latest") == {"a/b/file": "file", "link": "file"}


def test_a_name_that_is_no_text_is_shown_escaped(root):
    """With a backslash, which no rule lets pass."""
    with open(os.fsencode(root) + b"/\xff\xfe", "wb"):
        pass

    assert kinds(root) == {"a/b/file": "file", "\\xff\\xfe": "file"}


def test_a_folder_that_is_not_there_cannot_be_listed(tmp_path):
    """The one error of this module."""
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "gone")
