"""Entries of vocabularies as text: of every kind of tokenizer as `tokenizers` writes it, and nothing hostile raw."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from saereg.errors import DocumentError
from saereg.registry.models.pieces import LONGEST, pieces_of, shown, shown_all


def byte_level(tokens):
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def test_byte_level_entries_are_the_bytes_that_their_own_decoder_gives():
    """GPT-2, GPT-NeoX, Llama 3: a space, a line end, half of a dash, a letter with an accent."""
    dash = "".join(chr(byte) if byte > 0xA0 else chr(0x100 + byte - 0x5E) for byte in "—".encode())
    tokenizer = byte_level(["the", "Ġthe", "Ċ", "Ã©", dash, dash[:2]])
    tokenizer.add_special_tokens(["<|endoftext|>"])
    pieces = pieces_of(tokenizer.to_str())
    assert [shown(piece) for piece in pieces] == ["the", " the", "↵", "é", "—", "⟨E2 80⟩", "<|endoftext|>"]
    for number in range(4):
        assert pieces[number].decode() == tokenizer.decode([number])


def test_every_byte_of_the_alphabet_is_itself():
    """All 256 characters of byte-level BPE, as the library lists them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = pieces_of(byte_level(alphabet).to_str())
    assert sorted(pieces) == [bytes([byte]) for byte in range(256)]


def test_sentencepiece_entries_have_spaces_and_bytes():
    """Llama 2 and Gemma: `▁` is a space, `<0x0A>` a byte; Unigram lists its entries with scores."""
    llama = Tokenizer(models.BPE({"▁the": 0, "s": 1, "<0x0A>": 2, "<0xE2>": 3, "▁▁": 4}, [], byte_fallback=True))
    llama.normalizer = normalizers.Replace(" ", "▁")
    llama.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    assert [shown(piece) for piece in pieces_of(llama.to_str())] == [" the", "s", "↵", "⟨E2⟩", "  "]
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.0), ("b", -2.0)], unk_id=0))
    unigram.decoder = decoders.Metaspace()
    assert pieces_of(unigram.to_str()) == [b"<unk>", b" a", b"b"]


def test_wordpiece_entries_begin_words_or_go_on():
    """BERT: `##ing` goes on, other words have a space before them, and punctuation stands behind a word."""
    bert = Tokenizer(models.WordPiece({"[UNK]": 0, "play": 1, "##ing": 2, ".": 3, "(": 4}, unk_token="[UNK]"))
    bert.add_special_tokens(["[UNK]"])
    assert pieces_of(bert.to_str()) == [b"[UNK]", b" play", b"ing", b".", b" ("]


def test_entries_without_a_text_are_numbers():
    """An id that no entry has, and one behind them all."""
    tokenizer = json.loads(byte_level(["a", "b"]).to_str())
    tokenizer["model"]["vocab"] = {"a": 0, "b": 3}
    pieces = pieces_of(json.dumps(tokenizer))
    assert shown_all(pieces, [0, 1, 3, 77]) == ("a", "⟨1⟩", "b", "⟨77⟩")


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("\x1b[31mred\x07", "⟨U+001B⟩[31mred⟨U+0007⟩"),
        ("a\u202eb\u200bc\u2028d", "a⟨U+202E⟩b⟨U+200B⟩c⟨U+2028⟩d"),
        ("a\r\n\tb", "a␍↵⇥b"),
        ("x" * 900, "x" * LONGEST + "…"),
        ("日本 é 😀", "日本 é 😀"),
    ],
)
def test_hostile_text_is_one_line_that_moves_no_cursor(raw, seen):
    """Escape sequences, direction marks, invisible characters, line ends, and entries without end."""
    found = shown(raw.encode())
    assert found == seen
    assert found.isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "has no `model` with a `vocab`"),
        ('{"model": {"vocab": 3}}', "has no `model` with a `vocab`"),
        ('{"model": {"vocab": {"a": 99999999}}}', "more than 4194304 entries"),
    ],
)
def test_a_damaged_tokenizer_is_one_line(text, message):
    """No JSON, no tokenizer, ids without bound."""
    with pytest.raises(DocumentError, match=message) as caught:
        pieces_of(text)
    assert "\n" not in str(caught.value)
