"""Documents come in a fixed order, and a mistake in a corpus names its place."""

from itertools import islice

import pytest

from saereg.errors import DocumentError, UsageError
from saereg.trainers.collecting.corpus import BUILTIN, Corpus


def test_a_folder_is_read_in_order_of_paths_and_only_its_text(tmp_path):
    for name in ("b.txt", "a.md", "c.bin", "d/e.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "lines"}' if name.endswith("jsonl") else name)
    assert list(Corpus([str(tmp_path)]).read()) == ["a.md", "b.txt", "lines"]


def test_the_digest_is_that_of_the_documents_read_so_far(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n')
    corpus = Corpus([str(tmp_path / "a.jsonl")])
    reading = corpus.read()
    next(reading)
    assert corpus.ref().documents == 1
    first = corpus.ref().sha256
    assert next(reading) == "two"
    assert corpus.ref().sha256 != first
    assert corpus.ref().id == "a.jsonl"


@pytest.mark.parametrize("line", ["[1]", '{"words": "x"}', "{"])
def test_a_line_without_text_is_named(line, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n' + line + "\n")
    with pytest.raises(DocumentError) as caught:
        list(Corpus([str(path)]).read())
    assert str(caught.value) == f"{path}:2: not a JSON object with a key `text`"


def test_a_missing_path_lists_what_is_built_in(tmp_path):
    with pytest.raises(UsageError) as caught:
        Corpus([str(tmp_path / "no")])
    assert str(caught.value) == (
        f"corpus {tmp_path / 'no'}: no such file or folder (built in: builtin:prose, builtin:code)"
    )


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match=r"a\.txt: not UTF-8 text"):
        list(Corpus([str(tmp_path)]).read())


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_built_in_corpora_are_the_same_each_time(name):
    first = list(islice(Corpus([name]).read(), 30))
    assert first == list(islice(Corpus([name]).read(), 30))
    assert sum(map(len, first)) > 10_000
