"""Files written in one step: the old one or the new one, and an error that names the file that was meant."""

import errno
import os

import pytest

from saereg.registry.files.atomic import write_text_atomically


def test_a_file_that_cannot_be_replaced_is_named(tmp_path):
    """By its own name, not by that of the temporary one, which is gone."""
    (tmp_path / "index.json").mkdir()

    with pytest.raises(IsADirectoryError) as caught:
        write_text_atomically(tmp_path / "index.json", "{}")

    assert caught.value.filename == str(tmp_path / "index.json")
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    """The system does not say which file it had no room for."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "index.json").write_text("old")
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text_atomically(tmp_path / "index.json", "new")

    assert caught.value.filename == str(tmp_path / "index.json")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
