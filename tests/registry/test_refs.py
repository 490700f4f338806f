"""How a user names a release or an artifact of it."""

from pathlib import Path

import pytest

from saereg.errors import UsageError
from saereg.registry.refs import Reference, parse_reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("out/release", Reference(folder=Path("out/release"))),
        ("out/release:layer_2/topk_32", Reference(folder=Path("out/release"), artifact="layer_2/topk_32")),
        ("out:a:b", Reference(folder=Path("out"), artifact="a:b")),
        ("out:", Reference(folder=Path("out"))),
        (Path("a:b"), Reference(folder=Path("a:b"))),
        ("hf://org/repo", Reference(repo="org/repo")),
        ("hf://org/repo@v1.0", Reference(repo="org/repo", revision="v1.0")),
        ("hf://org/repo@main:layer/x", Reference(repo="org/repo", revision="main", artifact="layer/x")),
        ("hf://org/repo:layer/x", Reference(repo="org/repo", artifact="layer/x")),
        ("runs/x:https://a.b/c", Reference(folder=Path("runs/x"), artifact="https://a.b/c")),
        ("hf://org/repo:a name: of others@1", Reference(repo="org/repo", artifact="a name: of others@1")),
        ("hf://org/repo/layer/x", Reference(repo="org/repo", artifact="layer/x")),
    ],
)
def test_a_reference_is_taken_apart(text, reference):
    """Folder or repository, revision, artifact."""
    assert parse_reference(text) == reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf://org", "'hf://org' is no reference; write hf://org/repo[@revision][:artifact]"),
        ("hf://", "'hf://' is no reference; write hf://org/repo[@revision][:artifact]"),
        ("hf://a/b/c:d", "'hf://a/b/c:d' is no reference; write hf://org/repo[@revision][:artifact]"),
        ("hf://a/b c", "'hf://a/b c' is no reference; write hf://org/repo[@revision][:artifact]"),
        ("s3://bucket/x", "'s3://bucket/x': only folders and hf://org/repo can be opened"),
        ("https://huggingface.co/a/b", "'https://huggingface.co/a/b': only folders and hf://org/repo can be opened"),
    ],
)
def test_what_is_no_reference_is_refused(text, message):
    """With the form that is one."""
    with pytest.raises(UsageError) as caught:
        parse_reference(text)

    assert str(caught.value) == message


def test_a_folder_that_exists_under_the_whole_text_wins(tmp_path):
    """A colon may be part of its name."""
    (tmp_path / "a:b").mkdir()

    assert parse_reference(f"{tmp_path}/a:b") == Reference(folder=tmp_path / "a:b")


def test_an_id_may_be_longer_than_any_file_name(tmp_path):
    """It is not a file name, then."""
    assert parse_reference(f"{tmp_path}:{'x' * 300}") == Reference(folder=tmp_path, artifact="x" * 300)
