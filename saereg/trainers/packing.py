"""From documents to contexts of equal length: documents are packed one behind the other, so nothing is padding."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from saereg.errors import UsageError
from saereg.registry.models.model import LoadedModel
from saereg.schemas.collection import Cursor
from saereg.schemas.site import TokenPolicy

LONGEST_SLICE = 200_000
"""Characters that are tokenized at once: a longer document is cut here, so that memory stays bounded."""


@dataclass(frozen=True)
class Framing:
    """What stands around and between the tokens of documents.

    Attributes:
        prefix: token ids before each context, e.g. [CLS] or BOS.
        suffix: token ids behind it, e.g. [SEP].
        separator: token id between documents; None for none.
        special: ids whose activations are dropped.
        policy: the same, for the release.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    separator: int | None
    special: frozenset[int]
    policy: TokenPolicy

    @property
    def content(self) -> int:
        """Tokens of text per context."""
        return int(self.policy.context_size or 0) - len(self.prefix) - len(self.suffix)


def framing(loaded: LoadedModel, context_size: int, *, bos: bool = False) -> Framing:
    """Learn from the tokenizer itself which special tokens it puts around a text.

    Args:
        loaded: the model.
        context_size: tokens per context, special tokens included.
        bos: whether to prepend BOS where the tokenizer does not.

    Raises:
        UsageError: when there is no BOS token, or the context is too short or too long.
    """
    tokenizer = loaded.tokenizer
    prefix, suffix = _around(tokenizer)
    if bos and not prefix:
        if tokenizer.bos_token_id is None:
            raise UsageError(f"{loaded.ref.id} has no BOS token; collect without it")
        prefix = (tokenizer.bos_token_id,)
    longest = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if longest and context_size > longest:
        raise UsageError(f"context size {context_size}: {loaded.ref.id} has {longest} positions")
    if context_size <= len(prefix) + len(suffix):
        raise UsageError(f"context size {context_size}: {len(prefix) + len(suffix)} of it are special tokens")
    name, separator = _separator(tokenizer, suffix)
    policy = TokenPolicy(
        bos=bool(prefix) and prefix[0] == tokenizer.bos_token_id,
        separator=name,
        excluded=("special",),
        packing="documents",
        context_size=context_size,
    )
    return Framing(prefix, suffix, separator, frozenset(tokenizer.all_special_ids), policy)


def _around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:  # noqa: ANN401
    bare = tokenizer.encode("a", add_special_tokens=False)
    framed = tokenizer.encode("a", add_special_tokens=True)
    start = next((i for i in range(len(framed)) if framed[i : i + len(bare)] == bare), 0)
    return tuple(framed[:start]), tuple(framed[start + len(bare) :])


def _separator(tokenizer: Any, suffix: Sequence[int]) -> tuple[Literal["none", "bos", "eos", "sep"], int | None]:  # noqa: ANN401
    if suffix and tokenizer.sep_token_id == suffix[-1]:
        return "sep", tokenizer.sep_token_id
    if tokenizer.eos_token_id is not None:
        return "eos", tokenizer.eos_token_id
    return "none", None


@dataclass(frozen=True)
class Batch:
    """Contexts of equal length.

    Attributes:
        contexts: token ids, special tokens included.
        start: where its first token of text stands in the corpus.
    """

    contexts: list[list[int]]
    start: Cursor


def batches(
    texts: Iterator[str],
    tokenizer: Any,  # noqa: ANN401
    frame: Framing,
    *,
    size: int,
    start: Cursor,
) -> Iterator[Batch]:
    """Yield batches of `size` contexts; which tokens share a batch does not depend on where reading starts.

    Only the last batch may be smaller; tokens behind the last full context are dropped.

    Args:
        texts: all documents of the corpus, from the first.
        tokenizer: turns text into ids.
        frame: special tokens.
        size: contexts per batch.
        start: beginning of a batch, as an earlier one was labelled.
    """
    wanted, stream = size * frame.content, _Stream(start)
    for number, text in enumerate(texts):
        if number < start.document:
            continue
        stream.add(number, _encode(tokenizer, text, frame.separator))
        while stream.length >= wanted:
            yield _take(stream, wanted, frame)
    if left := stream.length // frame.content:
        yield _take(stream, left * frame.content, frame)


def _take(stream: "_Stream", count: int, frame: Framing) -> Batch:
    start, ids = stream.start, stream.take(count)
    pieces = (ids[i : i + frame.content] for i in range(0, count, frame.content))
    return Batch([[*frame.prefix, *piece, *frame.suffix] for piece in pieces], start)


def _encode(tokenizer: Any, text: str, separator: int | None) -> list[int]:  # noqa: ANN401
    ids: list[int] = []
    for first in range(0, len(text), LONGEST_SLICE):
        piece = text[first : first + LONGEST_SLICE]
        ids += tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
    return ids if separator is None else [*ids, separator]


class _Stream:
    """Tokens that were read but not used yet, with their place in the corpus."""

    def __init__(self, start: Cursor) -> None:
        self._skip = start.token
        self._parts: deque[tuple[int, int, list[int]]] = deque()
        self._next = start.document
        self.length = 0

    @property
    def start(self) -> Cursor:
        """Place of the first token."""
        if not self._parts:
            return Cursor(document=self._next)
        document, token, _ = self._parts[0]
        return Cursor(document=document, token=token)

    def add(self, document: int, ids: list[int]) -> None:
        """Append the tokens of a document; of the first, those behind the starting point."""
        first, self._skip, self._next = self._skip, 0, document + 1
        if first < len(ids):
            self._parts.append((document, first, ids[first:]))
            self.length += len(ids) - first

    def take(self, count: int) -> list[int]:
        """Remove and return the first `count` tokens."""
        taken: list[int] = []
        while len(taken) < count:
            document, token, ids = self._parts.popleft()
            used = ids[: count - len(taken)]
            taken += used
            if len(used) < len(ids):
                self._parts.appendleft((document, token + len(used), ids[len(used) :]))
        self.length -= count
        return taken
