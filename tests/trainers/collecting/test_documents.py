"""Every kind of file gives its documents one by one, and a mistake in it names file and row."""

import gzip
import hashlib
import json
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest

from saereg.errors import DocumentError, UsageError
from saereg.schemas.collection import Cursor
from saereg.schemas.site import TokenPolicy
from saereg.trainers.collecting import documents, packing
from saereg.trainers.collecting.collect import collect
from saereg.trainers.collecting.corpus import Corpus
from saereg.trainers.collecting.documents import Fields
from saereg.trainers.collecting.packing import Framing, batches

TEXTS = ["one", "", "drei\nzwei", "vier – fünf"]
PLAIN = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
CHAT = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": None}, {"role": "tool", "content": "42"}]


def lines(texts, column="text") -> bytes:
    return "".join(json.dumps({column: text, "id": 1}) + "\n" for text in texts).encode()


def write_parquet(path, rows, column="text", **settings):
    pyarrow.parquet.write_table(pyarrow.table({"id": list(range(len(rows))), column: rows}), path, **settings)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json.gz", "a.json", "a.parquet"])
def test_rows_are_documents_in_their_order(name, tmp_path):
    path = tmp_path / name
    if name.endswith("parquet"):
        write_parquet(path, TEXTS, row_group_size=3)
    else:
        path.write_bytes(gzip.compress(lines(TEXTS)) if name.endswith("gz") else lines(TEXTS))
    corpus = Corpus([str(path)])
    assert list(corpus.read()) == TEXTS
    assert corpus.ref().sha256 == hashlib.sha256(b"".join(text.encode() + b"\0" for text in TEXTS)).hexdigest()
    assert (corpus.ref().id, corpus.ref().columns) == (name, None)


def test_a_folder_is_read_with_all_its_kinds_but_plain_json(tmp_path):
    write_parquet(tmp_path / "b.parquet", ["parquet"])
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(lines(["dolma"])))
    (tmp_path / "d.md.gz").write_bytes(gzip.compress(b"packed"))
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "e.gz").write_bytes(b"?")
    assert list(Corpus([str(tmp_path)]).read()) == ["parquet", "dolma", "packed"]


@pytest.mark.parametrize(
    ("rendering", "text"),
    [("contents", "What?\n\n42"), ("roles", "user: What?\n\ntool: 42")],
)
def test_conversations_are_rendered_as_declared_beside_plain_text(rendering, text, tmp_path):
    write_parquet(tmp_path / "b.parquet", [CHAT, []], column="messages")
    (tmp_path / "a.jsonl").write_bytes(lines(["plain"]) + lines([CHAT], "messages"))
    corpus = Corpus([str(tmp_path)], Fields(("text", "messages"), rendering))
    assert list(corpus.read()) == ["plain", text, text, ""]
    assert (corpus.ref().columns, corpus.ref().rendering) == (("text", "messages"), rendering)


def test_a_long_text_comes_in_slices_and_counts_as_one_document(tmp_path, monkeypatch):
    text = "".join(f"line {i} – é\r\n" for i in range(40_000))
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "b.txt").write_text("b")
    monkeypatch.setattr(documents, "BLOCK_BYTES", 4097)
    corpus = Corpus([str(tmp_path)])
    plain = text.replace("\r\n", "\n")
    found = [one if isinstance(one, str) else list(one) for one in corpus.read()]
    assert [len(piece) for piece in found[0]] == [200_000, 200_000, len(plain) - 400_000]
    assert "".join(found[0]) == plain
    assert found[1:] == ["b"]
    again = Corpus([str(tmp_path)])
    assert sum(1 for _ in again.read(corpus.ref())) == 2  # slices that nobody takes are digested all the same
    assert again.ref() == corpus.ref()
    assert corpus.ref().sha256 == hashlib.sha256(plain.encode() + b"\0b\0").hexdigest()


def test_slices_are_packed_like_the_whole_text_from_wherever_reading_starts(monkeypatch):
    monkeypatch.setattr(packing, "LONGEST_SLICE", 5)
    frame = Framing((1,), (), 7, frozenset({1, 7}), TokenPolicy(bos=True, context_size=4))
    texts = ["abcdefghijklmno", "", "pq", "rstuvwxyz" * 3]

    def letters(text, **_):
        return {"input_ids": list(map(ord, text))}

    def sliced():
        return iter([iter([text[i : i + 5] for i in range(0, len(text), 5)]) for text in texts])

    whole = list(batches(iter(texts), letters, frame, size=2, start=Cursor()))
    for number, batch in enumerate(whole):
        assert list(batches(sliced(), letters, frame, size=2, start=batch.start)) == whole[number:]


