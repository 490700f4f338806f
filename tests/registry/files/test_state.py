"""Where what may be lost is kept."""

import os
import sys
from pathlib import Path

import pytest

from saereg.registry.files import state
from saereg.registry.files.state import state_folder


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """An environment in which only the home is known."""
    for name in ("SAEREG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_the_own_variable_is_heard_before_the_common_one(bare):
    """It may be relative, or begin with a tilde."""
    bare.setenv("XDG_CACHE_HOME", "/common")
    assert state_folder() == Path("/common/saereg")
    bare.setenv("SAEREG_CACHE", "here")
    assert state_folder() == Path("here").absolute()
    bare.setenv("SAEREG_CACHE", "~/there")
    assert state_folder() == Path.home() / "there"


@pytest.mark.parametrize("common", ["", "relative/cache"])
def test_a_common_variable_that_is_no_absolute_path_is_not_heard(bare, common):
    """So says the specification of XDG."""
    bare.setenv("XDG_CACHE_HOME", common)
    assert state_folder().is_relative_to(Path.home())


@pytest.mark.parametrize(
    ("platform", "folder"),
    [("linux", ".cache/saereg"), ("darwin", "Library/Caches/saereg"), ("win32", "AppData/Local/saereg/cache")],
)
def test_each_system_has_its_folder(bare, platform, folder):
    """Below the home, where its owner looks for caches."""
    bare.setattr(sys, "platform", platform)
    assert state_folder() == Path.home() / folder


def test_without_a_home_it_is_a_folder_that_cannot_be_made(bare):
    """No name in a folder that everybody may write is guessed."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    bare.setattr(state.Path, "home", unknown)
    with pytest.raises(NotADirectoryError):
        os.makedirs(state_folder())
