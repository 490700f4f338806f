"""The text of every entry of a vocabulary, as bytes: from a tokenizer.json, without the library that made it.

Tokenizers write what stands before a word, and bytes that are no text, each in their own way: byte-level BPE (GPT-2,
GPT-NeoX, Llama 3) one character for each byte, with `Ġ` for a space; SentencePiece (Llama 2, Gemma, Mistral) `▁` for a
space and `<0xE2>` for a byte; WordPiece (BERT) `##` before what continues a word. Here all of them are the bytes that
the entry stands for, with a space before what begins a word; special tokens are as they are written.

Source: the format that `tokenizers` 0.22 writes (`Tokenizer.to_str`), and the byte alphabet of GPT-2
(`bytes_to_unicode` in openai/gpt-2, encoder.py).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from saereg.errors import DocumentError
from saereg.schemas import jsontext
from saereg.schemas.jsontext import JsonValue

LARGEST = 1 << 22
"""Entries of the largest vocabulary that is read."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_NO_SPACE_BEFORE = frozenset(".,!?;:)]}%'’”")
"""Punctuation that WordPiece has as a word of its own, and that stands behind a word without a space."""


def pieces_of(tokenizer: str, source: object = "tokenizer.json") -> list[bytes]:
    """Return the text of every entry, by its id; empty for an id that no entry has.

    Args:
        tokenizer: a tokenizer.json.
        source: what messages call it.

    Raises:
        DocumentError: when it is no such file, or of a kind that is not known.
    """
    try:
        parsed = jsontext.parse(tokenizer)
    except jsontext.JsonError as problem:
        raise DocumentError(source, "", str(problem)) from None
    whole = parsed if isinstance(parsed, dict) else {}
    model = whole.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise DocumentError(source, "/model", "is no tokenizer.json: it has no `model` with a `vocab`")
    entries = dict(_entries(model["vocab"]))
    texts = {number: _text(entry, model, _kinds(whole)) for number, entry in entries.items()}
    added = whole.get("added_tokens")
    texts |= {number: entry.encode("utf-8", "replace") for number, entry in _added(added)}
    if max(texts, default=-1) >= LARGEST:
        raise DocumentError(source, "/model/vocab", f"has more than {LARGEST} entries")
    return [texts.get(number, b"") for number in range(max(texts, default=-1) + 1)]


def _entries(vocab: JsonValue) -> Iterator[tuple[int, str]]:
    """Yield (id, entry): of BPE and WordPiece an object, of Unigram a list of [entry, score]."""
    if isinstance(vocab, dict):
        yield from ((number, entry) for entry, number in vocab.items() if type(number) is int and number >= 0)
    elif isinstance(vocab, list):
        for number, pair in enumerate(vocab):
            if isinstance(pair, list) and pair and isinstance(pair[0], str):
                yield number, pair[0]


def _added(added: JsonValue) -> Iterator[tuple[int, str]]:
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and isinstance(token.get("content"), str) and type(token.get("id")) is int:
            yield int(str(token["id"])), str(token["content"])


def _kinds(whole: Mapping[str, JsonValue]) -> frozenset[str]:
    """Return the kinds of all parts of the pre-tokenizer, the decoder and the normalizer."""
    found: set[str] = set()
    todo: list[JsonValue] = [whole.get(name) for name in ("pre_tokenizer", "decoder", "normalizer")]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            found.add(str(part.get("type")))
            for inner in ("pretokenizers", "decoders", "normalizers"):
                listed = part.get(inner)
                todo += listed if isinstance(listed, list) else []
    return frozenset(found)


def _text(entry: str, model: Mapping[str, JsonValue], kinds: frozenset[str]) -> bytes:
    kind = model.get("type")
    if "ByteLevel" in kinds:
        return _of_bytes(entry)
    if kind == "WordPiece":
        return _of_wordpiece(entry, str(model.get("continuing_subword_prefix", "##")))
    if kind == "WordLevel":
        return f" {entry}".encode("utf-8", "replace")
    if (byte := _BYTE.fullmatch(entry)) is not None:
        return bytes([int(byte[1], 16)])
    return entry.replace("▁", " ").encode("utf-8", "replace")


def _of_wordpiece(entry: str, prefix: str) -> bytes:
    if entry.startswith(prefix):
        return entry.removeprefix(prefix).encode("utf-8", "replace")
    return (entry if entry in _NO_SPACE_BEFORE else f" {entry}").encode("utf-8", "replace")


def _of_bytes(entry: str) -> bytes:
    """Return the bytes that the characters of an entry stand for; what is no such character, as it is."""
    alphabet = _alphabet()
    return b"".join(
        bytes([alphabet[character]]) if character in alphabet else character.encode("utf-8", "replace")
        for character in entry
    )


@lru_cache(maxsize=1)
def _alphabet() -> Mapping[str, int]:
    """Return character → byte of byte-level BPE: visible Latin-1 is itself, all others stand from U+0100 on."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    return {chr(byte): byte for byte in itself} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


LONGEST, ELLIPSIS = 120, "…"
"""Characters of an entry that are shown at most: some are made of thousands of spaces."""

_SIGNS = {"\n": "↵", "\t": "⇥", "\r": "␍"}


def shown(piece: bytes) -> str:
    """Return an entry as readers see it: one line without control characters, direction marks or invisible ones.

    A line end is ↵, a tab ⇥; bytes that are no text by themselves, such as half of a character, and characters that
    nobody sees are named in angle brackets: ⟨E2 80⟩, ⟨U+200B⟩.
    """
    parts: list[str] = []
    text = piece[: 4 * LONGEST + 4].decode("utf-8", "surrogateescape")
    for run in re.findall(r"[\udc80-\udcff]+|[^\udc80-\udcff]", text):
        if "\udc80" <= run[0] <= "\udcff":
            parts.append(f"⟨{' '.join(f'{ord(c) - 0xDC00:02X}' for c in run)}⟩")
        else:
            parts.append(_SIGNS.get(run) or (run if run.isprintable() else f"⟨U+{ord(run):04X}⟩"))
    if len(parts) > LONGEST:
        return "".join(parts[:LONGEST]) + ELLIPSIS
    return "".join(parts)


def numbered(number: int) -> str:
    """Return what stands for an entry whose text is not known."""
    return f"⟨{number}⟩"


def shown_all(pieces: Sequence[bytes], numbers: Sequence[int]) -> tuple[str, ...]:
    """Return entries as readers see them, by their ids; those without a text by their number."""
    return tuple(
        shown(pieces[number]) if 0 <= number < len(pieces) and pieces[number] else numbered(number)
        for number in numbers
    )
