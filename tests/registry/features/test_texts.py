"""The text of rows: windows that stop where a context does, files that say so when they are damaged."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.errors import WeightsError
from saereg.registry.metrics.sources.contexts import write_contexts
from saereg.registry.metrics.sources.texts import (
    AFTER,
    BEFORE,
    ContextText,
    Part,
    TextFile,
    text_tensors,
    windows,
    write_text,
    write_vocabulary,
)

PIECES = [f" t{number}".encode() for number in range(300)]


def whole(lengths, special=()):
    """Return a text whose tokens are numbered through; some of them are no rows."""
    tokens = torch.arange(sum(lengths))
    kept = ~torch.isin(tokens, torch.tensor(special, dtype=torch.int64))
    rows = kept.long().cumsum(0) - 1
    return Part(tokens, torch.tensor(lengths), rows.masked_fill(~kept, -1))


def written(tmp_path, part, picked):
    path = tmp_path / "a.text.safetensors"
    write_text(path, windows([part], torch.tensor(picked)), PIECES, "0" * 64)
    return TextFile(path)


def read(file, row):
    """Return (text of the tokens, the rows that they are, the token of the row)."""
    window = file.window(row)
    words = [int(file.pieces[token].decode()[2:]) for token in window.tokens]
    return words, list(window.rows), words[window.peak]


def test_windows_hold_few_tokens_around_a_row_and_stop_where_the_context_does(tmp_path):
    """Of a context of 100 tokens BEFORE and AFTER one; of one at the border none of the neighbour."""
    file = written(tmp_path, whole([100, 3, 60]), [50, 101, 103])
    assert read(file, 0) == (list(range(50 - BEFORE, 51 + AFTER)), [-1] * BEFORE + [0] + [-1] * AFTER, 50)
    assert read(file, 1) == ([100, 101, 102], [-1, 1, -1], 101)
    assert read(file, 2) == (list(range(103, 104 + AFTER)), [2] + [-1] * AFTER, 103)
    assert file.window(3) is None
    assert len(file.pieces) == (BEFORE + 1 + AFTER) + 3 + (1 + AFTER)


def test_neighbours_that_are_rows_say_which(tmp_path):
    """Rows side by side share a window, with special tokens in it that are none."""
    file = written(tmp_path, whole([40], special=(0, 20, 39)), list(range(17, 24)))
    words, rows, peak = read(file, 3)
    assert peak == 22
    assert rows[words.index(18) : words.index(24)] == [0, 1, -1, 2, 3, 4]
    assert rows[words.index(17)] == -1


def test_the_same_text_gives_the_same_bytes_and_holds_nothing_else(tmp_path):
    """Twice the same file; and no entry of the vocabulary that stands in no window."""
    part = windows([whole([100])], torch.tensor([0, 99]))
    for name in ("a", "b"):
        write_text(tmp_path / name, part, PIECES, "0" * 64)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"t50" not in (tmp_path / "a").read_bytes()
    assert TextFile(tmp_path / "a").data_sha256 == "0" * 64


def test_tokens_of_an_evaluation_are_windows_of_their_own(tmp_path):
    """A file of contexts gives the same windows, by the rows that it keeps."""
    write_contexts(tmp_path / "t", [[7, 1, 2, 3, 7], [7, 4, 5, 7]], dropped={7})
    text = ContextText(tmp_path / "t")
    assert [text.window(row).peak for row in range(5)] == [1, 2, 3, 1, 2]
    assert text.window(3).tokens == (7, 4, 5, 7)
    assert text.window(3).rows == (-1, 3, 4, -1)
    assert text.window(5) is None
    assert text.part().rows.tolist() == [-1, 0, 1, 2, -1, -1, 3, 4, -1]


def _drop(name):
    return lambda tensors: tensors.pop(name)


MUTATIONS = {
    "no pieces": (_drop("pieces"), "expected U8"),
    "no rows": (_drop("rows"), "expected I64"),
    "ends fall": (lambda t: t["ends"].neg_(), "must rise to"),
    "ends too far": (lambda t: t["ends"].add_(1), "must rise to"),
    "entry of no vocabulary": (lambda t: t["tokens"].fill_(10**6), "names entries outside of"),
    "negative entry": (lambda t: t["tokens"].fill_(-1), "names entries outside of"),
    "lengths": (lambda t: t["lengths"].add_(1), "together"),
    "lengths that overflow": (lambda t: t["lengths"].fill_(2**62), "together"),
    "rows of another number": (lambda t: t.update(rows=t["rows"][1:].clone()), "entries for"),
    "another type": (lambda t: t.update(tokens=t["tokens"].float()), "expected I32"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_damaged_file_is_one_line_that_names_it(name, tmp_path):
    """Every tensor that is missing, of another type, or does not fit the others."""
    change, message = MUTATIONS[name]
    tensors, _ = text_tensors(windows([whole([30])], torch.tensor([3, 20])), PIECES, "0" * 64)
    change(tensors)
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "bad.text.safetensors")
    with pytest.raises(WeightsError, match=message) as caught:
        TextFile(tmp_path / "bad.text.safetensors").window(0)
    assert "bad.text.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_is_the_text_of_rows_that_are_its_entries(tmp_path):
    """Row i is entry i; empty entries and none at all are written too."""
    write_vocabulary(tmp_path / "v", [b"a", b"", b"\xe2\x80"])
    file = TextFile(tmp_path / "v")
    assert file.is_vocabulary
    assert file.pieces == [b"a", b"", b"\xe2\x80"]
    assert set(load_file(tmp_path / "v")) == {"pieces", "ends"}
    write_vocabulary(tmp_path / "none", [])
    assert TextFile(tmp_path / "none").pieces == []
