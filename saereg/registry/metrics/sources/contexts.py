"""Token ids of many contexts in one file, and which of them become rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.files.blocks import read_span, write_tensors
from saereg.registry.files.header import Header, read_header
from saereg.registry.metrics.sources.shapes import check_regular

if TYPE_CHECKING:
    from torch import Tensor

TOKENS, LENGTHS, KEPT = "tokens", "lengths", "kept"
INTEGERS, TRUTHS = ("I32", "I64"), ("BOOL", "U8")


@dataclass(frozen=True)
class ContextFile:
    """A file with `tokens` (n,), `lengths` (contexts,) and perhaps `kept` (n,).

    `kept` is explicit, token by token: special tokens are told by their ids, and some leave out the first token of
    every context whatever it is; neither a tokenizer nor a rule is needed to read it again.

    Attributes:
        path: the file.
    """

    path: Path

    @cached_property
    def _header(self) -> Header:
        check_regular(self.path)
        header = read_header(self.path)
        for name, types in ((TOKENS, INTEGERS), (LENGTHS, INTEGERS), (KEPT, TRUTHS)):
            entry = header.tensors.get(name)
            if entry is None and name != KEPT:
                raise self._problem(f"missing; the file holds {', '.join(header.tensors)}", name)
            if entry is not None and (len(entry.shape) != 1 or entry.dtype not in types):
                said = f"expected shape (n,) and type {' or '.join(types)}, found {entry.shape} and {entry.dtype}"
                raise self._problem(said, name)
        tokens, kept = header.tensors[TOKENS].shape, header.tensors.get(KEPT)
        if kept is not None and kept.shape != tokens:
            raise self._problem(f"has {kept.shape[0]} entries for {tokens[0]} tokens", KEPT)
        return header

    def _problem(self, said: str, tensor: str) -> WeightsError:
        return WeightsError(self.path.name, said, tensor)

    @cached_property
    def lengths(self) -> "Tensor":
        """Tokens of every context, (contexts,), int64.

        Raises:
            WeightsError: when the file holds no contexts, or they do not make up the tokens.
        """
        entry = self._header.tensors[LENGTHS]
        tokens = self._header.tensors[TOKENS].shape[0]
        found = read_span(self.path, entry, 0, min(entry.shape[0], tokens + 1)).long()
        # each is looked at before they are added: a sum of int64 begins anew at 2^64
        can_be = 0 < len(found) <= tokens and int(found.min()) >= 1 and int(found.max()) <= tokens
        if not can_be or int(found.sum()) != tokens:
            raise self._problem(f"must be at least 1 each and {tokens} together, the number of tokens", LENGTHS)
        return found

    @cached_property
    def ends(self) -> "Tensor":
        """Tokens up to and with every context, (contexts,)."""
        return self.lengths.cumsum(0)

    @property
    def masked(self) -> bool:
        """Whether the file says which tokens become rows; else all do."""
        return KEPT in self._header.tensors

    @cached_property
    def kept(self) -> "Tensor":
        """Whether each token becomes a row, (n,), bool."""
        import torch

        if not self.masked:
            return torch.ones(self._header.tensors[TOKENS].shape[0], dtype=torch.bool)
        entry = self._header.tensors[KEPT]
        return read_span(self.path, entry, 0, entry.shape[0]).bool()

    @cached_property
    def row_ends(self) -> "Tensor":
        """Rows up to and with every context, (contexts,)."""
        return self.kept.cumsum(0)[self.ends - 1]

    @property
    def contexts(self) -> int:
        """How many contexts there are."""
        return len(self.lengths)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.row_ends[-1])

    def read(self, first: int, last: int) -> "tuple[list[Tensor], list[Tensor]]":
        """Return (token ids, which become rows) of contexts `first` to `last` (exclusive), each (length,)."""
        begin = int(self.ends[first - 1]) if first else 0
        import torch

        tokens = read_span(self.path, self._header.tensors[TOKENS], begin, int(self.ends[last - 1]) - begin)
        lengths = self.lengths[first:last].tolist()
        kept = self.kept[begin : begin + len(tokens)]
        return list(torch.split(tokens, lengths)), list(torch.split(kept, lengths))

    def check_ids(self, vocabulary: int, longest: int | None, model: str) -> None:
        """Refuse contexts that a model cannot read, before it runs over them.

        Args:
            vocabulary: ids that the model has.
            longest: positions that it has; None: any number.
            model: its name.

        Raises:
            WeightsError: naming the first context that is too long, or the first id that is none.
        """
        entry, step = self._header.tensors[TOKENS], 1 << 20
        if longest is not None and int(self.lengths.max()) > longest:
            at = int((self.lengths > longest).nonzero()[0])
            raise self._problem(
                f"context {at} has {int(self.lengths[at])} tokens, {model} has {longest} positions", TOKENS
            )
        for first in range(0, entry.shape[0], step):
            ids = read_span(self.path, entry, first, min(step, entry.shape[0] - first))
            bad = (ids < 0) | (ids >= vocabulary)
            if bad.any():
                at = int(bad.nonzero()[0])
                said = f"token {first + at} has the id {int(ids[at])}; {model} has ids 0 to {vocabulary - 1}"
                raise self._problem(said, TOKENS)


def write_contexts(
    path: Path, contexts: Iterable[Sequence[int]], *, dropped: Iterable[int] = (), first_dropped: bool = False
) -> int:
    """Write a file of contexts, atomically.

    Args:
        path: file to write.
        contexts: token ids of each context, special tokens included, without padding.
        dropped: ids of tokens that become no rows, wherever they stand.
        first_dropped: whether the first token of every context becomes no row either.

    Returns:
        The number of rows, for the manifest.

    Raises:
        WeightsError: when there are no contexts, one is empty, or an id does not fit.
        OSError: when the file cannot be written.
    """
    import torch

    held = [torch.tensor(list(context), dtype=torch.int64) for context in contexts]
    if not held or min(map(len, held)) < 1:
        raise WeightsError(path.name, "at least one context is needed, and none may be empty", TOKENS)
    tokens, lengths = torch.cat(held), torch.tensor([len(context) for context in held], dtype=torch.int64)
    if int(tokens.min()) < 0 or int(tokens.max()) >= 2**31:
        raise WeightsError(path.name, "token ids are 0 to 2^31 − 1", TOKENS)
    kept = ~torch.isin(tokens, torch.tensor(sorted(dropped), dtype=torch.int64))
    if first_dropped:
        kept[lengths.cumsum(0) - lengths] = False
    tensors = {TOKENS: tokens.int(), LENGTHS: lengths}
    write_tensors(path, tensors if kept.all() else tensors | {KEPT: kept})
    return int(kept.sum())