def test_memory_stays_at_a_document_and_a_block(tmp_path):
    texts = [f"{i} " + "word " * 2000 for i in range(800)]  # 8 MB
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(texts), 1))
    (tmp_path / "b.txt").write_text("".join(texts))
    write_parquet(tmp_path / "c.parquet", texts, use_dictionary=False, write_batch_size=16)  # pages of 1 MB
    for name in ("a.jsonl.gz", "b.txt", "c.parquet"):
        tracemalloc.start()
        before, most, size = pyarrow.total_allocated_bytes(), 0, 0
        for text in Corpus([str(tmp_path / name)]).read():
            size += sum(map(len, [text] if isinstance(text, str) else text))
            most = max(most, pyarrow.total_allocated_bytes() - before)
        peak = tracemalloc.get_traced_memory()[1] + most
        tracemalloc.stop()
        assert size == sum(map(len, texts))
        assert peak < 5e6, name


def damaged(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes(byte ^ 0xFF for byte in raw[at : at + 20]) + raw[at + 20 :]


def test_a_damaged_file_is_one_line_with_file_and_row(tmp_path):
    packed = gzip.compress(lines(f"text number {i * i * 7919}" for i in range(500)))
    write_parquet(tmp_path / "whole.parquet", ["some text", "more"] * 200, **PLAIN)
    table = (tmp_path / "whole.parquet").read_bytes()
    for name, raw, said in (
        ("cut.jsonl.gz", packed[:-200], r"cut\.jsonl\.gz:4\d\d: damaged, or cut short"),
        ("bad.jsonl.gz", damaged(packed, 2000), r"bad\.jsonl\.gz:\d+: (damaged, or cut short|not )"),
        ("none.jsonl.gz", b'{"text": "plain"}', r"none\.jsonl\.gz:1: damaged, or cut short: Not a gzipped file"),
        ("cut.txt.gz", packed[:-200], r"cut\.txt\.gz: damaged, or cut short, behind byte "),
        ("cut.parquet", table[:-50], r"cut\.parquet: row 1: damaged, or no Parquet: "),
        ("bad.parquet", damaged(table, table.index(b"some text") + 90), r"bad\.parquet: row 1: damaged, or no .*"),
    ):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(UsageError, match=said) as caught:
            list(map(list, Corpus([str(tmp_path / name)]).read()))
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": null}\n', ":2: `text` is null, not text"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 5}\n', ":2: `text` is a number, not text"),
        (
            "a.jsonl",
            b'[{"text": "a"}]',
            ":1: not a JSON object with a key `text`; a JSON array is not read: write one ",
        ),
        ("a.jsonl", b'{"text": [1]}', ":1: `text` is a list: if it is a conversation, give --render contents"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}', ":2: not UTF-8 text (invalid continuation byte at byte 13)"),
        ("a.txt", b"x" * 70 + b"caf\xe9", ": not UTF-8 text (unexpected end of data at byte 73)"),
    ],
)
def test_a_row_that_is_no_text_is_named(name, raw, said, tmp_path):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(UsageError) as caught:
        list(Corpus([str(tmp_path / name)]).read())
    assert f"{tmp_path / name}{said}" in str(caught.value)


def test_parquet_without_the_column_or_with_no_text_in_it_is_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", ["x"], column="content")
    with pytest.raises(UsageError, match=r"a\.parquet: no column `text`; it has id, content: give --text-column$"):
        list(Corpus([str(path)]).read())
    write_parquet(path, ["x", None])
    with pytest.raises(DocumentError, match=r"a\.parquet: row 2: `text` is null, not text$"):
        list(Corpus([str(path)]).read())
    wrong = pyarrow.array([b"fine", b"caf\xe9"], type=pyarrow.binary()).view(pyarrow.string())
    write_parquet(path, wrong)
    with pytest.raises(UsageError, match=r"a\.parquet: row 2: not UTF-8 text"):
        list(Corpus([str(path)]).read())
    with pytest.raises(
        DocumentError, match=r"row 1: `messages` holds (a number|str) where a message with a text is expected"
    ):
        list(Corpus([str(write_parquet(path, [["x"]], "messages"))], Fields(("messages",), "contents")).read())


def test_a_run_that_a_row_ended_before_its_first_shard_can_be_put_right(collecting, tmp_path):
    words = " ".join(f"word{i}" for i in range(40))
    path = write_parquet(tmp_path / "a.parquet", [[{"role": "user", "content": words}]] * 9, column="messages")
    settings = {"corpus": (str(path),), "columns": ("messages",), "rows": 200}
    with pytest.raises(DocumentError, match="if it is a conversation, give --render contents"):
        collect(collecting(tmp_path / "c", **settings))
    found = collect(collecting(tmp_path / "c", **settings, rendering="contents"))
    assert (found.rows, found.dataset.columns, found.dataset.rendering) == (200, ("messages",), "contents")
    with pytest.raises(UsageError, match=r"dataset\.rendering is contents there and roles here"):
        collect(collecting(tmp_path / "c", **settings, rendering="roles"))
