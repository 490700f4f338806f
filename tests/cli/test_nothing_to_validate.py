"""A target without a release exits with 5, in every format and at every level: an empty input must never pass."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from saereg.cli import run
from saereg.cli.render.report import RENDERERS
from saereg.schemas.report import LEVELS


def _missing(target: Path) -> None:
    pass


def _empty(target: Path) -> None:
    target.mkdir()


def _other_files(target: Path) -> None:
    (target / "layer_1").mkdir(parents=True)
    (target / "layer_1/cfg.json").write_text("{}")
    (target / "README.md").write_text("# no release\n")


def _below(target: Path) -> None:
    (target / "release").mkdir(parents=True)
    (target / "release/manifest.json").write_text("{}")


def _file(target: Path) -> None:
    target.write_text("{}")


def _broken_link(target: Path) -> None:
    target.symlink_to(target.parent / "gone")


def _link_to_itself(target: Path) -> None:
    target.symlink_to(target)


def _folder_as_manifest(target: Path) -> None:
    (target / "manifest.json").mkdir(parents=True)


def _broken_manifest_link(target: Path) -> None:
    target.mkdir()
    (target / "manifest.json").symlink_to("gone")


def _pipe_as_manifest(target: Path) -> None:
    target.mkdir()
    os.mkfifo(target / "manifest.json")


TARGETS = {
    function.__name__.removeprefix("_").replace("_", " "): function
    for function in (
        _missing,
        _empty,
        _other_files,
        _below,
        _file,
        _broken_link,
        _link_to_itself,
        _folder_as_manifest,
        _broken_manifest_link,
        _pipe_as_manifest,
    )
}


@pytest.mark.parametrize("name", TARGETS)
def test_no_release_is_never_a_pass(saereg, place, name):
    """One line, nothing on stdout, no file written, and no trace in the folder."""
    TARGETS[name](place / "target")
    before = sorted(str(path) for path in place.rglob("*"))

    answer = saereg("validate", "target", "--format", "json", "--format", "sarif:out.sarif")

    assert (answer.code, answer.out) == (5, "")
    assert answer.err.startswith("error: target ")
    assert answer.err.count("\n") == 1
    assert sorted(str(path) for path in place.rglob("*")) == before


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("form", RENDERERS)
def test_neither_level_nor_format_makes_a_pass_of_it(saereg, place, level, form):
    """Nor does a flag that turns findings into 0."""
    (place / "target").mkdir()

    assert saereg("validate", "target", "--level", level, "--format", form, "--exit-zero").code == 5


@pytest.mark.parametrize("target", ["", "\0", "a" * 5000, "/dev/null", "target/x:y"])
def test_a_target_that_names_nothing_is_refused(saereg, place, target):
    """As a command that cannot be acted on, or as nothing to validate."""
    answer = saereg("validate", target)

    assert answer.code in (2, 5)
    assert answer.out == ""
    assert answer.err.startswith("error: ")


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
@pytest.mark.parametrize("below", ["", "release"])
def test_a_folder_that_may_not_be_read_is_no_pass(valid, capfd, mode, below):
    """Whoever may not list or enter it cannot know what is in it."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        locked = Path(scratch) / "locked"
        shutil.copytree(valid, locked)
        locked.chmod(mode)
        run(["validate", str(valid)])  # every module is imported before privileges are dropped
        capfd.readouterr()
        try:
            if os.geteuid() == 0:
                os.seteuid(65534)
            code = run(["validate", str(locked / below)])
        finally:
            os.seteuid(os.getuid())
            locked.chmod(0o755)
    said = capfd.readouterr()
    assert (code, said.out) == (5, "")
    assert said.err == f"error: {locked / below} may not be read: nothing to validate\n"
