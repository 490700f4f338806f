"""From changed files to releases: what pre-commit hands over, and what is validated."""

import shutil

import pytest

from saereg.cli.hook import releases_of, split, validate_changed


def names(*files: str) -> list[str]:
    return [str(folder) for folder in releases_of(files)]


def test_a_file_belongs_to_the_nearest_release_above_it(place):
    """Also one of an artifact; each release once, in order."""
    shutil.copytree(place / "release", place / "a/b")

    assert names("release/layer_1/topk/cfg.json", "release/manifest.json", "a/b/README.md") == ["a/b", "release"]
    assert names("release/gone/gone.json") == ["release"]
    assert names("README.md", "a/x.json", "gone/manifest.json") == []


def test_a_release_may_be_the_whole_repository(place, monkeypatch):
    """And what lies above the repository does not count."""
    monkeypatch.chdir(place / "release")
    assert names("README.md", "layer_1/topk/cfg.json") == ["."]
    monkeypatch.chdir(place / "release/layer_1")
    assert names("topk/cfg.json") == []


def test_a_release_without_its_manifest_is_still_one(place, capsys):
    """Its index tells; the answer is that there is nothing to validate, and the commit stops."""
    (place / "release/manifest.json").unlink()

    assert names("release/README.md") == ["release"]
    assert validate_changed(["release/README.md"]) == 5
    assert "holds no manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "options", "files"),
    [
        (["--level", "header", "a", "b"], ["--level", "header"], ["a", "b"]),
        (["--level=header", "--strict", "a"], ["--level=header", "--strict"], ["a"]),
        (["-v", "a", "--", "--level"], ["-v"], ["a", "--level"]),
        (["a", "--level"], ["--level"], ["a"]),
        ([], [], []),
    ],
)
def test_options_are_told_from_files(words, options, files):
    """By what validate says of each: some take a value, some do not."""
    assert split(words) == (options, files)


def test_the_worst_release_decides(place, capsys):
    """All of them are validated, whichever fails first."""
    for name in ("bad", "good"):
        shutil.copytree(place / "release", place / name)
    path = place / "bad/layer_1/topk/cfg.json"
    path.write_text(path.read_text().replace('"k": 3', '"k": 300'))

    code = validate_changed(["--quiet", "bad/manifest.json", "good/manifest.json"])

    printed = capsys.readouterr()
    assert code == 1
    assert [line for line in printed.err.splitlines() if line.endswith(":")] == ["bad:", "good:"]
    assert printed.out.count("tiny-saes 1.0.0") == 2


def test_no_release_is_no_reason_to_stop(place, capsys):
    """The other files of a repository are none of its business."""
    assert validate_changed(["--level", "header", "setup.py"]) == 0
    assert validate_changed([]) == 0
    assert capsys.readouterr().out == ""


def test_a_wrong_option_is_a_line(place, capsys):
    """Of the command itself."""
    assert validate_changed(["--levle", "release/manifest.json"]) == 2
    assert "--levle" in capsys.readouterr().err
