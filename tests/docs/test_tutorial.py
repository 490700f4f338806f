"""What runs the pages of the guide notices a page that is wrong, and says where."""

import pytest

from tests.docs.tutorial import PageError, agrees, blocks, run_page


@pytest.fixture
def page(tmp_path):
    """Write a page and run it."""

    def write(text: str):
        path = tmp_path / "page.md"
        path.write_text(text)
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        return run_page(path, folder)

    return write


def test_a_page_that_is_right_is_run_in_one_folder(page, tmp_path):
    """Files, commands of any kind, loops, redirections, exit codes, Python."""
    session = page(
        "```yaml\n# a/run.yaml\nk: 3\n```\n"
        "```console\n$ cat a/run.yaml\n# a/run.yaml\nk: 3\n$ saereg rule SR999\n…\n$ echo $?\n2\n```\n"
        "```console\n$ for x in 1 2; do echo $x; done\n1\n2\n$ saereg --version > version.txt\n```\n"
        "```python\nfrom pathlib import Path\nversion = Path('version.txt').read_text()\n```\n"
        "```pycon\n>>> version.strip()\n'saereg, version …'\n```\n"
    )

    assert str(session.names["version"]).startswith("saereg, version ")
    assert (tmp_path / "folder/a/run.yaml").is_file()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# A\n\n```console\n$ echo a\nb\n```\n", 4),
        ("```console\n$ true\n$ false\n```\n", 3),
        ("```console\n$ echo \\\n  a\n$ saereg nothing\n```\n", 4),
        ("```console\necho a\n```\n", 2),
        ("\n```python\na = 1\nassert a == 2\n```\n", 4),
        ("```pycon\n>>> 1 + 1\n3\n```\n", 2),
        ("```console\n$ saereg --version\nsaereg 9…\n```\n", 2),
    ],
)
def test_a_page_that_is_wrong_is_named_with_the_line(page, tmp_path, text, line):
    """Whatever is wrong."""
    with pytest.raises(PageError) as found:
        page(text)
    assert str(found.value).startswith(f"{(tmp_path / 'page.md').as_posix()}:{line}: ")


def test_an_ellipsis_stands_for_a_part_of_a_line_or_for_lines():
    """And for nothing else; spaces do not count."""
    assert agrees(("a  b … d", "…", "z"), ["a b c d", "e", "f", "z"])
    assert agrees(("…",), [])
    assert not agrees(("a …",), ["a b", "c"])
    assert not agrees(("a",), ["a.b"])


def test_other_blocks_are_prose(page, tmp_path):
    """They are found, and nothing is done."""
    page("```\n$ false\n```\n````markdown\n```console\n$ false\n```\n````\n```sh\nfalse\n```\n")
    assert [block.language for block in blocks(tmp_path / "page.md")] == ["", "markdown", "sh"]
