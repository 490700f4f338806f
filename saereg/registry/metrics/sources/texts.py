"""The text of the rows of an evaluation: a file beside them with the pieces of text around each row.

The file holds
- `pieces` (bytes,), U8, and `ends` (v,), I64: the text of each entry of a vocabulary, one behind the other. Bytes, as
  an entry may be half of a character;
- of rows that are tokens: `tokens` (n,), I32, the entry of each token of all contexts, one context behind the other;
  `lengths` (contexts,), I64; `rows` (n,), I64, the row of each token, or -1 where it is none;
- of rows that are entries of a vocabulary themselves nothing else: row i is entry i.

Its metadata say of which rows it is: the digest of their file, where they have one.

It is found by its name: NAME.text.safetensors beside the file of rows NAME.safetensors. For rows of a parameter, which
are in the checkpoints of a model, it is evaluation/SITE.text.safetensors with the key of their site.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.files.blocks import read_span, write_tensors
from saereg.registry.files.header import Header, read_header
from saereg.registry.metrics.sources.contexts import ContextFile
from saereg.registry.metrics.sources.shapes import check_regular
from saereg.schemas import jsontext
from saereg.schemas.document import canonical
from saereg.schemas.evaluation import ActivationRows, Evaluation, ParameterRows

if TYPE_CHECKING:
    from torch import Tensor

TEXT_SUFFIX = ".text.safetensors"
FOLDER = "evaluation"

PIECES, ENDS, TOKENS, LENGTHS, ROWS = "pieces", "ends", "tokens", "lengths", "rows"

FACTS = "saereg_text"
"""Entry of the metadata: JSON."""

BEFORE, AFTER = 24, 8
"""Tokens that are kept before and behind a row: enough to read what a latent is about, and no whole document."""

_TYPES = {PIECES: "U8", ENDS: "I64", TOKENS: "I32", LENGTHS: "I64", ROWS: "I64"}


def text_path(evaluation: Evaluation) -> str | None:
    """Return where the text of an evaluation is in a release; None for rows that have no such file."""
    if isinstance(evaluation, ActivationRows) and evaluation.path.endswith(".safetensors"):
        return evaluation.path.removesuffix(".safetensors") + TEXT_SUFFIX
    if isinstance(evaluation, ParameterRows) and evaluation.site is not None:
        return f"{FOLDER}/{evaluation.site}{TEXT_SUFFIX}"
    return None


@dataclass(frozen=True)
class Part:
    """Some contexts of a text.

    Attributes:
        tokens: ids of all their tokens, (n,), int64.
        lengths: tokens of each, (contexts,), int64.
        rows: row of each token in the whole, or -1, (n,), int64.
    """

    tokens: "Tensor"
    lengths: "Tensor"
    rows: "Tensor"


@dataclass(frozen=True)
class Window:
    """The text around a row.

    Attributes:
        tokens: entries of the vocabulary, (m,).
        rows: the row of each, or -1.
        peak: where the row itself stands.
    """

    tokens: tuple[int, ...]
    rows: tuple[int, ...]
    peak: int


@dataclass(frozen=True)
class TextFile:
    """A file of text.

    Attributes:
        path: the file.
    """

    path: Path

    @cached_property
    def _header(self) -> Header:
        check_regular(self.path)
        header = read_header(self.path)
        contexts = (TOKENS, LENGTHS, ROWS) if TOKENS in header.tensors else ()
        for name in (PIECES, ENDS, *contexts):
            entry = header.tensors.get(name)
            if entry is None or len(entry.shape) != 1 or entry.dtype != _TYPES[name]:
                found = f"{entry.dtype} {entry.shape}" if entry else f"only {', '.join(header.tensors)}"
                raise self._problem(f"expected {_TYPES[name]} along one axis, found {found}", name)
        return header

    def _problem(self, said: str, tensor: str | None = None) -> WeightsError:
        return WeightsError(self.path.name, f"{said}; leave the file away, or make it again", tensor)

    def _read(self, name: str) -> "Tensor":
        entry = self._header.tensors[name]
        return read_span(self.path, entry, 0, entry.shape[0]).long()

    @property
    def is_vocabulary(self) -> bool:
        """Whether rows are entries of the vocabulary themselves."""
        return TOKENS not in self._header.tensors

    @cached_property
    def data_sha256(self) -> str | None:
        """Digest of the rows that it is the text of, where it says so."""
        try:
            facts = jsontext.parse(self._header.metadata.get(FACTS, "{}"))
        except jsontext.JsonError as error:
            raise self._problem(f"its metadata: {error}") from None
        found = facts.get("data_sha256") if isinstance(facts, dict) else None
        return found if isinstance(found, str) else None

    @cached_property
    def pieces(self) -> list[bytes]:
        """Text of each entry.

        Raises:
            WeightsError: when the file is damaged.
            OSError: when it cannot be read.
        """
        ends, size = self._read(ENDS), self._header.tensors[PIECES].shape[0]
        begins = ends.roll(1)
        begins[:1] = 0
        if len(ends) and (int((ends - begins).min()) < 0 or int(ends[0]) < 0 or int(ends[-1]) != size):
            raise self._problem(f"must rise to {size}, the number of bytes", ENDS)
        whole = read_span(self.path, self._header.tensors[PIECES], 0, size).numpy().tobytes()
        return [whole[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]

    @cached_property
    def _part(self) -> Part:
        tokens, lengths, rows = (self._read(name) for name in (TOKENS, LENGTHS, ROWS))
        if len(rows) != len(tokens):
            raise self._problem(f"has {len(rows)} entries for {len(tokens)} tokens", ROWS)
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(self.pieces):
            raise self._problem(f"names entries outside of 0 to {len(self.pieces) - 1}", TOKENS)
        fits = len(lengths) <= len(tokens) and bool(((lengths >= 1) & (lengths <= len(tokens))).all())
        if not fits or int(lengths.sum()) != len(tokens):
            raise self._problem(f"must be at least 1 each and {len(tokens)} together", LENGTHS)
        return Part(tokens, lengths, rows)

    @cached_property
    def _sorted(self) -> "tuple[Tensor, Tensor]":
        """Rows in their order, and the place of each among the tokens."""
        import torch

        rows, places = torch.sort(self._part.rows, stable=True)
        return rows, places

    def window(self, row: int) -> Window | None:
        """Return the text around a row; None where the file has none of it.

        Raises:
            WeightsError: when the file is damaged.
            OSError: when it cannot be read.
        """
        import torch

        rows, places = self._sorted
        at = int(torch.searchsorted(rows, row))
        if at == len(rows) or int(rows[at]) != row:
            return None
        place, part = int(places[at]), self._part
        begin, end = _bounds(part.lengths, place)
        first, last = max(begin, place - BEFORE), min(end, place + AFTER + 1)
        return Window(tuple(part.tokens[first:last].tolist()), tuple(part.rows[first:last].tolist()), place - first)

    def parts(self) -> Iterator[Part]:
        """Yield the text as it is, for another file to be made of it."""
        yield self._part


def _bounds(lengths: "Tensor", place: int) -> tuple[int, int]:
    """Return where the context of a token begins and ends."""
    import torch

    ends = lengths.cumsum(0)
    context = int(torch.searchsorted(ends, place, right=True))
    return int(ends[context] - lengths[context]), int(ends[context])


@dataclass(frozen=True)
class ContextText:
    """The tokens of rows that a model computes from them.

    Attributes:
        path: file of contexts.
        first: number of the first row that it holds.
    """

    path: Path
    first: int = 0

    @cached_property
    def _file(self) -> ContextFile:
        return ContextFile(self.path)

    def window(self, row: int) -> Window | None:
        """Return the text around a row; None where the file has no such row.

        Raises:
            WeightsError: when the file is damaged.
            OSError: when it cannot be read.
        """
        import torch

        file = self._file
        if not 0 <= row < file.rows:
            return None
        context = int(torch.searchsorted(file.row_ends, row, right=True))
        tokens, kept = (held[0] for held in file.read(context, context + 1))
        rows = kept.long().cumsum(0) - 1 + (int(file.row_ends[context - 1]) if context else 0)
        rows[~kept] = -1
        place = int((rows == row).nonzero()[0])
        span = slice(max(0, place - BEFORE), place + AFTER + 1)
        return Window(tuple(tokens[span].tolist()), tuple(rows[span].tolist()), place - span.start)

    def part(self) -> Part:
        """Return all of it."""
        file = self._file
        tokens, _ = file.read(0, file.contexts)
        import torch

        rows = file.kept.long().cumsum(0) - 1 + self.first
        rows[~file.kept] = -1
        return Part(torch.cat(tokens).long(), file.lengths, rows)


def write_vocabulary(path: Path, pieces: Sequence[bytes]) -> None:
    """Write the text of rows that are entries of a vocabulary; the same entries give the same bytes.

    Raises:
        OSError: when it cannot be written.
    """
    write_tensors(path, entries_of(pieces))


def entries_of(pieces: Sequence[bytes]) -> "dict[str, Tensor]":
    """Return the tensors of a vocabulary."""
    import torch

    whole = bytearray(b"".join(pieces))
    ends = torch.tensor([len(piece) for piece in pieces], dtype=torch.int64).cumsum(0)
    return {
        PIECES: torch.frombuffer(whole, dtype=torch.uint8) if whole else torch.zeros(0, dtype=torch.uint8),
        ENDS: ends,
    }


def windows(parts: Iterable[Part], picked: "Tensor") -> Part:
    """Return the text around some rows, and no more of it; rows get their places in `picked` as numbers.

    Args:
        parts: the text of a larger source.
        picked: numbers of rows in it, rising, (m,).
    """
    import torch

    found = [_windows(part, picked) for part in parts]
    return Part(*(torch.cat([getattr(part, name) for part in found]) for name in ("tokens", "lengths", "rows")))


def _windows(part: Part, picked: "Tensor") -> Part:
    import torch

    context = torch.arange(len(part.lengths)).repeat_interleave(part.lengths)
    where = torch.searchsorted(picked, part.rows).clamp_max(max(0, len(picked) - 1))
    is_row = (part.rows >= 0) & (picked[where] == part.rows) if len(picked) else torch.zeros_like(context).bool()
    kept = is_row.clone()
    for shift in range(1, max(BEFORE, AFTER) + 1):
        same = context[shift:] == context[:-shift]
        if shift <= BEFORE:
            kept[:-shift] |= is_row[shift:] & same
        if shift <= AFTER:
            kept[shift:] |= is_row[:-shift] & same
    places = kept.nonzero().squeeze(1)
    rows = torch.where(is_row, where, -1)[places]
    begins = torch.ones(len(places), dtype=torch.bool)
    begins[1:] = (places[1:] != places[:-1] + 1) | (context[places[1:]] != context[places[:-1]])
    starts = begins.nonzero().squeeze(1)
    lengths = torch.cat([starts[1:], torch.tensor([len(places)])[: len(starts)]]) - starts
    return Part(part.tokens[places], lengths, rows)


def write_text(path: Path, text: Part, pieces: Sequence[bytes], data_sha256: str) -> None:
    """Write the text of rows; of the vocabulary no more than what stands in it. The same text gives the same bytes.

    Args:
        path: the file.
        text: the text around the rows.
        pieces: text of every entry of the vocabulary.
        data_sha256: digest of the file of rows.

    Raises:
        OSError: when it cannot be written.
    """
    tensors, facts = text_tensors(text, pieces, data_sha256)
    write_tensors(path, tensors, facts)


def text_tensors(text: Part, pieces: Sequence[bytes], data_sha256: str) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Return what `write_text` writes: tensors, and metadata."""
    import torch

    used, tokens = torch.unique(text.tokens, return_inverse=True)
    known = [pieces[number] if number < len(pieces) else b"" for number in used.tolist()]
    named = [piece or f"⟨{number}⟩".encode() for piece, number in zip(known, used.tolist(), strict=True)]
    tensors = entries_of(named) | {TOKENS: tokens.int(), LENGTHS: text.lengths.long(), ROWS: text.rows.long()}
    return tensors, {FACTS: canonical({"data_sha256": data_sha256})}
